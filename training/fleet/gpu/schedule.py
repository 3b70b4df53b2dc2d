"""What changes from step to step, as tables on the device, where a captured graph looks it up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Schedule:
    """The tables of a run, by step.

    rates   learning rate
    sizes   the same with the correction of the bias of Adam's moments
    slopes  of the gates' sigmoid
    binary  whether FMB is on

    Args:
        spec: Of the run.
        steps: Of an epoch.
        device: Where the tables lie.

    Attributes:
        window: Signs of activations pass the gradient where |x| is at most this; a scalar.
    """

    def __init__(self, spec: Mapping[str, Any], steps: int, device: torch.device) -> None:
        self._spec, self._steps, self._device = spec, steps, device
        self._tables: dict[str, Tensor] = {}
        self.window = torch.tensor(float(spec["window"]), device=device)
        self.fill(spec["epochs"])

    @property
    def rates(self) -> Tensor:
        """The learning rate of each step."""
        return self._tables["rates"]

    def at(self, name: str, step: Tensor) -> Tensor:
        """A table's value at a step; both have one element."""
        return self._tables[name].index_select(0, step)

    def fill(self, epochs: int) -> None:
        """Compute the tables for so many epochs, at most those of the run."""
        spec, total = self._spec, self._steps * epochs
        steps = np.arange(total)
        part = steps / total
        rates = _rates(spec, steps, total)
        t = steps + 1.0
        bias = np.sqrt(1 - 0.999**t) / (1 - 0.9**t) if spec["optimizer"] == "adam" else 1.0
        begin, end = spec["harden"]  # shares of the steps in which soft gates become steeper
        risen = np.clip((part - begin) / (end - begin), 0, 1) if end > begin else 0 * part
        binary = np.full(total, bool(spec["description"]["fmb"])) & (part >= end)
        binary &= steps >= spec["fmb_start"] * self._steps
        if spec["fmb_epochs"] is not None:
            binary &= steps < spec["fmb_epochs"] * self._steps
        slopes = 1 + (spec["harden_slope"] - 1) * risen
        floats = {"rates": rates, "sizes": rates * bias, "slopes": slopes}
        tables = {name: torch.from_numpy(x).float() for name, x in floats.items()}
        tables["binary"] = torch.from_numpy(binary)
        for name, table in tables.items():
            known = self._tables.setdefault(name, table.to(self._device))
            known[:total].copy_(table)


def _rates(spec: Mapping[str, Any], steps: np.ndarray, total: int) -> np.ndarray:
    peak, schedule = spec["learning_rate"], spec["schedule"]
    if schedule == "constant":
        return np.full(total, peak)

    def cosine(begin: int, end: int, low: float) -> np.ndarray:
        return low + (peak - low) * (1 + np.cos(np.pi * (steps - begin) / (end - begin))) / 2

    if schedule == "cosine":
        return cosine(0, total, 0.0)
    warmup = max(1, int(total * spec["warmup"]))
    rising = peak / 25 + (peak - peak / 25) * steps / warmup
    if not spec["tail"]:
        return np.where(steps < warmup, rising, cosine(warmup, total, 0.0))
    # Down to the tail's first rate, and from there the same time for each decade.
    turn = int(total * (1 - spec["tail"]))
    high, low = spec["tail_rates"]
    tail = high * (low / high) ** ((steps - turn) / (total - turn))
    falling = np.where(steps < turn, cosine(warmup, turn, high), tail)
    return np.where(steps < warmup, rising, falling)
