"""What happens after each epoch: evaluation, logs, checkpoint, a line on the screen."""

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import tensorflow as tf

from training.trainer import data
from training.trainer.calibration import Calibration
from training.trainer.run_folder import Row, RunFolder


class Record(Protocol):
    """Something else that is written down after each epoch."""

    def record(self, epoch: int) -> None:
        """Add an epoch, counted from 1, to its file."""


class Recorder(tf.keras.callbacks.Callback):
    """Evaluates, writes the log's row and the checkpoint, and says how it goes.

    The logs go first: a row without its checkpoint is dropped when the run is resumed.

    Args:
        folder: Where to write.
        network: What the checkpoint holds; the model that is fitted may be another one of the
            same variables.
        dataset: Whose validation and test splits to evaluate on.
        log: The rows so far, which grows.
        records: What else to write down.
        batch_size: Images in a step.
    """

    def __init__(
        self,
        folder: RunFolder,
        network: tf.keras.Model,
        dataset: data.Data,
        log: list[Row],
        records: Sequence[Record],
        batch_size: int,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._network = network
        self._validation = data.evaluation_batches(dataset.validation)
        self._test = data.evaluation_batches(dataset.test)
        self._log = log
        self._records = records
        self._batch_size = batch_size

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
        self._log.append(
            {
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
        )
        self._folder.save_log(self._log)
        for also in self._records:
            also.record(epoch + 1)
        self._folder.save_checkpoint(self._network)
        row = self._log[-1]
        print(
            f"epoch {epoch + 1}/{self.params['epochs']}: loss {row['loss']:.4f}, top-1 error "
            f"train {row['train_error']:.2f} %, validation {validation_error:.2f} %, "
            f"test {test_error:.2f} %; {seconds:.0f} s, {speed:.0f} images/s",
            flush=True,
        )


class CalibratedErrors:
    """Records the errors with batch norm calibrated, and leaves its statistics as they were.

    Args:
        folder: Where to write.
        model: The one that is fitted, compiled.
        images: Gives the batches to calibrate with after an epoch.
        dataset: Whose validation and test splits to evaluate on.
        finished: Epochs that the run has behind it.
    """

    FILE = "calibrated.csv"

    def __init__(
        self,
        folder: RunFolder,
        model: tf.keras.Model,
        images: Callable[[int], Iterable[tf.Tensor]],
        dataset: data.Data,
        finished: int,
    ) -> None:
        self._folder = folder
        self._model = model
        self._calibration = Calibration(model)
        self._images = images
        splits = {"validation_error": dataset.validation, "test_error": dataset.test}
        self._batches = {name: data.evaluation_batches(split) for name, split in splits.items()}
        self._rows = folder.load_record(self.FILE, finished)

    def record(self, epoch: int) -> None:
        """Add an epoch, counted from 1, to the file."""
        with self._calibration.calibrated(self._images(epoch)):
            errors = {
                name: loss_and_error(self._model, batches)[1]
                for name, batches in self._batches.items()
            }
        gc.collect()  # the images' pipeline is in cycles, and holds the whole data set
        self._rows.append({"epoch": epoch, **errors})
        self._folder.save_record(self.FILE, self._rows)


def loss_and_error(model: tf.keras.Model, batches: tf.data.Dataset) -> tuple[float, float]:
    """The mean loss, and the top-1 error in percent."""
    loss, accuracy = model.evaluate(batches, verbose=0)
    return loss, 100 * (1 - accuracy)
