"""Counts the instructions of an inference on an emulated Raspberry Pi (Cortex-A72).

    python tools/edge/instructions.py EMULATION

where EMULATION is a folder that tools/edge/emulation.sh made. The count is the difference between
many and few inferences, so that loading cancels out. Counts are no times: they tell how much work
there is, not how fast a real Pi does it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

_CODE = """
import sys
import numpy as np
from larq_seresnet.edge import Interpreter
model = Interpreter(sys.argv[1])
shape = [max(1, size) for size in model.inputs[0].shape]
model.predict(np.random.default_rng(0).normal(0, 99, shape).astype(np.float32))
for _ in range(int(sys.argv[2])):
    model._runtime.invoke()
"""


def count(emulation: Path, file: bytes, inferences: int = 20) -> float:
    """Instructions of one inference."""
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.tflite")
        model.write_bytes(file)
        for number in (2, 2 + inferences):
            result = subprocess.run(
                [str(emulation / "python"), "-c", _CODE, str(model), str(number)],
                env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "INSTRUCTIONS": "1"},
                capture_output=True,
                text=True,
                cwd=emulation,
            )
            if result.returncode:
                raise SystemExit(f"error: {result.stderr}")
            lines = result.stderr.splitlines()
            totals.append(next(int(s.split()[1]) for s in lines if s.startswith("instructions:")))
    return (totals[1] - totals[0]) / inferences


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("emulation", type=Path, help="the folder of tools/edge/emulation.sh")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    emulation = arguments.emulation.resolve()

    from tools.edge.compare import networks
    from tools.edge.lce_files import Conv

    counts = {}
    for name, case in {
        "64 to 64, 3x3, at 32x32": Conv(size=(32, 32)),
        "the same, zero padding": Conv(size=(32, 32), pad_values=0),
        "the same, packed output": Conv(size=(32, 32), output="bits"),
        "128 to 128, 3x3, at 16x16": Conv(channels=128, filters=128, size=(16, 16)),
        "256 to 256, 3x3, at 8x8": Conv(channels=256, filters=256, size=(8, 8)),
    }.items():
        counts[f"LceQuantize + LceBconv2d, {name}"] = count(emulation, case.file(), 100)
    floating, binary = networks(64)
    counts["width 64, fully binary"] = count(emulation, binary)
    counts["width 64, float32 (XNNPACK)"] = count(emulation, floating, 10)
    print("| | million instructions |\n|---|---|")
    for name, number in counts.items():
        print(f"| {name} | {number / 1e6:.2f} |")
    ratio = counts["width 64, float32 (XNNPACK)"] / counts["width 64, fully binary"]
    print(f"\nfloat32 / fully binary, width 64: {ratio:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    main()
