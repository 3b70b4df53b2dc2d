"""The report's pictures of runs: learning curves, and what the gates do."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.experiments.arms import ARMS
from training.experiments.plan import DATASETS
from training.experiments.report.page import Page
from training.experiments.report.runs import Runs, bins

PAIR = ("sigmoid", "sigmoid_fmb")


@dataclass(frozen=True)
class Curves:
    """Which learning curves a picture shows.

    Attributes:
        name: Of its file.
        title: Its heading.
        arms: Whose curves.
        epochs: How far.
        column: Of `Runs.epochs`.
        dataset: On which data set.
    """

    name: str
    title: str
    arms: tuple[str, ...]
    epochs: int = 10
    column: str = "test_error"
    dataset: str = "cifar10"


CURVES = [
    Curves("fig_3", "Fig. 3: sigmoid without and with FMB", (*PAIR, "sigmoid_cut")),
    Curves("fig_3_calibrated", "Fig. 3, batch norm calibrated", PAIR, 10, "calibrated"),
    Curves("fig_7", "Fig. 7: Table I's arms", (*PAIR, "tanh", "tanh_fmb")),
    Curves("fig_8", "Fig. 8: Table II's arms", (*PAIR, "float32", "tanh_fmb")),
    Curves("fig_9", "Fig. 9: Table III's arms", (*PAIR, "float32"), 30),
    Curves(
        "fig_9_calibrated", "Fig. 9, batch norm calibrated", (*PAIR, "float32"), 30, "calibrated"
    ),
    Curves("fig_10", "Fig. 10: 100 epochs", PAIR, 100),
    Curves("hard_tanh", "P2's gate: hard_tanh", ("hard_tanh", "hard_tanh_fmb")),
    Curves("controls", "Controls", (*PAIR, "no_se", "frozen_fmb")),
    Curves(
        "scale",
        "A scale in front of the gate, batch norm calibrated",
        (*PAIR, "sigmoid_scale", "sigmoid_scale_fmb"),
        10,
        "calibrated",
    ),
    Curves("svhn", DATASETS["svhn_cropped"], PAIR, 60, dataset="svhn_cropped"),
]

HISTOGRAMS = [
    ("fig_4_5", "Figs. 4 and 5: SE1's gates without FMB", "sigmoid"),
    ("fig_6", "Fig. 6: SE1's gates with FMB", "sigmoid_fmb"),
    ("gates_tanh", "SE1's gates with tanh, without FMB", "tanh"),
]


def add(page: Page, runs: Runs) -> None:
    """Every picture that there are runs for."""
    if len(runs.epochs):
        page.add("learning curves")
    for spec in CURVES:
        curves(page, spec, runs)
    for name, title, arm in HISTOGRAMS:
        histograms(page, name, title, runs.gates_of(arm))
    gates_by_epoch(page, {arm: runs.gates_of(arm) for arm in PAIR})


def line(arm: str) -> str:
    """The line of an arm, which says whether FMB is on."""
    return "--" if arm.endswith("_fmb") else ":" if arm.endswith("_cut") else "-"


def curves(page: Page, spec: Curves, runs: Runs) -> None:
    """Test errors over the epochs: the seeds' mean, and a band from the lowest to the highest."""
    groups = {arm: runs.of(arm, spec.dataset).dropna(subset=spec.column) for arm in spec.arms}
    groups = {arm: group for arm, group in groups.items() if len(group)}
    if not groups or max(group.epoch.max() for group in groups.values()) <= 10 < spec.epochs:
        return
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for arm, group in groups.items():
        length = min(spec.epochs, group.epoch.max())
        group = group[(group.length >= length) & (group.epoch <= length)]
        errors = group.groupby("epoch")[spec.column].agg(["mean", "min", "max"])
        label = f"{ARMS[arm].title} ({group.seed.nunique()})"
        marker = "." if length <= 30 else ""
        axes.plot(errors.index, errors["mean"], ls=line(arm), marker=marker, label=label)
        axes.fill_between(errors.index, errors["min"], errors["max"], alpha=0.15, lw=0)
    for error in (30, 20, 15):
        axes.axhline(error, color="black", lw=0.6, alpha=0.35)
    axes.set(xlabel="epoch", ylabel="top-1 error, test (%)", ylim=(0, None), title=spec.title)
    axes.legend(fontsize="small", title="arm (seeds)", title_fontsize="small")
    _over_epochs(axes)
    file = page.picture(spec.name, figure)
    page.add("curves", title=spec.title, dataset=DATASETS[spec.dataset], file=file)


def histograms(page: Page, name: str, title: str, gates: pd.DataFrame) -> None:
    """Histograms of SE1's channel weights by epoch, the mean of the runs that recorded them."""
    epochs = [epoch for epoch in (1, 2, 5, 10) if epoch in gates.epoch.values]
    if not epochs:
        return
    figure = Figure(figsize=(2.7 * len(epochs) + 0.6, 3), layout="constrained")
    plots = figure.subplots(1, len(epochs), sharey=True, squeeze=False)[0]
    for plot, epoch in zip(plots, epochs, strict=True):
        rows = gates[(gates.module == 1) & (gates.epoch == epoch)]
        shares = 100 * rows[bins(rows)].mean().to_numpy()
        edges = np.linspace(rows.low.iloc[0], rows.high.iloc[0], len(shares) + 1)
        if rows.fmb.all():
            plot.stairs(shares, edges, color="black", lw=0.8, label="before FMB")
            shares = np.zeros(len(shares))
            shares[[0, -1]] = 100 * (1 - rows.open.mean()), 100 * rows.open.mean()
        label = "after FMB" if rows.fmb.all() else "gates"
        plot.stairs(shares, edges, fill=True, alpha=0.75, label=label)
        plot.set(title=f"epoch {epoch}", xlabel="channel weight")
        plot.margins(x=0.02)
    plots[0].set(ylabel="share of SE1's gates (%)", ylim=(0, None))
    if gates.fmb.any():
        plots[0].legend(fontsize="small", loc="upper center")
    seeds = gates.seed.nunique()
    file = page.picture(name, figure)
    page.add("histograms", title=title, seeds=f"{seeds} seed{'s'[: seeds > 1]}", file=file)


def gates_by_epoch(page: Page, arms: dict[str, pd.DataFrame]) -> None:
    """A panel a module: channels that some image opens, and that every image opens."""
    arms = {arm: gates for arm, gates in arms.items() if len(gates)}
    if not arms:
        return
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for module, axes in enumerate(panels.flat, 1):
        for number, (arm, gates) in enumerate(arms.items()):
            shares = gates[gates.module == module].groupby("epoch")
            style = {"color": f"C{number}", "ls": line(arm)}
            axes.plot(shares.ever_open.mean(), label=f"{ARMS[arm].title}: on some image", **style)
            axes.plot(shares.always_open.mean(), label="on every image", lw=0.8, **style)
        axes.set(title=f"SE{module}", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        _over_epochs(axes)
    figure.supxlabel("epoch")
    figure.supylabel("share of the channels")
    lines = panels[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=len(arms), fontsize="small")
    seeds = ", ".join(f"{ARMS[arm].title}: {gates.seed.nunique()}" for arm, gates in arms.items())
    page.add("gates by epoch", seeds=seeds, file=page.picture("gates_by_epoch", figure))


def _over_epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.2)
