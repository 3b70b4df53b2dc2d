"""Where the bytes of a `.tflite` file are, and what each kernel is stored as."""

import contextlib
import json
from dataclasses import asdict, dataclass, replace

from larq_seresnet._tensorflow import lq, tf
from larq_seresnet.convert import converters, keras_models
from larq_seresnet.convert.conversion import Conversion
from larq_seresnet.convert.graph import Graph, Tensor, TensorType
from larq_seresnet.convert.pack import Kernel
from larq_seresnet.convert.verify import Change
from larq_seresnet.errors import ConversionError

_KERNELS = {
    "CONV_3D",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
    "LceBconv2d",
}
_SPLITS = {("SPLIT", 1), ("SPLIT_V", 0)}  # what they cut, as which input


@dataclass(frozen=True)
class Sizes:
    """Bytes of one file, by kind.

    Attributes:
        packed_weights: Kernels as bits.
        scales: What unpacked kernels are multiplied by, or the values that their bits stand for.
        batch_norm: Scales, shifts, biases and thresholds that are applied to activations.
        tables: Lookup tables, shapes, axes and thresholds of operators.
        other_weights: Kernels of 8 bits and more.
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
    """A file's sizes beside those of others of the same network, where these can be made.

    Attributes:
        file: The converted file.
        kernels: What its layers' kernels are stored as, by the layers' names.
        operators: How many operators it has.
        float32: TensorFlow Lite's file, with float32 weights.
        lce: LCE's file.
        dynamic_range_int8: TensorFlow Lite's file with weights of 8 bits.
        integer: TensorFlow Lite's file with weights and activations of 8 bits, for such ones.
        larq_summary: The weights as Larq counts them; there is no such file. It fails of quantizers
            that do not tell their bits, and of films.
        change: What the rounding of float weights or activations changed.
    """

    file: Sizes
    kernels: list[Kernel]
    operators: int
    float32: int | None
    lce: int | None
    dynamic_range_int8: int | None
    integer: int | None
    larq_summary: int | None
    change: Change | None


def sizes(graph: Graph, total: int) -> Sizes:
    """What the parts of a graph take of the `total` bytes of its file."""
    constants: dict[bytes, str] = {}  # equal ones are stored once
    for part in graph.parts():
        for tensor in part.tensors():
            if tensor.data is not None:
                constants.setdefault(tensor.data.tobytes(), _kind(part, tensor))
    kinds = dict.fromkeys(("packed_weights", "scales", "batch_norm", "tables", "other_weights"), 0)
    for content, kind in constants.items():
        kinds[kind] += len(content)
    kinds["metadata"] = sum(map(len, graph.metadata.values()))
    return Sizes(**kinds, graph=total - sum(kinds.values()), total=total)


def _kind(graph: Graph, constant: Tensor) -> str:
    """What a constant is for: the first operator tells that does more than pass it on."""
    frontier = [constant]
    while frontier:
        tensor = frontier.pop(0)
        for operator, position in graph.consumers(tensor):
            if operator.name == "DEQUANTIZE" or (
                operator.name == "CAST" and constant.type == TensorType.INT8 and tensor is constant
            ):
                return "other_weights"
            if (operator.name, position) == ("GATHER", 0) and operator.options.batchDims:
                return "scales"
            if operator.name == "LceDequantize" or (operator.name, position) == ("GATHER", 1):
                return "packed_weights"
            if operator.name in _KERNELS:
                if position != 1:
                    return "batch_norm"
                binary = operator.name == "LceBconv2d" or tensor is not constant
                return "packed_weights" if binary else "other_weights"
            if operator.name in ("MUL", "ADD", "SUB", "DIV"):
                other = operator.inputs[1 - position]
                return "scales" if _is_unpacked(graph, other) else "batch_norm"
            if operator.name in ("CAST", "RESHAPE") or (operator.name, position) in _SPLITS:
                frontier += operator.outputs
    return "tables"


def _is_unpacked(graph: Graph, tensor: Tensor | None) -> bool:
    """Whether this depends on constants only."""
    if tensor is None or tensor.data is not None:
        return True
    producer = graph.producer(tensor)
    return producer is not None and all(_is_unpacked(graph, t) for t in producer.inputs)


def compare_sizes(conversion: Conversion, target: str) -> Comparison:
    """Convert the same network with the other converters, and take the files' sizes."""
    model = conversion.model
    written = "integer" if "activations" in conversion.metadata else target
    own: dict[str, int | None] = {written: len(conversion.unpacked)}
    for other in {"lce", "litert", "int8"} - {written}:
        own[other] = None
        with contextlib.suppress(ConversionError):
            own[other] = len(converters.run_converter(model, other))
    kernels = [
        replace(kernel, name=keras_models.layer_name(model, kernel.name))
        for kernel in conversion.kernels
    ]
    return Comparison(
        sizes(conversion.graph, len(conversion.file)),
        kernels,
        sum(len(part.operators) for part in conversion.graph.parts()),
        own["litert"],
        own["lce"],
        own["int8"],
        own.get("integer"),
        _larq_summary(model),
        conversion.change,
    )


def _larq_summary(model: tf.keras.Model) -> int | None:
    try:
        return int(lq.models.ModelProfile(model).memory / 8)
    except (NotImplementedError, TypeError):
        return None


def as_json(comparison: Comparison) -> str:
    """One JSON object, sizes in bytes."""
    return json.dumps(asdict(comparison), indent=2)


def as_table(comparison: Comparison) -> str:
    """Three tables for the screen: the file by kind, its kernels, and its competitors."""
    total = comparison.file.total
    lines = ["bytes      %  of the file"]
    for kind, count in asdict(comparison.file).items():
        lines.append(f"{count:9,} {100 * count / total:5.1f}  {kind.replace('_', ' ')}")
    lines += ["", "    bytes  bits  weights     kernel of"]
    for kernel in comparison.kernels:
        why = f": {kernel.why}" if kernel.why else ""
        lines.append(
            f"{kernel.nbytes:9,} {kernel.bits:5}  {kernel.elements:<10,}  {kernel.name} "
            f"({kernel.operator}){why}"
        )
    if comparison.change:
        rounded = "rounded weights" if comparison.integer is None else "activations of int8"
        lines += ["", f"{rounded} change the outputs {comparison.change}"]
    lines += ["", "    bytes  ratio  the same network"]
    for name, count in (
        ("this file", total),
        ("float32 file (TensorFlow Lite's converter)", comparison.float32),
        ("LCE's own output", comparison.lce),
        ("dynamic-range int8 (TensorFlow Lite's converter)", comparison.dynamic_range_int8),
        ("int8, activations too (TensorFlow Lite's converter)", comparison.integer),
        ("Larq's summary (weights, no file)", comparison.larq_summary),
    ):
        if count is not None:
            lines.append(f"{count:9,} {count / total:6.2f}  {name}")
    return "\n".join(lines)
