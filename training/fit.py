"""Trains a network: `python -m training.fit --fmb`.

The same command resumes a run that was cut off, from its last finished epoch, and continues as the
uninterrupted run would have.
"""

import importlib.metadata
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from larq_seresnet.attention import modules as attention_modules
from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.models import SEResNet14, SEResNet14Bin, to_float32
from training import UserError, curves, data, flags, start
from training.config import Config, Precision
from training.gate_recorder import GateRecorder
from training.recorder import Recorder, loss_and_error
from training.run_folder import RunFolder


def fit(config: Config) -> dict[str, float]:
    """Train the network that `config` describes, or finish the run in its folder.

    Returns:
        The final top-1 errors in percent, measured in float32.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = replace(config, out=config.folder, precision=_precision(config.precision))
    with RunFolder(config.folder, config.decisive()) as folder:
        print(f"run folder: {folder.path}", flush=True)
        dataset = data.load(config.dataset, config.data_dir)
        model = _train(config, folder, dataset)
        results = final_errors(model, dataset)
        folder.save_json("results.json", results)
    return results


def _train(config: Config, folder: RunFolder, dataset: data.Data) -> tf.keras.Model:
    """Train from the folder's checkpoint, or from the start, to the last epoch."""
    steps = len(dataset.train[1]) // config.batch_size
    if not steps:
        raise UserError(
            f"--batch-size {config.batch_size} is more than the {len(dataset.train[1])} "
            f"training images of {config.dataset}"
        )
    tf.keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    tf.keras.mixed_precision.set_global_policy(config.precision)
    model = folder.load_checkpoint()
    if model is None:
        model = build(config)
        if config.start_from is not None:
            model = start.trained_network(config.start_from, like=model)
        model.compile(_optimizer(config, steps), "sparse_categorical_crossentropy", ["accuracy"])
    finished = int(model.optimizer.iterations) // steps
    log = folder.load_log(finished) if finished else []
    folder.save_json("config.json", _description(config, dataset))
    if finished:
        print(f"resuming after epoch {finished} of {config.epochs}", flush=True)

    gates = GateRecorder(folder, model, dataset, finished)
    callbacks: list[Any] = [Recorder(folder, dataset, log, gates, config.batch_size)]
    if config.fmb_epochs is not None:
        callbacks.insert(0, FMBSchedule(config.fmb_epochs))
    if config.tensorboard:
        callbacks.append(tf.keras.callbacks.TensorBoard(folder.path / "tensorboard"))
    try:
        if finished < config.epochs:
            folder.withdraw_results()
            model.fit(
                data.training_batches(
                    dataset.train,
                    batch_size=config.batch_size,
                    seed=config.seed,
                    epochs=range(finished, config.epochs),
                    flip=dataset.source.flip,
                ),
                steps_per_epoch=steps,
                initial_epoch=finished,
                epochs=config.epochs,
                callbacks=callbacks,
                verbose=1 if sys.stdout.isatty() else 0,
            )
    finally:
        if log:
            folder.save_figure("curves.png", curves.draw({folder.path.name: log}))
    return model


def build(config: Config) -> tf.keras.Model:
    """The untrained network, under Keras's global precision policy."""
    source = data.SOURCES[config.dataset]
    arguments: dict[str, Any] = {
        "width": config.width,
        "reduction": config.reduction,
        "gate": None if config.gate == "none" else config.gate,
        "fmb": config.fmb,
        "gradient": config.gradient,
        "classes": len(source.labels),
        "mean": source.mean,
        "variance": source.variance,
    }
    if config.model == "float":
        model = SEResNet14(**arguments)
    else:
        model = SEResNet14Bin(activations=config.activations, **arguments)
    if config.freeze_gates:
        for module in attention_modules(model):
            module.trainable = False
    return model


def final_errors(model: tf.keras.Model, dataset: data.Data) -> dict[str, float]:
    """Top-1 errors in percent, measured in float32."""
    exact = to_float32(model)
    exact.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    splits = {"validation_error": dataset.validation, "test_error": dataset.test}
    return {
        name: round(loss_and_error(exact, data.evaluation_batches(split))[1], 4)
        for name, split in splits.items()
    }


def _precision(name: Precision) -> Precision:
    if name != "auto":
        return name
    # Elsewhere than on Linux nothing says what the CPU can do: float32 is right everywhere.
    cpu = Path("/proc/cpuinfo")
    return "mixed_bfloat16" if cpu.exists() and "amx_bf16" in cpu.read_text() else "float32"


def _optimizer(config: Config, steps: int) -> tf.keras.optimizers.Optimizer:
    rate: Any = config.learning_rate
    total = steps * config.epochs
    if config.schedule == "cosine":
        rate = tf.keras.optimizers.schedules.CosineDecay(rate, total)
    if config.schedule == "one-cycle":
        warmup = max(1, total // 5)
        rate = tf.keras.optimizers.schedules.CosineDecay(
            rate / 25, total - warmup, warmup_target=rate, warmup_steps=warmup
        )
    if config.optimizer == "sgd":
        return tf.keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    return tf.keras.optimizers.Adam(rate)


def _description(config: Config, dataset: data.Data) -> dict[str, Any]:
    packages = ("larq-seresnet", "tensorflow", "tf-keras", "larq", "numpy")
    return {
        "config": config.decisive(),
        "data": {
            "train": len(dataset.train[1]),
            "validation": len(dataset.validation[1]),
            "test": len(dataset.test[1]),
        },
        "labels": dataset.source.labels,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(Config, "python -m training.fit", __doc__.splitlines()[0], arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = fit(config)
    except UserError as error:
        sys.exit(f"training.fit: error: {error}")
    except KeyboardInterrupt:
        sys.exit(
            f"\nstopped; the same command goes on from the last finished epoch, in {config.folder}"
        )
    print(
        f"done: top-1 error {results['validation_error']:.2f} % on the validation split, "
        f"{results['test_error']:.2f} % on the test split; curves in {config.folder / 'curves.png'}"
    )


if __name__ == "__main__":
    main()
