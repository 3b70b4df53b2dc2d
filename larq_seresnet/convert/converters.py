"""Calls LCE's and TensorFlow's converters: Keras in, `.tflite` bytes out."""

import warnings
from collections.abc import Callable
from typing import Any

from larq_seresnet._tensorflow import tf
from larq_seresnet.console import silence
from larq_seresnet.convert.errors import ConversionError

NAMES = {"lce": "LCE", "litert": "TensorFlow Lite"}


def run_converter(model: tf.keras.Model, target: str) -> bytes:
    """Convert a float32 model for a batch of one with the target's converter.

    Raises:
        ConversionError: The converter does not take this model; the message is its own.
    """
    return _explained(NAMES[target], lambda: {"lce": _lce, "litert": _litert}[target](model))


def dynamic_range_int8(model: tf.keras.Model) -> bytes:
    """TensorFlow Lite's dynamic-range quantization of the same model, to compare sizes with."""
    return _explained(NAMES["litert"], lambda: _litert(model, quantize=True))


def _lce(model: tf.keras.Model) -> bytes:
    # LCE's `convert_keras_model` saves a SavedModel first, which takes ten times as long as the
    # conversion; this is what it falls back to.
    from larq_compute_engine.mlir._tf_tfl_flatbuffer import convert_graphdef_to_tflite_flatbuffer
    from tensorflow.core.framework.types_pb2 import DataType
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(_trace(model), lower_control_flow=False)
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


def _litert(model: tf.keras.Model, quantize: bool = False) -> bytes:
    with warnings.catch_warnings():
        # TensorFlow wants the model as well, only to save it as a SavedModel first.
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([_trace(model)])
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()


def _trace(model: tf.keras.Model) -> Any:
    inputs = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=f"input{i}")
        for i, tensor in enumerate(model.inputs)
    ]
    if any(size is None for spec in inputs for size in spec.shape):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise ConversionError(f"the model's input shape must be known but for the batch: {shapes}")
    function = tf.function(lambda *args: model(args if len(args) > 1 else args[0], training=False))
    return function.get_concrete_function(*inputs)


def _explained(name: str, convert: Callable[[], bytes]) -> bytes:
    try:
        with silence():
            return convert()
    except ConversionError:
        raise
    except Exception as error:  # the converters raise whatever their MLIR passes report
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ConversionError(f"{name}'s converter cannot convert the model: {reason}") from error
