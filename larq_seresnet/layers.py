"""The layers of the papers: feature map binarization and the channel attention it binarizes.

P1: Wu, Yamauchi, "A Speed-up Channel Attention Technique for Accelerating the Learning Curve of a
Binarized Squeeze-and-Excitation (SE) Based ResNet Model", 2024.
"""

from collections.abc import Sequence
from typing import Any

from larq_seresnet import gates
from larq_seresnet._tensorflow import lq, tf

GRADIENTS = ("ste", "cut")

_ABOVE_ROUNDING = 2**-18  # of a sum of terms of about 1, for each of them
_BETA_OF_OPEN_GATES = 2.0  # of what batch norm makes of variance 1: then nearly all signs are +1


@tf.keras.utils.register_keras_serializable("larq_seresnet")
class FMB(tf.keras.layers.Layer):
    r"""Feature map binarization: forces every channel weight to one of the gate's two values.

    \\[M'_c = \begin{cases} high & M_c \geq threshold \\ low & M_c < threshold \end{cases}\\]

    with 1, 0 and 0.5 for `sigmoid` (P1, Eq. 5) and 1, -1 and 0 for `tanh` (Eq. 6) and `hard_tanh`.
    The comparison is made in float32, whatever the precision policy: in bfloat16 sigmoid(z) >= 0.5
    is already true at z = -0.002.

    Input and output: channel weights M_c of any shape, as the gate's activation gives them (not its
    pre-activation).

    Example:
        >>> FMB("tanh")(tf.constant([-0.3, 0.0, 0.7])).numpy()
        array([-1.,  1.,  1.], dtype=float32)

    Args:
        gate: "sigmoid", "tanh" or "hard_tanh": which threshold and which values.
        gradient: "ste" passes the gradient straight through the threshold. "cut" is P1 to the
            letter (`torch.where` of two constants): no gradient passes, so that what computes the
            gate never learns.
        enabled: Where false, the layer is the identity; a model that is saved or exported then has
            no threshold.
        switchable: Whether `callbacks.FMBSchedule` switches it; by default where it is enabled.

    Raises:
        ValueError: Unknown `gate` or `gradient`.
    """

    def __init__(
        self,
        gate: str = "sigmoid",
        gradient: str = "ste",
        enabled: bool = True,
        switchable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, not {gradient!r}")
        self._gate = gates.get(gate)
        self.gate = gate
        self.gradient = gradient
        self.enabled = enabled
        self.switchable = enabled if switchable is None else switchable

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Binarize the channel weights."""
        if not self.enabled:
            return inputs
        if self.gradient == "cut":
            return self._binarize(inputs)
        return _straight_through(self._binarize)(inputs)

    def _binarize(self, inputs: tf.Tensor) -> tf.Tensor:
        high = tf.constant(self._gate.high, inputs.dtype)
        low = tf.constant(self._gate.low, inputs.dtype)
        return tf.where(inputs >= self._gate.threshold, high, low)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "gate": self.gate,
            "gradient": self.gradient,
            "enabled": self.enabled,
            "switchable": self.switchable,
        }


def _straight_through(function: Any) -> Any:
    """`function` with the gradient of the identity (Bengio et al., arXiv:1308.3432)."""

    @tf.custom_gradient
    def call(inputs: tf.Tensor) -> Any:
        return function(inputs), lambda upstream: upstream

    return call


@tf.keras.utils.register_keras_serializable("larq_seresnet")
class SqueezeExcite(tf.keras.layers.Layer):
    r"""Channel attention (Hu et al., arXiv:1709.01507), with 1-bit weights and binarized gates.

    \\[M_c = act(W_1 \, ReLU(W_0 \, AvgPool(F))), \quad F' = M'_c \cdot F\\]

    (P1, Eq. 4 and 7) where M'_c is FMB of M_c, or M_c itself. W_0 and W_1 are 1x1 convolutions
    without bias. Everything up to M'_c is computed in float32, whatever the precision policy.

    With an `input_quantizer` both convolutions see binary inputs, each after a batch norm (there
    is no ReLU then, whose output a sign could not split).

    With kernels of +1 and -1 and float inputs, the terms of a channel's z may cancel each other in
    many images: of two equal filters of W_0, W_1 adds one and subtracts the other. FMB takes 0 as
    on, but the last digits of a float sum depend on its order, and so on the processor. So where
    it binarizes, z is raised by 2^-18 for each term that the convolutions sum up: more than
    rounding, and too little to matter elsewhere.

    A pruned module (`larq_seresnet.prune`) no more has the channels whose gate is 0: its input
    lacks them, and in its output they are zeros.

    Input and output: feature maps (batch, height, width, channels).

    Args:
        reduction: r; W_0 has channels / r outputs.
        gate: Activation of the pre-activation: "sigmoid", "tanh" or "hard_tanh".
        scale: Divide the pre-activation by the root of the number of terms that the two
            convolutions sum up, so that gates with 1-bit weights do not start saturated, where
            their gradient is small. Off in P1. It moves no gate across FMB's threshold.
        fmb: Binarize the gate.
        gradient: FMB's gradient, "ste" or "cut".
        switchable: As in `FMB`.
        open_gates: With 1-bit kernels, all gates are on at first: the latent weights of W_1 are +1,
            as far from a flip as they can be, so that a gate closes only for a reason that lasts.
            Not in the papers.
        kernel_quantizer: Larq quantizer of both kernels, for instance "ste_sign"; `None` is float.
        input_quantizer: Larq quantizer of both convolutions' inputs; `None` is float.
        squeeze_filters: Outputs of W_0, where they are not channels / `reduction`.
        squeeze_bias: Add a bias to W_0's outputs: what the pruned channels contribute to them.
        padding: How many channels of zeros the output has before and after those of the input.

    Raises:
        ValueError: Unknown `gate` or `gradient`, or a `reduction` that is no positive integer
            (when built: that does not divide the number of channels).
    """

    def __init__(
        self,
        reduction: int = 1,
        gate: str = "sigmoid",
        fmb: bool = False,
        gradient: str = "ste",
        scale: bool = False,
        kernel_quantizer: Any = None,
        input_quantizer: Any = None,
        squeeze_filters: int | None = None,
        squeeze_bias: bool = False,
        padding: Sequence[int] = (0, 0),
        switchable: bool | None = None,
        open_gates: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"reduction must be a positive integer, not {reduction!r}")
        self.reduction = reduction
        self.gate = gate
        self.scale = scale
        self.open_gates = open_gates and kernel_quantizer is not None
        self.fmb = FMB(gate, gradient, fmb, switchable, name="fmb")
        self.kernel_quantizer = float32_quantizer(kernel_quantizer)
        self.input_quantizer = float32_quantizer(input_quantizer)
        self.squeeze_filters = squeeze_filters
        self.squeeze_bias = squeeze_bias
        self.padding = tuple(padding)
        self._activation = gates.get(gate).activation

    def build(self, input_shape: Any) -> None:
        """Create the two convolutions for the input's number of channels."""
        channels = input_shape[-1]
        inner = self.squeeze_filters
        if inner is None:
            if channels % self.reduction:
                raise ValueError(f"reduction {self.reduction} does not divide {channels} channels")
            inner = channels // self.reduction
        self.norms = [
            tf.keras.layers.BatchNormalization(
                momentum=0.9,
                beta_initializer=tf.keras.initializers.Constant(beta),
                dtype="float32",
                name=f"bn{i}",
            )
            for i, beta in enumerate((0, _BETA_OF_OPEN_GATES if self.open_gates else 0))
            if self.input_quantizer
        ]
        drawn = "glorot_normal" if self.kernel_quantizer else "he_normal"
        self.squeeze = self._conv(inner, "squeeze", drawn, use_bias=self.squeeze_bias)
        self.excite = self._conv(channels, "excite", "ones" if self.open_gates else drawn)
        for layer, width in zip(
            [self.squeeze, self.excite, *self.norms], (channels, inner) * 2, strict=False
        ):
            with tf.name_scope(layer.name):
                layer.build((None, 1, 1, width))
        super().build(input_shape)

    def _conv(
        self, filters: int, name: str, initializer: str, use_bias: bool = False
    ) -> tf.keras.layers.Layer:
        return lq.layers.QuantConv2D(
            filters,
            kernel_size=1,
            use_bias=use_bias,
            kernel_quantizer=float32_quantizer(self.kernel_quantizer),
            kernel_constraint="weight_clip" if self.kernel_quantizer else None,
            input_quantizer=float32_quantizer(self.input_quantizer),
            kernel_initializer=initializer,
            dtype="float32",
            name=name,
        )

    def preactivation(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """z, of which the gate is act(z): float32, (batch, 1, 1, channels)."""
        return self.preactivation_of_pooled(_pool(inputs), training)

    def preactivation_of_pooled(self, pooled: tf.Tensor, training: Any = None) -> tf.Tensor:
        """The same by the inputs' averages; both float32, (batch, 1, 1, channels)."""
        terms = self.squeeze.filters
        if self.input_quantizer:
            squeezed = self.squeeze(self.norms[0](pooled, training=training))
            z = self.excite(self.norms[1](squeezed, training=training))
        else:
            terms *= pooled.shape[-1]
            z = self.excite(tf.nn.relu(self.squeeze(pooled)))
            if self.fmb.enabled and self.kernel_quantizer:
                z += terms * _ABOVE_ROUNDING
        return z * terms**-0.5 if self.scale else z

    def gates(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """The channel weights M'_c that scale `inputs`: float32, (batch, 1, 1, channels)."""
        return self.gates_of_pooled(_pool(inputs), training)

    def gates_of_pooled(self, pooled: tf.Tensor, training: Any = None) -> tf.Tensor:
        """The same by the inputs' averages; both float32, (batch, 1, 1, channels)."""
        return self.fmb(self._activation(self.preactivation_of_pooled(pooled, training)))

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """Scale every channel by its gate."""
        outputs = inputs * tf.cast(self.gates(inputs, training), inputs.dtype)
        return tf.pad(outputs, [(0, 0)] * 3 + [self.padding]) if any(self.padding) else outputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; `fmb` says whether FMB is on now."""
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "gate": self.gate,
            "fmb": self.fmb.enabled,
            "gradient": self.fmb.gradient,
            "scale": self.scale,
            "open_gates": self.open_gates,
            "kernel_quantizer": lq.quantizers.serialize(self.kernel_quantizer),
            "input_quantizer": lq.quantizers.serialize(self.input_quantizer),
            "squeeze_filters": self.squeeze_filters,
            "squeeze_bias": self.squeeze_bias,
            "padding": self.padding,
            "switchable": self.fmb.switchable,
        }


def _pool(inputs: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(inputs, tf.float32), axis=(1, 2), keepdims=True)


def float32_quantizer(quantizer: Any) -> Any:
    """A new instance of a Larq quantizer that gives float32, whatever the precision policy.

    Larq's quantizers are layers: under `mixed_bfloat16` they give bfloat16, also in a layer that
    was told to compute in float32.

    Args:
        quantizer: A name such as "ste_sign", a quantizer, or `None`.

    Returns:
        The quantizer; `None` for `None`.
    """
    quantizer = lq.quantizers.get(quantizer)
    if not isinstance(quantizer, tf.keras.layers.Layer):
        return quantizer
    return type(quantizer).from_config({**quantizer.get_config(), "dtype": "float32"})
