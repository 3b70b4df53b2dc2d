"""Images pasted at random known places on textured backgrounds, to measure where networks look."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from larq_seresnet.datasets import Split, load_digits

MARGIN = 2  # pixels that what is pasted keeps from the border

Splits = dict[str, Split]


@dataclass(frozen=True)
class Canvas:
    """What is pasted where."""

    size: int  # pixels of an image's side
    pasted: int  # pixels of the side of what is pasted into it
    copies: int  # of each training image, at different places

    @property
    def chance(self) -> float:
        """The share of the image that what is pasted covers."""
        return (self.pasted / self.size) ** 2


CANVASES = {
    "pasted_digits": Canvas(size=32, pasted=14, copies=2),
    "pasted_svhn": Canvas(size=48, pasted=16, copies=1),
}


def paste_digits() -> tuple[Splits, np.ndarray]:
    """The handwritten digits, in a light colour.

    Returns:
        The splits, and the boxes of the test images: top, left, bottom and right, (images, 4).
    """
    canvas = CANVASES["pasted_digits"]
    splits = {}
    for name, (digits, labels) in load_digits(canvas.pasted).items():
        rng = _generator(name)
        opacity = digits[..., :1].astype(np.float64) / 255
        colours = rng.uniform(190, 255, (len(digits), 1, 1, 3))
        splits[name] = (np.broadcast_to(colours, digits.shape), opacity, labels)
    return _paste(splits, canvas)


def paste_svhn(splits: Splits) -> tuple[Splits, np.ndarray]:
    """House numbers' digits, (images, 32, 32, 3), at half their size; returns as `paste_digits`."""
    canvas = CANVASES["pasted_svhn"]
    shrunken = {}
    for name, (images, labels) in splits.items():
        blocks = images.reshape(-1, canvas.pasted, 2, canvas.pasted, 2, 3)
        opacity = np.ones((len(images), 1, 1, 1))
        shrunken[name] = (blocks.mean(axis=(2, 4)), opacity, labels)
    return _paste(shrunken, canvas)


def _paste(
    splits: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], canvas: Canvas
) -> tuple[Splits, np.ndarray]:
    """Blend (colours, opacities 0 to 1, labels) into backgrounds."""
    done, test_boxes = {}, np.empty((0, 4))
    for name, (colours, opacities, labels) in splits.items():
        rng = _generator(name)
        chosen = np.repeat(np.arange(len(labels)), canvas.copies if name == "train" else 1)
        images = np.empty((len(chosen), canvas.size, canvas.size, 3), np.uint8)
        corners = rng.integers(MARGIN, canvas.size - canvas.pasted - MARGIN + 1, (len(chosen), 2))
        for image, i, (top, left) in zip(images, chosen, corners, strict=True):
            background = _texture(rng, canvas.size)
            window = background[top : top + canvas.pasted, left : left + canvas.pasted]
            window += opacities[i] * (colours[i] - window)
            image[:] = background.round()
        done[name] = (images, labels[chosen])
        if name == "test":
            test_boxes = np.concatenate([corners, corners + canvas.pasted], axis=1)
    return done, test_boxes


def _generator(split: str) -> np.random.Generator:
    return np.random.default_rng(list(split.encode()))


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Blurred noise of a random grain and colour, float pixels (size, size, 3)."""
    grain = rng.uniform(0.7, 3)
    noise = ndimage.gaussian_filter(rng.normal(size=(size, size, 3)), (grain, grain, 0))
    noise *= rng.uniform(10, 25) / noise.std()
    return np.clip(rng.uniform(40, 130, 3) + noise, 0, 180)
