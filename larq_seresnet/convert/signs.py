"""Whether a file quantizes activations to other values only where rounding decides them.

Where the sums of a network with binary activations come out as 0 but for rounding, Keras and the
file may take different signs, and all that follows differs; so at each threshold of activations of
more bits. Of an image whose outputs differ, the first layer tells in which values do: if Keras's
quantizer gives all of these for sums that are next to its own, the image is no fault of the file's.
The layers are found by the names that the converters give to the results of quantizers; what is not
found is not looked at, and an image whose values do not differ is never excused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from larq_seresnet._tensorflow import lq, tf
from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType

ROUNDING = 1e-5  # of the largest sum of the image and layer
DECIDES = ("GREATER_EQUAL", "LceQuantize", "ROUND")  # operators that rounding can turn

Quantizer: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Quantized:
    """What Keras and a graph compute for the same quantizer.

    Attributes:
        sums: Keras's tensor, which is quantized.
        values: The graph's: bools, bits of 32-bit words, of which 1 is negative, or whole numbers.
        quantizer: What makes these of the sums.
    """

    sums: Any
    values: Tensor
    quantizer: Quantizer


def quantized(graph: Graph, model: tf.keras.Model) -> list[Quantized]:
    """What is found in both, in the graph's order."""
    layers = {layer.name: layer for layer in model.layers if _quantizes(layer)}
    found = []
    for operator in graph.operators:
        names = _name(graph, operator).replace(";", "/").split("/")
        layer = next((layers[name] for name in names if name in layers), None)
        if layer is not None and _fits(layer.input, operator.outputs[0]):
            found.append(Quantized(layer.input, operator.outputs[0], _quantizer(layer, operator)))
    return found


def excused(
    quantizers: Sequence[Quantizer],
    sums: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    agree: np.ndarray,
) -> int:
    """How many images differ since rounding turned signs.

    Args:
        quantizers: In the order of the layers.
        sums: Keras's, of each of them.
        values: The file's. Signs of channels with a negative scale may be turned round in all
            images, and in the kernels that read them, too.
        agree: Which images have the same outputs.
    """
    differ, near = [], []
    for quantizer, z, given in zip(quantizers, sums, values, strict=True):
        found = _unpacked(given, z.shape[-1]) if given.dtype == np.int32 else given
        other = quantizer(z) != found
        if found.dtype == bool:
            turned = other[agree].mean(axis=tuple(range(other.ndim - 1))) > 0.5
            other, found = other ^ turned, found ^ turned
        axes = tuple(range(1, z.ndim))
        rounding = ROUNDING * np.abs(z).max(axis=axes, keepdims=True)
        differ.append(other)
        near.append((quantizer(z + rounding) == found) | (quantizer(z - rounding) == found))
    count = 0
    for image in np.flatnonzero(~agree):
        layers = ((a[image], b[image]) for a, b in zip(differ, near, strict=True))
        first = next((layer for layer in layers if layer[0].any()), None)
        count += first is not None and bool(first[1][first[0]].all())
    return count


def _quantizer_of(layer: tf.keras.layers.Layer) -> Any:
    return getattr(layer, "input_quantizer", None) or getattr(layer, "activation", None)


def _quantizes(layer: tf.keras.layers.Layer) -> bool:
    is_quantizer = isinstance(_quantizer_of(layer), lq.quantizers.Quantizer)
    return is_quantizer and len(layer.inbound_nodes) == 1


def _quantizer(layer: tf.keras.layers.Layer, operator: Operator) -> Quantizer:
    """A layer's quantizer, whose values are those of the graph's operator."""
    quantizer = _quantizer_of(layer)
    if operator.name == "ROUND":  # of multiples of what is quantized, 0 to 1
        return lambda z: np.rint(quantizer(z).numpy() * (2**quantizer.precision - 1))
    return lambda z: quantizer(z).numpy() > 0


def _name(graph: Graph, operator: Operator) -> str:
    """The converter's name of the values that an operator quantizes to, if it does."""
    result = operator.outputs[0]
    is_packed = operator.name in ("LceQuantize", "LceBconv2d") and result.type == TensorType.INT32
    if is_packed or operator.name == "ROUND":
        return result.name
    if operator.name != "GREATER_EQUAL":
        return ""
    return next((reader.outputs[0].name for reader, _ in graph.consumers(result)), "")


def _fits(sums: Any, values: Tensor) -> bool:
    *size, channels = sums.shape[1:]
    last = -(-channels // 32) if values.type == TensorType.INT32 else channels
    return values.shape[1:] == (*size, last)


def _unpacked(words: np.ndarray, channels: int) -> np.ndarray:
    """Where the signs are positive."""
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return bits[..., :channels] == 0
