"""Keras model in, verified `.tflite` file out."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import larq_seresnet
from larq_seresnet._tensorflow import tf
from larq_seresnet.convert import (
    converters,
    exact,
    fold,
    integer,
    keras_models,
    narrow,
    pixels,
    writer,
)
from larq_seresnet.convert.graph import Builtin, Graph, Tensor, parse
from larq_seresnet.convert.images import verification_images
from larq_seresnet.convert.pack import Kernel, binary_name, pack
from larq_seresnet.convert.rounding import FLOAT_WEIGHTS, round_kernels
from larq_seresnet.convert.verify import Change, Reference, Verification
from larq_seresnet.errors import ConversionError, UserError

TARGETS = ("lce", "litert")
INPUT_TYPES = ("float32", "uint8")
METADATA = "larq_seresnet"  # the name of the file's metadata entry, a JSON object

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """A verified file, and what it came from.

    Attributes:
        file: The `.tflite` file.
        graph: What is in it.
        kernels: What its layers' kernels are stored as.
        unpacked: What the target's own converter wrote.
        model: The Keras model, in float32.
        verification: How the file compares with the model; where weights or activations were
            rounded, how it did before that.
        change: What the rounding changed, if there was any.
        metadata: What the file says about itself.
    """

    file: bytes
    graph: Graph
    kernels: list[Kernel]
    unpacked: bytes
    model: tf.keras.Model
    verification: Verification
    change: Change | None
    metadata: dict[str, Any]


def convert(
    model: tf.keras.Model,
    target: str = "lce",
    *,
    input_type: str = "float32",
    input_range: Sequence[float] | None = None,
    float_weights: str | None = None,
    activations: str | None = None,
    examples: np.ndarray | None = None,
    lce_check: bool = True,
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Convert a Keras model to a `.tflite` file that holds 1 bit a binary weight.

    The file is run against the model on images and given only if it computes the same: with float
    activations within 1e-4 of the largest logit on every image; with binary activations, where
    rounding flips signs, up to 1 % of the images may deviate (more of large ones, see `verify`).
    Their number is in the metadata.

    Example:
        >>> file = convert(larq_seresnet.models.SEResNet14Bin(weights="cifar10"), "litert")
        >>> pathlib.Path("cifar10.tflite").write_bytes(file)

    Args:
        model: A functional or sequential model that the target's converter takes; it is left as it
            is. Mixed precision is undone.
        target: "lce" for Larq Compute Engine, "litert" for any stock TFLite or LiteRT.
        input_type: "float32" or "uint8": of the file's images. With "uint8" it takes bytes, 0 to
            255, and brings them to the input range itself.
        input_range: Which values the model takes for a black and a white pixel: (0, 255), (0, 1),
            (-1, 1) ... By default what its own normalization tells. It is written into the file,
            for whoever feeds it pictures; where it is not known, a warning is logged.
        float_weights: "float16" or "int8" rounds the kernels that are not quantized, "int8" for
            each output channel by its largest. How that changes the outputs is logged, and is in
            the metadata; all the rest is verified as strictly as without.
        activations: "int8" quantizes activations, and with them all weights, for the target
            "litert": a network with 1-bit weights runs as fast as one of 8 bits, and a bit still
            holds each weight. How that changes the outputs is logged, and is in the metadata.
        examples: For int8's ranges, images like those that the file will be given, in the model's
            range. By default training images of the metadata's "dataset".
        lce_check: Whether a file for "lce" is verified with LCE's interpreter, and not with
            `larq_seresnet.edge`, which also runs grouped binary convolutions.
        images: To verify with, (images, height, width, channels), or a list of one array for each
            input, in the model's range. By default test images of the metadata's "dataset", or
            CIFAR-10's where they fit, if they are on disk, otherwise synthetic ones.
        metadata: What else the file should say about itself, JSON values: "labels", "dataset" ...

    Raises:
        ConversionError: The model cannot be converted, or its file computes something else; the
            message names the stage after which the outputs differ first.
        ValueError: Unknown `target`, `input_type`, `float_weights` or `activations`, or they
            exclude each other; no range; or a file of "uint8" is asked for, and the model's range
            is not known.
    """
    return run_conversion(
        model,
        target,
        input_type=input_type,
        input_range=input_range,
        float_weights=float_weights,
        activations=activations,
        examples=examples,
        lce_check=lce_check,
        images=images,
        dataset=(metadata or {}).get("dataset"),
        metadata=metadata,
    ).file


def run_conversion(
    model: tf.keras.Model,
    target: str,
    *,
    input_type: str = "float32",
    input_range: Sequence[float] | None = None,
    float_weights: str | None = None,
    activations: str | None = None,
    examples: np.ndarray | str | None = None,
    lce_check: bool = True,
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    dataset: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Conversion:
    """`convert`, with all that is known about the file.

    Where there are no `images`, those of `dataset` (as `datasets.load` takes it) are taken;
    `examples` may name a data set too.
    """
    for name, value, choices in (
        ("target", target, TARGETS),
        ("input_type", input_type, INPUT_TYPES),
        ("float_weights", float_weights, (None, *FLOAT_WEIGHTS)),
        ("activations", activations, (None, "int8")),
    ):
        if value not in choices:
            known = ", ".join(choice for choice in choices if choice)
            raise ValueError(f"{name} must be one of {known}, not {value!r}")
    if activations and (target != "litert" or input_type != "float32" or float_weights):
        raise ValueError(
            "activations of int8 are for the target litert and inputs of float32, and round float "
            "weights themselves"
        )
    if not lce_check and target != "lce":
        raise ValueError("lce_check is for the target lce")
    if examples is not None and not activations:
        raise ValueError("examples are for activations of int8")
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be JSON values: {error}") from error
    named, model = model, keras_models.in_float32(model)
    if input_range is None:
        input_range = (metadata or {}).get("input_range")
    limits = _input_range(model, input_range, input_type)
    if activations:
        if examples is None or isinstance(examples, str):
            examples = integer.examples(model, examples or dataset, limits or pixels.BYTES)
        return _in_int8(named, model, np.asarray(examples), images, dataset, limits, metadata)
    binary = keras_models.has_binary_activations(model)
    log.info("converting with %s's converter", converters.NAMES[target])
    unpacked = converters.run_converter(model, target)

    kernels: list[Kernel] = []

    def stages(graph: Graph, rounded_to: str | None = None) -> Iterator[str]:
        """Make the converter's graph the file's, in place; gives each stage's name after it."""
        keras_models.name_outputs(model, graph.outputs)
        yield converters.NAMES[target]
        for part in graph.parts():
            fold.fold(part)
        if binary:
            exact.keep_signs(graph, keras_models.divisors(model), keras_models.norms(model))
            narrow.mend_padding(graph)
        if input_type == "uint8":
            fold.accept_uint8(graph, *(limits or pixels.BYTES))
        yield "folding"
        steps = round_kernels(graph, rounded_to) if rounded_to else {}
        yield "rounding"
        kernels[:] = pack(graph, target, steps)
        yield "packing"

    def built(until: str = "packing", rounded_to: str | None = None) -> Graph:
        """The graph after a stage."""
        graph = parse(unpacked)
        next(stage for stage in stages(graph, rounded_to) if stage == until)
        return graph

    graph = built()
    names = {operator.name for operator in graph.operators}
    if unknown := sorted(x for x in names if not hasattr(Builtin, x) and not x.startswith("Lce")):
        raise ConversionError(
            f"{converters.NAMES[target]}'s converter writes operators that no interpreter knows "
            f"({', '.join(unknown)})"
            + (": the target litert may do without" if target == "lce" else "")
        )
    if target == "lce" and lce_check:
        _require_no_groups(model, graph)
    images, kind = verification_images(
        model, images, dataset=dataset, input_range=limits or pixels.BYTES
    )
    log.info("verifying on %d %s images", len(images[0]), kind)
    given = images
    if input_type == "uint8" and limits:
        given = [pixels.to_bytes(x, limits) for x in images]
        images = [pixels.from_bytes(x, limits) for x in given]
    runner = "edge" if target == "lce" and not lce_check else target
    reference = Reference(model, images, runner, given, graph)
    verification, outputs = reference.compare(graph)
    log.info("%s", verification)
    if not verification.passes(binary):
        graph = parse(unpacked)  # from the start again, to see where it goes wrong
        wrong = (s for s in stages(graph) if not reference.compare(graph)[0].passes(binary))
        raise ConversionError(
            f"the file does not compute what the model computes ({verification}, of which "
            f"{verification.may_deviate(binary)} may); the outputs first differ after: "
            f"{next(wrong, 'packing')}{_hint(model, verification, limits)}"
        )

    change = None
    if float_weights:
        rounded = reference.rounded(built("rounding", float_weights))
        graph = built("packing", float_weights)
        restored, outputs = rounded.compare(graph)
        if not restored.passes(binary):
            raise ConversionError(f"the file does not restore its rounded weights ({restored})")
        change = reference.change(graph)
        log.info("weights of %s change the outputs %s", float_weights, change)

    facts = _facts(model, target, metadata, verification.images, kind)
    if runner == "edge":
        facts["verified_with"] = "larq_seresnet.edge"
    if limits:
        facts["input_range"] = pixels.BYTES if input_type == "uint8" else limits
    if binary or verification.deviating:
        facts["deviating_images"] = verification.deviating
    if verification.excused:
        facts["excused_images"] = verification.excused
    if verification.ties:
        facts["tie_images"] = verification.ties
    if change:
        facts["float_weights"] = {"type": float_weights, **asdict(change)}
    file = _write(named, graph, facts)
    reference.confirm(file, outputs)
    return Conversion(file, graph, kernels, unpacked, model, verification, change, facts)


def _in_int8(
    named: tf.keras.Model,
    model: tf.keras.Model,
    examples: np.ndarray,
    images: np.ndarray | Sequence[np.ndarray] | None,
    dataset: str | None,
    limits: pixels.Range | None,
    metadata: Mapping[str, Any] | None,
) -> Conversion:
    """The conversion to activations of int8, of a model that was `named` in float32."""
    quantized = integer.quantize(model, examples)
    images, kind = verification_images(
        model, images, dataset=dataset, input_range=limits or pixels.BYTES
    )
    count = len(images[0])
    log.info("comparing on %d %s images", count, kind)
    change = quantized.change(model, images)
    log.info("activations of int8 change the outputs %s", change)
    facts = _facts(model, "litert", metadata, count, kind)
    if limits:
        facts["input_range"] = limits
    facts["activations"] = {"type": "int8", **asdict(change)}
    file = _write(named, quantized.graph, facts)
    return Conversion(
        file=file,
        graph=quantized.graph,
        kernels=quantized.kernels,
        unpacked=quantized.unpacked,
        model=model,
        verification=Verification(count, 0, 0, 0.0, 0),
        change=change,
        metadata=facts,
    )


def _facts(
    model: tf.keras.Model, target: str, metadata: Mapping[str, Any] | None, images: int, kind: str
) -> dict[str, Any]:
    """What every file says about itself."""
    own = {
        "target": target,
        "version": larq_seresnet.__version__,
        "input_shape": [int(size) for size in model.inputs[0].shape[1:]],
    }
    return {
        **own,
        **(metadata or {}),
        **own,  # not what another file's say
        "verified_images": images,
        "verified_on": kind,
    }


def _write(named: tf.keras.Model, graph: Graph, facts: Mapping[str, Any]) -> bytes:
    """The file, with the names of the model's inputs and outputs."""
    graph.input_names, graph.output_names = keras_models.names(named)
    graph.metadata = {METADATA: json.dumps(facts, separators=(",", ":")).encode()}
    return writer.to_bytes(graph)


def _require_no_groups(model: tf.keras.Model, graph: Graph) -> None:
    """Refuse what LCE converts but does not run."""
    grouped = [
        keras_models.layer_name(model, binary_name(operator))
        for operator in graph.operators
        if operator.name == "LceBconv2d" and _is_grouped(*operator.inputs[:2])
    ]
    if grouped:
        raise ConversionError(
            f"Larq Compute Engine does not run grouped binary convolutions ({', '.join(grouped)}); "
            "larq_seresnet.edge does: --no-lce-check (lce_check=False) writes the file for it"
        )


def _hint(model: tf.keras.Model, verification: Verification, limits: pixels.Range | None) -> str:
    """What to do about outputs that differ, where that is known."""
    if norms := keras_models.uncalibrated(model):
        return (
            f". {norms[0]} (of {len(norms)} batch norms) has its initial statistics, with which "
            "values grow until rounding turns signs: train the model, or call it with "
            "training=True on images"
        )
    if 0 < verification.deviating == verification.excused:
        return (
            ". In all of these rounding alone turns signs, as it does in networks that learned "
            "nothing: convert it trained, and verify on images like those it was trained on"
        )
    return "" if limits else f". It was given 0 to 255; if it is for other values, {pixels.ASK}"


def _is_grouped(words: Tensor | None, kernel: Tensor | None) -> bool:
    return bool(words and kernel and words.shape[-1] != kernel.shape[-1])


def _input_range(
    model: tf.keras.Model, given: Sequence[float] | None, input_type: str
) -> pixels.Range | None:
    """The range of the model's pixels, if it is known."""
    told = pixels.of_normalization(model)
    if given is None and told is None:
        if input_type == "uint8":
            raise UserError(f"which values the model takes for bytes is not known: {pixels.ASK}")
        if pixels.are_images(model):
            log.warning(
                "which values the model takes for black and white is not known, and the file does "
                "not tell: %s",
                pixels.ASK,
            )
        return None
    if given is None:
        return told
    limits = pixels.checked(given)
    if told and limits != told:
        log.warning(
            "the network's own normalization is of pixels from %s, not %s",
            pixels.as_text(told),
            pixels.as_text(limits),
        )
    return limits
