"""What the gates of a network do: which channels they leave on, for how many of the images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GateStatistics:
    """A squeeze-and-excitation module's gates on a set of images.

    A gate is on where the channel weight M_c is at its threshold or above it, which FMB makes 1;
    without FMB the weight itself scales the channel.

    Attributes:
        module: The module's name.
        fmb: Whether FMB binarizes the gates.
        on: Share of the images on which each channel's gate is on, (channels,).
        channels: How many channels there were before pruning.
    """

    module: str
    fmb: bool
    on: np.ndarray
    channels: int

    @property
    def pruned(self) -> int:
        """Channels that pruning has removed."""
        return self.channels - len(self.on)

    @property
    def always_on(self) -> int:
        """Channels that are on for every image."""
        return int((self.on == 1).sum())

    @property
    def always_off(self) -> int:
        """Channels that are on for no image."""
        return int((self.on == 0).sum())

    @property
    def dependent(self) -> int:
        """Channels that are on for some images and off for others."""
        return len(self.on) - self.always_on - self.always_off


def gate_statistics(
    model: Any,
    images: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[GateStatistics]:
    """Look at every squeeze-and-excitation module of a network, from the first block to the last.

    Example:
        >>> for module in gate_statistics(model, images):
        ...     print(module.module, module.always_on, module.always_off, module.dependent)

    Args:
        model: A functional or sequential model, also with models in it; it computes in float32
            here.
        images: Raw pixels (images, height, width, channels).
        progress: Is told how many images are done, and of how many.

    Raises:
        ValueError: The images do not fit, or the model has no squeeze-and-excitation.
    """
    from larq_seresnet import attention

    return [
        GateStatistics(
            seen.module.name,
            seen.module.fmb.enabled,
            seen.is_on.mean(axis=0),
            seen.is_on.shape[1] + sum(seen.module.padding),
        )
        for seen in attention.observe(model, images, progress)
    ]
