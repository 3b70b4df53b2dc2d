"""Reads photos into the arrays that image models take."""

import io
import warnings
from pathlib import Path

import numpy as np

from larq_seresnet.edge.errors import RuntimeMissingError


class ImageError(ValueError):
    """A file is no image that can be read."""


def load_image(path: Path, height: int, width: int, channels: int) -> np.ndarray:
    """An image in the size that a model takes.

    The image is turned as its EXIF data say, scaled so that it just covers the wanted size, and
    cut to its middle: nothing is stretched.

    Args:
        path: A PNG or JPEG file of any size.
        height: In pixels.
        width: In pixels.
        channels: 3 for color, 1 for gray.

    Returns:
        Values from 0 to 255 of shape [height, width, channels], float32.

    Raises:
        ImageError: The file is not an image, or damaged.
        OSError: The file cannot be opened.
        RuntimeMissingError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise RuntimeMissingError("reading images needs Pillow: pip install pillow") from None
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            # Pillow warns of images that are suspiciously large, then refuses twice that size.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as opened:
                image = ImageOps.exif_transpose(opened)
                if image.mode.startswith("I"):  # 16 bits of gray, which convert() would cut off
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("RGB" if channels == 3 else "L")
                image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    except Image.UnidentifiedImageError:
        raise ImageError(f"{path}: not a PNG or JPEG image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{path}: the image is too large") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: the image is damaged ({error})") from None
    return np.asarray(image, np.float32).reshape(height, width, channels)
