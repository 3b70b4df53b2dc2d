"""Holds some layers as they are at first: `--freeze-body N`, `--hold-gates N`."""

from collections.abc import Iterable

import tensorflow as tf


class Freeze(tf.keras.callbacks.Callback):
    """Holds layers as they are, batch norm's statistics too.

    Outside of an epoch nothing is frozen, so that a checkpoint has the state of every weight.

    Args:
        layers: Of a network; the model that is fitted may be another one of the same variables.
        epochs: For the first so many.
    """

    def __init__(self, layers: Iterable[tf.keras.layers.Layer], epochs: int) -> None:
        super().__init__()
        self._layers = [layer for layer in layers if layer.trainable]
        self._epochs = epochs
        self._traced = False  # as if with frozen layers

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Freeze or not, and retrace the training step where that changes something."""
        frozen = epoch < self._epochs
        self._set_trainable(not frozen)
        if frozen != self._traced:
            self.model.make_train_function(force=True)
            self._traced = frozen

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Let go."""
        self._set_trainable(True)

    def _set_trainable(self, trainable: bool) -> None:
        for layer in self._layers:
            layer.trainable = trainable
