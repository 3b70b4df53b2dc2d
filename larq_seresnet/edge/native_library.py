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
            f"the native library {path.name} is missing, which this file's Larq Compute Engine "
            "operators need: no C compiler was found when larq-seresnet was installed. Install one "
            "(sudo apt install gcc), then reinstall: "
            "pip install --force-reinstall --no-deps --no-cache-dir 'larq-seresnet[edge]'"
            if not chosen
            else f"LARQ_SERESNET_DELEGATE names {path}, which does not exist"
        )
    return path
