"""The report's pictures of runs, which `figures.csv` lists: learning curves, and the gates.

block     of `text.md`, and which function draws it
name      of the file
arms      whose runs
epochs    how far learning curves go
column    of `Runs.epochs`, of learning curves
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.experiments.arms import ARMS
from training.experiments.plan import DATASETS
from training.experiments.report.page import Page
from training.experiments.report.runs import Runs, bins

FIGURES = pd.read_csv(Path(__file__).with_name("figures.csv"))


def add(page: Page, runs: Runs) -> None:
    """Every picture that there are runs for."""
    page.add("pictures")
    draw = {"curves": curves, "saturation": saturation}
    draw |= {"histograms": histograms, "gates by epoch": gates_by_epoch}
    reads = {"curves": runs.of, "saturation": runs.saturation_of}
    for spec in FIGURES.itertuples():
        of = reads.get(spec.block, runs.gates_of)
        arms = {arm: of(arm, spec.dataset) for arm in spec.arms.split()}
        figure = draw[spec.block](spec, {arm: rows for arm, rows in arms.items() if len(rows)})
        if figure:
            seeds = ", ".join(f"{ARMS[a].title}: {r.seed.nunique()}" for a, r in arms.items())
            about = {"title": spec.title, "dataset": DATASETS[spec.dataset], "seeds": seeds}
            page.add(spec.block, **about, file=page.picture(spec.name, figure))


def curves(spec: Any, arms: dict[str, pd.DataFrame]) -> Figure | None:
    """Test errors over the epochs: the seeds' mean, and a band from the lowest to the highest."""
    arms = {arm: _filled(runs, spec.column) for arm, runs in arms.items()}
    arms = {arm: runs for arm, runs in arms.items() if len(runs)}
    reach = max((runs.epoch.max() for runs in arms.values()), default=0)
    if not reach or reach <= 10 < spec.epochs:
        return None
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for arm, runs in arms.items():
        length = min(spec.epochs, runs.epoch.max())
        runs = runs[(runs.length >= length) & (runs.epoch <= length)]
        errors = runs.groupby("epoch")[spec.column].agg(["mean", "min", "max"])
        label = f"{ARMS[arm].title} ({runs.seed.nunique()})"
        marker = "." if length <= 30 else ""
        axes.plot(errors.index, errors["mean"], ls=_line(arm), marker=marker, label=label)
        axes.fill_between(errors.index, errors["min"], errors["max"], alpha=0.15, lw=0)
    for error in (30, 20, 15):
        axes.axhline(error, color="black", lw=0.6, alpha=0.35)
    axes.set(xlabel="epoch", ylabel="top-1 error, test (%)", ylim=(0, None), title=spec.title)
    axes.legend(
        loc="lower left" if spec.epochs <= 10 else "upper right",  # which errors leave empty
        ncols=2,
        fontsize="small",
        title="arm (seeds)",
    )
    _over_epochs(axes)
    return figure


def _filled(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Without the epochs that were not logged; those between two that were are interpolated."""
    filled = runs.groupby("seed")[column].transform(lambda x: x.interpolate(limit_area="inside"))
    return runs.assign(**{column: filled}).dropna(subset=column)


def saturation(_: Any, arms: dict[str, pd.DataFrame]) -> Figure | None:
    """A column a module: how many gates are flat, and what gradient comes through them."""
    if not arms:
        return None
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(2, 6, sharex=True, sharey="row")
    for number, (arm, rows) in enumerate(arms.items()):
        means = rows.groupby(["module", "epoch"])[["flat", "gradient"]].median()
        style = {"color": f"C{number}", "ls": _line(arm), "label": ARMS[arm].title}
        for module in range(1, 7):
            panels[0, module - 1].plot(means.loc[module].flat, **style)
            panels[1, module - 1].plot(means.loc[module].gradient, **style)
    for module, (flat, gradient) in enumerate(panels.T, 1):
        flat.set(title=f"SE{module}", ylim=(-0.03, 1.03))
        flat.yaxis.set_major_formatter(PercentFormatter(1))
        gradient.set(yscale="log", ylim=(1e-6, 1))
        _over_epochs(flat)
        _over_epochs(gradient)
    panels[0, 0].set_ylabel("gates on the flat part")
    panels[1, 0].set_ylabel("gradient at the gates")
    figure.supxlabel("epoch")
    lines = panels[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=len(arms), fontsize="small")
    return figure


def histograms(_: Any, arms: dict[str, pd.DataFrame]) -> Figure | None:
    """Histograms of SE1's channel weights by epoch, the mean of an arm's runs."""
    gates = pd.concat(arms.values()) if arms else pd.DataFrame(columns=["epoch"])
    epochs = [epoch for epoch in (1, 2, 5, 10) if epoch in gates.epoch.values]
    if not epochs:
        return None
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
        plot.stairs(shares, edges, fill=True, alpha=0.75, label="after FMB")
        plot.set(title=f"epoch {epoch}", xlabel="channel weight")
        plot.margins(x=0.02)
    plots[0].set(ylabel="share of SE1's gates (%)", ylim=(0, None))
    if gates.fmb.any():
        plots[0].legend(fontsize="small", loc="upper center")
    return figure


def gates_by_epoch(_: Any, arms: dict[str, pd.DataFrame]) -> Figure | None:
    """A panel a module: channels that some image opens, and that every image opens."""
    if not arms:
        return None
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for module, axes in enumerate(panels.flat, 1):
        for number, (arm, gates) in enumerate(arms.items()):
            shares = gates[gates.module == module].groupby("epoch")
            style = {"color": f"C{number}", "ls": _line(arm)}
            axes.plot(shares.ever_open.mean(), label=f"{ARMS[arm].title}: on some image", **style)
            axes.plot(shares.always_open.mean(), label="on every image", lw=0.8, **style)
        axes.set(title=f"SE{module}", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        _over_epochs(axes)
    figure.supxlabel("epoch")
    figure.supylabel("share of the channels")
    lines = panels[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=len(arms), fontsize="small")
    return figure


def _line(arm: str) -> str:
    """The line of an arm, which says whether FMB is on."""
    return "--" if arm.endswith("_fmb") else ":" if arm.endswith("_cut") else "-"


def _over_epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.2)
