"""What `make wheels` builds, and that it loads where it can be run here.

The ARM wheels are run by test_emulated.py; macOS's are built only.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPORTED = {
    "larq_seresnet_kernels",
    "tflite_plugin_create_delegate",
    "tflite_plugin_destroy_delegate",
}
LINUX = ("x86_64", "aarch64", "armv7l")

pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path = Path("/"), **environment: str) -> str:
    result = subprocess.run(
        [str(part) for part in command],
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(folder: Path, *platforms: str, **environment: str) -> Path:
    pytest.importorskip("ziglang", reason="needs the extra `release`")
    if not (ROOT / ".git").exists():
        pytest.skip("needs git")
    run(sys.executable, ROOT / "tools/wheels.py", "--out", folder, *platforms, **environment)
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("release"))


def wheel(release: Path, platform: str) -> Path:
    (path,) = release.glob(f"*{platform}.whl")
    return path


def library(path: Path, folder: Path) -> Path:
    """The library out of a wheel."""
    with zipfile.ZipFile(path) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith((".so", ".dylib", ".dll"))]
        return Path(archive.extract(name, folder))


def description(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name)).get_payload()


def test_there_is_a_wheel_for_each_platform(release):
    names = sorted(path.name.partition("-py3-none-")[2] for path in release.glob("*.whl"))
    assert names == [
        "macosx_11_0_arm64.whl",
        "macosx_11_0_x86_64.whl",
        *sorted(f"manylinux2014_{m}.manylinux_2_17_{m}.whl" for m in LINUX),
        "win_amd64.whl",
    ]


def test_a_wheel_holds_the_licence_and_no_source_of_the_library(release):
    for path in release.glob("*.whl"):
        names = zipfile.ZipFile(path).namelist()
        assert any(name.endswith("licenses/LICENSE") for name in names)
        assert any(name.endswith("licenses/NOTICE") for name in names)
        assert not [name for name in names if name.endswith((".c", ".h", ".lib", ".pdb"))]


@pytest.mark.parametrize("machine", LINUX)
def test_a_library_for_linux(release, tmp_path, machine):
    elffile = pytest.importorskip("elftools.elf.elffile")
    path = wheel(release, f"manylinux_2_17_{machine}")
    with library(path, tmp_path).open("rb") as file:
        elf = elffile.ELFFile(file)
        dynamic = elf.get_section_by_name(".dynamic")
        needed = {tag.needed for tag in dynamic.iter_tags("DT_NEEDED")}
        loader = {name for name in needed if name.startswith("ld-linux")}
        assert needed - loader <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}
        assert not list(dynamic.iter_tags("DT_RPATH")) + list(dynamic.iter_tags("DT_RUNPATH"))
        symbols = list(elf.get_section_by_name(".dynsym").iter_symbols())
        names = {s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF" and s.name}
        assert names == EXPORTED
        # Stripped and hardened. On armv7l the first of the functions is the compiler's own.
        assert elf.get_section_by_name(".symtab") is None
        hardening = {"__stack_chk_fail", "__vsnprintf_chk"}
        found = hardening & {symbol.name for symbol in symbols}
        assert found == hardening - ({"__stack_chk_fail"} if machine == "armv7l" else set())
        (flags,) = [tag.entry.d_val for tag in dynamic.iter_tags("DT_FLAGS")]
        assert flags & 8  # BIND_NOW
        segments = {segment["p_type"]: segment["p_flags"] for segment in elf.iter_segments()}
        assert "PT_GNU_RELRO" in segments
        assert not segments["PT_GNU_STACK"] & 1  # executable


@pytest.mark.parametrize("machine", ["arm64", "x86_64"])
def test_a_library_for_macos_needs_the_system_alone(release, tmp_path, machine):
    content = library(wheel(release, f"macosx_11_0_{machine}"), tmp_path).read_bytes()
    paths = set(re.findall(rb"[/@][\w./]+\.dylib", content))
    assert paths == {
        b"/usr/lib/libSystem.B.dylib",
        b"@rpath/liblarq_seresnet_delegate.dylib",
    }


def test_the_library_for_windows_loads(release, tmp_path):
    if not shutil.which("wine"):
        pytest.skip("needs wine")
    program = tmp_path / "load_library.exe"
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-O3")
    run(*zig, "-o", program, ROOT / "tests/edge/load_library.c")
    variables = {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    path = library(wheel(release, "win_amd64"), tmp_path)
    text = run("wine", program, path.relative_to(tmp_path), folder=tmp_path, **variables)
    error, kernels = text.split("\n")[:2]
    assert error == "error: num_threads must be from 1 to 64"
    assert kernels.strip() in ("portable", "avx2", "avx512")


def test_the_wheel_runs_on_the_oldest_runtime(release, tmp_path):
    """The tests of the delegate, where nothing but the wheel and what it asks for is installed."""
    python = tmp_path / "venv/bin/python"
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    path = wheel(release, "manylinux_2_17_x86_64")
    packages = ("ai-edge-litert==2.1.0", "numpy<2", "pytest", f"{path}[edge]")
    run(python, "-m", "pip", "install", "--quiet", *packages)
    folder = tmp_path / "tests-alone"
    for name in ("tests", "tools"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    tests = [f"tests/edge/test_{name}.py" for name in ("delegate", "interpreter", "stock")]
    assert " passed" in run(python, "-m", "pytest", "-q", *tests, folder=folder)


def test_the_source_distribution_has_tests_that_run(release, tmp_path):
    (archive,) = release.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    run("make", "-f", "edge.mk", "edge-library", folder=source)
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    where = {"PYTHONPATH": str(source)}
    tests = ("tests/edge/test_delegate.py", "tests/edge/test_robust.py", "tests/test_layers.py")
    assert " passed" in run(*pytest_, *tests, folder=source, **where)


def test_the_same_commit_gives_the_same_wheel(release, tmp_path):
    again = build(tmp_path, "linux-x86_64")
    first, second = (wheel(folder, "manylinux_2_17_x86_64") for folder in (release, again))
    assert first.read_bytes() == second.read_bytes()


RELATIVE_LINK = re.compile(r"\]\((?!https?://)")


def test_links_of_the_description(release, tmp_path):
    """There is no repository around it: they are absolute, or no links."""
    assert not RELATIVE_LINK.search(description(wheel(release, "win_amd64")))
    assert "(`docs/results.md`)" in description(wheel(release, "win_amd64"))

    address = "https://example.org/larq-seresnet/blob/v1/"
    other = build(tmp_path, "linux-x86_64", README_LINKS=address)
    text = description(wheel(other, "manylinux_2_17_x86_64"))
    assert not RELATIVE_LINK.search(text)
    assert f"]({address}docs/results.md)" in text


def test_an_unknown_platform_is_one_line():
    command = [sys.executable, ROOT / "tools/wheels.py", "linux-mips"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2
    assert "there is no platform linux-mips" in process.stderr.splitlines()[-1]
