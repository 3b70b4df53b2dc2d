"""Compares the native delegate with Larq Compute Engine's interpreter, layer by layer.

    python tools/edge/parity.py [--json FILE]

runs every layer of the tests' grid on both and prints, for each option, how many layers use it, how
many are equal to the last bit, and the largest relative difference of the others.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from larq_seresnet.edge import Interpreter
from tools.edge.lce_files import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, Conv, grid

ACTIVATIONS = {NONE: "none", RELU: "relu", RELU_N1_TO_1: "relu_n1_to_1", RELU6: "relu6"}


def options(case: Conv) -> list[tuple[str, str]]:
    """The options that a layer stands for, as pairs of name and value."""
    padding = "VALID" if case.padding != SAME else "SAME-one" if case.pad_values else "SAME-zero"
    return [
        ("all layers", ""),
        ("padding", padding),
        ("kernel", "x".join(map(str, case.kernel))),
        ("strides", "x".join(map(str, case.stride))),
        ("dilations", "x".join(map(str, case.dilation))),
        ("groups", str(case.groups)),
        ("channels in, out", f"{case.channels}, {case.filters}"),
        ("fused activation", ACTIVATIONS[case.activation]),
        ("output", case.output),
    ]


def main() -> int:
    """Runs the command; the exit status is 1 where a layer differs."""
    from larq_compute_engine.tflite.python.interpreter import Interpreter as LceInterpreter

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    rows: dict[tuple[str, str], dict[str, Any]] = defaultdict(
        lambda: {"layers": 0, "equal": 0, "largest_difference": 0.0}
    )
    for case in grid():
        file, x = case.file(), case.example()
        theirs = LceInterpreter(file, use_indirect_bgemm=True).predict(x).astype(np.float64)
        ours = Interpreter(file).predict(x).astype(np.float64)
        difference = np.abs(ours - theirs).max() / max(1e-30, np.abs(theirs).max())
        for option in options(case):
            row = rows[option]
            row["layers"] += 1
            row["equal"] += bool(np.array_equal(ours, theirs))
            row["largest_difference"] = max(row["largest_difference"], float(difference))
    print("| option | value | layers | equal to the last bit | largest relative difference |")
    print("|---|---|---|---|---|")
    for (name, value), row in sorted(rows.items()):
        difference = row["largest_difference"]
        print(f"| {name} | {value} | {row['layers']} | {row['equal']} | {difference:.1g} |")
    if arguments.json:
        table = [{"option": name, "value": value, **row} for (name, value), row in rows.items()]
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")
    return int(rows["all layers", ""]["equal"] < rows["all layers", ""]["layers"])


if __name__ == "__main__":
    sys.exit(main())
