"""Batch norm's statistics for evaluation, from many batches: `--calibration N`.

During training the moving statistics follow the last ten batches or so, since 1-bit weights flip.
What is left of those batches' chance moves gates across FMB's threshold. After training nothing
flips any more, and statistics can be averaged over as many batches as one likes (as Yu, Huang,
arXiv:1903.05134, do for networks whose width is changed).
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf


def calibrate(model: tf.keras.Model, batches: Iterable[tf.Tensor]) -> None:
    """Set every batch norm's moving statistics to the mean of these batches' statistics.

    Args:
        model: Whose batch norms, nested ones too; nothing else of it changes.
        batches: Images as in training, augmentation included: statistics of other images would
            not fit the weights.
    """
    layers = model._flatten_layers()
    norms = [x for x in layers if isinstance(x, tf.keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the moving statistics become the last batch's

    @tf.function
    def see(images: tf.Tensor) -> None:
        model(images, training=True)

    statistics = []
    for images in batches:
        see(images)
        statistics.append([norm.get_weights()[-2:] for norm in norms])
    for number, (norm, momentum) in enumerate(zip(norms, momenta, strict=True)):
        norm.momentum = momentum
        seen = [one[number] for one in statistics]
        for variable, values in zip(
            (norm.moving_mean, norm.moving_variance), zip(*seen, strict=True), strict=True
        ):
            variable.assign(np.mean(values, axis=0))
