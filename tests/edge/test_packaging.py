"""What `pip install` makes of the package; each test builds it in an environment of its own."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.edge.lce_files import Conv

ROOT = Path(__file__).parents[2]
LIBRARY = "larq_seresnet/edge/liblarq_seresnet_delegate.so"
ELF_MACHINE = {"x86_64": 62, "aarch64": 183, "armv7l": 40}

pytestmark = pytest.mark.slow


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess:
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CC", "CFLAGS")}
    return subprocess.run(
        [str(part) for part in command],
        env={**variables, **environment},
        capture_output=True,
        text=True,
        cwd="/",
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout without what builds leave behind."""
    folder = tmp_path_factory.mktemp("source") / "larq-seresnet"
    ignored = shutil.ignore_patterns(".git", "build", "dist", "*.so", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


@pytest.fixture
def clean_source(source) -> Path:
    shutil.rmtree(source / "build", ignore_errors=True)
    return source


@pytest.fixture
def environment(tmp_path) -> Path:
    """The Python of an empty virtual environment."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    result = run(python, "-m", "pip", "download", "--no-deps", "-d", tmp_path, "setuptools>=77")
    if result.returncode:
        pytest.skip("needs a package index")
    return python


def pip(python: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess:
    return run(python, "-m", "pip", *arguments, **variables)


def test_an_environment_that_has_only_edge(environment, clean_source, tmp_path):
    result = pip(environment, "install", f"{clean_source}[edge]")
    assert result.returncode == 0, result.stderr
    model = tmp_path / "model.tflite"
    model.write_bytes(Conv().file())
    edge = (environment, "-m", "larq_seresnet.edge")
    result = run(*edge, "benchmark", model, "--runs", "3")
    assert result.returncode == 0, result.stderr
    names = pip(environment, "list").stdout.lower()
    assert "tensorflow" not in names
    assert "larq-compute-engine" not in names


def test_without_a_compiler_it_installs_and_says_what_is_missing(
    environment, clean_source, tmp_path
):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").symlink_to(sys.executable)
    result = pip(environment, "install", "-v", f"{clean_source}[edge]", PATH=str(tools))
    assert result.returncode == 0, result.stderr
    assert "no C compiler was found" in result.stdout + result.stderr
    model = tmp_path / "model.tflite"
    model.write_bytes(Conv().file())
    result = run(environment, "-m", "larq_seresnet.edge", "benchmark", model)
    assert result.returncode == 1
    (line,) = [s for s in result.stderr.splitlines() if not s.startswith("INFO")]
    assert line.startswith("error: ")
    assert "apt install gcc" in line


def test_a_compiler_that_fails_is_a_warning(environment, clean_source, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").symlink_to(sys.executable)
    (tools / "cc").write_text("#!/bin/sh\nexit 7\n")
    (tools / "cc").chmod(0o755)
    arguments = ("install", "-v", "--no-deps", clean_source)
    result = pip(environment, *arguments, PATH=f"{tools}:/usr/bin:/bin")
    assert result.returncode == 0, result.stderr
    assert "the native delegate did not compile" in result.stdout + result.stderr
    assert not list((tmp_path / "venv").rglob(Path(LIBRARY).name))


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_compiler_that_was_asked_for_must_work(environment, clean_source, compiler):
    result = pip(environment, "install", clean_source, CC=compiler)
    assert result.returncode == 1
    assert "the native delegate did not compile" in result.stdout + result.stderr
    assert compiler in result.stdout + result.stderr


def wheel_in(folder: Path) -> zipfile.ZipFile:
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def machine_of(library: bytes) -> int:
    return int.from_bytes(library[18:20], "little")


def test_one_wheel_serves_every_python(environment, clean_source, tmp_path):
    folder = tmp_path / "wheels"
    result = pip(environment, "wheel", "--no-deps", "-w", folder, clean_source)
    assert result.returncode == 0, result.stderr
    with wheel_in(folder) as wheel:
        assert "-py3-none-linux_" in Path(wheel.filename).name
        assert machine_of(wheel.read(LIBRARY)) == ELF_MACHINE[os.uname().machine]


def test_the_source_distribution_has_the_sources(environment, clean_source, tmp_path):
    assert pip(environment, "install", "build").returncode == 0
    result = run(environment, "-m", "build", "--sdist", "-o", tmp_path / "dist", clean_source)
    assert result.returncode == 0, result.stderr
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    result = pip(environment, "install", "--no-deps", archive)
    assert result.returncode == 0, result.stderr
    (library,) = (tmp_path / "venv").rglob(Path(LIBRARY).name)
    assert machine_of(library.read_bytes()) == ELF_MACHINE[os.uname().machine]
