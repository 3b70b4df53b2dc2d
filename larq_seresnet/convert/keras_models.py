"""What the converter needs of Keras models: float32 copies, values, gates and batch norms."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from larq_seresnet import attention
from larq_seresnet._tensorflow import lq, tf
from larq_seresnet.convert.graph import Tensor
from larq_seresnet.edge.errors import one_line
from larq_seresnet.errors import ConversionError
from larq_seresnet.models import to_float32
from larq_seresnet.nested import flat

_BATCH = 50
_NORMALIZES = (tf.keras.layers.Normalization, tf.keras.layers.BatchNormalization)


def in_float32(model: tf.keras.Model) -> tf.keras.Model:
    """The same model flat and under the float32 policy: itself, or a copy with its weights.

    Raises:
        ConversionError: It is no model of Keras 2, or has no input shape, or an output for all
            images together; or a layer cannot be copied.
    """
    if not isinstance(model, tf.keras.Model):
        kind = type(model)
        raise ConversionError(
            f"not a model of Keras 2, but a {kind.__module__}.{kind.__qualname__}: load it with "
            "tf.keras.models.load_model, after import larq_seresnet"
        )
    if alone := [y.name for y in model.outputs or () if not y.shape.rank]:
        raise ConversionError(f"{alone[0]} is one number for all images, where a file takes one")
    try:
        model = flat(model)
    except NotImplementedError as error:
        raise ConversionError(f"a layer cannot be copied: {one_line(error)}") from error
    except ValueError as error:
        raise ConversionError(str(error)) from error
    layers = [m for m in model.submodules if isinstance(m, tf.keras.layers.Layer)]
    if all(layer.compute_dtype in (None, "float32") for layer in layers if layer.weights):
        return model
    return to_float32(model)


@contextlib.contextmanager
def quantized_kernels(model: tf.keras.Model) -> Iterator[None]:
    """Let Larq's layers read their kernels quantized, once for all.

    Else the graph has the quantizers' operators in front of its kernels. The converters compute
    them, but not those of the largest kernels (151 MB): TensorFlow Lite's leaves them in the file
    for each inference, and LCE's fails.
    """
    kind = lq.quantized_variable.QuantizedVariable
    kernels = [x for x in model.weights if isinstance(x, kind)]
    quantizers = [kernel.quantizer for kernel in kernels]
    try:
        for kernel in kernels:
            if kernel.quantizer is not None:
                value = tf.Variable(kernel.quantizer(kernel.latent_variable), trainable=False)
                kernel.quantizer = lambda _, value=value: value.read_value()
        yield
    finally:
        for kernel, quantizer in zip(kernels, quantizers, strict=True):
            kernel.quantizer = quantizer


def names(model: tf.keras.Model) -> tuple[list[str], list[str]]:
    """Keras's names of the inputs and the outputs, in its order: the keys where they are a dict."""

    def keys(structure: Any, others: list[str]) -> list[str]:
        tensors = structure.values() if isinstance(structure, dict) else [{}]
        return others if any(map(tf.nest.is_nested, tensors)) else sorted(structure)

    return keys(model.input, model.input_names), keys(model.output, model.output_names)


def name_outputs(model: tf.keras.Model, outputs: Sequence[Tensor]) -> None:
    """Name a graph's outputs after their layers, as converters do inner tensors."""
    for tensor, output in zip(outputs, model.outputs, strict=True):
        tensor.name = f"{output._keras_history.layer.name}/"


def layer_name(model: tf.keras.Model, name: str) -> str:
    """The layers with a kernel that a tensor's name tells of, or that name."""
    layers = [m for m in model.layers if m.weights and not isinstance(m, _NORMALIZES)]
    found = [layer.name for layer in layers if f"/{layer.name}/" in f"/{name}".replace(";", "/")]
    return ", ".join(found) or name


def has_binary_activations(model: tf.keras.Model) -> bool:
    """Whether a layer binarizes its inputs or its outputs."""
    return any(
        getattr(module, "input_quantizer", None) is not None
        or isinstance(getattr(module, "activation", None), lq.quantizers.Quantizer)
        for module in model.submodules
    )


def uncalibrated(model: tf.keras.Model) -> list[str]:
    """The batch norms that have seen no images: their statistics are the initial ones."""
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, tf.keras.layers.BatchNormalization)
        and not layer.moving_mean.numpy().any()
        and (layer.moving_variance.numpy() == 1).all()
    ]


def gates(model: tf.keras.Model, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The pre-activations z of all gates that are binarized, in the order of the layers."""
    modules = [module for module in attention.modules(model) if module.fmb.enabled]
    if not modules:
        return []
    inputs = values(model, [module.input for module in modules], images)
    return [m.preactivation(maps).numpy() for m, maps in zip(modules, inputs, strict=True)]


def divisors(model: tf.keras.Model) -> list[np.ndarray]:
    """By what the model's `Normalization` layers divide their inputs."""
    layers = [m for m in model.submodules if isinstance(m, tf.keras.layers.Normalization)]
    epsilon = tf.keras.backend.epsilon()
    return [np.maximum(np.sqrt(np.asarray(layer.variance)), epsilon) for layer in layers]


def norms(model: tf.keras.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """The model's batch norms as (shift, scale): (x + shift) * scale; shifts in float64."""
    found = []
    for layer in model.submodules:
        if isinstance(layer, tf.keras.layers.BatchNormalization) and layer.built:
            mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
            gamma = layer.gamma.numpy() if layer.scale else np.ones_like(mean)
            beta = layer.beta.numpy() if layer.center else np.zeros_like(mean)
            scale = gamma * (1 / np.sqrt(variance + np.float32(layer.epsilon)))
            if scale.all():
                found.append((beta.astype(np.float64) / scale - mean, scale))
    return found


def values(
    model: tf.keras.Model, outputs: list[Any], images: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The values of these tensors of the model, for all images.

    Raises:
        ConversionError: The model does not compute them.
    """
    part = tf.keras.Model(model.inputs, outputs)
    results = []
    for start in range(0, len(images[0]), _BATCH):
        batch = [tf.constant(x[start : start + _BATCH], tf.float32) for x in images]
        try:
            computed = part(batch if len(batch) > 1 else batch[0], training=False)
        except tf.errors.OpError as error:
            raise ConversionError(
                f"the model cannot be tried on these images ({one_line(error)}): give others "
                "(images=)"
            ) from error
        results.append([np.asarray(y) for y in tf.nest.flatten(computed)])
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]
