"""Compiles the native delegate of `larq_seresnet.edge`; everything else is in pyproject.toml.

The delegate is a plain shared library that TFLite loads, no Python module: one build serves every
Python version. Where there is no C compiler, or it fails, the package installs without it, since
only files with Larq Compute Engine's operators need it, and says so when such a file is loaded.

Environment variables:
    CC: The compiler to use. Where it is set it must work.
    CFLAGS: Further flags.
    README_LINKS: The repository's address with a slash at its end, for the README's links into it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

NATIVE = Path("larq_seresnet/edge/native")
LIBRARY = "larq_seresnet.edge.liblarq_seresnet_delegate"
# Without contraction a product is rounded before it is added: results then equal Larq Compute
# Engine's to the last bit.
FLAGS = shlex.split(
    "-std=c11 -O3 -ffp-contract=off -fPIC -shared -fvisibility=hidden -pthread -Wall"
)


def find_compiler() -> list[str]:
    """The compiler's command."""
    command = shlex.split(os.environ.get("CC", ""))
    found = command or next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if not found:
        raise CompileError("no C compiler was found. Install one (sudo apt install gcc)")
    return found


class BuildLibrary(build_ext):
    """Builds a shared library where setuptools would build a Python module."""

    def get_ext_filename(self, fullname: str) -> str:
        """A name without the Python version's tag, as `native_library` looks for it."""
        suffix = {"win": ".dll", "mac": ".dylib"}.get(sysconfig.get_platform()[:3], ".so")
        return str(Path(*fullname.split("."))) + suffix

    def build_extension(self, ext: Extension) -> None:
        """One call of the compiler. It writes elsewhere, as some leave further files."""
        target = Path(self.get_ext_fullpath(ext.name))
        draft = Path(self.build_temp, target.name)
        extra = shlex.split(os.environ.get("CFLAGS", ""))
        for folder in (target.parent, draft.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            command = [
                *find_compiler(),
                *FLAGS,
                *extra,
                "-o",
                str(draft),
                *sorted(ext.sources),
                "-lm",
            ]
            print(shlex.join(command))
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(f"the native delegate did not compile: {error}") from None
        shutil.copy(draft, target)


def description() -> str:
    """The README for a reader who has no repository around it."""
    address = os.environ.get("README_LINKS")

    def link(match: re.Match) -> str:
        text, path = match.groups()
        if address:
            return f"[{text}]({address}{path})"
        return f"`{path}`" if text == path else f"{text} (`{path}`)"

    readme = Path("README.md").read_text("utf8")
    return re.sub(r"\[([^]]+)\]\((?!https?://)([^)]+)\)", link, readme)


class PythonIndependentWheel(bdist_wheel):
    """Tags the wheel for the platform alone."""

    def get_tag(self) -> tuple[str, str, str]:
        """Any Python 3, no Python ABI, this platform."""
        return ("py3", "none", super().get_tag()[2])


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    ext_modules=[
        Extension(
            LIBRARY,
            sources=[str(path) for path in sorted(NATIVE.glob("*.c"))],
            depends=[str(path) for path in sorted(NATIVE.glob("*.h"))],
            optional=not os.environ.get("CC"),  # where it fails, that is a warning
        )
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PythonIndependentWheel},
)
