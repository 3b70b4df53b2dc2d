"""Trains the networks of `larq_seresnet`; runs from a checkout."""

import os
import sys

import larq_seresnet  # noqa: F401  (before TensorFlow: it chooses Keras 2)


class UserError(Exception):
    """A mistake of the user's, or of the machine's: one line that says what to do."""


def _import_tensorflow_quietly() -> None:
    """Import TensorFlow without what it says of GPUs; what matters reaches Python as an exception.

    Some of it is written before TensorFlow reads `TF_CPP_MIN_LOG_LEVEL`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import larq_seresnet._tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


_import_tensorflow_quietly()
