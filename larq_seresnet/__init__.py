"""SE-ResNets with 1-bit weights and binarized channel attention (FMB).

Importing this package is light: its submodules load on first use, so that a device that only runs
models (`larq_seresnet.edge`) needs no TensorFlow.
"""

import importlib
import os
import sys
from types import ModuleType

_SUBMODULES = (
    "callbacks",
    "convert",
    "costs",
    "edge",
    "eigencam",
    "inspect",
    "layers",
    "models",
    "pretrained",
    "prune",
)


def _use_keras_2() -> None:
    """Make TensorFlow load Keras 2, the only one that Larq works with.

    TensorFlow reads `TF_USE_LEGACY_KERAS` when it is imported, so afterwards it is too late.

    Raises:
        ImportError: TensorFlow was already imported, with Keras 3.
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow and not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise ImportError(
            "TensorFlow was imported with Keras 3, but Larq needs Keras 2: import larq_seresnet "
            "before tensorflow and keras, or set the environment variable TF_USE_LEGACY_KERAS=1."
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"


def __getattr__(name: str) -> ModuleType | str:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__version__":  # finding it takes a fifth of the time to import `edge`
        from importlib.metadata import version

        return version("larq-seresnet")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])


_use_keras_2()
