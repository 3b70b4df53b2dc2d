"""The wheel as a user gets it, in an environment without TensorFlow."""

import os
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, source],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bare_python(wheel, tmp_path_factory):
    """Python of an environment that has the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, env=environment)

    def run(code):
        return subprocess.run(
            [python, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
        )

    return run


def test_the_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()

    assert "larq_seresnet/models.py" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"larq_seresnet"}


def test_the_wheel_holds_the_pretrained_weights(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())

    folder = ROOT / "larq_seresnet" / "weights"
    assert {f"larq_seresnet/weights/{path.name}" for path in folder.iterdir()} <= names


def test_the_base_install_imports(bare_python):
    process = bare_python("import larq_seresnet; print(larq_seresnet.__version__)")

    assert process.returncode == 0, process.stderr


def test_a_missing_training_stack_is_one_clear_error(bare_python):
    process = bare_python("import larq_seresnet; larq_seresnet.models.SEResNet14Bin()")

    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert "pip install 'larq-seresnet[train]'" in last
