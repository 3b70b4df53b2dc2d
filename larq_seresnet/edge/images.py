"""Reads photos into the arrays that image models take, on devices and for training."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet.edge.errors import RuntimeMissingError, one_line

_ORIENTATION = 0x0112  # EXIF's tag
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")


class ImageError(ValueError):
    """A file is no image that can be read."""


def load_image(path: Path, height: int, width: int, channels: int) -> np.ndarray:
    """An image file in the size that a model takes.

    The image is turned as its EXIF data say, and made to fit as `fit_image` does. Of an animation
    the first frame counts; what is transparent is shown on white.

    Args:
        path: A PNG, JPEG, BMP, GIF or WebP file of any size.
        height: In pixels.
        width: In pixels.
        channels: 3 for color, 1 for gray.

    Returns:
        Values from 0 to 255 of shape [height, width, channels], uint8.

    Raises:
        ImageError: The file is not an image, or damaged.
        OSError: The file cannot be read.
        RuntimeMissingError: Pillow is not installed.
    """
    image_class, _ = _pillow()
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.\w+Plugin")  # of EXIF data, damaged
            # Pillow warns of images that are suspiciously large, then refuses twice that size.
            warnings.simplefilter("error", image_class.DecompressionBombWarning)
            with image_class.open(file, formats=FORMATS) as opened:
                return fit_image(_upright(opened), height, width, channels)
    except image_class.UnidentifiedImageError:
        raise ImageError(f"{path}: not a PNG, JPEG, BMP, GIF or WebP image") from None
    except (image_class.DecompressionBombError, image_class.DecompressionBombWarning):
        raise ImageError(f"{path}: the image is too large") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever a damaged file leads to
        if isinstance(error, OSError) and error.errno:  # that is the system
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise ImageError(f"{path}: the image is damaged ({one_line(error)})") from None


def fit_image(image: Any, height: int, width: int, channels: int) -> np.ndarray:
    """A picture, scaled so that it just covers the wanted size, and cut to its middle.

    Nothing is stretched.

    Args:
        image: Pillow's image of any mode, or an array of Pillow's shapes and types.
        height: In pixels.
        width: In pixels.
        channels: 3 for color, 1 for gray.

    Returns:
        As `load_image`.
    """
    image_class, operations = _pillow()
    if isinstance(image, np.ndarray):
        image = image_class.fromarray(image)
    if image.mode.startswith("I"):  # 16 bits of gray, which convert() would cut off
        image = image_class.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = image_class.new("RGBA", image.size, "white")
        image = image_class.alpha_composite(white, image)
    image = image.convert("RGB" if channels == 3 else "L")
    image = operations.fit(image, (width, height), image_class.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels)


def _upright(image: Any) -> Any:
    """The image, turned as the camera says.

    Pillow's `exif_transpose` writes all EXIF data anew, and stops at those that are damaged.
    """
    image.load()  # what is damaged in the pixels is no matter of the EXIF data
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises whatever damaged EXIF data lead to
        return image
    image_class, _ = _pillow()
    turns = image_class.Transpose
    needed = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    return image.transpose(needed[orientation]) if orientation in needed else image


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise RuntimeMissingError("reading images needs Pillow: pip install pillow") from None
    return Image, ImageOps
