"""The networks of `larq_seresnet.models` in PyTorch, as functions of a dictionary of tensors.

The tensors have the names of the Keras model's weights ("block1_conv1/kernel") and PyTorch's
layout: kernels (outputs, inputs, height, width), the dense one (outputs, inputs).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Tensors = dict[str, Tensor]
Description = dict[str, Any]
"""An `architecture.Architecture` as JSON, and what only training knows (`jobs.OPTIONS`)."""

EPSILON = 1e-3  # of batch norm, as in Keras

GATES: Mapping[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "sigmoid": (torch.sigmoid, 0.0),
    "tanh": (torch.tanh, -1.0),
    "hard_tanh": (functional.hardtanh, -1.0),
}
"""The gates' activations, and what FMB makes of a pre-activation below 0."""


class Setting(NamedTuple):
    """What is the same for all images of a step.

    Attributes:
        mean: Of the raw pixels, (channels, 1, 1).
        variance: Likewise.
        slope: Multiplies the pre-activation of soft gates; a scalar, as what follows.
        binary: Whether FMB is on.
        window: Signs of activations pass the gradient where |x| is at most this.
    """

    mean: Tensor
    variance: Tensor
    slope: Tensor
    binary: Tensor
    window: Tensor


def _sign(x: Tensor, window: Tensor | None = None) -> Tensor:
    """Larq's `ste_sign`: 1 at 0, with the gradient of the identity where |x| <= window, or 1."""
    passing = x.clamp(-1, 1) if window is None else x.clamp(-window, window)
    return _straight_through(torch.where(x >= 0, 1.0, -1.0).to(x.dtype), passing)


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """`hard`, with the gradient of `soft`.

    No `torch.autograd.Function`: under `torch.compile` PyTorch 2.11 drops its gradient.
    """
    return hard.detach() + (soft - soft.detach())


class Network:
    """The network that a description names; its weights are given with each call.

    Args:
        description: Of the network.
    """

    def __init__(self, description: Description) -> None:
        self.description = description
        self.binary = description["activations"] == "binary"
        self.quantized = description["model"] == "binary" and not description["float_weights"]

    @property
    def key(self) -> str:
        """The same for networks that compute the same of what they are given."""
        given = ("fmb", "mean", "variance")
        return repr({name: x for name, x in self.description.items() if name not in given})

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the weights that are learned."""
        described = self.description
        width, inputs = described["width"], described["width"]
        yield from self._conv_and_norm("conv", "bn", described["input_shape"][2], width, 3)
        number = 0
        for stage, count in enumerate(described["blocks"]):
            outputs = width * 2**stage
            for _ in range(count):
                number += 1
                name = f"block{number}"
                yield from self._conv_and_norm(f"{name}_conv1", f"{name}_bn1", inputs, outputs, 3)
                yield from self._conv_and_norm(f"{name}_conv2", f"{name}_bn2", outputs, outputs, 3)
                if inputs != outputs and described["shortcut"] == "conv":
                    shortcut = f"{name}_shortcut"
                    yield from self._conv_and_norm(shortcut, f"{shortcut}_bn", inputs, outputs, 1)
                if described["gate"] != "none":
                    inner = outputs // described["reduction"]
                    yield f"{name}_se/squeeze/kernel", (inner, outputs, 1, 1)
                    yield f"{name}_se/excite/kernel", (outputs, inner, 1, 1)
                    if self.binary and not described["float_attention"]:
                        yield from self._norm(f"{name}_se/bn0", outputs)
                        yield from self._norm(f"{name}_se/bn1", inner)
                inputs = outputs
        yield "dense/kernel", (described["classes"], inputs)
        yield "dense/bias", (described["classes"],)

    def statistics(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of batch norm's moving statistics."""
        for name, shape in self.shapes():
            if name.endswith("/gamma"):
                norm = name.removesuffix("/gamma")
                yield f"{norm}/moving_mean", shape
                yield f"{norm}/moving_variance", shape

    @staticmethod
    def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}/gamma", (channels,)
        yield f"{name}/beta", (channels,)

    def _conv_and_norm(
        self, conv: str, norm: str, inputs: int, outputs: int, size: int
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{conv}/kernel", (outputs, inputs, size, size)
        yield from self._norm(norm, outputs)

    def __call__(
        self,
        weights: Tensors,
        images: Tensor,
        setting: Setting,
        momentum: float | None,
        precision: torch.dtype,
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (batch, classes), and the gates' pre-activations, (batch, channels) a module.

        Args:
            weights: Those of `shapes` and `statistics`.
            images: Raw pixels, (batch, 3, height, width).
            setting: Of this step.
            momentum: The share of the batch in the moving statistics, which are changed in place;
                `None` in evaluation, which uses them.
            precision: Of the feature maps.
        """
        step = _Step(self, weights, setting, momentum, precision)
        described = self.description
        x = ((images.float() - setting.mean) * setting.variance.rsqrt()).to(precision)
        x = x.contiguous(memory_format=torch.channels_last)
        x = step.norm(step.conv(x, "conv"), "bn")
        x = x if self.binary else functional.relu(x)
        block = step.binary_block if self.binary else step.block
        number, filters = 0, described["width"]
        for stage, count in enumerate(described["blocks"]):
            for i in range(count):
                number += 1
                outputs = described["width"] * 2**stage
                x = block(x, f"block{number}", outputs, 2 if stage and not i else 1)
                filters = outputs
        x = functional.relu(x) if self.binary else x
        pooled = x.float().mean((2, 3))
        kernel = weights["dense/kernel"]
        scale = 1.0
        if self.quantized:
            kernel, scale = _sign(kernel), filters**-0.5
        return scale * functional.linear(pooled, kernel, weights["dense/bias"]), step.seen


class _Step:
    """What the layers of one call share."""

    def __init__(
        self,
        network: Network,
        weights: Tensors,
        setting: Setting,
        momentum: float | None,
        precision: torch.dtype,
    ) -> None:
        self.network = network
        self.weights = weights
        self.setting = setting
        self.momentum = momentum
        self.precision = precision
        self.seen: list[Tensor] = []

    def kernel(self, name: str) -> Tensor:
        kernel = self.weights[f"{name}/kernel"]
        return _sign(kernel) if self.network.quantized else kernel

    def conv(self, x: Tensor, name: str, stride: int = 1, pad: float = 0.0) -> Tensor:
        """A convolution with Keras's padding "same"; sizes are even, or the stride is 1."""
        kernel = self.kernel(name).to(self.precision)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        size = kernel.shape[2]
        if size == 1 and stride > 1:
            x, stride = x[:, :, ::stride, ::stride], 1
        elif size == 3 and (stride == 2 or pad):
            before = 1 if stride == 1 else 0
            x = functional.pad(x, (before, 1, before, 1), value=pad)
        padding = 1 if size == 3 and stride == 1 and not pad else 0
        return functional.conv2d(x, kernel, stride=stride, padding=padding)

    def norm(self, x: Tensor, name: str) -> Tensor:
        weights = self.weights
        return functional.batch_norm(
            x,
            weights[f"{name}/moving_mean"],
            weights[f"{name}/moving_variance"],
            weights[f"{name}/gamma"],
            weights[f"{name}/beta"],
            training=self.momentum is not None,
            momentum=self.momentum or 0.0,
            eps=EPSILON,
        )

    def sign(self, x: Tensor) -> Tensor:
        return _sign(x, self.setting.window)

    def attention(self, x: Tensor, name: str) -> Tensor:
        described = self.network.description
        if described["gate"] == "none":
            return x
        pooled = x.float().mean((2, 3))
        squeeze, excite = (
            self.kernel(f"{name}/{part}").flatten(1) for part in ("squeeze", "excite")
        )
        terms = excite.shape[1]
        if self.network.binary and not described["float_attention"]:
            squeezed = functional.linear(self.sign(self.norm(pooled, f"{name}/bn0")), squeeze)
            z = functional.linear(self.sign(self.norm(squeezed, f"{name}/bn1")), excite)
        else:
            terms *= pooled.shape[1]
            z = functional.linear(functional.relu(functional.linear(pooled, squeeze)), excite)
            if self.network.quantized and described["fmb"]:
                z = z + terms * 2**-18  # as `larq_seresnet.layers.SqueezeExcite`
        z = z * terms**-0.5 if described["attention_scale"] else z
        self.seen.append(z)
        activation, low = GATES[described["gate"]]
        gate = activation(self.setting.slope * z)
        hard = torch.where(self.setting.binary, torch.where(z >= 0, 1.0, low), gate)
        if described["gradient"] == "ste":
            gate = _straight_through(hard, gate)
        else:
            gate = torch.where(self.setting.binary, hard.detach(), gate)
        return x * gate.to(x.dtype)[:, :, None, None]

    def pooled_shortcut(self, x: Tensor, outputs: int, stride: int) -> Tensor:
        """Averages, and zeros for the channels that are missing."""
        x = functional.avg_pool2d(x, stride) if stride > 1 else x
        return functional.pad(x, (0, 0, 0, 0, 0, outputs - x.shape[1]))

    def block(self, x: Tensor, name: str, outputs: int, stride: int) -> Tensor:
        shortcut = x
        if x.shape[1] != outputs or stride != 1:
            if self.network.description["shortcut"] == "pool":
                shortcut = self.pooled_shortcut(x, outputs, stride)
            else:
                shortcut = self.conv(x, f"{name}_shortcut", stride)
                shortcut = self.norm(shortcut, f"{name}_shortcut_bn")
        x = functional.relu(self.norm(self.conv(x, f"{name}_conv1", stride), f"{name}_bn1"))
        x = self.norm(self.conv(x, f"{name}_conv2"), f"{name}_bn2")
        return functional.relu(self.attention(x, f"{name}_se") + shortcut)

    def binary_block(self, x: Tensor, name: str, outputs: int, stride: int) -> Tensor:
        shortcut = x
        if self.network.description["shortcut"] == "pool":
            shortcut = self.pooled_shortcut(x, outputs, stride)
        else:
            shortcut = functional.avg_pool2d(x, stride) if stride > 1 else x
            if x.shape[1] != outputs:
                shortcut = self.conv(shortcut, f"{name}_shortcut")
                shortcut = self.norm(shortcut, f"{name}_shortcut_bn")
        y = functional.relu(self.conv(self.sign(x), f"{name}_conv1", stride, pad=1.0))
        x = self.norm(y, f"{name}_bn1") + shortcut
        y = functional.relu(self.conv(self.sign(x), f"{name}_conv2", pad=1.0))
        return x + self.attention(self.norm(y, f"{name}_bn2"), f"{name}_se")
