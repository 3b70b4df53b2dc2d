"""Runs in the emulated Python: `emulated.py CASES RESULTS` runs each case's file on its input.

CASES is a numpy archive of file0, input0, file1, ...; RESULTS gets output0, output1, ..., of each
file its first output.
"""

import sys

import numpy as np

from larq_seresnet.edge import Interpreter


def main(cases_path: str, results_path: str) -> None:
    cases = np.load(cases_path)
    results = {}
    for i in range(len(cases.files) // 2):
        model = Interpreter(cases[f"file{i}"].tobytes(), threads=1 + i % 2)
        result = model.predict(cases[f"input{i}"])
        results[f"output{i}"] = result[0] if isinstance(result, list) else result
    np.savez(results_path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
