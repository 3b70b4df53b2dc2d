"""The one place where TensorFlow and Larq are imported, so that a missing one is explained once."""

try:
    import larq as lq
    import tensorflow as tf
    import tf_keras  # noqa: F401  (TensorFlow only warns where it is missing)
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"larq_seresnet's networks need {error.name}, which is not installed: "
        "pip install 'larq-seresnet[train]' (Python 3.10 to 3.12)",
        name=error.name,
    ) from error

__all__ = ["lq", "tf"]
