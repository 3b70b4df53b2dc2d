"""Finds the TFLite runtime, and the native delegate for Larq Compute Engine's operators."""

import ctypes
import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from larq_seresnet.edge.errors import RuntimeMissingError, one_line

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY_NAME = f"liblarq_seresnet_delegate{_SUFFIX}"

KNOWN = {"ai_edge_litert": ((1, 4), (2, 3)), "tflite_runtime": ((2, 14), (2, 14))}
"""The runtimes whose structs the delegate declares: the oldest and newest version, both tried."""


def find_runtime() -> ModuleType:
    """The module of the TFLite runtime that is installed.

    Raises:
        RuntimeMissingError: There is none that works.
    """
    problems = []
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ModuleNotFoundError as error:
            if error.name != package:
                problems.append(f"{package}: {error}")
        except ImportError as error:
            problems.append(f"{package} does not work here: {one_line(error)}")
        else:
            if package == "tflite_runtime" and np.lib.NumpyVersion(np.__version__) >= "2.0.0":
                # It imports, and fails when it loads a model.
                problems.append("tflite-runtime works with numpy < 2 only")
                continue
            return module
    found = f" ({'; '.join(problems)})" if problems else ""
    # LiteRT has no wheels for 32 bits.
    wanted = "ai-edge-litert" if sys.maxsize > 2**32 else "tflite-runtime 'numpy<2'"
    raise RuntimeMissingError(f"no TFLite runtime was found{found}: pip install {wanted}")


def require_known(runtime: ModuleType) -> None:
    """Refuse a runtime for the delegate whose structs may be laid out in another way.

    That would be no error, but memory that is overwritten.

    Raises:
        RuntimeMissingError: Its version is not among `KNOWN`.
    """
    package = runtime.__name__.partition(".")[0]
    name = package.replace("_", "-")
    version = version_of(package)
    first, last = KNOWN[package]
    if not first <= tuple(map(int, re.findall(r"\d+", version)[:2])) <= last:
        known = f"{name} {first[0]}.{first[1]} to {last[0]}.{last[1]}"
        raise RuntimeMissingError(
            f"this file has operators of Larq Compute Engine, whose native library knows {known}, "
            f"and {version} is installed: pip install '{name}<{last[0]}.{last[1] + 1}'"
        )


def can_delegate() -> bool:
    """Whether the delegate is there and knows the runtime's structs."""
    try:
        require_known(find_runtime())
        ctypes.CDLL(str(native_library()))
    except (OSError, RuntimeMissingError):
        return False
    return True


def version_of(package: str) -> str:
    """The version of a runtime that is installed."""
    version = getattr(sys.modules.get(package), "__version__", "")
    if not version:
        from importlib import metadata  # takes longer than the rest of this package

        version = metadata.version(package.replace("_", "-"))
    return version


def chosen_kernels() -> str | None:
    """The kernels that the environment variable `LARQ_SERESNET_KERNELS` asks for, if any.

    They are "portable", and "avx2", "avx512" or "neon" where the CPU has them; by default the
    delegate takes the fastest.
    """
    return os.environ.get("LARQ_SERESNET_KERNELS") or None


def used_kernels() -> str:
    """The name of the kernels that a model's binary operators run on.

    Raises:
        OSError: The library cannot be loaded.
        RuntimeMissingError: It was not compiled.
    """
    library = ctypes.CDLL(str(native_library()))
    library.larq_seresnet_kernels.restype = ctypes.c_char_p
    return chosen_kernels() or library.larq_seresnet_kernels().decode()


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
            "them is missing: there was no C compiler when larq-seresnet was installed, or it "
            "failed. Install one (sudo apt install gcc), then larq-seresnet again (pip install -v "
            "--force-reinstall --no-deps, from its sources, says what went wrong)"
        )
    return path
