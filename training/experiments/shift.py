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
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from larq_seresnet.console import positive
from training import UserError
from training.command import ending
from training.experiments.position import heat
from training.experiments.records import read_json, write_csv
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


def shifts(found: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The shift between every two runs' centres, in pixels."""
    rows = []
    for (first, a), (second, b) in itertools.combinations(found.items(), 2):
        order = np.random.default_rng(0).permutation(len(a))
        apart, shuffled = (np.linalg.norm(a - other, axis=1) for other in (b, b[order]))
        rows.append((first, second, len(a), apart.mean(), np.median(apart), shuffled.mean()))
    columns = ["first", "second", "images", "shift", "median", "shuffled"]
    return pd.DataFrame(rows, columns=columns).round(3)


def measure(runs: Sequence[Path], images: int) -> pd.DataFrame:
    """The shifts between all runs, on the first test images of their data set.

    Raises:
        UserError: A run is not finished, or the runs are of different data sets.
    """
    configs = {}
    for run in runs:
        if not (run / "results.json").exists():
            raise UserError(f"{run} is no finished run: it has no results.json")
        configs[run] = read_json(run / "config.json")["config"]
    datasets = {config["dataset"] for config in configs.values()}
    if len({run.name for run in runs}) < max(2, len(runs)) or len(datasets) > 1:
        raise UserError("name at least two runs of one data set, which have different names")
    (dataset,) = datasets
    pixels = data.load(dataset).test[0][:images]
    found = {}
    for run in configs:
        print(f"{run.name}: {len(pixels)} test images", flush=True)
        found[run.name] = centres(heat(run, pixels, LAYER))
    fmb = {run.name: int(config["fmb"]) for run, config in configs.items()}
    table = shifts(found)
    table.insert(0, "dataset", Path(dataset).name)
    table.insert(1, "layer", LAYER)
    return table.assign(first_fmb=table["first"].map(fmb), second_fmb=table["second"].map(fmb))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m training.shift", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--images", type=positive, default=2000, help="how many (default: 2000)")
    parser.add_argument(
        "--results", type=Path, default=Path("training/results/position"), help="to write to"
    )
    options = parser.parse_args(arguments)
    with ending("training.shift", "nothing was written"):
        table = measure(options.runs, options.images)
        options.results.mkdir(parents=True, exist_ok=True)
        write_csv(options.results / f"shift_{table.dataset[0]}.csv", table)
    print(table.to_csv(index=False), end="")
