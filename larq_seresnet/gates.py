"""The gates of a squeeze-and-excitation module: an activation and how FMB binarizes its output."""

from collections.abc import Callable
from dataclasses import dataclass

from larq_seresnet._tensorflow import tf


@dataclass(frozen=True)
class Gate:
    """An activation `act` with the threshold and the two values of its binarization.

    FMB maps a channel weight m = act(z) to `high` where m >= `threshold`, else to `low`. All
    activations are monotone and act(0) = `threshold`, so that this is also z >= 0.

    Attributes:
        activation: Elementwise function of the pre-activation z.
        threshold: Of the activation's output, not of z.
        low: Value below the threshold.
        high: Value from the threshold on.
    """

    activation: Callable[[tf.Tensor], tf.Tensor]
    threshold: float
    low: float
    high: float


def hard_tanh(z: tf.Tensor) -> tf.Tensor:
    """The identity, clipped to [-1, 1]."""
    return tf.clip_by_value(z, -1.0, 1.0)


GATES = {
    "sigmoid": Gate(tf.sigmoid, threshold=0.5, low=0.0, high=1.0),  # Eq. 5
    "tanh": Gate(tf.tanh, threshold=0.0, low=-1.0, high=1.0),  # Eq. 6
    "hard_tanh": Gate(hard_tanh, threshold=0.0, low=-1.0, high=1.0),
}


def get(name: str) -> Gate:
    """Return the gate of that name.

    Raises:
        ValueError: No gate has that name.
    """
    if name not in GATES:
        raise ValueError(f"gate must be one of {', '.join(GATES)}, not {name!r}")
    return GATES[name]
