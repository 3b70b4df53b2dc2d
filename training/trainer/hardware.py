"""What of this machine training uses: precision, compiled kernels, one shard of a batch a core."""

import contextlib
import os
from dataclasses import replace

import tensorflow as tf

from training import UserError, kernels, processor
from training.trainer.config import Config, Kernels, Precision
from training.trainer.fused import fused

_SMALLEST_SHARD = 16  # images
_AMPERE = 8  # compute capability of the first GPUs that multiply bfloat16


def resolved(config: Config) -> Config:
    """The configuration with what its "auto" stands for here; its kernels are ready.

    Raises:
        UserError: It asks for kernels that are impossible here.
    """
    return replace(
        config,
        precision=precision(config.precision),
        kernels=kernels_to_use(config.kernels),
    )


def precision(name: Precision) -> Precision:
    """What "auto" stands for here."""
    if name != "auto":
        return name
    if found := gpus():
        details = [tf.config.experimental.get_device_details(gpu) for gpu in found]
        multiplies = all(x.get("compute_capability", (0,))[0] >= _AMPERE for x in details)
    else:
        # Elsewhere than on Linux nothing says what the CPU can do: float32 is right everywhere.
        instructions = processor.features() & {"amx_bf16", "avx512_bf16"}
        multiplies = bool(instructions) and processor.onednn()
    return "mixed_bfloat16" if multiplies else "float32"


def gpus() -> list[tf.config.PhysicalDevice]:
    """Those that TensorFlow sees."""
    return tf.config.list_physical_devices("GPU")


def with_xla(model: tf.keras.Model) -> bool:
    """Whether XLA compiles the training step: for GPUs, if it has every gradient.

    It has no deterministic one of max pooling, which shortcuts of few channels begin with.
    """
    pools = any(isinstance(layer, tf.keras.layers.MaxPooling2D) for layer in model.layers)
    return bool(gpus()) and not pools


def kernels_to_use(name: Kernels) -> Kernels:
    """What "auto" stands for here; where it is "fused", the kernels are ready.

    Raises:
        UserError: It is "fused", which is impossible here.
    """
    if name == "keras" or (name == "auto" and gpus()):
        return "keras"
    try:
        kernels.library()
    except kernels.UnavailableError as error:
        if name == "fused":
            raise UserError(f"--kernels fused: {error}") from error
        print(f"training without compiled kernels, which is slower: {error}", flush=True)
        return "keras"
    return "fused"


def cores() -> list[int]:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def shards(batch_size: int) -> int:
    """Into how many parts to split a batch: one for each core, or 1 where they would be tiny."""
    count = len(cores())
    return count if batch_size >= count * _SMALLEST_SHARD else 1


def share_cores(kernels: Kernels, batch_size: int) -> None:
    """Where batches have shards, let operators run side by side, each on one core.

    Without effect where TensorFlow works already: then it is slower, not wrong.
    """
    if kernels == "keras" or shards(batch_size) == 1:
        return
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)


def describe(config: Config) -> str:
    """What of this machine a resolved configuration uses, in a line."""
    count = 1 if config.kernels == "keras" else shards(config.batch_size)
    return processor.describe(config.precision, config.kernels, count)


def learner(model: tf.keras.Model, kernels: Kernels, batch_size: int) -> tf.keras.Model:
    """What to compile and fit instead of the model; whatever it learns, the model learns."""
    return fused(model, shards(batch_size)) if kernels == "fused" else model
