"""What a sweep found, as a table and a picture: `sweep.csv`, `sweep.md` and `sweep.png`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from larq_seresnet.files import write_atomically

Trial = dict[str, Any]


def write(trials: Sequence[Trial], folder: Path, budget: str) -> None:
    """Write the three files.

    Args:
        trials: Combinations with their error, the best first.
        folder: Where to.
        budget: What every group was given, in words.
    """
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, trials[0].keys())
    writer.writeheader()
    writer.writerows(trials)
    write_atomically(folder / "sweep.csv", table.getvalue().encode())
    write_atomically(folder / "sweep.md", markdown(trials, budget).encode())
    picture = io.BytesIO()
    draw(trials).savefig(picture, dpi=120)
    write_atomically(folder / "sweep.png", picture.getvalue())


def markdown(trials: Sequence[Trial], budget: str) -> str:
    """The table; of each series over the learning rates, the best trial is bold."""
    names = [name for name in trials[0] if name != "error"]
    best = {_series(trial): trial for trial in reversed(trials)}
    lines = [
        f"{budget}; error: top-1 on the validation split, mean over the later half of the epochs.",
        "",
        "| " + " | ".join([*names, "error (%)"]) + " |",
        "|" + "---|" * len(names) + "---:|",
    ]
    for trial in trials:
        error = f"{trial['error']:.2f}"
        if best[_series(trial)] is trial:
            error = f"**{error}**"
        lines.append("| " + " | ".join([*(str(trial[name]) for name in names), error]) + " |")
    return "\n".join(lines) + "\n"


def draw(trials: Sequence[Trial]) -> Any:
    """Validation errors over the learning rate, a line for each other combination."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for series in dict.fromkeys(_series(trial) for trial in sorted(trials, key=_series)):
        points = sorted(
            (trial["learning_rate"], trial["error"]) for trial in trials if _series(trial) == series
        )
        axes.plot(*zip(*points, strict=True), marker="o", label=_label(series, trials))
    axes.set(xscale="log", xlabel="learning rate", ylabel="top-1 error, validation (%)")
    rates = sorted({trial["learning_rate"] for trial in trials})
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    plt.close(figure)
    return figure


def _series(trial: Trial) -> tuple[tuple[str, str], ...]:
    return tuple((k, str(v)) for k, v in trial.items() if k not in ("learning_rate", "error"))


def _label(series: tuple[tuple[str, str], ...], trials: Sequence[Trial]) -> str:
    """What distinguishes the series."""
    varied = [(name, value) for name, value in series if len({str(t[name]) for t in trials}) > 1]
    return ", ".join(f"{name} {value}" for name, value in varied) or "all"
