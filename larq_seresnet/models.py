"""SE-ResNet-14 for 32x32 images: in float32, with 1-bit weights, or fully binary.

    input, raw pixels 0 to 255 -> standardize -> conv3x3(w) -> BN -> ReLU
    -> 3 stages of 2 blocks, widths w, 2w, 4w, strides 1, 2, 2
    -> global average pool -> dense (with 1-bit weights: times 1 / sqrt(4w)) -> softmax

`weights="cifar10"` gives a trained network (`larq_seresnet.pretrained`).

Layers are named by depth: `block1_conv1` ... `block6_se`, `dense`, `logits`, `probabilities`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from larq_seresnet import pretrained
from larq_seresnet._tensorflow import lq, tf
from larq_seresnet.layers import SqueezeExcite, float32_quantizer

# Of the training split, raw pixels, by channel.
CIFAR10_MEAN = (125.4, 123.0, 113.9)
CIFAR10_VARIANCE = (3963.0, 3849.0, 4448.0)

ACTIVATIONS = ("float", "binary")

_BINARY_KERNEL = {
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
    "kernel_initializer": "glorot_normal",
}
_FLOAT_KERNEL = {"kernel_initializer": "he_normal"}


def SEResNet14(  # noqa: N802  (builders are named like classes, as in keras.applications)
    *,
    width: int = 16,
    reduction: int = 1,
    gate: str | None = "sigmoid",
    attention_scale: bool = False,
    fmb: bool = False,
    gradient: str = "ste",
    classes: int = 10,
    input_shape: Sequence[int] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    weights: str | Path | None = None,
) -> tf.keras.Model:
    """Build the network with float32 weights.

    Args:
        width: Channels of the first stage; the others have 2 and 4 times as many.
        reduction: Of the squeeze-and-excitation modules, a divisor of `width`.
        gate: "sigmoid", "tanh" or "hard_tanh"; `None` builds the network without
            squeeze-and-excitation.
        attention_scale: Scale the gates' pre-activation (`layers.SqueezeExcite`).
        fmb: Binarize the gates (`layers.FMB`).
        gradient: FMB's gradient, "ste" or "cut".
        classes: Number of outputs.
        input_shape: Height, width and channels of the images.
        mean: Per-channel mean of the raw pixels, which the network subtracts. By default that of
            CIFAR-10, or the one that belongs to `weights`.
        variance: Per-channel variance of the raw pixels, by whose root it divides; as `mean`.
        weights: To take the weights from: "cifar10" or another name in `larq_seresnet/weights`,
            or the path of a `.npz` (`pretrained.save`) or `.keras` file of the same network.

    Returns:
        A model from raw pixels, (batch, *input_shape), to probabilities, (batch, classes).

    Raises:
        ValueError: An argument is out of its range, or contradicts the network in `weights`; or
            there are no weights of that name.
        OSError: The file `weights` is missing or damaged.
    """
    return _network(
        "seresnet14",
        _FLOAT_KERNEL,
        "float",
        width=width,
        reduction=reduction,
        gate=gate,
        attention_scale=attention_scale,
        fmb=fmb,
        gradient=gradient,
        classes=classes,
        input_shape=input_shape,
        mean=mean,
        variance=variance,
        weights=weights,
    )


def SEResNet14Bin(  # noqa: N802
    *,
    activations: str = "float",
    width: int = 16,
    reduction: int = 1,
    gate: str | None = "sigmoid",
    attention_scale: bool = False,
    fmb: bool = True,
    gradient: str = "ste",
    classes: int = 10,
    input_shape: Sequence[int] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    weights: str | Path | None = None,
) -> tf.keras.Model:
    """Build the network with 1-bit weights: every convolution's and the dense layer's kernel.

    Example:
        >>> model = SEResNet14Bin()
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    Args:
        activations: "float" is the papers' network. "binary" is the fully binary variant, which
            Larq Compute Engine speeds up: the 3x3 convolutions of the blocks and those of
            squeeze-and-excitation have binary inputs too. The first convolution, the shortcuts and
            the dense layer keep float inputs.
        width: As in `SEResNet14`, and so are the other arguments.
        reduction: See there.
        gate: See there.
        attention_scale: See there.
        fmb: See there; here the default is true.
        gradient: See there.
        classes: See there.
        input_shape: See there.
        mean: See there.
        variance: See there.
        weights: See there.

    Returns:
        A model from raw pixels, (batch, *input_shape), to probabilities, (batch, classes).

    Raises:
        ValueError: An argument is out of its range, or contradicts the network in `weights`; or
            there are no weights of that name.
        OSError: The file `weights` is missing or damaged.
    """
    if activations not in ACTIVATIONS:
        raise ValueError(
            f"activations must be one of {', '.join(ACTIVATIONS)}, not {activations!r}"
        )
    return _network(
        "seresnet14_bin" if activations == "float" else "seresnet14_fully_binary",
        _BINARY_KERNEL,
        activations,
        width=width,
        reduction=reduction,
        gate=gate,
        attention_scale=attention_scale,
        fmb=fmb,
        gradient=gradient,
        classes=classes,
        input_shape=input_shape,
        mean=mean,
        variance=variance,
        weights=weights,
    )


def _network(
    name: str,
    kernel: Mapping[str, Any],
    activations: str,
    *,
    width: int,
    reduction: int,
    gate: str | None,
    attention_scale: bool,
    fmb: bool,
    gradient: str,
    classes: int,
    input_shape: Sequence[int],
    mean: Sequence[float] | None,
    variance: Sequence[float] | None,
    weights: str | Path | None,
) -> tf.keras.Model:
    _require_positive(width=width, reduction=reduction, classes=classes)
    if width % reduction:
        raise ValueError(f"reduction {reduction} does not divide the width {width}")
    if len(input_shape) != 3:
        raise ValueError(f"input_shape must be (height, width, channels), not {input_shape!r}")
    trained = None if weights is None else pretrained.load(weights, name)
    if mean is None:
        mean = trained.arguments["mean"] if trained else CIFAR10_MEAN
    if variance is None:
        variance = trained.arguments["variance"] if trained else CIFAR10_VARIANCE
    if not len(mean) == len(variance) == input_shape[2]:
        raise ValueError(
            f"mean and variance need a value for each of the {input_shape[2]} channels, "
            f"not {len(mean)} and {len(variance)}"
        )
    if gate is None and fmb:
        raise ValueError("fmb needs a gate to binarize: gate must not be None")

    attention = (
        None
        if gate is None
        else partial(
            SqueezeExcite,
            reduction=reduction,
            gate=gate,
            scale=attention_scale,
            fmb=fmb,
            gradient=gradient,
            kernel_quantizer=kernel.get("kernel_quantizer"),
        )
    )
    images = tf.keras.Input(input_shape, name="images")
    x = tf.keras.layers.Normalization(
        mean=list(mean), variance=list(variance), dtype="float32", name="standardize"
    )(images)
    x = _conv(x, width, 3, kernel, name="conv")
    x = _norm(x, "bn")
    block, relu = _block, tf.keras.layers.ReLU(name="relu")
    if activations == "binary":
        block = _binary_block  # a sign cannot split what a ReLU gives: it comes after the blocks
    else:
        x = relu(x)
    for i in range(6):
        stage = i // 2
        stride = 2 if i in (2, 4) else 1
        x = block(x, width * 2**stage, stride, kernel, attention, name=f"block{i + 1}")
    if activations == "binary":
        x = relu(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
    quantizer = float32_quantizer(kernel.get("kernel_quantizer"))
    kernel = {**kernel, "kernel_quantizer": quantizer}
    # No batch norm tames what kernels of +-1 sum up: without the scale, logits start so large that
    # the loss saturates. It changes no ranking, and folds into the kernel when exported.
    scale = x.shape[-1] ** -0.5 if quantizer else 1.0
    x = lq.layers.QuantDense(classes, **kernel, dtype="float32", name="dense")(x)
    x = tf.keras.layers.Rescaling(scale, dtype="float32", name="logits")(x)
    x = tf.keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    model = tf.keras.Model(images, x, name=name)
    if trained:
        trained.give_to(model)
    return model


def _require_positive(**arguments: int) -> None:
    for name, value in arguments.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, not {value!r}")


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
        shortcut = _conv(x, filters, 1, kernel, strides=stride, name=f"{name}_shortcut")
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
        y = attention(input_quantizer="ste_sign", name=f"{name}_se")(y)
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
