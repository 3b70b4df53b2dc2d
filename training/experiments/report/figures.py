"""The report's pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from training.experiments.arms import ARMS
from training.experiments.plan import DATASETS
from training.experiments.report.runs import Run, of
from training.trainer.gates import BINS
from training.trainer.run_folder import Row

COLOURS = {
    "sigmoid_scale_fmb": "#c8442b",
    "sigmoid_scale": "#2e8b57",
    "sigmoid_fmb": "#e07b00",
    "sigmoid_cut": "#8a5fb5",
    "sigmoid": "#1f5fb4",
    "tanh_fmb": "#c8442b",
    "tanh": "#2e8b57",
    "hard_tanh_fmb": "#e07b00",
    "hard_tanh": "#1f5fb4",
    "float32": "#555555",
    "no_se": "#999999",
    "frozen": "#8a5fb5",
}
STYLES = {"": "-", "_fmb": "--", "_cut": ":", "_first5": "-."}


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        name: Of its file.
        caption: What it shows.
        figure: A matplotlib figure.
    """

    name: str
    caption: str
    figure: Any


@dataclass(frozen=True)
class Curves:
    """Which learning curves a picture shows.

    Attributes:
        name: Of its file.
        title: Its heading.
        arms: Whose curves; one of the first two must be there.
        epochs: How far.
        dataset: On which data set.
        calibrated: Whether with batch norm calibrated.
    """

    name: str
    title: str
    arms: Sequence[str]
    epochs: int
    dataset: str = "cifar10"
    calibrated: bool = False


PAIR = ("sigmoid", "sigmoid_fmb")

CURVES = [
    Curves("fig_3", "Fig. 3: sigmoid without and with FMB", (*PAIR, "sigmoid_cut"), 10),
    Curves("fig_3_calibrated", "Fig. 3, batch norm calibrated", PAIR, 10, calibrated=True),
    Curves("fig_7", "Fig. 7: Table I's arms", (*PAIR, "tanh", "tanh_fmb"), 10),
    Curves(
        "fig_8", "Fig. 8: Table II's arms", ("sigmoid_fmb", "tanh_fmb", "float32", "sigmoid"), 10
    ),
    Curves("fig_9", "Fig. 9: Table III's arms, 30 epochs", (*PAIR, "float32"), 30),
    Curves(
        "fig_9_calibrated",
        "Fig. 9, batch norm calibrated",
        (*PAIR, "float32"),
        30,
        calibrated=True,
    ),
    Curves("fig_10", "Fig. 10: 100 epochs", PAIR, 100),
    Curves(
        "hard_tanh", "P2's gate: hard_tanh", ("hard_tanh", "hard_tanh_fmb", "hard_tanh_cut"), 10
    ),
    Curves("controls", "Controls", ("no_se", "frozen_fmb", "frozen", *PAIR), 10),
    Curves(
        "scale",
        "A scale in front of the gate, batch norm calibrated",
        ("sigmoid_scale", "sigmoid_scale_fmb", *PAIR),
        10,
        calibrated=True,
    ),
    Curves(
        "first_epochs",
        "FMB for the first epochs only",
        ("sigmoid_first5", "tanh_first5", *PAIR, "tanh", "tanh_fmb"),
        10,
    ),
    Curves("svhn", DATASETS["svhn_cropped"], PAIR, 60, "svhn_cropped"),
]


def all_figures(runs: Sequence[Run]) -> list[Figure]:
    """Every picture that there are runs for."""
    pictures = [curves(spec, runs) for spec in CURVES]
    pictures += [
        histograms("fig_4_5", "Figs. 4 and 5: SE1's gates without FMB", of(runs, "sigmoid")),
        histograms("fig_6", "Fig. 6: SE1's gates with FMB", of(runs, "sigmoid_fmb")),
        histograms("gates_tanh", "SE1's gates with tanh, without FMB", of(runs, "tanh")),
    ]
    return [picture for picture in pictures if picture]


def curves(spec: Curves, runs: Sequence[Run]) -> Figure | None:
    """Test errors over the epochs: the seeds' mean, and a band from the lowest to the highest."""
    groups = {name: of(runs, name, spec.dataset, spec.calibrated) for name in spec.arms}
    groups = {name: group for name, group in groups.items() if group}
    if not set(spec.arms[:2]) & set(groups):
        return None
    reach = max(len(run.log) for group in groups.values() for run in group)
    if reach <= 10 < spec.epochs:
        return None
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    seeds = []
    for name, group in groups.items():
        errors = _errors(group, spec)
        epochs = np.arange(1, errors.shape[1] + 1)
        mean = errors.mean(axis=0)
        colour = arm_colour(name)
        marker = "." if len(epochs) <= 30 else ""
        axes.plot(
            epochs,
            mean,
            marker=marker,
            color=colour,
            linestyle=arm_style(name),
            label=f"{ARMS[name].title} ({len(errors)})",
        )
        if len(errors) > 1:
            axes.fill_between(
                epochs,
                errors.min(axis=0),
                errors.max(axis=0),
                color=colour,
                alpha=0.15,
                lw=0,
            )
        seeds.append(len(errors))
    for error in (30, 20, 15):
        axes.axhline(error, color="black", lw=0.6, alpha=0.35)
    axes.set(xlabel="epoch", ylabel="top-1 error, test (%)", ylim=(0, None), title=spec.title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.2)
    axes.legend(fontsize="small", title="arm (seeds)", title_fontsize="small")
    plt.close(figure)
    caption = (
        f"{spec.title}. Mean of the seeds, band from the lowest to the highest; lines at "
        f"30, 20 and 15 %. {DATASETS[spec.dataset]}, constant learning rate."
    )
    return Figure(spec.name, caption, figure)


def _errors(runs: Sequence[Run], spec: Curves) -> np.ndarray:
    """Test errors (runs, epochs) of the runs that go so far, or else as far as the longest go."""
    length = min(spec.epochs, max(len(run.log) for run in runs))
    chosen = [run for run in runs if len(run.log) >= length]
    return np.array([run.errors(spec.calibrated)[:length] for run in chosen])


def arm_style(name: str) -> str:
    """The line of an arm, which says whether FMB is on."""
    return next(line for end, line in reversed(STYLES.items()) if name.endswith(end))


def arm_colour(name: str) -> str:
    """The colour of an arm, which says its gate."""
    return next(colour for start, colour in COLOURS.items() if name.startswith(start))


def histograms(name: str, title: str, runs: Sequence[Run]) -> Figure | None:
    """Histograms of SE1's channel weights by epoch, the mean of the runs that recorded them."""
    runs = [run for run in runs if run.gates]
    if not runs:
        return None
    recorded = set.intersection(*({int(row["epoch"]) for row in run.gates} for run in runs))
    epochs = [epoch for epoch in (1, 2, 5, 10) if epoch in recorded]
    if not epochs:
        return None
    figure, axes = plt.subplots(
        1, len(epochs), figsize=(2.7 * len(epochs) + 0.6, 3), layout="constrained", sharey=True
    )
    first = runs[0].gate_rows(epochs[0])[0]
    edges = np.linspace(first["low"], first["high"], BINS + 1)
    for plot, epoch in zip(np.atleast_1d(axes), epochs, strict=True):
        rows = [run.gate_rows(epoch)[0] for run in runs]
        soft = np.mean([_bins(row) for row in rows], axis=0)
        binarized = all(row["fmb"] for row in rows)
        if binarized:
            share = np.mean([row["open"] for row in rows])
            bars = np.array([1 - share, *[0] * (BINS - 2), share])
            plot.stairs(100 * soft, edges, color="black", lw=0.8, label="before FMB")
        plot.stairs(
            100 * (bars if binarized else soft),
            edges,
            fill=True,
            color="#1f5fb4",
            alpha=0.75,
            label="after FMB" if binarized else "gates",
        )
        plot.set(title=f"epoch {epoch}", xlabel="channel weight")
        plot.margins(x=0.02)
    first_plot = np.atleast_1d(axes)[0]
    first_plot.set(ylabel="share of SE1's gates (%)", ylim=(0, None))
    if any(row["fmb"] for run in runs for row in run.gates):
        first_plot.legend(fontsize="small", loc="upper center")
    plt.close(figure)
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    caption = f"{title}, by epoch; a fixed batch of validation images, mean of {seeds}."
    return Figure(name, caption, figure)


def _bins(row: Row) -> list[float]:
    return [row[f"bin_{i:02d}"] for i in range(BINS)]
