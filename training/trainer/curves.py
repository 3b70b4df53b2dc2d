"""Draws the learning curves of runs: `python -m training.curves RUN... --out PICTURE`."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from larq_seresnet.files import replacing
from training.trainer.run_folder import Row, read_rows

_DRAWN = ("epoch", "train_error", "validation_error", "test_error")


def draw(runs: dict[str, list[Row]]) -> Any:
    """Top-1 errors over the epochs.

    Args:
        runs: Logs by the runs' names. One run is drawn with its three splits, several runs with
            their test errors.

    Returns:
        A matplotlib figure.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5), dpi=120, layout="constrained")
    for name, log in runs.items():
        splits = ("train", "validation", "test") if len(runs) == 1 else ("test",)
        for split in splits:
            errors = [row[f"{split}_error"] for row in log]
            label = split if len(runs) == 1 else name.replace("$", r"\$")
            (line,) = axes.plot(
                [row["epoch"] for row in log],
                errors,
                marker="." if len(log) < 40 else "",
                label=label,
            )
            if split == "test":
                axes.annotate(
                    f"{errors[-1]:.1f} %",
                    (log[-1]["epoch"], errors[-1]),
                    xytext=(6, 0),
                    textcoords="offset points",
                    color=line.get_color(),
                    va="center",
                )
    axes.spines[["top", "right"]].set_visible(False)  # there the last errors are written
    axes.set(xlabel="epoch", ylabel="top-1 error (%)", ylim=(0, None))
    title = next(iter(runs)) if len(runs) == 1 else "top-1 error on the test split"
    axes.set_title(title, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    plt.close(figure)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.curves", description="Draws the learning curves of runs."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of training.fit")
    parser.add_argument(
        "--out", metavar="PICTURE", required=True, type=Path, help="a .png, .svg or .pdf file"
    )
    options = parser.parse_args(arguments)
    names = Counter(run.name for run in options.runs)
    runs = {
        run.name if names[run.name] == 1 else str(run): _read_log(run / "log.csv")
        for run in options.runs
    }
    try:
        with replacing(options.out) as draft:
            draw(runs).savefig(draft, format=options.out.suffix[1:] or "png")
    except (OSError, ValueError) as error:
        sys.exit(f"training.curves: error: {options.out} cannot be written: {error}")


def _read_log(path: Path) -> list[Row]:
    try:
        log = [{name: row[name] for name in _DRAWN} for row in read_rows(path)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        sys.exit(f"training.curves: error: {path} is no log of training.fit: {error}")
    if not log:
        sys.exit(f"training.curves: error: {path} has no epoch yet")
    return log


if __name__ == "__main__":
    main()
