"""The ARM wheels, on emulated Raspberry Pis that `tools/edge/emulation.sh` sets up."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from larq_seresnet.edge import Interpreter
from tools.edge.lce_files import Conv, Graph, grid
from tools.edge.packed_files import TARGETS, packed_conv
from tools.edge.seed_files import gated_block

HERE = Path(__file__).parent


# What Python calls the machine, and the most million instructions that a convolution may take.
MACHINES = {"arm64": ("aarch64", 2.0e6), "armhf": ("armv7l", 4.0e6)}


@pytest.fixture(scope="module", params=MACHINES)
def emulation(request) -> Path:
    folder = Path(os.environ.get("EDGE_EMULATION", ""), request.param)
    if not (folder / "python").exists():
        pytest.skip("needs an emulated Pi: tools/edge/emulation.sh DIRECTORY, EDGE_EMULATION")
    return folder


def python(emulation: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(emulation / "python"), *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", **environment},
        capture_output=True,
        text=True,
        timeout=500,
        cwd=emulation,  # not the checkout, whose package would be found first
    )


def run(emulation: Path, folder: Path, cases: list[tuple[bytes, np.ndarray]]) -> list[np.ndarray]:
    arrays = {}
    for i, (file, x) in enumerate(cases):
        arrays |= {f"file{i}": np.frombuffer(file, np.uint8), f"input{i}": x}
    np.savez(folder / "cases.npz", **arrays)
    paths = [str(folder / name) for name in ("cases.npz", "results.npz")]
    result = python(emulation, str(HERE / "emulated.py"), *paths)
    assert result.returncode == 0, result.stderr
    results = np.load(folder / "results.npz")
    return [results[f"output{i}"] for i in range(len(cases))]


def test_it_is_that_machine_and_uses_neon(emulation):
    code = (
        "import platform; from larq_seresnet.edge.native_library import native_library; "
        "import ctypes; f = ctypes.CDLL(native_library()).larq_seresnet_kernels; "
        "f.restype = ctypes.c_char_p; print(platform.machine(), f().decode())"
    )
    machine, _ = MACHINES[emulation.name]
    assert python(emulation, "-c", code).stdout == f"{machine} neon\n"


def test_every_layer_of_the_grid_equals_x86_to_the_last_bit(emulation, library, tmp_path):
    """x86's in turn equal Larq Compute Engine's: see test_delegate.py."""
    layers = [*grid()[::3], Conv(channels=4096), Conv(size=(40, 40), filters=100, pad_values=0)]
    cases = [(case.file(), case.example()) for case in layers]
    results = run(emulation, tmp_path, cases)
    different = [
        case
        for case, (file, x), result in zip(layers, cases, results, strict=True)
        if not np.array_equal(result, Interpreter(file).predict(x))
    ]
    assert not different


def test_layers_equal_lce_to_the_last_bit(emulation, lce_interpreter, tmp_path):
    layers = grid()[1::7]
    cases = [(case.file(), case.example()) for case in layers]
    for case, (file, x), result in zip(layers, cases, run(emulation, tmp_path, cases), strict=True):
        expected = lce_interpreter(file, use_indirect_bgemm=True).predict(x)
        assert np.array_equal(result, expected), case


def test_blocks_equal_x86_to_the_last_bit(emulation, library, tmp_path):
    """What is joined on loading: batch norm, gate, shortcut, ReLU, signs."""
    shapes = [(16, (8, 8), 1), (24, (5, 7), 3), (7, (4, 4), 2), (64, (9, 3), 1)]
    random = np.random.default_rng(0)
    cases = [
        (gated_block(channels, size, batch), random.normal(0, 3, (batch, *size, channels)))
        for channels, size, batch in shapes
    ]
    cases = [(file, x.astype(np.float32)) for file, x in cases]
    for (file, x), result in zip(cases, run(emulation, tmp_path, cases), strict=True):
        assert np.array_equal(result, Interpreter(file).predict(x)[0])


def test_signs_of_special_numbers(emulation, tmp_path):
    """Also of the smallest ones, which 32-bit NEON takes for 0 where it compares floats."""
    graph = Graph()
    x, packed, y = graph.tensor((2, 100)), graph.tensor((2, 4), "int32"), graph.tensor((2, 100))
    graph.custom("LceQuantize", [x], packed)
    graph.custom("LceDequantize", [packed], y)
    special = np.float32([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, np.nan, -np.nan, 1, -1])
    values = np.resize(special, (2, 100))
    (result,) = run(emulation, tmp_path, [(graph.finish([x], [y]), values)])
    assert np.array_equal(result, np.where(values < 0, -1, 1))


@pytest.mark.parametrize("target", TARGETS)
def test_packed_weights(emulation, tmp_path, target):
    file, _ = packed_conv(target, channels=45)
    x = np.random.default_rng(0).normal(size=(3, 16, 16, 45)).astype(np.float32)
    (result,) = run(emulation, tmp_path, [(file, x)])
    np.testing.assert_allclose(result, Interpreter(file).predict(x), rtol=1e-5, atol=1e-4)


def count_instructions(emulation: Path, model: Path) -> float:
    """Of one inference: the difference between many and few, so that loading cancels out."""
    code = (
        "import sys, numpy as np; from larq_seresnet.edge import Interpreter; "
        "model = Interpreter(sys.argv[1]); shape = [max(1, n) for n in model.inputs[0].shape]; "
        "model.predict(np.random.default_rng(0).normal(0, 99, shape).astype(np.float32)); "
        "[model._runtime.invoke() for _ in range(int(sys.argv[2]))]"
    )
    counts = []
    for inferences in (5, 55):
        result = python(emulation, "-c", code, str(model), str(inferences), INSTRUCTIONS="1")
        assert result.returncode == 0, result.stderr
        lines = [s for s in result.stderr.splitlines() if s.startswith("instructions: ")]
        counts.append(int(lines[0].split()[1]))
    return (counts[1] - counts[0]) / 50


def test_instructions_of_a_convolution(emulation, tmp_path):
    """64 channels to 64, 3x3, at 32x32: the layer that most of the network's time goes to."""
    model = tmp_path / "conv.tflite"
    model.write_bytes(Conv(size=(32, 32)).file())
    _, limit = MACHINES[emulation.name]
    assert count_instructions(emulation, model) < limit
