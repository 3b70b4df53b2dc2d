"""Digits pasted at random known places on textured backgrounds, to measure where networks look."""

from typing import Any

import numpy as np
from scipy import ndimage

from larq_seresnet.datasets import Split, load_digits

SIZE = 32  # pixels of an image
DIGIT = 14  # pixels of a digit
MARGIN = 2  # pixels that the digit keeps from the border
COPIES = 2  # of each training digit, at different places


def load_pasted_digits() -> dict[str, Split]:
    """The three splits of `datasets.load_digits`, pasted; the training split twice."""
    return {name: (images, labels) for name, (images, labels, _) in _splits().items()}


def load_test_boxes() -> np.ndarray:
    """Top, left, bottom and right of the test images' digits, in pixels: (images, 4)."""
    return _splits()["test"][2]


def _splits() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    splits = {}
    for number, (name, (digits, labels)) in enumerate(load_digits(DIGIT).items()):
        rng = np.random.default_rng([0, number])
        copies = COPIES if name == "train" else 1
        digits, labels = np.repeat(digits, copies, axis=0), np.repeat(labels, copies)
        images, boxes = zip(*(_paste(digit[..., 0] / 255, rng) for digit in digits), strict=True)
        splits[name] = (np.stack(images), labels, np.stack(boxes))
    return splits


def _paste(digit: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
    """Blend a light digit, opacities 0 to 1, into a background."""
    image = _texture(rng)
    top, left = rng.integers(MARGIN, SIZE - DIGIT - MARGIN + 1, 2)
    window = image[top : top + DIGIT, left : left + DIGIT]
    colour = rng.uniform(190, 255, 3)
    window += digit[..., None] * (colour - window)
    return image.round().astype(np.uint8), (top, left, top + DIGIT, left + DIGIT)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Blurred noise of a random grain and colour, float pixels (SIZE, SIZE, 3)."""
    grain = rng.uniform(0.7, 3)
    noise = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (grain, grain, 0))
    noise *= rng.uniform(10, 25) / noise.std()
    return np.clip(rng.uniform(40, 130, 3) + noise, 0, 180)
