"""Which values a model takes for a black and a white pixel."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.errors import UserError
from larq_seresnet.nested import calls

Range: TypeAlias = tuple[float, float]

BYTES: Range = (0, 255)
ASK = "say --input-range LOW HIGH (input_range=), such as 0 255, 0 1 or -1 1"

_USUAL: tuple[Range, ...] = ((0, 1), (-1, 1), BYTES)
_LARGEST = 1e6  # as the device's runtime has it
_PROBES = np.array([-1, 0, 1, 255], np.float32)
_CLOSE = 0.01
_NORMALIZES = (tf.keras.layers.Normalization, tf.keras.layers.BatchNormalization)


def checked(limits: Sequence[float]) -> Range:
    """The two limits, whole numbers as such.

    Raises:
        UserError: They are no limits.
    """
    try:
        low, high = map(float, limits)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -_LARGEST <= low < high <= _LARGEST:
        raise UserError(f"the input range must be two numbers, the lower first, not {limits}")
    return tuple(int(x) if x.is_integer() else x for x in (low, high))  # type: ignore[return-value]


def as_text(limits: Range) -> str:
    """The limits in a sentence."""
    return f"{limits[0]:g} to {limits[1]:g}"


def from_bytes(images: np.ndarray, limits: Range) -> np.ndarray:
    """Pixels 0 to 255 as the model takes them, in float32, as the device computes them."""
    low, high = limits
    return np.float32(low) + images.astype(np.float32) * np.float32((high - low) / 255)


def to_bytes(images: np.ndarray, limits: Range) -> np.ndarray:
    """What the model takes as pixels 0 to 255, rounded."""
    low, high = limits
    return np.clip(np.rint((images - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def are_images(model: tf.keras.Model) -> bool:
    """Whether the model takes one image, gray or in color, as the command `classify` does."""
    shapes = [tuple(x.shape[1:]) for x in model.inputs]
    return len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] in (1, 3)


def of_normalization(model: tf.keras.Model) -> Range | None:
    """The range that a model's own normalization tells, if it has one; of all inputs the same.

    A layer that brings a range to 0 to 1 or -1 to 1 tells it. So does one that brings values to
    mean 0 and deviation 1: values from a to b have a variance of at most (b - mean) (mean - a)
    (Bhatia and Davis, 2000), and of the usual ranges the first is taken that allows it.

    Args:
        model: Flat, as `nested.flat` gives it.
    """
    found = {_of_input(model, x) for x in model.inputs}
    return found.pop() if len(found) == 1 else None


def _of_input(model: tf.keras.Model, pixels: Any) -> Range | None:
    shift, scale = np.zeros(1), np.ones(1)  # of what the layers up to here compute
    tensor = pixels
    while reader := _only_reader(model, tensor):
        computed = _scaling(pixels, reader.outputs)
        if computed is None:
            break
        (shift, scale), tensor = computed, reader.outputs
    if np.allclose(scale, 1, _CLOSE) and np.abs(shift).max() < _CLOSE:
        return None
    for low, high in _USUAL:
        if any(
            np.allclose([low * scale + shift, high * scale + shift], [[a], [b]], atol=_CLOSE)
            for a, b in ((0, 1), (-1, 1))
        ):
            return low, high
    if np.abs(shift).max() < _CLOSE:  # only a factor: no statistics
        return None
    mean, variance = -shift / scale, 1 / scale**2
    for low, high in _USUAL:
        if ((high - mean) * (mean - low) >= variance * (1 - _CLOSE)).all():
            return low, high
    return None


def _only_reader(model: tf.keras.Model, tensor: Any) -> Any:
    """Keras's node that reads a tensor, if there is only one, and it learned no kernel."""
    nodes = [n for n in calls(model) if any(x is tensor for x in tf.nest.flatten(n.keras_inputs))]
    if len(nodes) != 1 or nodes[0].is_input or len(tf.nest.flatten(nodes[0].outputs)) != 1:
        return None
    layer = nodes[0].layer
    return nodes[0] if isinstance(layer, _NORMALIZES) or not layer.weights else None


def _scaling(pixels: Any, result: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """The shift and the scale of each channel, where the result is pixels * scale + shift."""
    if result.shape[-1] != pixels.shape[-1] or not result.dtype.is_floating:
        return None
    if None in (*pixels.shape[1:], pixels.shape[-1]):  # of any size, or single numbers
        return None
    plain = np.ones((len(_PROBES), *pixels.shape[1:]), np.float32)
    probes = plain * _PROBES.reshape(-1, *[1] * (plain.ndim - 1))
    try:
        values = np.asarray(tf.keras.Model(pixels, result)(probes, training=False), np.float64)
    except (ValueError, tf.errors.OpError):  # it reads other inputs as well
        return None
    values = values.reshape(len(_PROBES), -1, values.shape[-1])
    shift, scale = values[1, 0], values[2, 0] - values[1, 0]
    expected = shift + _PROBES[:, None, None] * scale
    tolerance = _CLOSE * np.abs(values).max()
    is_scaled = scale.all() and np.allclose(values, expected, 0, tolerance)
    return (shift, scale) if is_scaled else None
