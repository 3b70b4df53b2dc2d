"""Trains a network: `python -m training.fit --fmb`.

The same command resumes a run that was cut off, from its last finished epoch, and continues as the
uninterrupted run would have.
"""

import importlib.metadata
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from larq_seresnet import costs
from larq_seresnet.attention import modules
from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.datasets import Source
from larq_seresnet.edge.errors import one_line, printable
from larq_seresnet.models import to_float32
from training import UserError, flags
from training.command import leave
from training.trainer import classes, curves, data, fonts, gates, hardware, network, start
from training.trainer.batches import Batches
from training.trainer.calibration import Calibration
from training.trainer.config import Config
from training.trainer.distribution import Group, is_chief, join
from training.trainer.freezing import Freeze
from training.trainer.recipes import RECIPES
from training.trainer.recorder import CalibratedErrors, Recorder, Rows
from training.trainer.run_folder import RunFolder


def fit(
    config: Config,
    dataset: data.Data | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    *,
    by_class: bool = False,
) -> dict[str, float]:
    """Train the network that `config` describes, or finish the run in its folder.

    Args:
        config: What to train, and how.
        dataset: To train and evaluate on; by default the one that `config` names.
        callbacks: Keras's, to call before this function's own.
        by_class: Whether to write tables and pictures of how the network does on each class.

    Returns:
        The final top-1 errors in percent, measured in float32.

    Raises:
        UserError: Something outside of this program is in the way.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = hardware.resolved(replace(config, out=config.folder))
    hardware.share_cores(config.kernels, config.batch_size)
    with (
        join(config.distribute) as group,
        group.folder(config.folder) as path,
        RunFolder(path, config.decisive()) as folder,
        group.strategy.scope(),
        data.in_one_line(),
    ):
        print(f"run folder: {folder.path} ({hardware.describe(config)})", flush=True)
        dataset = dataset or load_data(config)
        folder.agree_on_data(dataset.fingerprint)
        batches = Batches.prepare(config, dataset)
        share = group.share(config.batch_size)
        model = folder.load_checkpoint() or _new_model(config, dataset.source, batches.steps)
        folder.save_json("config.json", description(config, dataset))
        _summarize(folder, model)
        if dataset.skipped:
            rows = [(printable(name), why) for name, why in dataset.skipped]
            skipped = pd.DataFrame(rows, columns=["picture", "why"])
            folder.save_table("skipped.csv", skipped.set_index("picture"))
        _train(config, group, folder, model, batches, share, callbacks)
        results, probabilities = evaluate(model, dataset)
        if by_class:
            with fonts.drawing("".join(dataset.source.labels)):
                classes.save(folder, probabilities, dataset)
        folder.save_results(config.epochs, results)
    return results


def _summarize(folder: RunFolder, model: tf.keras.Model) -> None:
    """Say what the network costs."""
    lines: list[str] = []
    costs.summary(model, lines.append)
    folder.save_text("summary.txt", "\n".join(lines))
    found = costs.costs(model)
    print(
        f"an image of {'x'.join(map(str, model.input_shape[1:]))} takes "
        f"{found.multiply_adds / 1e6:.1f} million multiply-adds and "
        f"{found.activation_bytes / 1024:.0f} KiB of activations; weights: "
        f"{found.weight_bytes / 1024:.1f} KiB",
        flush=True,
    )


def load_data(config: Config) -> data.Data:
    """The data set that a configuration names.

    Raises:
        UserError: It cannot be read, or there is too little of it.
    """
    return data.load(
        config.dataset,
        config.data_dir,
        size=config.height_and_width,
        grey=config.grey,
        cache=config.cache,
        cache_dir=config.cache_dir,
        strict=config.strict,
    )


def _new_model(config: Config, source: Source, steps: int) -> tf.keras.Model:
    model = network.build(config, source)
    if config.start_from is not None:
        model = start.trained_network(config.start_from, model, source.labels)
    model.compile(network.optimizer(config, steps))
    model.optimizer.build(model.trainable_variables)  # in the order in which it is stored
    return model


def _train(
    config: Config,
    group: Group,
    folder: RunFolder,
    model: tf.keras.Model,
    batches: Batches,
    share: int,
    callbacks: Sequence[tf.keras.callbacks.Callback],
) -> None:
    """Train from where the model is to the last epoch."""
    finished = int(model.optimizer.iterations.numpy()) // batches.steps
    if finished:
        print(f"resuming after epoch {finished} of {config.epochs}", flush=True)
    learner = hardware.learner(model, config.kernels, config.batch_size)
    with_xla = hardware.with_xla(model)
    learner.compile(model.optimizer, batches.loss, ["accuracy"], jit_compile=with_xla)
    calibration = Calibration(learner)
    further: dict[str, Rows] = {gates.FILE: gates.Recorder(model, batches.dataset)}
    if config.calibrated_log:
        further["calibrated.csv"] = CalibratedErrors(learner, calibration, batches)
    recorder = Recorder(folder, model, batches, finished, further)
    callbacks = [*callbacks, *group.callbacks()]
    if config.fmb_epochs is not None or config.fmb_start:
        callbacks.append(FMBSchedule(config.fmb_epochs, config.fmb_start))
    if config.freeze_body:
        body = [layer for layer in model.layers if layer.name != "dense"]
        callbacks.append(Freeze(body, config.freeze_body))
    if config.hold_gates:
        callbacks.append(Freeze(modules(model), config.hold_gates))
    callbacks.append(recorder)
    if config.tensorboard:
        callbacks.append(tf.keras.callbacks.TensorBoard(folder.path / "tensorboard"))
    shared = partial(batches.training, range(finished, config.epochs), share)
    try:
        if finished < config.epochs:
            folder.withdraw_results()
            learner.fit(
                group.strategy.distribute_datasets_from_function(shared),
                steps_per_epoch=batches.steps,
                initial_epoch=finished,
                epochs=config.epochs,
                callbacks=callbacks,
                verbose=1 if sys.stdout.isatty() else 0,
            )
    finally:
        if recorder.log:
            folder.save_figure("curves.png", curves.draw({folder.path.name: recorder.log}))
    if config.calibration:
        print(f"calibrating batch norm on {config.calibration} batches", flush=True)
        calibration.calibrate(batches.calibration(config.epochs))
        folder.save_checkpoint(model)


def evaluate(model: tf.keras.Model, dataset: data.Data) -> tuple[dict[str, float], np.ndarray]:
    """Top-1 errors in percent, and probabilities for the test images; in float32."""
    exact = to_float32(model)
    errors = {}
    for name in ("validation", "test"):
        split = getattr(dataset, name)
        images = data.evaluation_batches(split).map(lambda images, _: images)
        probabilities = exact.predict(images, verbose=0)
        errors[f"{name}_error"] = round(data.top1_error(probabilities, split[1]), 4)
    return errors, probabilities


def description(config: Config, dataset: data.Data) -> dict[str, Any]:
    """What a run's config.json says."""
    packages = ("larq-seresnet", "tensorflow", "tf-keras", "larq", "numpy")
    return {
        "config": config.decisive(),
        "data": {
            "train": len(dataset.train[1]),
            "validation": len(dataset.validation[1]),
            "test": len(dataset.test[1]),
            **({"fingerprint": dataset.fingerprint} if dataset.fingerprint else {}),
        },
        "labels": dataset.source.labels,
        "processor": hardware.describe(config),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def _further(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults that follow from other flags."""
    source = chosen["start_from"]
    return start.hyperparameters(source, chosen) if source else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    config = flags.parse(
        Config, "python -m training.fit", __doc__.splitlines()[0], arguments, RECIPES, _further
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = fit(config, by_class=True)
    except (UserError, OSError) as error:
        message = f"training.fit: error: {one_line(error)}"
        if config.distribute == "multiworker":
            leave(message)
        sys.exit(message)
    except KeyboardInterrupt:
        leave(
            f"\nstopped; the same command goes on from the last finished epoch, in {config.folder}"
        )
    if not is_chief(config.distribute):
        print("done; the chief has the results")
        return
    print(
        f"done: top-1 error {results['validation_error']:.2f} % on the validation split, "
        f"{results['test_error']:.2f} % on the test split; curves in {config.folder / 'curves.png'}"
    )


if __name__ == "__main__":
    main()
