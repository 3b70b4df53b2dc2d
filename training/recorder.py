"""What happens after each epoch: evaluation, log, checkpoint, a line on the screen."""

import time

import tensorflow as tf

from training import data
from training.gate_recorder import GateRecorder
from training.run_folder import Row, RunFolder


class Recorder(tf.keras.callbacks.Callback):
    """Evaluates, writes the log's row and the checkpoint, and says how it goes.

    The log goes first: a row without its checkpoint is dropped when the run is resumed.

    Args:
        folder: Where to write.
        network: What the checkpoint holds; the model that is fitted may be another one of the
            same variables.
        dataset: Whose validation and test splits to evaluate on.
        log: The rows so far, which grows.
        gates: Records the gates' statistics.
        batch_size: Images in a step.
    """

    def __init__(
        self,
        folder: RunFolder,
        network: tf.keras.Model,
        dataset: data.Data,
        log: list[Row],
        gates: GateRecorder,
        batch_size: int,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._network = network
        self._validation = data.evaluation_batches(dataset.validation)
        self._test = data.evaluation_batches(dataset.test)
        self._log = log
        self._gates = gates
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
        self._gates.record(epoch + 1)
        self._folder.save_checkpoint(self._network)
        row = self._log[-1]
        print(
            f"epoch {epoch + 1}/{self.params['epochs']}: loss {row['loss']:.4f}, top-1 error "
            f"train {row['train_error']:.2f} %, validation {validation_error:.2f} %, "
            f"test {test_error:.2f} %; {seconds:.0f} s, {speed:.0f} images/s",
            flush=True,
        )


def loss_and_error(model: tf.keras.Model, batches: tf.data.Dataset) -> tuple[float, float]:
    """The mean loss, and the top-1 error in percent."""
    loss, accuracy = model.evaluate(batches, verbose=0)
    return loss, 100 * (1 - accuracy)
