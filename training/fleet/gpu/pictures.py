"""A data set on the GPU, its augmented views, and a teacher's answers to all of them."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .network import Network, Setting

BATCH = 2048  # images at once where nothing is learned


@dataclass
class Pictures:
    """A data set, and its views: random crops, mirrored where that is right.

    View v of an image is the crop whose corner is at (v // 2 // places, v // 2 % places) times
    `grid` pixels of the padded image, mirrored where v is odd; without mirroring all are even.

    Attributes:
        padded: Training images with a black border, (n, height + 2 p, width + 2 p, channels) uint8.
        labels: Of the training images, (n).
        held_out: Images, (n, height, width, channels), and labels of "validation" and "test".
        padding: p.
        grid: Pixels from one crop to the next.
        flip: Whether images are mirrored.
        standardization: Mean and variance of the raw pixels, (channels, 1, 1) each.
    """

    padded: Tensor
    labels: Tensor
    held_out: Mapping[str, tuple[Tensor, Tensor]]
    padding: int
    grid: int
    flip: bool
    standardization: tuple[Tensor, Tensor]

    @classmethod
    def load(cls, path: Path, facts: Mapping[str, Any], device: torch.device) -> "Pictures":
        """Read a file of `jobs.prepare`."""
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        border = (0, 0) + (facts["padding"],) * 4
        padded = functional.pad(arrays["train_images"], border).to(device)
        held_out = {
            name: (arrays[f"{name}_images"].to(device), arrays[f"{name}_labels"].to(device))
            for name in ("validation", "test")
            if f"{name}_images" in arrays
        }
        labels = arrays["train_labels"].to(device)
        mean, variance = (
            torch.tensor(facts[name], dtype=torch.float32, device=device)[:, None, None]
            for name in ("mean", "variance")
        )
        return cls(
            padded,
            labels,
            held_out,
            facts["padding"],
            facts["grid"],
            facts["flip"],
            (mean, variance),
        )

    @property
    def places(self) -> int:
        """Of a crop's corner, along each side."""
        return 2 * self.padding // self.grid + 1

    @property
    def views(self) -> int:
        """How many there are of an image, the mirrored ones always counted."""
        return 2 * self.places**2

    def draw(self, shape: Sequence[int], random: torch.Generator) -> Tensor:
        """Random views."""
        device = self.padded.device
        places = torch.randint(self.places**2, shape, generator=random, device=device)
        if not self.flip:
            return 2 * places
        return 2 * places + torch.randint(2, shape, generator=random, device=device)

    def see(self, images: Tensor, views: Tensor) -> Tensor:
        """The views, (batch, channels, height, width), uint8, in memory channels last."""
        place, mirrored = views // 2, views % 2
        height, width = (size - 2 * self.padding for size in self.padded.shape[1:3])
        top, left = (self.grid * x[:, None] for x in (place // self.places, place % self.places))
        rows = torch.arange(height, device=images.device) + top
        columns = torch.arange(width, device=images.device).expand(len(images), width)
        columns = torch.where(mirrored[:, None] == 1, width - 1 - columns, columns)
        columns = columns + left
        seen = self.padded[images[:, None, None], rows[:, :, None], columns[:, None, :]]
        return seen.permute(0, 3, 1, 2)


class Bank:
    """A teacher's logits for every view of every training image.

    Attributes:
        logits: (n, views, classes) float16; zeros until `fill`.
    """

    def __init__(self, pictures: Pictures, classes: int) -> None:
        shape = (len(pictures.labels), pictures.views, classes)
        self.logits = torch.zeros(shape, dtype=torch.float16, device=pictures.padded.device)
        self._pictures = pictures

    def fill(self, teacher: Path) -> None:
        """Ask the teacher, or another process that asks it now.

        Args:
            teacher: Its weights; the description lies beside them. Another process may still train
                it: then this one waits.
        """
        while not teacher.with_suffix(".json").exists():
            time.sleep(0.2)
        file = teacher.with_name(f"answers-{teacher.stem}.npy")
        with filelock.FileLock(file.with_suffix(".asked")):
            if file.exists():
                self.logits.copy_(torch.from_numpy(np.load(file)))
                return
            self._ask(teacher)
            draft = file.with_name(f"draft-{file.name}")
            np.save(draft, self.logits.cpu().numpy())
            draft.replace(file)

    @torch.no_grad()
    def _ask(self, teacher: Path) -> None:
        pictures, device = self._pictures, self.logits.device
        spec = json.loads(teacher.with_suffix(".json").read_text())["spec"]
        with np.load(teacher) as file:
            weights = {name: torch.from_numpy(file[name]).float().to(device) for name in file.files}
        described = spec["description"]
        network = Network(described)
        one, fmb = torch.ones((), device=device), torch.tensor(described["fmb"], device=device)
        setting = Setting(*pictures.standardization, one, fmb, one)
        precision = torch.bfloat16 if device.type == "cuda" else torch.float32
        for view in range(0, pictures.views, 1 if pictures.flip else 2):
            for images in torch.arange(len(pictures.labels), device=device).split(BATCH):
                seen = pictures.see(images, torch.full_like(images, view))
                answers, _ = network(weights, seen, setting, None, precision)
                self.logits[images, view] = answers.half()
