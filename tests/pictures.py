"""Makes folders of pictures as users have them: of mixed formats, modes and sizes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("jpg", "png", "bmp", "gif", "webp", "JPEG")
MODES = ("RGB", "L", "P", "RGBA", "CMYK", "I;16")
_CAN = {"jpg": ("RGB", "L", "CMYK"), "bmp": ("RGB", "L", "P"), "gif": ("RGB", "L", "P")}


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
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        suffix = FORMATS[number % len(FORMATS)]
        modes = _CAN.get({"JPEG": "jpg", "webp": "webp"}.get(suffix, suffix), MODES)
        mode = ("RGB", "RGB", "RGBA")[number % 3] if suffix == "webp" else modes[number % len(modes)]
        side = int(random.integers(40, 90))
        larger = Image.fromarray(image).resize((side, int(1.2 * side)), Image.Resampling.BICUBIC)
        save(root / split / label / f"{number:05d}.{suffix}", np.asarray(larger), mode)
