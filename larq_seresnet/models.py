"""SE-ResNet-14 for 32x32 images: in float32, with 1-bit weights, or fully binary.

    input, raw pixels 0 to 255 -> standardize -> conv3x3(w) -> BN -> ReLU
    -> 3 stages of 2 blocks, widths w, 2w, 4w, strides 1, 2, 2
    -> global average pool -> dense (with 1-bit weights: times 1 / sqrt(4w)) -> softmax

For larger images `stem=2` or `stem=4` lowers the resolution first, as ResNets do (He et al.,
arXiv:1512.03385): the first convolution has stride 2, and for 4 a 3x3 max pool of stride 2 follows.

`weights="cifar10"` gives a trained network (`larq_seresnet.pretrained`).

Layers are named by depth: `block1_conv1` ... `block6_se`, `dense`, `logits`, `probabilities`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet import pretrained
from larq_seresnet._tensorflow import lq, tf
from larq_seresnet.architecture import OF_THE_DATA, Architecture
from larq_seresnet.layers import SqueezeExcite, float32_quantizer

_BINARY_KERNEL = {
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "kernel_initializer": "glorot_normal",
}
_FLOAT_KERNEL = {"kernel_initializer": "he_normal"}


def SEResNet14(  # noqa: N802  (builders are named like classes, as in keras.applications)
    *, weights: str | Path | None = None, **arguments: Any
) -> tf.keras.Model:
    """Build the network with float32 weights.

    Args:
        weights: To take the weights from: "cifar10" or another name in `larq_seresnet/weights`,
            or the path of a `.npz` (`pretrained.save`) or `.keras` file of the same network. Where
            `classes` is given and is another number than theirs, the dense layer is drawn anew, and
            mean and variance may be others as well: for fine-tuning on data of your own.
        **arguments: Any field of `architecture.Architecture` but `model` and `activations`: width,
            blocks, stem, reduction, gate (also `None`: no squeeze-and-excitation), attention_scale,
            fmb, open_gates, gradient, classes, input_shape, mean and variance. What is not given
            comes with `weights`; which these are, width, activations and FMB say.

    Returns:
        A model from raw pixels, (batch, *input_shape), to probabilities, (batch, classes).

    Raises:
        ValueError: An argument is out of its range, or contradicts the network in `weights`; or
            there are no weights of that name.
        TypeError: There is no such argument.
        OSError: The file `weights` is missing or damaged.
    """
    return _with_weights(weights, {**arguments, "model": "float"})


def SEResNet14Bin(  # noqa: N802
    *, weights: str | Path | None = None, fmb: bool = True, **arguments: Any
) -> tf.keras.Model:
    """Build the network with 1-bit weights: every convolution's and the dense layer's kernel.

    Example:
        >>> model = SEResNet14Bin()
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    Args:
        weights: As in `SEResNet14`.
        fmb: Binarize the gates (`layers.FMB`); here the default is true.
        **arguments: As in `SEResNet14`; and `activations`: "float" is the papers' network,
            "binary" the fully binary variant, which Larq Compute Engine speeds up. Its first
            convolution, shortcuts and dense layer keep float inputs, with `float_attention` the
            attention too.

    Returns:
        As `SEResNet14`.

    Raises:
        ValueError: As `SEResNet14`.
        TypeError: As `SEResNet14`.
        OSError: As `SEResNet14`.
    """
    return _with_weights(weights, {**arguments, "fmb": fmb, "model": "binary"})


def _show_arguments(builder: Callable[..., Any], *hidden: str) -> None:
    """Name the arguments where editors and `help` look."""
    own = inspect.signature(builder).parameters
    fields = inspect.signature(Architecture).parameters
    shown = {**{name: fields[name] for name in fields if name not in hidden}, **own}
    del shown["arguments"]
    builder.__signature__ = inspect.Signature(list(shown.values()))  # type: ignore[attr-defined]


_show_arguments(SEResNet14, "model", "activations", "float_attention")
_show_arguments(SEResNet14Bin, "model")


def _with_weights(weights: str | Path | None, arguments: dict[str, Any]) -> tf.keras.Model:
    if weights is None:
        return build(Architecture(**arguments))
    chosen = Architecture(**{k: v for k, v in arguments.items() if k not in OF_THE_DATA})
    trained = pretrained.load(weights, chosen.name)
    given = {k: v for k, v in arguments.items() if v is not None or k not in OF_THE_DATA}
    try:
        wanted = Architecture(**{**asdict(trained.architecture), **given})
    except ValueError as error:
        take_body(build(chosen), trained)  # says what contradicts the weights
        raise ValueError(f"{error} (what is not given comes with the weights {weights})") from error
    model = build(wanted)
    take_body(model, trained, dense=model.output_shape[-1] == trained.architecture.classes)
    return model


def take_body(
    model: tf.keras.Model, trained: pretrained.Pretrained, *, dense: bool = False
) -> None:
    """Give a network trained weights; the dense layer keeps its own, unless told otherwise.

    Args:
        model: As `build` gives it.
        trained: Where `dense` is false, it may have other classes, and another mean and variance.
        dense: Take the dense layer's weights too.

    Raises:
        ValueError: The weights belong to another network; the model is as it was.
    """
    wanted, found = Architecture.of(model), trained.architecture
    for name, ours, theirs in wanted.contradictions(found, body=not dense):
        if name == "model":
            raise ValueError(
                f"the weights {trained.name} are those of {found.builder}, not {wanted.builder}"
            )
        raise ValueError(
            f"{name}={ours!r} contradicts the weights {trained.name}, which have {name}={theirs!r}"
        )
    own = model.get_weights()
    count = len(own) - (0 if dense else len(model.get_layer("dense").weights))  # its are the last
    taken = [*trained.weights[:count], *own[count:]]
    if [weight.shape for weight in taken] != [weight.shape for weight in own]:
        raise ValueError(f"the weights {trained.name} are those of a pruned network")
    model.set_weights(taken)


def build(
    architecture: Architecture, weights: Sequence[np.ndarray] | None = None
) -> tf.keras.Model:
    """Build the network that is described, under Keras's global precision policy.

    Args:
        architecture: What it is made of.
        weights: In the order of the model's; by default they are drawn.

    Returns:
        A model as `SEResNet14` returns.
    """
    binary = architecture.activations == "binary"
    kernel = _FLOAT_KERNEL if architecture.model == "float" else _BINARY_KERNEL
    attention = (
        None
        if architecture.gate == "none"
        else partial(
            SqueezeExcite,
            reduction=architecture.reduction,
            gate=architecture.gate,
            scale=architecture.attention_scale,
            open_gates=architecture.open_gates,
            fmb=architecture.fmb,
            gradient=architecture.gradient,
            kernel_quantizer=kernel.get("kernel_quantizer"),
            input_quantizer="ste_sign" if binary and not architecture.float_attention else None,
        )
    )
    images = tf.keras.Input(architecture.input_shape, name="images")
    x = tf.keras.layers.Normalization(
        mean=list(architecture.mean),
        variance=list(architecture.variance),
        dtype="float32",
        name="standardize",
    )(images)
    stride = 1 if architecture.stem == 1 else 2
    x = _norm(_conv(x, architecture.width, 3, kernel, strides=stride, name="conv"), "bn")
    relu = tf.keras.layers.ReLU(name="relu")
    # A sign cannot split what a ReLU gives: before binary activations there is none.
    x = x if binary else relu(x)
    if architecture.stem == 4:
        x = tf.keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    block, number = _binary_block if binary else _block, 0
    for stage, count in enumerate(architecture.blocks):
        for i in range(count):
            number += 1
            stride = 2 if stage and not i else 1
            filters = architecture.width * 2**stage
            x = block(x, filters, stride, kernel, attention, name=f"block{number}")
    x = relu(x) if binary else x
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
    quantizer = float32_quantizer(kernel.get("kernel_quantizer"))
    # No batch norm tames what kernels of +-1 sum up: without the scale, logits start so large that
    # the loss saturates. It changes no ranking, and folds into the kernel when exported.
    scale = x.shape[-1] ** -0.5 if quantizer else 1.0
    x = lq.layers.QuantDense(
        architecture.classes,
        **{**kernel, "kernel_quantizer": quantizer},
        dtype="float32",
        name="dense",
    )(x)
    x = tf.keras.layers.Rescaling(scale, dtype="float32", name="logits")(x)
    x = tf.keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    model = tf.keras.Model(images, x, name=architecture.name)
    if weights is not None:
        model.set_weights(weights)
    return model


def _conv(
    x: tf.Tensor, filters: int, size: int, kernel: Mapping[str, Any], **arguments: Any
) -> tf.Tensor:
    return lq.layers.QuantConv2D(
        filters, size, padding="same", use_bias=False, **kernel, **arguments
    )(x)


def _norm(x: tf.Tensor, name: str) -> tf.Tensor:
    # 1-bit weights flip, and the statistics with them: a short memory keeps up.
    return tf.keras.layers.BatchNormalization(momentum=0.9, name=name)(x)


def _block(
    x: tf.Tensor, filters: int, stride: int, kernel: Mapping[str, Any], attention: Any, name: str
) -> tf.Tensor:
    """The residual block of He et al., arXiv:1512.03385, with attention before the addition."""
    shortcut = x
    if x.shape[-1] != filters or stride != 1:
        strides = stride
        if stride != 1 and x.shape[-1] % 16:
            # oneDNN's gradient of a strided 1x1 kernel writes out of bounds for such channels on
            # CPUs with AVX-512 (TensorFlow 2.18 and 2.19): take every second pixel beforehand.
            pool = tf.keras.layers.MaxPooling2D(1, stride, name=f"{name}_shortcut_pool")
            shortcut, strides = pool(x), 1
        shortcut = _conv(shortcut, filters, 1, kernel, strides=strides, name=f"{name}_shortcut")
        shortcut = _norm(shortcut, f"{name}_shortcut_bn")
    x = _conv(x, filters, 3, kernel, strides=stride, name=f"{name}_conv1")
    x = tf.keras.layers.ReLU(name=f"{name}_relu1")(_norm(x, f"{name}_bn1"))
    x = _conv(x, filters, 3, kernel, name=f"{name}_conv2")
    x = _norm(x, f"{name}_bn2")
    if attention:
        x = attention(name=f"{name}_se")(x)
    x = tf.keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return tf.keras.layers.ReLU(name=f"{name}_relu2")(x)


def _binary_block(
    x: tf.Tensor, filters: int, stride: int, kernel: Mapping[str, Any], attention: Any, name: str
) -> tf.Tensor:
    """The residual block of Bi-Real net, arXiv:1808.00278: a float shortcut around each conv.

    The ReLU comes before the batch norm, as in QuickNet (Bannink et al., arXiv:2011.09398): so
    what is added to the float values is no mere sum of signs. One-padding keeps the padded inputs
    binary, and lets Larq Compute Engine fuse ReLU and batch norm into the convolution.
    """
    binary = {**kernel, "input_quantizer": "ste_sign", "pad_values": 1.0, "activation": "relu"}
    shortcut = x
    if stride != 1:
        shortcut = tf.keras.layers.AveragePooling2D(
            stride, padding="same", name=f"{name}_shortcut_pool"
        )(shortcut)
    if x.shape[-1] != filters:
        shortcut = _conv(shortcut, filters, 1, kernel, name=f"{name}_shortcut")
        shortcut = _norm(shortcut, f"{name}_shortcut_bn")
    x = _norm(_conv(x, filters, 3, binary, strides=stride, name=f"{name}_conv1"), f"{name}_bn1")
    x = tf.keras.layers.Add(name=f"{name}_add1")([x, shortcut])
    y = _norm(_conv(x, filters, 3, binary, name=f"{name}_conv2"), f"{name}_bn2")
    if attention:
        y = attention(name=f"{name}_se")(y)
    return tf.keras.layers.Add(name=f"{name}_add2")([x, y])


def to_float32(model: tf.keras.Model) -> tf.keras.Model:
    """Rebuild a network that was built under another precision policy, with its weights.

    Args:
        model: A functional or sequential model; it stays as it is.

    Returns:
        The same network, whose every layer computes in float32; not compiled.
    """

    def rebuild(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        return type(layer).from_config(_with_float32(layer.get_config()))

    copy = tf.keras.models.clone_model(model, clone_function=rebuild)
    copy.set_weights(model.get_weights())
    return copy


def _with_float32(config: Any) -> Any:
    """A layer's configuration with float32 as its precision policy, and as its quantizers'."""
    if isinstance(config, list | tuple):  # a nested model's layers
        return [_with_float32(value) for value in config]
    if not isinstance(config, dict):
        return config
    return {
        key: "float32" if key == "dtype" and "float" in str(value) else _with_float32(value)
        for key, value in config.items()
    }
