"""Where the bytes of a `.tflite` file are, read off the file."""

import json
from dataclasses import asdict, dataclass

from larq_seresnet._tensorflow import lq
from larq_seresnet.convert import converters
from larq_seresnet.convert.conversion import Conversion
from larq_seresnet.convert.graph import Graph, Tensor, parse

_KERNELS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "LceBconv2d"}
_UNPACKS = {"LceDequantize", "GATHER"}


@dataclass(frozen=True)
class Sizes:
    """Bytes of one file, by kind.

    Attributes:
        packed_weights: Kernels as bits.
        scales: What unpacked kernels are multiplied by.
        batch_norm: Scales, shifts, biases and thresholds that are applied to activations.
        tables: Lookup tables, shapes, axes and thresholds of operators.
        other_weights: Kernels that are not bits.
        metadata: What the file says about itself.
        graph: All the rest: operators, tensors, offsets, alignment.
        total: The file's length.
    """

    packed_weights: int
    scales: int
    batch_norm: int
    tables: int
    other_weights: int
    metadata: int
    graph: int
    total: int


@dataclass(frozen=True)
class Comparison:
    """A file's sizes beside those of others of the same network.

    Attributes:
        file: The converted file.
        operators: How many operators it has.
        float32: The target's own converter's file, with float32 weights (of fully binary networks:
            TensorFlow Lite's).
        lce: LCE's file.
        dynamic_range_int8: TensorFlow Lite's file with weights of 8 bits.
        larq_summary: The weights as Larq counts them; there is no such file.
    """

    file: Sizes
    operators: int
    float32: int
    lce: int
    dynamic_range_int8: int
    larq_summary: int


def sizes(file: bytes) -> Sizes:
    """Take a file apart.

    Raises:
        ConversionError: It is no readable `.tflite` file.
    """
    graph = parse(file)
    constants: dict[bytes, str] = {}
    for tensor in graph.tensors():
        if tensor.data is not None:
            # Equal constants are stored once.
            constants.setdefault(tensor.data.tobytes(), _kind(graph, tensor))
    kinds = {
        kind: sum(len(content) for content, k in constants.items() if k == kind)
        for kind in ("packed_weights", "scales", "batch_norm", "tables", "other_weights")
    }
    metadata = sum(map(len, graph.metadata.values()))
    rest = len(file) - sum(kinds.values()) - metadata
    return Sizes(**kinds, metadata=metadata, graph=rest, total=len(file))


def _kind(graph: Graph, constant: Tensor) -> str:
    """What a constant is for: the first operator tells that does more than pass it on."""
    frontier = [constant]
    while frontier:
        tensor = frontier.pop(0)
        for operator, position in graph.consumers(tensor):
            if operator.name in _UNPACKS and (operator.name != "GATHER" or position == 1):
                return "packed_weights"
            if operator.name in _KERNELS:
                if position == 1:
                    binary = operator.name == "LceBconv2d" or tensor is not constant
                    return "packed_weights" if binary else "other_weights"
                return "batch_norm"
            if operator.name in ("MUL", "ADD", "SUB", "DIV"):
                other = operator.inputs[1 - position]
                return "scales" if other is None or _is_unpacked(graph, other) else "batch_norm"
            if operator.name in ("CAST", "RESHAPE") or (
                operator.name == "SPLIT_V" and position == 0
            ):
                frontier += operator.outputs
    return "tables"


def _is_unpacked(graph: Graph, tensor: Tensor) -> bool:
    """Whether this depends on constants only."""
    producer = graph.producer(tensor)
    if producer is None:
        return tensor.data is not None
    return all(t is None or _is_unpacked(graph, t) for t in producer.inputs)


def compare_sizes(conversion: Conversion, target: str) -> Comparison:
    """Convert the same network with the other converters, and take the files' sizes."""
    own = {target: conversion.unpacked}
    for other in {"lce", "litert"} - {target}:
        own[other] = converters.run_converter(conversion.model, other)
    profile = lq.models.ModelProfile(conversion.model)
    return Comparison(
        sizes(conversion.file),
        len(parse(conversion.file).operators),
        len(own["litert"]),
        len(own["lce"]),
        len(converters.dynamic_range_int8(conversion.model)),
        int(profile.memory / 8),
    )


def as_json(comparison: Comparison) -> str:
    """One JSON object, sizes in bytes."""
    return json.dumps(asdict(comparison), indent=2)


def as_table(comparison: Comparison) -> str:
    """Two tables for the screen: the file by kind, and its competitors."""
    lines = ["bytes      %  of the file"]
    for kind, count in asdict(comparison.file).items():
        name = kind.replace("_", " ")
        share = 100 * count / comparison.file.total
        lines.append(f"{count:9,} {share:5.1f}  {name}")
    lines += ["", "    bytes  ratio  the same network"]
    others = {
        "this file": comparison.file.total,
        "float32 file (TensorFlow Lite's converter)": comparison.float32,
        "LCE's own output": comparison.lce,
        "dynamic-range int8 (TensorFlow Lite's converter)": comparison.dynamic_range_int8,
        "Larq's summary (weights, no file)": comparison.larq_summary,
    }
    for name, count in others.items():
        lines.append(f"{count:9,} {count / comparison.file.total:6.2f}  {name}")
    return "\n".join(lines)
