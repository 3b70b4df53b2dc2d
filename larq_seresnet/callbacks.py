"""Keras callbacks for training networks with FMB."""

from larq_seresnet._tensorflow import tf
from larq_seresnet.layers import FMB


class FMBSchedule(tf.keras.callbacks.Callback):
    """Binarizes the gates for the first epochs only; afterwards they are soft.

    P1 speaks of gates that "during the early stages of training are forcibly binarized". Works with
    `initial_epoch`, so that a resumed training does as the uninterrupted one.

    Example:
        >>> model.fit(images, labels, epochs=30, callbacks=[FMBSchedule(epochs=10)])

    Args:
        epochs: How many epochs FMB is on, counted from the training's first.

    Raises:
        ValueError: `epochs` is negative; or, when training starts, the model has no FMB to switch.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        if epochs < 0:
            raise ValueError(f"epochs must not be negative, not {epochs}")
        self.epochs = epochs

    def set_model(self, model: tf.keras.Model) -> None:
        """Find the FMB layers."""
        super().set_model(model)
        self._layers = [module for module in model.submodules if isinstance(module, FMB)]
        if not self._layers:
            raise ValueError("the model has no FMB layer to switch off")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Switch FMB, and retrace the model's functions where that changed something."""
        enabled = epoch < self.epochs
        if all(layer.enabled == enabled for layer in self._layers):
            return
        for layer in self._layers:
            layer.enabled = enabled
        self.model.make_train_function(force=True)
        self.model.make_test_function(force=True)
        self.model.make_predict_function(force=True)
