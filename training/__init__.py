"""Trains the networks of `larq_seresnet`; runs from a checkout."""

import os
import sys
from types import TracebackType

import larq_seresnet  # before TensorFlow: it chooses Keras 2
from larq_seresnet.console import silence
from larq_seresnet.errors import UserError as UserError
from training import processor


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Ctrl-C before a command has begun, while TensorFlow is imported, loses nothing: one line."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _show

# TensorFlow talks about GPUs that it does not find, some of it before it reads this variable; what
# matters reaches Python as an exception.
processor.prepare()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with silence():
    import larq_seresnet._tensorflow  # noqa: F401
