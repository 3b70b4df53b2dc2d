"""Finds the native delegate, which runs the operators of Larq Compute Engine."""

import os
from pathlib import Path

from larq_seresnet.edge.errors import RuntimeMissingError

LIBRARY_NAME = "liblarq_seresnet_delegate.so"


def native_library() -> Path:
    """The path of the compiled delegate.

    The environment variable `LARQ_SERESNET_DELEGATE` names another one.

    Raises:
        RuntimeMissingError: It was not compiled when the package was installed.
    """
    chosen = os.environ.get("LARQ_SERESNET_DELEGATE")
    path = Path(chosen) if chosen else Path(__file__).with_name(LIBRARY_NAME)
    if not path.is_file():
        raise RuntimeMissingError(
            f"LARQ_SERESNET_DELEGATE names {path}, which does not exist"
            if chosen
            else "this file has operators of Larq Compute Engine, and the native library that runs "
            "them is missing: there was no C compiler when larq-seresnet was installed. Install "
            "one (sudo apt install gcc), then larq-seresnet again (pip install --force-reinstall "
            "--no-deps, from its sources)"
        )
    return path
