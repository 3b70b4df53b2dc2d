"""Batch norm's statistics for evaluation, from many batches: `--calibration N`.

During training the moving statistics follow the last ten batches or so, since 1-bit weights flip.
What is left of those batches' chance moves gates across FMB's threshold. After training nothing
flips any more, and statistics can be averaged over as many batches as one likes (as Yu, Huang,
arXiv:1903.05134, do for networks whose width is changed). `--calibrated-log` does so for a moment
after every epoch, for a learning curve without that chance.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from larq_seresnet.layers import FMB


class Calibration:
    """Sets every batch norm's moving statistics to the mean of batches' statistics.

    Args:
        model: Whose batch norms, nested ones too; nothing else of it changes.
    """

    def __init__(self, model: tf.keras.Model) -> None:
        layers = model._flatten_layers()
        self._norms = [x for x in layers if isinstance(x, tf.keras.layers.BatchNormalization)]
        self._gates = [x for x in model.submodules if isinstance(x, FMB)]
        # A graph keeps the gates as they were: each state of FMB gets its own.
        self._see = tf.function(lambda images, fmb: model(images, training=True))

    def calibrate(self, batches: Iterable[tf.Tensor]) -> None:
        """Set the statistics.

        Args:
            batches: Images as in training, augmentation included: statistics of other images
                would not fit the weights.
        """
        momenta = [norm.momentum for norm in self._norms]
        fmb = tuple(gate.enabled for gate in self._gates)
        seen = []
        try:
            for norm in self._norms:
                norm.momentum = 0.0  # the moving statistics become the last batch's
            for images in batches:
                self._see(images, fmb)
                seen.append(self._statistics())
        finally:
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum = momentum
        self._assign([np.mean(values, axis=0) for values in zip(*seen, strict=True)])

    @contextmanager
    def calibrated(self, batches: Iterable[tf.Tensor]) -> Iterator[None]:
        """Set the statistics for as long as a `with` block lasts."""
        before = self._statistics()
        try:
            self.calibrate(batches)
            yield
        finally:
            self._assign(before)

    @property
    def _variables(self) -> list[tf.Variable]:
        return [x for norm in self._norms for x in (norm.moving_mean, norm.moving_variance)]

    def _statistics(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self._variables]

    def _assign(self, values: Iterable[np.ndarray]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
