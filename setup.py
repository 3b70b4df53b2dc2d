"""Compiles the native delegate of `larq_seresnet.edge`; everything else is in pyproject.toml.

The delegate is a plain shared library that TFLite loads, no Python module: one build serves every
Python version. Without a C compiler the package installs without it, since only files with Larq
Compute Engine's operators need it, and says so when such a file is loaded.

Environment variables:
    CC: The compiler to use. Where it is set it must work.
    CFLAGS: Further flags.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = Path("larq_seresnet/edge/native")
LIBRARY = "larq_seresnet.edge.liblarq_seresnet_delegate"
# Without contraction a product is rounded before it is added: results then equal Larq Compute
# Engine's to the last bit.
FLAGS = shlex.split(
    "-std=c11 -O3 -ffp-contract=off -fPIC -shared -fvisibility=hidden -pthread -Wall"
)


def find_compiler() -> list[str] | None:
    """The compiler's command, or None where there is none."""
    chosen = os.environ.get("CC")
    if chosen:
        command = shlex.split(chosen)
        if not shutil.which(command[0]):
            raise SystemExit(f"error: the C compiler CC={chosen} was not found")
        return command
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


class BuildLibrary(build_ext):
    """Builds a shared library where setuptools would build a Python module."""

    def get_ext_filename(self, fullname: str) -> str:
        """A name without the Python version's tag."""
        return str(Path(*fullname.split("."))) + ".so"

    def run(self) -> None:
        """Builds, unless there is no compiler."""
        if find_compiler():
            super().run()
        else:
            self.extensions = []
            self.warn(
                "no C compiler was found: larq_seresnet.edge will not run files with operators of "
                "Larq Compute Engine. Install one (sudo apt install gcc) and install again."
            )

    def build_extension(self, ext: Extension) -> None:
        """One call of the compiler."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = find_compiler()
        assert compiler
        extra = shlex.split(os.environ.get("CFLAGS", ""))
        command = [*compiler, *FLAGS, *extra, "-o", str(target), *sorted(ext.sources), "-lm"]
        print(shlex.join(command))
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"error: the native delegate did not compile: {error}") from None


class PythonIndependentWheel(bdist_wheel):
    """Tags the wheel for the platform alone."""

    def get_tag(self) -> tuple[str, str, str]:
        """Any Python 3, no Python ABI, this platform."""
        return ("py3", "none", super().get_tag()[2])


setup(
    ext_modules=[
        Extension(
            LIBRARY,
            sources=[str(path) for path in sorted(NATIVE.glob("*.c"))],
            depends=[str(path) for path in sorted(NATIVE.glob("*.h"))],
        )
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PythonIndependentWheel},
)
