"""What happens after each epoch: evaluation, logs, checkpoint, a line on the screen."""

import gc
import time
from collections.abc import Callable, Mapping

import tensorflow as tf

from training.trainer import data
from training.trainer.batches import Batches
from training.trainer.calibration import Calibration
from training.trainer.run_folder import Row, RunFolder

Rows = Callable[[int], list[Row]]
"""Gives the rows of an epoch, counted from 1, for a further log."""


class Recorder(tf.keras.callbacks.Callback):
    """Evaluates, writes the log's row and the checkpoint, and says how it goes.

    The logs go first: a row without its checkpoint is dropped when the run is resumed.

    Args:
        folder: Where to write.
        network: What the checkpoint holds; the model that is fitted may be another one of the
            same variables.
        batches: Of the run, on whose validation and test splits to evaluate.
        finished: Epochs that the run has behind it.
        further: What else to write down, by the file's name.

    Attributes:
        log: One row an epoch.

    Raises:
        UserError: A log is damaged.
    """

    def __init__(
        self,
        folder: RunFolder,
        network: tf.keras.Model,
        batches: Batches,
        finished: int,
        further: Mapping[str, Rows],
    ) -> None:
        super().__init__()
        self.log = folder.load_log(finished)
        self._folder = folder
        self._network = network
        self._validation = data.evaluation_batches(batches.dataset.validation)
        self._test = data.evaluation_batches(batches.dataset.test)
        self._batch_size = batches.config.batch_size
        self._further = further
        self._rows = {name: folder.load_record(name, finished) for name in further}

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch."""
        assert logs is not None
        seconds = time.monotonic() - self._start
        speed = self.params["steps"] * self._batch_size / seconds
        validation_loss, validation_error = loss_and_error(self.model, self._validation)
        test_loss, test_error = loss_and_error(self.model, self._test)
        row = {
            "epoch": epoch + 1,
            "learning_rate": float(self.model.optimizer.learning_rate.numpy()),
            "loss": logs["loss"],
            "train_error": 100 * (1 - logs["accuracy"]),
            "validation_loss": validation_loss,
            "validation_error": validation_error,
            "test_loss": test_loss,
            "test_error": test_error,
            "seconds": seconds,
            "images_per_second": speed,
        }
        self.log.append(row)
        self._folder.save_rows("log.csv", self.log)
        for name, rows in self._rows.items():
            rows += self._further[name](epoch + 1)
            self._folder.save_rows(name, rows)
        self._folder.save_checkpoint(self._network)
        print(
            f"epoch {epoch + 1}/{self.params['epochs']}: loss {row['loss']:.4f}, top-1 error "
            f"train {row['train_error']:.2f} %, validation {validation_error:.2f} %, "
            f"test {test_error:.2f} %; {seconds:.0f} s, {speed:.0f} images/s",
            flush=True,
        )


class CalibratedErrors:
    """The errors with batch norm calibrated, whose statistics are left as they were.

    Args:
        model: The one that is fitted, compiled.
        calibration: Of its batch norm.
        batches: To calibrate with, and on whose validation and test splits to evaluate.
    """

    def __init__(self, model: tf.keras.Model, calibration: Calibration, batches: Batches) -> None:
        self._model = model
        self._calibration = calibration
        self._batches = batches
        splits = {
            "validation_error": batches.dataset.validation,
            "test_error": batches.dataset.test,
        }
        self._splits = {name: data.evaluation_batches(split) for name, split in splits.items()}

    def __call__(self, epoch: int) -> list[Row]:
        """The row of an epoch, counted from 1."""
        with self._calibration.calibrated(self._batches.calibration(epoch)):
            errors = {
                name: loss_and_error(self._model, split)[1] for name, split in self._splits.items()
            }
        gc.collect()  # the images' pipeline is in cycles, and holds the whole data set
        return [{"epoch": epoch, **errors}]


def loss_and_error(model: tf.keras.Model, batches: tf.data.Dataset) -> tuple[float, float]:
    """The mean loss, and the top-1 error in percent."""
    loss, accuracy = model.evaluate(batches, verbose=0)
    return loss, 100 * (1 - accuracy)
