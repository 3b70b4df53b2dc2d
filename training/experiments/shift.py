"""How far heat maps of two networks lie apart: `python -m training.shift RUN RUN...`.

The second paper shows EigenCAM's heat maps of a network with and one without FMB at different
places. Here the shift is measured on test images of the runs' data set: the distance, in pixels,
between the centres of the two networks' heat maps (their centre of mass, negative heat left out),
for every pair of runs. `shuffled` is the same between heat maps of different images: how far apart
centres lie that have nothing in common. Runs that differ in their seeds alone say how much of a
shift training by itself makes.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from larq_seresnet.files import write_atomically
from training import UserError
from training.experiments.position import heat, table
from training.trainer import data

LAYER = "block6_relu2"


def centres(heatmaps: np.ndarray) -> np.ndarray:
    """Centres of mass of the positive heat, (images, 2): rows and columns in pixels."""
    positive = np.maximum(heatmaps, 0).astype(np.float64)
    mass = np.maximum(positive.sum(axis=(1, 2)), np.finfo(np.float64).tiny)
    rows, columns = (np.arange(size) + 0.5 for size in heatmaps.shape[1:])
    down = (positive.sum(axis=2) * rows).sum(axis=1) / mass
    right = (positive.sum(axis=1) * columns).sum(axis=1) / mass
    return np.stack([down, right], axis=1)


def shifts(found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The mean shift between every two runs' centres."""
    rows = []
    for (first, a), (second, b) in itertools.combinations(found.items(), 2):
        order = np.random.default_rng(0).permutation(len(a))
        apart = np.linalg.norm(a - b, axis=1)
        shuffled = np.linalg.norm(a - b[order], axis=1)
        rows.append(
            {
                "first": first,
                "second": second,
                "images": len(a),
                "shift": round(float(apart.mean()), 3),
                "median": round(float(np.median(apart)), 3),
                "shuffled": round(float(shuffled.mean()), 3),
            }
        )
    return rows


def measure(runs: Sequence[Path], images: int) -> list[dict[str, Any]]:
    """The shifts between all runs, on the first test images of their data set.

    Raises:
        UserError: A run is not finished, or the runs are of different data sets.
    """
    configs = {}
    for run in runs:
        if not (run / "results.json").exists():
            raise UserError(f"{run} is no finished run: it has no results.json")
        configs[run] = json.loads((run / "config.json").read_text())["config"]
    datasets = {config["dataset"] for config in configs.values()}
    if len(configs) < 2 or len(datasets) > 1:
        raise UserError("name at least two runs of one data set")
    (dataset,) = datasets
    pixels = data.load(dataset).test[0][:images]
    found = {}
    for run in configs:
        print(f"{run.name}: {len(pixels)} test images", flush=True)
        found[run.name] = centres(heat(run, pixels, LAYER))
    fmb = {run.name: int(config["fmb"]) for run, config in configs.items()}
    return [
        {
            "dataset": dataset,
            "layer": LAYER,
            **row,
            "first_fmb": fmb[row["first"]],
            "second_fmb": fmb[row["second"]],
        }
        for row in shifts(found)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m training.shift", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--images", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument(
        "--results", type=Path, default=Path("training/results/position"), help="to write to"
    )
    options = parser.parse_args(arguments)
    try:
        rows = measure(options.runs, options.images)
        options.results.mkdir(parents=True, exist_ok=True)
        file = options.results / f"shift_{rows[0]['dataset']}.csv"
        write_atomically(file, table(rows).encode())
    except (UserError, ValueError, OSError) as error:
        sys.exit(f"training.shift: error: {error}")
    print(table(rows), end="")


if __name__ == "__main__":
    main()
