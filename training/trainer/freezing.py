"""Trains the last layer alone at first: `--freeze-body N`."""

from collections.abc import Sequence

import tensorflow as tf


class FreezeBody(tf.keras.callbacks.Callback):
    """Holds every layer but the dense one as it is, batch norm's statistics too.

    Outside of an epoch nothing is frozen, so that a checkpoint has the state of every weight.

    Args:
        network: Whose layers; the model that is fitted may be another one of the same variables.
        epochs: For the first so many.
    """

    def __init__(self, network: tf.keras.Model, epochs: int) -> None:
        super().__init__()
        self._layers: Sequence[tf.keras.layers.Layer] = [
            layer for layer in network.layers if layer.name != "dense" and layer.trainable
        ]
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
