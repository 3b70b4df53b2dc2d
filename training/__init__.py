"""Trains the networks of `larq_seresnet`; runs from a checkout."""

import os

# Silence what TensorFlow says about the machine; its warnings and errors stay.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import larq_seresnet  # noqa: F401  (before TensorFlow: it chooses Keras 2)


class UserError(Exception):
    """A mistake of the user's, or of the machine's: one line that says what to do."""
