"""The same network for training, with fewer passes over memory: `fused(model)`.

Between two convolutions Keras computes batch norm, squeeze-and-excitation, the addition of the
shortcut and ReLU one after the other, each of which reads and writes whole feature maps. Here one
pass takes the sums of every channel and image, from which everything about single channels follows
(statistics of the batch, averages that the attention sees, gates), and one more pass applies

    y = ReLU(scale * x + shift + shortcut)      scale, shift: (batch, channels), float32

Gradients take two passes. The kernels are in training/kernels.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import larq as lq
import tensorflow as tf

from larq_seresnet.layers import SqueezeExcite
from training import kernels


def fused(model: tf.keras.Model) -> tf.keras.Model:
    """A model of the same variables that computes the same, for training and evaluation.

    Args:
        model: A functional model; it stays as it is, and learns whatever the result learns.

    Returns:
        The model to compile and fit; it cannot be saved.
    """
    return _Rewriting(model).result()


class FusedNorm(tf.keras.layers.Layer):
    """ReLU(attention(norm(x)) + shortcut), where all but the batch norm may be absent.

    Input: x, or [x, shortcut], each (batch, height, width, channels). Output: a list of such maps,
    equal copies of the result, and its framed signs where told (`kernels.scale_shift`). The
    statistics and the arithmetic are float32, whatever the inputs are.

    Args:
        norm: The batch norm whose variables to use.
        attention: The squeeze-and-excitation module whose variables to use.
        relu: Whether a ReLU comes last.
        copies: One for each use of the result, at most 2.
        padding: Of the signs, where they are wanted.
    """

    def __init__(
        self,
        norm: tf.keras.layers.BatchNormalization,
        attention: SqueezeExcite | None,
        *,
        relu: bool,
        copies: int,
        padding: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.norm = norm
        self.attention = attention
        self._options: dict[str, Any] = {"relu": relu, "copies": copies, "padding": tuple(padding)}

    def call(self, inputs: Any, training: Any = None) -> list[tf.Tensor]:
        """Scale and shift every channel of every image."""
        x, *shortcuts = tf.nest.flatten(inputs)
        positions = x.shape[1] * x.shape[2]
        training = training and self.norm.trainable
        if training or self.attention:
            sums, x = kernels.channel_sums(x)
        if training:
            count = tf.cast(tf.shape(x)[0] * positions, tf.float32)
            mean, square = tf.unstack(tf.reduce_sum(sums, axis=1) / count)
            variance = tf.nn.relu(square - mean * mean)
            self._remember(mean, variance * (count / (count - 1)))
        else:
            mean, variance = self.norm.moving_mean, self.norm.moving_variance
        scale = self.norm.gamma * tf.math.rsqrt(variance + self.norm.epsilon)
        shift = self.norm.beta - mean * scale
        if self.attention:
            pooled = sums[0, :, None, None] * (scale / positions) + shift
            gates = self.attention.gates_of_pooled(pooled, training=training)[:, 0, 0]
        else:
            gates = tf.ones([tf.shape(x)[0], 1])
        return kernels.scale_shift(x, scale * gates, shift * gates, shortcuts, **self._options)

    def _remember(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for average, value in (
            (self.norm.moving_mean, mean),
            (self.norm.moving_variance, variance),
        ):
            average.assign_sub((average - value) * (1 - self.norm.momentum))


class FusedBinaryConv(tf.keras.layers.Layer):
    """A convolution whose input is signs in their frame already.

    Args:
        conv: The Larq layer whose variables to use.
    """

    def __init__(self, conv: lq.layers.QuantConv2D, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.conv = conv

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve."""
        kernel = self.conv.kernel_quantizer(tf.cast(self.conv.kernel, inputs.dtype))
        return tf.nn.conv2d(inputs, kernel, self.conv.strides, "VALID")


class _Rewriting:
    """Rebuilds a functional model from its last layer up."""

    def __init__(self, model: tf.keras.Model) -> None:
        self._model = model
        self._users: dict[str, list[tf.keras.layers.Layer]] = defaultdict(list)
        for layer in model.layers:
            for parent in _parents(layer):
                self._users[parent.name].append(layer)
        self._copies: dict[str, list[tf.Tensor]] = {}  # of what a layer gives, one for each use
        self._signs: dict[str, tf.Tensor] = {}

    def result(self) -> tf.keras.Model:
        outputs = [self._output(layer) for layer in self._model._output_layers]
        return tf.keras.Model(self._model.inputs, outputs, name=self._model.name)

    def _output(self, layer: tf.keras.layers.Layer) -> tf.Tensor:
        if layer.name not in self._copies:
            self._copies[layer.name] = self._call(layer)
        copies = self._copies[layer.name]
        return copies.pop() if len(copies) > 1 else copies[0]

    def _call(self, layer: tf.keras.layers.Layer) -> list[tf.Tensor]:
        if isinstance(layer, tf.keras.layers.InputLayer):
            return [layer.output]
        if match := self._match(layer):
            return self._call_norm(layer, *match)
        inputs = [self._output(parent) for parent in _parents(layer)]
        if _has_binary_input(layer) and _parents(layer)[0].name in self._signs:
            conv = FusedBinaryConv(layer, name=f"fused_{layer.name}")
            return [conv(self._signs[_parents(layer)[0].name])]
        return [layer(inputs if len(inputs) > 1 else inputs[0])]

    def _call_norm(
        self,
        last: tf.keras.layers.Layer,
        norm: tf.keras.layers.BatchNormalization,
        attention: SqueezeExcite | None,
        shortcuts: list[tf.keras.layers.Layer],
    ) -> list[tf.Tensor]:
        users = self._users[last.name]
        binary = [user for user in users if _has_binary_input(user)]
        rows_and_columns = [
            user._get_spatial_padding_same(last.output_shape[1:-1]) for user in binary[:1]
        ]
        fused_norm = FusedNorm(
            norm,
            attention,
            relu=isinstance(last, tf.keras.layers.ReLU),
            copies=2 if len(users) == 2 and not binary else 1,
            padding=tf.nest.flatten(rows_and_columns),
            name=f"fused_{last.name}",
        )
        copies = fused_norm([self._output(x) for x in [*_parents(norm), *shortcuts]])
        if binary:
            self._signs[last.name] = copies.pop()
        return copies

    def _match(self, last: tf.keras.layers.Layer) -> tuple[Any, Any, Any] | None:
        """Batch norm, attention and shortcuts, where `last` is what a fused layer ends in."""
        layer = last
        if isinstance(layer, tf.keras.layers.ReLU):
            layer = self._above(layer)
        shortcuts = []
        if isinstance(layer, tf.keras.layers.Add):
            addends = _parents(layer)
            branch = next((addend for addend in addends if self._is_normed(addend)), None)
            shortcuts = [addend for addend in addends if addend is not branch]
            layer = branch
        attention = None
        if _keeps_channels(layer):
            attention, layer = layer, self._above(layer)
        if not isinstance(layer, tf.keras.layers.BatchNormalization) or len(shortcuts) > 1:
            return None
        return layer, attention, shortcuts

    def _is_normed(self, layer: tf.keras.layers.Layer) -> bool:
        """Whether the layer is a batch norm, or attention to one, for this use alone."""
        if len(self._users[layer.name]) > 1:
            return False
        if _keeps_channels(layer):
            layer = self._above(layer)
        return isinstance(layer, tf.keras.layers.BatchNormalization)

    def _above(self, layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer | None:
        """The layer that feeds this one alone."""
        (parent,) = _parents(layer)
        return parent if len(self._users[parent.name]) == 1 else None


def _parents(layer: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
    return tf.nest.flatten(layer.inbound_nodes[0].inbound_layers)


def _keeps_channels(layer: tf.keras.layers.Layer) -> bool:
    """Whether the layer is squeeze-and-excitation, and not of a pruned network, which pads."""
    return isinstance(layer, SqueezeExcite) and not any(layer.padding)


def _has_binary_input(layer: tf.keras.layers.Layer) -> bool:
    return (
        isinstance(layer, lq.layers.QuantConv2D)
        and isinstance(layer.input_quantizer, lq.quantizers.SteSign)
        and layer.input_quantizer.clip_value == 1.0
        and layer.padding == "same"
        and layer.pad_values == 1.0
    )
