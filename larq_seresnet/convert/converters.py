"""Calls LCE's and TensorFlow's converters: Keras in, `.tflite` bytes out."""

import warnings
from typing import Any

import numpy as np

from larq_seresnet._tensorflow import tf
from larq_seresnet.console import silence
from larq_seresnet.convert import keras_models
from larq_seresnet.errors import ConversionError

NAMES = {"lce": "LCE", "litert": "TensorFlow Lite", "int8": "TensorFlow Lite"}


def run_converter(model: tf.keras.Model, target: str, examples: np.ndarray | None = None) -> bytes:
    """Convert a float32 model for a batch of one with the target's converter.

    Args:
        model: Its input shape is known.
        target: "lce", "litert", or "int8": TensorFlow Lite's dynamic-range quantization.
        examples: For "int8", images like those that the model of one input will be given, (n, ...):
            with them activations are quantized too, by the ranges that they take.

    Raises:
        ConversionError: The converter does not take this model; the message is its own.
    """
    specs = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=f"input{i}")
        for i, tensor in enumerate(model.inputs)
    ]
    if not all(spec.shape.is_fully_defined() for spec in specs):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise ConversionError(f"the model's input shape must be known but for the batch: {shapes}")
    function = tf.function(lambda *args: model(args if len(args) > 1 else args[0], training=False))
    try:
        with silence(), keras_models.quantized_kernels(model):
            traced = function.get_concrete_function(*specs)
            return _lce(traced) if target == "lce" else _litert(traced, target == "int8", examples)
    except Exception as error:  # the converters raise whatever their MLIR passes report
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ConversionError(
            f"{NAMES[target]}'s converter cannot convert the model: {reason}{_hint(model, target)}"
        ) from error


def loops(model: tf.keras.Model) -> list[str]:
    """The names of the recurrent layers that become loops."""
    recurrent = [m for m in model.submodules if isinstance(m, tf.keras.layers.RNN)]
    return [layer.name for layer in recurrent if not layer.unroll]


def _hint(model: tf.keras.Model, target: str) -> str:
    """What to do about a model that a converter does not take, where that is known."""
    recurrent = [m for m in model.submodules if isinstance(m, tf.keras.layers.RNN)]
    if stateful := [layer.name for layer in recurrent if layer.stateful]:
        keep = "keep their" if len(stateful) > 1 else "keeps its"
        return (
            f" ({', '.join(stateful)} {keep} state from call to call, which a file does not: "
            "build the model with stateful=False)"
        )
    if target == "lce" and (found := loops(model)):
        return (
            f" (it does not take every loop: build {', '.join(found)} with unroll=True, or convert "
            "for litert)"
        )
    return ""


def _lce(function: Any) -> bytes:
    # LCE's `convert_keras_model` saves a SavedModel first, which takes ten times as long as the
    # conversion; this is what it falls back to.
    from larq_compute_engine.mlir._tf_tfl_flatbuffer import convert_graphdef_to_tflite_flatbuffer
    from tensorflow.core.framework.types_pb2 import DataType
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    inputs = [tensor for tensor in frozen.inputs if tensor.dtype != tf.resource]
    return convert_graphdef_to_tflite_flatbuffer(
        frozen.graph.as_graph_def().SerializeToString(),
        [tensor.op.name for tensor in inputs],
        [DataType.Name(tensor.dtype.as_datatype_enum) for tensor in inputs],
        [tensor.shape.as_list() for tensor in inputs],
        [tensor.op.name for tensor in frozen.outputs],
        False,  # should_quantize
        "arm",
        None,  # default int8 range
    )


def _litert(function: Any, quantize: bool, examples: np.ndarray | None) -> bytes:
    with warnings.catch_warnings():
        # TensorFlow wants the model as well, only to save it as a SavedModel first.
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if examples is not None:
            images = examples.astype(function.inputs[0].dtype.as_numpy_dtype)
            converter.representative_dataset = lambda: ([image[None]] for image in images)
        return converter.convert()
