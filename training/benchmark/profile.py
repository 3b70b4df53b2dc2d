"""Where the time of a training step goes: `python -m training.benchmark.profile`.

Prints the operators of a step with the milliseconds that cores spend in them, all cores together,
by TensorFlow's profiler. So many cores times the step's length is more than their sum: the rest is
waiting. And how many operations a second the convolutions do, beside a plain matrix product on the
same cores: the gradients count as two more convolutions each, and Winograd's as the plain ones.
"""

import csv
import io
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from larq_seresnet.costs import costs
from larq_seresnet.files import write_atomically
from training import flags
from training.command import ending
from training.flags import flag
from training.trainer import data, hardware, network
from training.trainer.config import Config, Kernels, Precision

WARM_UP_STEPS = 8
Row = tuple[str, float, float]


@dataclass(frozen=True)
class ProfileConfig:
    """What `python -m training.benchmark.profile` is told; each field is a flag."""

    kernels: Kernels = flag("auto", "as in training.fit")
    precision: Precision = flag("auto", "as in training.fit")
    fully_binary: bool = flag(False, "binarize the activations too")
    width: int = flag(16, "channels of the first stage")
    batch_size: int = flag(128, "images in a step")
    steps: int = flag(20, "how many to profile")
    csv: Path | None = flag(None, "file to write the table to")

    def __post_init__(self) -> None:
        flags.require_positive(self, "width", "batch_size", "steps")


def profile(config: ProfileConfig) -> tuple[list[Row], float, float]:
    """Train on random images.

    Returns:
        Operator, how often it is in a step, and its milliseconds a step; the longest first. In the
        first row, the step itself. And 10^9 operations a second: the convolutions', for the time
        that cores spend in them, and a matrix product's.
    """
    run = hardware.resolved(
        Config(
            width=config.width,
            activations="binary" if config.fully_binary else "float",
            batch_size=config.batch_size,
            kernels=config.kernels,
            precision=config.precision,
        )
    )
    hardware.share_cores(run.kernels, run.batch_size)
    tf.keras.mixed_precision.set_global_policy(run.precision)
    model = network.build(run, data.SOURCES[run.dataset])
    learner = hardware.learner(model, run.kernels, run.batch_size)
    learner.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    step = learner.make_train_function()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (config.batch_size, 32, 32, 3)).astype(np.uint8)
    batch = (images, generator.integers(0, 10, config.batch_size))
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    for _ in range(WARM_UP_STEPS):
        step(batches)
    start = time.perf_counter()
    for _ in range(config.steps):
        step(batches)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(config.steps):
            step(batches)
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        operators = _operators(xplane_pb2.XSpace.FromString(file.read_bytes()), config.steps)
    convolutions = sum(ms for kind, _, ms in operators if "Conv2D" in kind or "Winograd" in kind)
    operations = 6e-9 * costs(model).multiply_adds * config.batch_size
    # Where batches have shards, an operator is one core's; else all cores share each.
    at_once = hardware.shards(run.batch_size) if run.kernels == "fused" else 1
    return (
        [("(the step)", 1.0, 1000 * seconds / config.steps), *operators],
        at_once * operations / (convolutions / 1000),
        _matrix_product(model.get_layer("conv").compute_dtype) * at_once,
    )


def _matrix_product(dtype: str, size: int = 1024, rounds: int = 20) -> float:
    """10^9 operations a second."""
    x = tf.cast(tf.random.normal((size, size), seed=0), dtype)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        tf.linalg.matmul(x, x)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * size**3 / float(np.median(seconds))


def _operators(space: "xplane_pb2.XSpace", steps: int) -> list[Row]:
    counts: Counter[str] = Counter()
    milliseconds: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # An operator's event is called "name:type", a function's name has no slash.
                name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if "/" in name or kind.startswith("_Mkl"):
                    counts[kind] += 1
                    milliseconds[kind] += event.duration_ps / 1e9
    return [(kind, counts[kind] / steps, ms / steps) for kind, ms in milliseconds.most_common()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(ProfileConfig, "python -m training.benchmark.profile", __doc__, arguments)
    with ending("training.benchmark.profile", "nothing was written"):
        rows, convolutions, product = profile(config)
        total = sum(row[2] for row in rows[1:])
        for kind, count, milliseconds in [*rows[:1], ("(all operators)", 1.0, total), *rows[1:25]]:
            print(f"{milliseconds:8.2f} ms {count:7.1f} x {kind}")
        share = f"{convolutions / product:.0%} of a matrix product's {product:.0f}"
        print(f"convolutions: {convolutions:.0f} GFLOP/s on all cores, {share}")
        if config.csv:
            text = io.StringIO(newline="")
            writer = csv.writer(text)
            writer.writerow(["operator", "times_a_step", "milliseconds_a_step"])
            writer.writerows((kind, round(count, 2), round(ms, 4)) for kind, count, ms in rows)
            write_atomically(config.csv, text.getvalue().encode())


if __name__ == "__main__":
    main()
