"""The same network for training, with fewer passes over memory: `fused(model)`.

Between two convolutions Keras computes batch norm, squeeze-and-excitation, the addition of the
shortcut and ReLU one after the other, each of which reads and writes whole feature maps. Here one
pass takes the sums of every channel and image, from which everything about single channels follows
(statistics of the batch, averages that the attention sees, gates), and one more pass applies

    y = ReLU(scale * x + shift + shortcut)      scale, shift: (batch, channels), float32

Gradients take two passes. The kernels are in training/kernels.

Where told, the batch is split into shards, one for each core, that go through the network side by
side and meet where statistics of the whole batch are needed: cores that work on images of their own
wait less for each other than cores that share every operator.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import larq as lq
import tensorflow as tf

from larq_seresnet.layers import SqueezeExcite
from training import kernels

Shards = list[tf.Tensor]

# What these layers give for an image depends on no other image of the batch.
_PER_IMAGE = (
    lq.layers.QuantConv2D,
    tf.keras.layers.Add,
    tf.keras.layers.AveragePooling2D,
    tf.keras.layers.MaxPooling2D,
    tf.keras.layers.Normalization,
    tf.keras.layers.ReLU,
)


def fused(model: tf.keras.Model, shards: int = 1) -> tf.keras.Model:
    """A model of the same variables that computes the same, for training and evaluation.

    Args:
        model: A functional model of one input; it stays as it is, and learns whatever the result
            learns.
        shards: Into how many parts to split a batch.

    Returns:
        The model to compile and fit; it cannot be saved. With fewer images than shards it is for
        evaluation only.
    """
    return _Rewriting(model, shards).result()


class FusedNorm(tf.keras.layers.Layer):
    """ReLU(attention(norm(ReLU(x))) + shortcut), where all but the batch norm may be absent.

    Input: x, or x and the shortcut, each (batch, height, width, channels) in shards. Output: a list
    of such maps, equal copies of the result, and its framed signs where told
    (`kernels.scale_shift`). The statistics are the whole batch's; they and the arithmetic are
    float32, whatever the inputs are.

    Args:
        norm: The batch norm whose variables to use.
        attention: The squeeze-and-excitation module whose variables to use.
        rectify: Whether a ReLU comes first.
        relu: Whether a ReLU comes last.
        copies: One for each use of the result, at most 2.
        padding: Of the signs, where they are wanted.
    """

    def __init__(
        self,
        norm: tf.keras.layers.BatchNormalization,
        attention: SqueezeExcite | None,
        *,
        rectify: bool,
        relu: bool,
        copies: int,
        padding: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.norm = norm
        self.attention = attention
        self._rectify = rectify
        self._options: dict[str, Any] = {
            "rectify": rectify,
            "relu": relu,
            "copies": copies,
            "padding": tuple(padding),
        }

    def call(self, inputs: list[Shards], training: Any = None) -> list[Shards]:
        """Scale and shift every channel of every image."""
        x, *shortcuts = inputs
        positions = x[0].shape[1] * x[0].shape[2]
        sizes = [tf.shape(shard)[0] for shard in x]
        training = training and self.norm.trainable
        if training or self.attention:
            parts = [kernels.channel_sums(shard, rectify=self._rectify) for shard in x]
            sums = tf.concat([part for part, _ in parts], axis=1)
            x = [same for _, same in parts]
        if training:
            count = tf.cast(sum(sizes) * positions, tf.float32)
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
            gates = tf.ones([sum(sizes), 1])
        scales, shifts = tf.split(scale * gates, sizes), tf.split(shift * gates, sizes)
        results = [
            kernels.scale_shift(shard, scale, shift, added, **self._options)
            for shard, scale, shift, *added in zip(x, scales, shifts, *shortcuts, strict=True)
        ]
        return [list(copy) for copy in zip(*results, strict=True)]

    def _remember(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for average, value in (
            (self.norm.moving_mean, mean),
            (self.norm.moving_variance, variance),
        ):
            average.assign_sub((average - value) * (1 - self.norm.momentum))


class FusedConv(tf.keras.layers.Layer):
    """A convolution by the compiled kernels, whose input needs no quantizer any more.

    Args:
        conv: The Larq layer whose variables to use.
        padding: "VALID" for signs in their frame, else the layer's.
        activated: Whether its activation function is applied.
    """

    def __init__(
        self, conv: lq.layers.QuantConv2D, padding: str, *, activated: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.conv = conv
        self._padding = padding
        self._activated = activated

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve."""
        kernel = tf.cast(self.conv.kernel, self.conv.compute_dtype)
        if self.conv.kernel_quantizer:
            kernel = self.conv.kernel_quantizer(kernel)
        sums = kernels.conv2d(
            tf.cast(inputs, kernel.dtype), kernel, self.conv.strides, self._padding
        )
        return self.conv.activation(sums) if self._activated else sums


class _Rewriting:
    """Rebuilds a functional model from its last layer up."""

    def __init__(self, model: tf.keras.Model, shards: int) -> None:
        self._model = model
        self._shards = shards
        self._users: dict[str, list[tf.keras.layers.Layer]] = defaultdict(list)
        for layer in model.layers:
            for parent in _parents(layer):
                self._users[parent.name].append(layer)
        self._copies: dict[str, list[Shards]] = {}  # of what a layer gives, one for each use
        self._signs: dict[str, Shards] = {}

    def result(self) -> tf.keras.Model:
        images = self._model.input
        outputs = [_whole(self._output(layer)) for layer in self._model._output_layers]
        outputs = [x[: tf.shape(images)[0]] for x in outputs] if self._shards > 1 else outputs
        return tf.keras.Model(images, outputs, name=self._model.name)

    def _output(self, layer: tf.keras.layers.Layer) -> Shards:
        if layer.name not in self._copies:
            self._copies[layer.name] = self._call(layer)
        copies = self._copies[layer.name]
        return copies.pop() if len(copies) > 1 else copies[0]

    def _call(self, layer: tf.keras.layers.Layer) -> list[Shards]:
        if isinstance(layer, tf.keras.layers.InputLayer):
            return [_split(layer.output, self._shards)]
        if match := self._match(layer):
            return self._call_norm(layer, *match)
        inputs = [self._output(parent) for parent in _parents(layer)]
        if _has_binary_input(layer) and _parents(layer)[0].name in self._signs:
            activated = not self._norm_rectifies(layer)
            conv = FusedConv(layer, "VALID", activated=activated, name=f"fused_{layer.name}")
            return [[conv(shard) for shard in self._signs[_parents(layer)[0].name]]]
        inputs = _alike(inputs, split=isinstance(layer, _PER_IMAGE))
        if _is_plain(layer):
            layer = FusedConv(layer, layer.padding.upper(), name=f"fused_{layer.name}")
        return [[layer(x if len(x) > 1 else x[0]) for x in map(list, zip(*inputs, strict=True))]]

    def _call_norm(
        self,
        last: tf.keras.layers.Layer,
        norm: tf.keras.layers.BatchNormalization,
        attention: SqueezeExcite | None,
        shortcuts: list[tf.keras.layers.Layer],
    ) -> list[Shards]:
        users = self._users[last.name]
        binary = [user for user in users if _has_binary_input(user)]
        rows_and_columns = [
            user._get_spatial_padding_same(last.output_shape[1:-1]) for user in binary[:1]
        ]
        fused_norm = FusedNorm(
            norm,
            attention,
            rectify=self._norm_rectifies(*_parents(norm)),
            relu=isinstance(last, tf.keras.layers.ReLU),
            copies=2 if len(users) == 2 and not binary else 1,
            padding=tf.nest.flatten(rows_and_columns),
            name=f"fused_{last.name}",
        )
        inputs = [self._output(x) for x in [*_parents(norm), *shortcuts]]
        copies = fused_norm(_alike(inputs, split=True))
        if binary:
            self._signs[last.name] = copies.pop()
        return copies

    def _norm_rectifies(self, layer: tf.keras.layers.Layer) -> bool:
        """Whether the layer is a convolution whose ReLU the batch norm after it applies."""
        return (
            _has_binary_input(layer)
            and layer.activation is tf.keras.activations.relu
            and len(self._users[layer.name]) == 1
            and isinstance(self._users[layer.name][0], tf.keras.layers.BatchNormalization)
        )

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


def _split(x: tf.Tensor, shards: int) -> Shards:
    """Parts of the batch, of sizes that differ by at most one, none of them empty."""
    if shards == 1:
        return [x]

    def parts(x: tf.Tensor) -> Shards:
        x = tf.concat([x, tf.repeat(x[-1:], tf.maximum(shards - tf.shape(x)[0], 0), axis=0)], 0)
        bounds = [tf.shape(x)[0] * i // shards for i in range(shards + 1)]
        return [x[first:last] for first, last in itertools.pairwise(bounds)]

    return tf.keras.layers.Lambda(parts, name="shards")(x)


def _whole(shards: Shards) -> tf.Tensor:
    return tf.concat(shards, axis=0) if len(shards) > 1 else shards[0]


def _alike(values: Sequence[Shards], *, split: bool) -> list[Shards]:
    """The values as they are, if they may be and all are split alike; else whole."""
    if split and len({len(shards) for shards in values}) == 1:
        return list(values)
    return [[_whole(shards)] for shards in values]


def _parents(layer: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
    return tf.nest.flatten(layer.inbound_nodes[0].inbound_layers)


def _keeps_channels(layer: tf.keras.layers.Layer) -> bool:
    """Whether the layer is squeeze-and-excitation, and not of a pruned network, which pads."""
    return isinstance(layer, SqueezeExcite) and not any(layer.padding)


def _is_plain(layer: tf.keras.layers.Layer) -> bool:
    """Whether the layer does no more than convolve, but for its kernel's quantizer."""
    return (
        isinstance(layer, lq.layers.QuantConv2D)
        and not layer.input_quantizer
        and not layer.use_bias
        and layer.pad_values == 0
        and layer.dilation_rate == (1, 1)
        and layer.groups == 1
    )


def _has_binary_input(layer: tf.keras.layers.Layer) -> bool:
    return (
        isinstance(layer, lq.layers.QuantConv2D)
        and isinstance(layer.input_quantizer, lq.quantizers.SteSign)
        and layer.input_quantizer.clip_value == 1.0
        and layer.padding == "same"
        and layer.pad_values == 1.0
    )
