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
from functools import partial
from typing import Any

import tensorflow as tf

from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.models import to_float32
from training import UserError, flags
from training.command import leave
from training.trainer import curves, data, gates, hardware, network, start
from training.trainer.batches import Batches
from training.trainer.calibration import Calibration
from training.trainer.config import Config
from training.trainer.distribution import Group, is_chief, join
from training.trainer.recipes import RECIPES
from training.trainer.recorder import CalibratedErrors, Recorder, Rows, loss_and_error
from training.trainer.run_folder import RunFolder


def fit(
    config: Config,
    dataset: data.Data | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Train the network that `config` describes, or finish the run in its folder.

    Args:
        config: What to train, and how.
        dataset: To train and evaluate on; by default the one that `config` names.
        callbacks: Keras's, to call before this function's own.

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
    ):
        print(f"run folder: {folder.path}", flush=True)
        dataset = dataset or data.load(config.dataset, config.data_dir)
        batches = Batches.prepare(config, dataset)
        model = folder.load_checkpoint() or _new_model(config, batches.steps)
        folder.save_json("config.json", _description(config, dataset))
        _train(config, group, folder, model, batches, callbacks)
        results = final_errors(model, dataset)
        folder.save_results(config.epochs, results)
    return results


def _new_model(config: Config, steps: int) -> tf.keras.Model:
    model = network.build(config)
    if config.start_from is not None:
        model = start.trained_network(config.start_from, like=model)
    model.compile(network.optimizer(config, steps))
    model.optimizer.build(model.trainable_variables)  # in the order in which it is stored
    return model


def _train(
    config: Config,
    group: Group,
    folder: RunFolder,
    model: tf.keras.Model,
    batches: Batches,
    callbacks: Sequence[tf.keras.callbacks.Callback],
) -> None:
    """Train from where the model is to the last epoch."""
    finished = int(model.optimizer.iterations.numpy()) // batches.steps
    if finished:
        print(f"resuming after epoch {finished} of {config.epochs}", flush=True)
    learner = hardware.learner(model, config.kernels, config.batch_size)
    learner.compile(model.optimizer, batches.loss, ["accuracy"])
    calibration = Calibration(learner)
    further: dict[str, Rows] = {gates.FILE: gates.Recorder(model, batches.dataset)}
    if config.calibrated_log:
        further["calibrated.csv"] = CalibratedErrors(learner, calibration, batches)
    recorder = Recorder(folder, model, batches, finished, further)
    callbacks = [*callbacks, *group.callbacks()]
    if config.fmb_epochs is not None or config.fmb_start:
        callbacks.append(FMBSchedule(config.fmb_epochs, config.fmb_start))
    callbacks.append(recorder)
    if config.tensorboard:
        callbacks.append(tf.keras.callbacks.TensorBoard(folder.path / "tensorboard"))
    shared = partial(
        batches.training, range(finished, config.epochs), group.share(config.batch_size)
    )
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


def final_errors(model: tf.keras.Model, dataset: data.Data) -> dict[str, float]:
    """Top-1 errors in percent, measured in float32."""
    exact = to_float32(model)
    exact.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    splits = {"validation_error": dataset.validation, "test_error": dataset.test}
    return {
        name: round(loss_and_error(exact, data.evaluation_batches(split))[1], 4)
        for name, split in splits.items()
    }


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
    config = flags.parse(
        Config, "python -m training.fit", __doc__.splitlines()[0], arguments, RECIPES
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = fit(config)
    except UserError as error:
        message = f"training.fit: error: {error}"
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
