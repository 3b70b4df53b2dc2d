"""The inputs and outputs of a model: what they are, and how values become them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from larq_seresnet.edge.errors import ModelError, printable
from larq_seresnet.edge.model_file import Subgraph


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model.

    Attributes:
        name: Its name in the signature, or in the file where there is no signature.
        shape: Its sizes; -1 is one that is free.
        dtype: Its numpy type.
        scale: For integers that stand for real numbers, `real = scale * (integer - zero_point)`;
            0 for others.
        zero_point: See `scale`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int

    @property
    def is_quantized(self) -> bool:
        """Whether its integers stand for real numbers."""
        return self.dtype.kind in "iu" and 0 < self.scale < math.inf


def describe_tensors(
    graph: Subgraph, indices: Sequence[int], names: Sequence[tuple[int, str]]
) -> list[TensorInfo]:
    """Inputs or outputs, with the names that a signature gives to the tensors of these indices."""
    waiting: dict[int, list[str]] = {}
    for index, name in names:
        waiting.setdefault(index, []).append(name)
    infos = []
    for index in indices:
        tensor = graph.tensors[index]
        given = waiting.get(index)
        name = given.pop(0) if given else tensor.name
        dtype = np.dtype("S") if tensor.type == "string" else tensor.dtype
        if dtype is None:
            raise ModelError(f"'{name}' is of type {tensor.type}, which numpy does not have")
        is_one = len(tensor.scales) == len(tensor.zero_points) == 1  # not one for each channel
        scale, zero_point = (tensor.scales[0], tensor.zero_points[0]) if is_one else (0, 0)
        infos.append(TensorInfo(name, tensor.signature, dtype, float(scale), int(zero_point)))
    return infos


def as_input(value: Any, info: TensorInfo) -> np.ndarray:
    """A value in the type of an input.

    Raises:
        TypeError: It does not convert without loss.
        ValueError: It is not a number that can be quantized.
    """
    array = np.asarray(value)
    if array.dtype == info.dtype:
        return np.ascontiguousarray(array) if array.ndim else array
    if info.dtype.kind == "S" and array.dtype.kind in "SU":
        return array
    number = array.dtype.kind in "biuf"
    if info.dtype.kind == "f" and number:
        return np.ascontiguousarray(array, info.dtype) if array.ndim else array.astype(info.dtype)
    if info.is_quantized and array.dtype.kind == "f":
        return quantize(array, info)
    # Python's own numbers come without a type that one could mean.
    untyped = not isinstance(value, np.ndarray | np.generic)
    if info.dtype.kind in "iu" and array.dtype.kind in "iu" and untyped and array.size:
        limits = np.iinfo(info.dtype)
        if limits.min <= array.min() and array.max() <= limits.max:
            return array.astype(info.dtype)
    if number and np.can_cast(array.dtype, info.dtype, "safe"):
        return array.astype(info.dtype)
    raise TypeError(
        f"input '{printable(info.name)}' is {info.dtype.name}, and {array.dtype.name} does not "
        "convert to it without loss"
    )


def quantize(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """Real numbers as the integers that an input takes; what is beyond these becomes the limit."""
    if np.isnan(values).any():
        raise ValueError(f"input '{printable(info.name)}' has NaN, which no integer stands for")
    limits = np.iinfo(info.dtype)
    integers = np.rint(values.astype(np.float64) / info.scale) + info.zero_point
    return np.clip(integers, limits.min, limits.max).astype(info.dtype)


def dequantize(values: np.ndarray, info: TensorInfo) -> np.ndarray:
    """The real numbers that an output stands for."""
    if not info.is_quantized or values.dtype != info.dtype:
        return values
    return (values.astype(np.float32) - np.float32(info.zero_point)) * np.float32(info.scale)


def fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """Whether a shape is the declared one, of which -1 is any size."""
    return len(shape) == len(declared) and all(
        size == wanted or wanted == -1 for size, wanted in zip(shape, declared, strict=True)
    )
