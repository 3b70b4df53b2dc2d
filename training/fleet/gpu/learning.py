"""One network that learns: its weights, optimizer, schedule and log."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .network import GATES, Network, Setting, Tensors
from .pictures import BATCH, Bank, Pictures
from .schedule import Schedule

MOMENTUM = 0.1  # share of a batch in batch norm's moving statistics
CALIBRATED_BY = 100  # batches, for the errors of the calibrated log
FLAT = 0.1  # of an activation's highest slope: below, a gate learns little


class Run:
    """A network in training.

    Args:
        spec: What to train and how: a run of `jobs.json`.
        pictures: To learn.
        bank: The teacher's answers; `None` where labels are learned.
        start: Weights to start from; `None` for new ones.
        device: To train on.

    Attributes:
        epoch: How many are over.
        seconds: What each of them took, with the wave's other runs.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        pictures: Pictures,
        bank: Bank | None,
        start: Tensors | None,
        device: torch.device,
    ) -> None:
        self.spec, self._pictures, self._bank, self._device = spec, pictures, bank, device
        self._network = Network(spec["description"])
        self._on_gpu = device.type == "cuda"
        self._precision = torch.bfloat16 if self._on_gpu else torch.float32
        self._stream = torch.cuda.Stream() if self._on_gpu else None
        self._graph: Any = None
        self._random = torch.Generator(device).manual_seed(spec["seed"])
        self.steps = len(pictures.labels) // spec["batch_size"]
        self.epoch, self.epochs = 0, int(spec["epochs"])
        self.seconds: list[float] = []
        self._rows: list[dict[str, Any]] = []
        self._final: dict[str, Tensor] = {}
        self._make_weights(start)
        self._schedule = Schedule(spec, self.steps, device)
        shape = (self.steps, spec["batch_size"])
        self._images = torch.zeros(shape, dtype=torch.long, device=device)
        self._views = torch.zeros_like(self._images)
        self._step = torch.zeros(1, dtype=torch.long, device=device)
        self._step_of_epoch = torch.zeros_like(self._step)
        self._sums = torch.zeros(2, device=device)

    @property
    def done(self) -> bool:
        """Whether all epochs are over."""
        return self.epoch >= self.epochs

    def _make_weights(self, start: Tensors | None) -> None:
        """All learned weights lie in one vector, so that the optimizer's step is a few kernels."""
        shapes, spec = dict(self._network.shapes()), self.spec
        random = np.random.default_rng(spec["seed"])
        values = {name: _initial(name, shape, spec, random) for name, shape in shapes.items()}
        values |= {
            name: np.full(shape, float(name.endswith("variance")), np.float32)
            for name, shape in self._network.statistics()
        }
        values |= {name: value.float().numpy() for name, value in (start or {}).items()}
        flat = np.concatenate([values[name].ravel() for name in shapes])
        self._flat = torch.from_numpy(flat).to(self._device)
        self._limit = torch.full_like(self._flat, math.inf)
        self._decay = torch.zeros_like(self._flat)
        self._moments = torch.zeros(2, len(flat), device=self._device)
        self._learned: Tensors = {}
        first = 0
        for name, shape in shapes.items():
            part = slice(first, first := first + math.prod(shape))
            self._learned[name] = self._flat[part].view(shape).detach().requires_grad_()
            is_kernel = name.endswith("kernel")
            if is_kernel and self._network.quantized and spec["clip"]:
                self._limit[part] = 1.0
            if is_kernel or not spec["decay_kernels_only"]:
                self._decay[part] = spec["weight_decay"]
        self._statistics = {
            name: torch.from_numpy(values[name]).to(self._device)
            for name, _ in self._network.statistics()
        }

    def shorten(self, epochs: int) -> None:
        """Finish after fewer epochs than were planned, with the whole schedule."""
        self.epochs = epochs
        self._schedule.fill(epochs)

    def prepare(self) -> None:
        """Capture the step as a graph; what it changes is put back."""
        if not self._on_gpu:
            return
        changed = [self._flat, self._moments, self._step, self._step_of_epoch, self._sums]
        changed += self._statistics.values()
        before = [tensor.clone() for tensor in changed]
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            for _ in range(3):  # compiles, and lets cuDNN choose
                self._compute_step()
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._compute_step()
        torch.cuda.synchronize()
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        torch.cuda.synchronize()

    def begin_epoch(self) -> None:
        """Draw the order of the images and their views."""
        with torch.cuda.stream(self._stream):
            count = len(self._pictures.labels)
            order = torch.randperm(count, generator=self._random, device=self._device)
            self._images.copy_(order[: self._images.numel()].view_as(self._images))
            self._views.copy_(self._pictures.draw(self._images.shape, self._random))
            self._sums.zero_()
            self._step_of_epoch.zero_()

    def step(self) -> None:
        """Learn the next batch."""
        with torch.cuda.stream(self._stream):
            if self._graph is None:
                self._compute_step()
            else:
                self._graph.replay()

    def _compute_step(self) -> None:
        images = self._images.index_select(0, self._step_of_epoch)[0]
        views = self._views.index_select(0, self._step_of_epoch)[0]
        labels = self._pictures.labels[images]
        targets = functional.one_hot(labels, self.spec["description"]["classes"]).float()
        if self._bank is not None:
            answers = self._bank.logits[images, views].float() / self.spec["temperature"]
            targets = torch.lerp(targets, answers.softmax(1), self.spec["teacher_weight"])
        learned = list(self._learned.values())
        loss, correct = self._loss()(
            learned,
            self._statistics,
            self._pictures.see(images, views),
            targets,
            labels,
            self._setting(self._step),
        )
        gradient = torch.cat([x.reshape(-1) for x in torch.autograd.grad(loss, learned)])
        with torch.no_grad():
            adam = self.spec["optimizer"] == "adam"
            rate, size = (
                self._schedule.at("rates", self._step),
                self._schedule.at("sizes", self._step),
            )
            _compiled(_update, _update, self._on_gpu)(
                adam, self._flat, gradient, self._moments, self._decay, self._limit, rate, size
            )
            self._sums += torch.stack([loss.detach(), correct])
            self._step += 1
            self._step_of_epoch += 1

    def _setting(self, step: Tensor) -> Setting:
        return Setting(
            *self._pictures.standardization,
            self._schedule.at("slopes", step)[0],
            self._schedule.at("binary", step)[0],
            self._schedule.window,
        )

    def _loss(self) -> Callable[..., tuple[Tensor, Tensor]]:
        network, precision, names = self._network, self._precision, tuple(self._learned)

        def loss(
            learned: list[Tensor],
            statistics: Tensors,
            seen: Tensor,
            targets: Tensor,
            labels: Tensor,
            setting: Setting,
        ) -> tuple[Tensor, Tensor]:
            weights = {**dict(zip(names, learned, strict=True)), **statistics}
            logits, _ = network(weights, seen, setting, MOMENTUM, precision)
            right = (logits.detach().argmax(1) == labels).float().mean()
            return functional.cross_entropy(logits, targets), right

        return _compiled(network.key, loss, self._on_gpu)

    def end_epoch(self) -> None:
        """Note what was learned; nothing waits for the GPU here."""
        with torch.cuda.stream(self._stream):
            self.epoch += 1
            row: dict[str, Any] = {"sums": self._sums / self.steps}
            every = self.spec["evaluate_every"]
            if every and (self.epoch % every == 0 or self.done):
                row |= self.errors()
                if self.spec["calibrated_log"]:
                    moving = {name: value.clone() for name, value in self._statistics.items()}
                    self.calibrate(CALIBRATED_BY)
                    row |= {f"calibrated_{name}": value for name, value in self.errors().items()}
                    for name, value in moving.items():
                        self._statistics[name].copy_(value)
            self._rows.append(row)

    def finish(self) -> None:
        """Calibrate batch norm, and evaluate."""
        with torch.cuda.stream(self._stream):
            self.calibrate(self.spec["calibration"])
            self._final = self.errors()
        if self._on_gpu:
            torch.cuda.synchronize()

    @torch.no_grad()
    def errors(self) -> dict[str, Tensor]:
        """Of the held-out splits: top-1 error in percent and mean loss.

        Besides "gates", see `gates`, of images of the validation split.
        """
        setting, found = self._last_setting(), {}
        for name, (images, labels) in self._pictures.held_out.items():
            wrong = loss = torch.zeros((), device=self._device)
            for first in range(0, len(labels), BATCH):
                part = slice(first, first + BATCH)
                seen = images[part].permute(0, 3, 1, 2)
                logits, _ = self._network(self._weights, seen, setting, None, self._precision)
                wrong = wrong + (logits.argmax(1) != labels[part]).sum()
                loss = loss + functional.cross_entropy(logits, labels[part], reduction="sum")
                if name == "validation" and not first and self.spec["description"]["gate"] in GATES:
                    found["gates"] = self.gates(seen, labels[part])
            found[f"{name}_error"] = 100 * wrong / len(labels)
            found[f"{name}_loss"] = loss / len(labels)
        return found

    @torch.enable_grad()
    def gates(self, seen: Tensor, labels: Tensor) -> Tensor:
        """What the gates let through, module by module.

        Returns:
            (modules, 4), of the gates of all channels and images:
            share that is on
            share where the activation is flat: its slope is less than a tenth of its highest
            mean slope of the activation, 1 where it is highest
            root of the mean square of the gradient that reaches a gate's pre-activation from the
                loss of its image
        """
        setting, weights = self._last_setting(), {**self._learned, **self._statistics}
        logits, z = self._network(weights, seen, setting, None, self._precision)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        gradients = torch.autograd.grad(loss, z)
        activation, _ = GATES[self.spec["description"]["gate"]]
        rows = []
        for x, gradient in zip(z, gradients, strict=True):
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(activation(x).sum(), x)
            slope = slope / (0.25 if activation is torch.sigmoid else 1.0)
            shares = [(x >= 0).float(), (slope < FLAT).float(), slope, gradient.square()]
            rows.append(torch.stack([share.mean() for share in shares]))
            rows[-1][3].sqrt_()
        return torch.stack(rows)

    @torch.no_grad()
    def calibrate(self, batches: int) -> None:
        """Set the moving statistics to the mean over batches of augmented images."""
        count, batch = len(self._pictures.labels), (self.spec["batch_size"],)
        for i in range(batches):
            images = torch.randint(count, batch, generator=self._random, device=self._device)
            seen = self._pictures.see(images, self._pictures.draw(batch, self._random))
            share = 1 / (i + 1)
            self._network(self._weights, seen, self._last_setting(), share, self._precision)

    def _last_setting(self) -> Setting:
        return self._setting(torch.tensor([self.epoch * self.steps - 1], device=self._device))

    @property
    def _weights(self) -> Tensors:
        return {**{k: v.detach() for k, v in self._learned.items()}, **self._statistics}

    def weights(self) -> dict[str, np.ndarray]:
        """By name; latent kernels in float16, their signs kept."""
        found = {name: value.cpu().numpy() for name, value in self._weights.items()}
        for name, value in found.items():
            if name.endswith("kernel") and self._network.quantized:
                half = value.astype(np.float16)
                half[(value < 0) & (half == 0)] = -np.finfo(np.float16).smallest_subnormal
                found[name] = half
        return found

    def record(self) -> dict[str, Any]:
        """The log, as JSON has it."""
        rates = self._schedule.rates.tolist()
        rows = []
        for number, row in enumerate(self._rows, start=1):
            loss, right = row["sums"].tolist()
            values = {
                "epoch": number,
                "learning_rate": rates[number * self.steps - 1],
                "loss": loss,
                "train_error": 100 * (1 - right),
                "seconds": self.seconds[number - 1],
            }
            errors = {name: value.tolist() for name, value in row.items() if name != "sums"}
            rows.append({**values, **errors})
        final = {name: value.tolist() for name, value in self._final.items()}
        return {"rows": rows, "final": final, "epochs": self.epoch}

    def line(self) -> str:
        """How it goes."""
        row = self._rows[-1]
        text = f"{self.spec['name']} {row['sums'][0].item():.4f}"
        error = row.get("validation_error")
        return text if error is None else f"{text} ({error.item():.2f} %)"


def _initial(
    name: str, shape: tuple[int, ...], spec: Mapping[str, Any], random: np.random.Generator
) -> np.ndarray:
    """Weights as Keras draws them: Glorot's or He's normal distribution, cut at two deviations."""
    opened = spec["description"]["open_gates"] and spec["description"]["model"] == "binary"
    if not name.endswith("kernel"):
        value = np.full(shape, float(name.endswith("gamma")), np.float32)
        if name.startswith("block") and name.endswith(("_bn1/gamma", "_bn2/gamma")):
            value *= spec["gain"]
        if opened and name.endswith("_se/bn1/beta"):
            value += 2.0
        return value
    if opened and name.endswith("_se/excite/kernel"):
        return np.ones(shape, np.float32)
    receptive = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * receptive, shape[0] * receptive
    is_float = spec["description"]["model"] == "float"
    variance = 2 / fan_in if is_float else 2 / (fan_in + fan_out)
    drawn = random.standard_normal(2 * math.prod(shape) + 100)
    drawn = drawn[np.abs(drawn) <= 2][: math.prod(shape)].reshape(shape)
    return (drawn * math.sqrt(variance) / 0.87962566103423978).astype(np.float32)


def _update(
    adam: bool,
    weights: Tensor,
    gradient: Tensor,
    moments: Tensor,
    decay: Tensor,
    limit: Tensor,
    rate: Tensor,
    size: Tensor,
) -> None:
    """Keras's Adam, or its SGD with Nesterov's momentum 0.9; what decays is taken off first."""
    first, second = moments
    if adam:
        first.lerp_(gradient, 0.1)
        second.lerp_(gradient.square(), 0.001)
        step = size * first / (second.sqrt() + 1e-7)
    else:
        first.mul_(0.9).sub_(size * gradient)
        step = size * gradient - 0.9 * first
    moved = weights * (1 - decay * rate) - step
    weights.copy_(torch.maximum(torch.minimum(moved, limit), -limit))


_COMPILED: dict[Any, Any] = {}


def _compiled(key: Any, function: Any, on_gpu: bool) -> Any:
    """The function, on a GPU compiled; what has the same key is compiled once for all runs."""
    if not on_gpu:
        return function
    if key not in _COMPILED:
        _COMPILED[key] = torch.compile(function, dynamic=False)
    return _COMPILED[key]
