"""What it takes until a device has its first prediction."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from larq_seresnet.edge import Interpreter

MODELS = Path(__file__).parents[2] / "tflite_models"
FULLY_BINARY = MODELS / "seresnet14_fully_binary_cifar10_lce.tflite"


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_importing_takes_only_what_every_model_needs():
    code = "import sys; import larq_seresnet.edge; print(*sys.modules)"
    others = {"PIL", "json", "argparse", "importlib.metadata", "email", "zipfile", "tensorflow"}
    assert not others & set(python(code).split())


@pytest.mark.parametrize("name", ["fully_binary_cifar10_lce", "bin_cifar10_litert"])
def test_a_shipped_file_loads_quickly(library, name):
    """In 12 ms where it was measured; the limit leaves room for slower and busier machines."""
    path = MODELS / f"seresnet14_{name}.tflite"
    times = []
    for _ in range(10):
        start = time.process_time()
        Interpreter(path)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


def test_a_process_that_classifies_a_picture_stays_small(library, tmp_path):
    """59 MiB where it was measured, of which numpy, LiteRT and Pillow are 45."""
    image = pytest.importorskip("PIL.Image")
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    picture = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    image.fromarray(pixels).save(picture)
    code = (
        "import re, sys; from larq_seresnet.edge.__main__ import main; "
        "assert main(['classify', *sys.argv[1:]]) == 0; "
        r"print(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1])"
    )
    kilobytes = int(python(code, str(FULLY_BINARY), str(picture)).split()[-1])
    assert kilobytes < 90 * 1024
