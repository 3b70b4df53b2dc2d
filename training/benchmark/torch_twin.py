"""The same network and the same training in PyTorch, as one would write them there.

It computes what `larq_seresnet.models.SEResNet14Bin` without FMB does, but for the padding of even
sizes at stride 2: PyTorch pads both sides, Keras one.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.benchmark.turns import WARM_UP_STEPS, Baton, Task, Turn, clock
from training.trainer import data
from training.trainer.config import Config

PADDING = Config().crop_padding


class _Sign(torch.autograd.Function):
    """The sign, 1 at 0, with the gradient of the identity where |x| <= 1: Larq's `ste_sign`."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x)
        return (x >= 0).to(x.dtype).mul_(2).sub_(1)

    @staticmethod
    def backward(context: Any, upstream: torch.Tensor) -> torch.Tensor:
        (x,) = context.saved_tensors
        return upstream * (x.abs() <= 1)


class _Conv(nn.Conv2d):
    """A convolution with 1-bit weights, and where `binary` with binary inputs and one-padding."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, binary: bool = False
    ) -> None:
        super().__init__(inputs, outputs, size, stride, padding=size // 2, bias=False)
        self.binary = binary
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = _Sign.apply(self.weight)
        if not self.binary:
            return functional.conv2d(x, kernel, stride=self.stride, padding=self.padding)
        x = _Sign.apply(x)
        if self.padding[0]:
            x = functional.pad(x, (int(self.padding[0]),) * 4, value=1.0)
        return functional.conv2d(x, kernel, stride=self.stride)


class _Dense(nn.Linear):
    """A dense layer with a 1-bit kernel, whose outputs are scaled as the Keras network's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.in_features**-0.5
        return scale * functional.linear(x, _Sign.apply(self.weight), self.bias)


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)


class _Attention(nn.Module):
    def __init__(self, channels: int, binary: bool) -> None:
        super().__init__()
        between = [_norm(channels), _norm(channels)] if binary else [nn.Identity(), nn.ReLU()]
        self.layers = nn.Sequential(
            between[0],
            _Conv(channels, channels, 1, binary=binary),
            between[1],
            _Conv(channels, channels, 1, binary=binary),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.layers(x.mean((2, 3), keepdim=True))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, binary: bool) -> None:
        super().__init__()
        self.binary = binary
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            shortcut = _Conv(inputs, outputs, 1, 1 if binary else stride), _norm(outputs)
            pooling = [nn.AvgPool2d(stride, ceil_mode=True)] if binary else []
            self.shortcut = nn.Sequential(*pooling, *shortcut)
        rectified = nn.ReLU() if binary else nn.Identity()
        self.first = nn.Sequential(
            _Conv(inputs, outputs, 3, stride, binary), rectified, _norm(outputs)
        )
        self.second = nn.Sequential(
            _Conv(outputs, outputs, 3, binary=binary),
            rectified,
            _norm(outputs),
            _Attention(outputs, binary),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.binary:
            x = self.first(x) + self.shortcut(x)
            return self.second(x) + x
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


class SEResNet14Bin(nn.Module):
    """The twin: from standardized images (batch, 3, height, width) to logits (batch, classes)."""

    def __init__(self, width: int, activations: str, classes: int = 10) -> None:
        super().__init__()
        binary = activations == "binary"
        stem = [_Conv(3, width, 3), _norm(width)]
        widths = [width, width, 2 * width, 2 * width, 4 * width, 4 * width]
        blocks = [
            _Block(inputs, outputs, 1 if inputs == outputs else 2, binary)
            for inputs, outputs in zip([width, *widths], widths, strict=False)
        ]
        relu = nn.ReLU()
        body = [*stem, *blocks, relu] if binary else [*stem, relu, *blocks]
        self.body = nn.Sequential(*body)
        self.dense = _Dense(4 * width, classes)
        nn.init.xavier_normal_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits."""
        return self.dense(self.body(x).mean((2, 3)))


def float32(task: Task, baton: Baton) -> None:
    """The twin in float32."""
    _train(task, baton, contextlib.nullcontext)


def bfloat16(task: Task, baton: Baton) -> None:
    """The twin under PyTorch's automatic mixed precision."""
    _train(task, baton, lambda: torch.autocast("cpu", torch.bfloat16))


def _train(task: Task, baton: Baton, precision: Any) -> None:
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as TensorFlow does
    network = SEResNet14Bin(task.width, task.activations, len(task.dataset.source.labels))
    cast(Any, network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    kernels = [module.weight for module in network.modules() if isinstance(module, _Conv | _Dense)]
    mean, variance = (
        torch.tensor(values)[:, None, None]
        for values in (task.dataset.source.mean, task.dataset.source.variance)
    )
    deviation = variance.sqrt()

    def logits(images: torch.Tensor) -> torch.Tensor:
        with precision():
            return network((images.permute(0, 3, 1, 2) - mean) / deviation)

    def step() -> None:
        images, labels = next(batches)
        optimizer.zero_grad()
        functional.cross_entropy(logits(images).float(), labels).backward()
        optimizer.step()
        with torch.no_grad():
            for kernel in kernels:
                kernel.clamp_(-1, 1)

    batches = _training_batches(task)
    while True:
        baton.wait()
        network.train()
        for _ in range(WARM_UP_STEPS):
            step()
        start = clock()
        for _ in range(task.steps):
            step()
        trained = clock()
        network.eval()
        with torch.no_grad():
            for images, labels in _evaluation_batches(task):
                functional.cross_entropy(logits(images).float(), labels).item()
        baton.hand_back(
            Turn(
                task.steps * task.batch_size,
                trained - start,
                task.evaluation_images,
                clock() - trained,
            )
        )


def _training_batches(task: Task) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled batches without end, each cropped and mirrored as a whole."""
    images, labels = task.dataset.train
    size = images.shape[1]
    border = [(0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)]
    padded, targets = torch.tensor(np.pad(images[:], border)), torch.tensor(labels)
    pixels = torch.arange(size)
    while True:
        for chosen in torch.randperm(len(labels)).split(task.batch_size):
            top, left = torch.randint(2 * PADDING + 1, (2, len(chosen), 1))
            rows, columns = top + pixels, left + pixels
            mirrored = torch.rand(len(chosen), 1) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
            crops = padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
            yield crops, targets[chosen]


def _evaluation_batches(task: Task) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for images, labels in (task.dataset.validation, task.dataset.test):
        for start in range(0, len(labels), data.EVALUATION_BATCH):
            part = slice(start, start + data.EVALUATION_BATCH)
            yield torch.from_numpy(images[part]), torch.from_numpy(labels[part])
