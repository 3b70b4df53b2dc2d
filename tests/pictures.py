"""Makes folders of pictures as users have them: of mixed formats, modes and sizes."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {
    "jpg": ("RGB", "L", "CMYK"),
    "png": ("RGB", "L", "P", "RGBA", "I;16"),
    "bmp": ("RGB", "L", "P"),
    "gif": ("RGB", "P"),
    "webp": ("RGB", "RGBA"),
    "JPEG": ("RGB",),
}
"""The suffixes and modes that are tried."""


def save(path: Path, image: np.ndarray, mode: str = "RGB") -> None:
    """Write pixels (height, width, 3) as a picture of this mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image)
    if mode == "I;16":
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        picture = Image.fromarray(grey)
    else:
        picture = picture.convert(mode)
    options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    picture.save(path, **options)


def write_folder(
    root: Path, images: Sequence[np.ndarray], labels: Sequence[str], *, split: str = ""
) -> None:
    """Write each image into its class's folder, scaled, as one format and mode after the other."""
    random = np.random.default_rng(0)
    kinds = itertools.cycle((suffix, mode) for suffix, modes in KINDS.items() for mode in modes)
    for number, (image, label, kind) in enumerate(zip(images, labels, kinds, strict=False)):
        suffix, mode = kind
        width = int(random.integers(40, 90))
        larger = Image.fromarray(image).resize((width, int(1.2 * width)))
        save(root / split / label / f"{number:05d}.{suffix}", np.asarray(larger), mode)
