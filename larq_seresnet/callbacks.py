"""Keras callbacks for training networks with FMB."""

from larq_seresnet._tensorflow import tf
from larq_seresnet.layers import FMB


class FMBSchedule(tf.keras.callbacks.Callback):
    """Binarizes the gates in some of the epochs only; in the others they are soft.

    P1 speaks of gates that "during the early stages of training are forcibly binarized". The other
    way round, binarized gates in the late epochs only, gives a network with FMB too. Works with
    `initial_epoch`, so that a resumed training does as the uninterrupted one.

    Example:
        >>> early = FMBSchedule(epochs=10)  # FMB in the first 10 epochs
        >>> late = FMBSchedule(start=10)  # soft gates in the first 10 epochs, then FMB
        >>> model.fit(images, labels, epochs=30, callbacks=[late])

    Args:
        epochs: How many epochs FMB is on; by default all from `start` on.
        start: How many epochs of the training come before.

    Raises:
        ValueError: `epochs` or `start` is negative; or, when training starts, the model has no FMB
            to switch.
    """

    def __init__(self, epochs: int | None = None, start: int = 0) -> None:
        super().__init__()
        for name, value in (("epochs", epochs), ("start", start)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, not {value}")
        self.epochs = epochs
        self.start = start

    def set_model(self, model: tf.keras.Model) -> None:
        """Find the FMB layers."""
        super().set_model(model)
        self._layers = [x for x in model.submodules if isinstance(x, FMB) and x.switchable]
        if not self._layers:
            raise ValueError("the model has no FMB to switch: build it with fmb=True")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Switch FMB, and retrace the model's functions where that changed something."""
        done = epoch - self.start
        enabled = done >= 0 and (self.epochs is None or done < self.epochs)
        if all(layer.enabled == enabled for layer in self._layers):
            return
        for layer in self._layers:
            layer.enabled = enabled
        self.model.make_train_function(force=True)
        self.model.make_test_function(force=True)
        self.model.make_predict_function(force=True)
