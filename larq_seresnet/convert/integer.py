"""Activations of int8 beside kernels of few bits.

TensorFlow Lite's converter quantizes a trained network by the ranges that its activations take on
examples (Jacob et al., arXiv:1712.05877). A kernel of +s and -s in each channel, which batch norm
is folded into, becomes one of +127 and -127, so that a bit still holds each weight, and integer
kernels multiply it: there, 1-bit weights cost no more time than others of 8 bits.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.convert import keras_models, pixels, writer
from larq_seresnet.convert.converters import loops, run_converter
from larq_seresnet.convert.graph import Graph, parse
from larq_seresnet.convert.pack import Kernel, pack
from larq_seresnet.convert.runners import run
from larq_seresnet.convert.verify import Change, require_finite
from larq_seresnet.datasets import load_images
from larq_seresnet.edge.model_file import ModelFile
from larq_seresnet.edge.unpack import unpack_constants
from larq_seresnet.errors import ConversionError, UserError

_EXAMPLES = 500  # images

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quantized:
    """A network of int8.

    Attributes:
        graph: With packed kernels.
        kernels: What they are stored as.
        unpacked: The converter's file.
    """

    graph: Graph
    kernels: list[Kernel]
    unpacked: bytes

    def change(self, model: tf.keras.Model, images: Sequence[np.ndarray]) -> Change:
        """How its outputs differ from the model's, in the stock interpreter.

        Raises:
            ConversionError: Once its kernels are restored, it is not to the bit what the converter
                wrote; or the interpreter does not run it, or the model's outputs are not finite.
        """
        outputs = tf.nest.flatten(model.predict(list(images), verbose=0))
        require_finite(outputs)
        file = writer.to_bytes(self.graph)
        restored = unpack_constants(ModelFile(file)).data
        pairs = zip(*(run(x, "litert", images) for x in (restored, self.unpacked)), strict=True)
        if not all(np.array_equal(found, expected) for found, expected in pairs):
            raise ConversionError("the file does not restore its kernels")
        return Change.between(outputs, run(file, "litert", images))


def quantize(model: tf.keras.Model, examples: np.ndarray) -> Quantized:
    """Quantize a model of one input, and pack its kernels.

    Args:
        model: In float32.
        examples: Images like those it will be given, (n, *its input's shape), in its range.

    Raises:
        UserError: The model has binary activations, loops or several inputs, or the images do not
            fit.
        ConversionError: The converter does not take it.
    """
    if keras_models.has_binary_activations(model):
        raise UserError("int8 is for float activations, and some of this network's are binary")
    if len(model.inputs) != 1:
        raise UserError("activations of int8 are for networks of one input")
    if found := loops(model):
        raise UserError(
            "TensorFlow Lite finds no ranges of int8 within loops: build "
            f"{', '.join(found)} with unroll=True"
        )
    shape = tuple(model.inputs[0].shape[1:])
    if examples.shape[1:] != shape or not len(examples):
        raise UserError(f"examples of shape {examples.shape} do not fit inputs of {shape}")
    if not np.isfinite(examples).all():
        raise UserError("some of the examples' values are not finite")
    unpacked = run_converter(model, "int8", examples)
    graph = parse(unpacked)
    keras_models.name_outputs(model, graph.outputs)
    return Quantized(graph, pack(graph, "litert"), unpacked)


def examples(model: tf.keras.Model, dataset: str | None, limits: pixels.Range) -> np.ndarray:
    """Training images of a data set, as a model of this range takes them.

    Raises:
        UserError: No data set is named, it is not on disk, or the model takes no images.
    """
    if not dataset:
        raise UserError(
            "int8 takes its ranges from images like those that the network will be given, and "
            "which it was trained on is not known: say --examples DATASET (examples=images)"
        )
    shape = tuple(model.inputs[0].shape[1:])
    if not pixels.are_images(model) or None in shape:
        raise UserError(f"a data set's images do not fit inputs of {shape}: say examples=images")
    try:
        images = load_images(dataset, "train", _EXAMPLES, shape)
    except UserError as error:
        raise UserError(f"{error}; --examples DATASET takes int8's ranges from others") from error
    log.info("taking int8's ranges from %d training images of %s", len(images), dataset)
    return pixels.from_bytes(images, limits)
