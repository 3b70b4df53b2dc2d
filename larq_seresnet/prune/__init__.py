"""Removes what binarized 0/1 gates leave off, and gates that leave all on: a smaller network."""

from typing import Any

import numpy as np


def prune(
    model: Any, images: np.ndarray, threshold: float = 0.0, left_out: float | None = None
) -> Any:
    """Remove channels in front of the squeeze-and-excitation modules.

    A channel's filter goes from the convolution and the batch norm before the module, and the
    channel from both layers of the module. The shortcut keeps its channels: the module's output has
    zeros in place of what was removed. The channels of each stage are put into another order for
    this, which changes no output.

    A channel that is off still feeds the module's average pool, and so the other gates. What it
    feeds to W_0's outputs becomes a bias: its mean over the images.

    - `threshold` 0 removes without loss: channels that are off on every image, and of these only so
      many that all other gates stay the same on every image (within float32's rounding).
    - A higher one removes every channel that is on for fewer than this share of the images. The
      network is then to be trained on, for instance by `python -m training.fit --start-from`.

    Example:
        >>> smaller = prune(model, training_images, threshold=0.01)

    Args:
        model: A network with 0/1 gates: `gate="sigmoid"` and `fmb=True`; it is left as it is. It
            may be within another model; the result is flat.
        images: Raw pixels (images, height, width, channels), best the whole training split.
        threshold: Share of the images, from 0 to 1. One channel of each module always stays.
        left_out: A module of which at least this share of the gates is on, of all images and
            channels, goes as a whole: what it scaled stays as it is. By default none does.

    Returns:
        The smaller network, of the same precision policy, not compiled. It loads as any other, and
        can be trained, pruned and converted.

    Raises:
        ValueError: `threshold` or `left_out` is out of its range, the images do not fit, or the
            gates cannot be pruned: +1/-1 gates flip a channel and never remove it, soft ones (no
            FMB) scale it.
    """
    from larq_seresnet.prune.removal import remove
    from larq_seresnet.prune.selection import select

    return remove(model, select(model, images, threshold, left_out))
