"""The report's section on gates: which channels they leave on, by depth and epoch."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator, PercentFormatter

from larq_seresnet.inspect import GateStatistics
from larq_seresnet.inspect.picture import draw
from training.experiments.arms import ARMS
from training.experiments.report.figures import Figure, arm_colour, arm_style
from training.experiments.report.records import read_json
from training.experiments.report.runs import Run, of
from training.experiments.report.tables import Table

MODULES = 6
BY_EPOCH = ("sigmoid", "sigmoid_fmb")


def tables(results: Path) -> list[Table]:
    """What `python -m larq_seresnet.inspect --json` found: `gates/*.json`."""
    found = []
    for file in sorted(results.glob("gates/*.json")):
        content = read_json(file)
        images = content["images"]
        rows = [
            [
                name,
                "yes" if m["fmb"] else "no",
                m["module"],
                str(m["channels"] - m["pruned"]),
                *(str(m[key]) for key in ("always_on", "always_off", "dependent")),
                f"{100 * np.mean(m['on']):.1f}",
            ]
            for name, modules in content["networks"].items()
            for m in modules
        ]
        columns = ["network", "FMB", "module", "channels", "always on", "always off"]
        note = (
            f"On {images['count']:,} images of {images['dataset']} ({images['split']} split). A "
            "gate is on where it is at its threshold or above: what FMB makes 1."
        )
        columns += ["depends on the image", "on average (%)"]
        found.append(Table(f"Gates by depth: {file.stem}", columns, rows, note))
    return found


def figures(results: Path, runs: Sequence[Run]) -> list[Figure]:
    """Channels x depth, and channels over the epochs."""
    found = []
    for file in sorted(results.glob("gates/*.json")):
        networks = {
            name: [
                GateStatistics(m["module"], m["fmb"], np.array(m["on"]), m["channels"])
                for m in modules
            ]
            for name, modules in read_json(file)["networks"].items()
        }
        caption = f"How often each channel's gate is on, module by module: {file.stem}."
        found.append(Figure(f"gates_{file.stem}", caption, draw(networks)))
    by_epoch = over_epochs({name: of(runs, name) for name in BY_EPOCH})
    return [*found, by_epoch] if by_epoch else found


def over_epochs(arms: dict[str, list[Run]]) -> Figure | None:
    """A panel a module: channels that some image opens, and that every image opens."""
    recorded = {name: [run for run in runs if run.gates] for name, runs in arms.items()}
    recorded = {name: runs for name, runs in recorded.items() if runs}
    if not recorded:
        return None
    figure, panels = plt.subplots(
        2, MODULES // 2, figsize=(9, 5), layout="constrained", sharex=True, sharey=True
    )
    for module, axes in enumerate(panels.flat, 1):
        for name, runs in recorded.items():
            epochs, ever, always = _shares(runs, module)
            arguments = {"color": arm_colour(name), "linestyle": arm_style(name)}
            axes.plot(epochs, ever, label=f"{ARMS[name].title}: on some image", **arguments)
            axes.plot(epochs, always, lw=0.8, label="on every image", **arguments)
        axes.set(title=f"SE{module}", ylim=(0, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.2)
    panels[0, 0].yaxis.set_major_formatter(PercentFormatter(1))
    figure.supxlabel("epoch")
    figure.supylabel("share of the channels")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=len(recorded), fontsize="small"
    )
    plt.close(figure)
    seeds = ", ".join(f"{ARMS[name].title}: {len(runs)}" for name, runs in recorded.items())
    caption = (
        "Channels whose gate is on for some of 250 validation images, and for all of them, by "
        f"depth and epoch. Mean of the seeds ({seeds})."
    )
    return Figure("gates_by_epoch", caption, figure)


def _shares(runs: Sequence[Run], module: int) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Epochs that all runs recorded; mean shares of channels on for some and for every image."""
    of_module = [
        {int(row["epoch"]): row for row in run.gates if row["module"] == module} for run in runs
    ]
    epochs = sorted(set.intersection(*(set(rows) for rows in of_module)))
    ever, always = (
        np.array([np.mean([rows[epoch][key] for rows in of_module]) for epoch in epochs])
        for key in ("ever_open", "always_open")
    )
    return epochs, ever, always
