"""Keras models to `.tflite` files that really hold 1 bit a weight.

`convert` is for Keras code, `python -m larq_seresnet.convert` for the command line, whose `--help`
needs no TensorFlow: names load on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from larq_seresnet.errors import ConversionError

if TYPE_CHECKING:
    from larq_seresnet.convert.conversion import Conversion, convert, run_conversion

__all__ = ["Conversion", "ConversionError", "convert", "run_conversion"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.conversion"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
