"""Trains a network: `python -m training.fit --fmb`.

The same command resumes a run that was cut off, from its last finished epoch, and continues as the
uninterrupted run would have.
"""

import importlib.metadata
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from larq_seresnet.callbacks import FMBSchedule
from larq_seresnet.models import to_float32
from training import UserError, flags
from training.command import leave
from training.trainer import curves, data, hardware, network, start, targets
from training.trainer.calibration import Calibration
from training.trainer.config import Config
from training.trainer.distribution import Group, is_chief, join
from training.trainer.gate_recorder import GateRecorder
from training.trainer.recipes import RECIPES
from training.trainer.recorder import CalibratedErrors, Record, Recorder, loss_and_error
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
        model = _train(config, group, folder, dataset, callbacks)
        results = final_errors(model, dataset)
        folder.save_results(config.epochs, results)
    return results


def _train(
    config: Config,
    group: Group,
    folder: RunFolder,
    dataset: data.Data,
    extra: Sequence[tf.keras.callbacks.Callback],
) -> tf.keras.Model:
    """Train from the folder's checkpoint, or from the start, to the last epoch."""
    steps = len(dataset.train[1]) // config.batch_size
    if not steps:
        raise UserError(
            f"--batch-size {config.batch_size} is more than the {len(dataset.train[1])} "
            f"training images of {config.dataset}"
        )
    share = group.share(config.batch_size)
    tf.keras.mixed_precision.set_global_policy(config.precision)
    teacher = None
    if config.distill != "none":
        teacher = targets.load_teacher(config.distill, config.dataset)
        teacher = hardware.learner(teacher, config.kernels, config.batch_size)
    tf.keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    loss = "sparse_categorical_crossentropy"
    if config.soft_targets:
        loss = "categorical_crossentropy"
        dataset = targets.one_hot(dataset, config.label_smoothing)
    model = folder.load_checkpoint()
    if model is None:
        model = network.build(config)
        if config.start_from is not None:
            model = start.trained_network(config.start_from, like=model)
        model.compile(network.optimizer(config, steps))
        model.optimizer.build(model.trainable_variables)  # in the order in which it is stored
    finished = int(model.optimizer.iterations.numpy()) // steps
    log = folder.load_log(finished) if finished else []
    folder.save_json("config.json", _description(config, dataset))
    if finished:
        print(f"resuming after epoch {finished} of {config.epochs}", flush=True)

    learner = hardware.learner(model, config.kernels, config.batch_size)
    learner.compile(model.optimizer, loss, ["accuracy"])

    def calibration_images(epoch: int) -> Iterator[tf.Tensor]:
        after = range(epoch, epoch + config.calibration // steps + 1)
        alone = tf.distribute.InputContext()
        images = _training_batches(config, dataset, after, None, alone)
        return (x for x, _ in images.take(config.calibration))

    records: list[Record] = [GateRecorder(folder, model, dataset, finished)]
    if config.calibrated_log:
        records.append(CalibratedErrors(folder, learner, calibration_images, dataset, finished))

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shares = _training_batches(
            config, dataset, range(finished, config.epochs), teacher, context
        )
        several = config.batch_size // context.num_input_pipelines != share
        return shares.rebatch(share) if several else shares

    callbacks: list[Any] = [*extra, *group.callbacks()]
    if config.fmb_epochs is not None or config.fmb_start:
        callbacks.append(FMBSchedule(config.fmb_epochs, config.fmb_start))
    callbacks.append(Recorder(folder, model, dataset, log, records, config.batch_size))
    if config.tensorboard:
        callbacks.append(tf.keras.callbacks.TensorBoard(folder.path / "tensorboard"))
    try:
        if finished < config.epochs:
            folder.withdraw_results()
            learner.fit(
                group.strategy.distribute_datasets_from_function(batches),
                steps_per_epoch=steps,
                initial_epoch=finished,
                epochs=config.epochs,
                callbacks=callbacks,
                verbose=1 if sys.stdout.isatty() else 0,
            )
    finally:
        if log:
            folder.save_figure("curves.png", curves.draw({folder.path.name: log}))
    if config.calibration:
        print(f"calibrating batch norm on {config.calibration} batches", flush=True)
        Calibration(learner).calibrate(calibration_images(config.epochs))
        folder.save_checkpoint(model)
    return model


def _training_batches(
    config: Config,
    dataset: data.Data,
    epochs: range,
    teacher: tf.keras.Model | None,
    context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    batches = data.training_batches(
        dataset.train,
        batch_size=config.batch_size,
        seed=config.seed,
        epochs=epochs,
        flip=dataset.source.flip,
        padding=config.padding,
        cutout=config.cutout,
        worker=context.input_pipeline_id,
        workers=context.num_input_pipelines,
    )
    if teacher is None:
        return batches
    return targets.distill(batches, teacher, config.distill_weight, config.distill_temperature)


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
