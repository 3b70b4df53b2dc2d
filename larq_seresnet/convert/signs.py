"""Whether a file turned signs of activations only where rounding decides them.

Where the sums of a network with binary activations come out as 0 but for rounding, Keras and the
file may take different signs, and all that follows differs. Of an image whose outputs differ, the
first layer tells in which signs do: if all of these are of such sums, the image is no fault of the
file's. The layers are found by the names that the converters give to the results of quantizers;
what is not found is not looked at, and an image whose signs do not differ is never excused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import lq, tf
from larq_seresnet.convert.graph import Graph, Operator, Tensor, TensorType

ROUNDING = 1e-5  # of the largest sum of the image and layer


@dataclass(frozen=True)
class Quantized:
    """What Keras and a graph compute for the same quantizer.

    Attributes:
        sums: Keras's tensor, of which the signs are taken.
        signs: The graph's: bools, or bits of 32-bit words, of which 1 is negative.
    """

    sums: Any
    signs: Tensor


def quantized(graph: Graph, model: tf.keras.Model) -> list[Quantized]:
    """What is found in both, in the graph's order."""
    layers = {layer.name: layer for layer in model.layers if _takes_signs(layer)}
    found = []
    for operator in graph.operators:
        names = _name(graph, operator).replace(";", "/").split("/")
        layer = next((layers[name] for name in names if name in layers), None)
        if layer is not None and _fits(layer.input, operator.outputs[0]):
            found.append(Quantized(layer.input, operator.outputs[0]))
    return found


def excused(sums: Sequence[np.ndarray], signs: Sequence[np.ndarray], agree: np.ndarray) -> int:
    """How many images differ since rounding turned signs.

    Args:
        sums: Keras's, of each quantizer.
        signs: The file's. Those of channels with a negative scale may be turned round in all
            images, and in the kernels that read them, too.
        agree: Which images have the same outputs.
    """
    differ = []
    for z, given in zip(sums, signs, strict=True):
        positive = given if given.dtype == bool else _unpacked(given, z.shape[-1])
        other = (z >= 0) != positive
        turned = other[agree].mean(axis=tuple(range(other.ndim - 1))) > 0.5
        differ.append(other ^ turned)
    count = 0
    for image in np.flatnonzero(~agree):
        pairs = ((z[image], other[image]) for z, other in zip(sums, differ, strict=True))
        first = next((pair for pair in pairs if pair[1].any()), None)
        if first is not None:
            z, other = first
            count += bool((np.abs(z[other]) <= ROUNDING * np.abs(z).max()).all())
    return count


def _takes_signs(layer: tf.keras.layers.Layer) -> bool:
    quantizer = getattr(layer, "input_quantizer", None) or getattr(layer, "activation", None)
    is_quantizer = isinstance(quantizer, lq.quantizers.Quantizer)
    return is_quantizer and len(layer.inbound_nodes) == 1


def _name(graph: Graph, operator: Operator) -> str:
    """The converter's name of the signs that an operator takes, if it does."""
    result = operator.outputs[0]
    if operator.name in ("LceQuantize", "LceBconv2d") and result.type == TensorType.INT32:
        return result.name
    if operator.name != "GREATER_EQUAL":
        return ""
    return next((reader.outputs[0].name for reader, _ in graph.consumers(result)), "")


def _fits(sums: Any, signs: Tensor) -> bool:
    *size, channels = sums.shape[1:]
    last = channels if signs.type == TensorType.BOOL else -(-channels // 32)
    return signs.shape[1:] == (*size, last)


def _unpacked(words: np.ndarray, channels: int) -> np.ndarray:
    """Where the signs are positive."""
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return bits[..., :channels] == 0
