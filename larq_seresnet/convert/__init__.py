"""Keras models to `.tflite` files that really hold 1 bit a weight.

`convert` is for Keras code, `python -m larq_seresnet.convert` for the command line.
"""

from larq_seresnet.convert.conversion import Conversion, convert, run_conversion
from larq_seresnet.convert.errors import ConversionError

__all__ = ["Conversion", "ConversionError", "convert", "run_conversion"]
