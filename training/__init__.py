"""Trains the networks of `larq_seresnet`; runs from a checkout."""

import os

# TensorFlow talks about GPUs it does not find; what matters reaches Python as an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import larq_seresnet  # noqa: F401  (before TensorFlow: it chooses Keras 2)


class UserError(Exception):
    """A mistake of the user's, or of the machine's: one line that says what to do."""
