"""The report's section on pruning: error against bytes, as `training.pruning` measured it."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from training.experiments.records import read_json
from training.experiments.report.page import Page
from training.experiments.report.statistics import NONE

_SIZES = ["weights", "lce_bytes", "litert_bytes", "float32_bytes"]
_ERRORS = ["validation_error_before", "test_error_before", "validation_error", "test_error"]
_LISTS = ["channels", "never_on", "removed", "images_with_changed_gates"]


def add(page: Page, results: Path, zoo: Path) -> None:
    """A table for each network in `pruning`, and a picture of all.

    Args:
        page: To add to.
        results: The folder of results.
        zoo: The folder of the deployable files, with `models.json`.
    """
    networks = {}
    for folder in sorted({file.parent for file in results.glob("pruning/*/unpruned.json")}):
        found = [read_json(file) for file in folder.glob("*.json")]
        known = ["threshold", "training_images", "epochs", *_LISTS, *_SIZES, *_ERRORS]
        rows = pd.DataFrame(found, columns=known).sort_values("threshold", na_position="first")
        networks[folder.name], first = rows, rows.iloc[0]
        about = {"name": folder.name, "images": f"{first.training_images:,}"}
        about |= {"never": sum(first.never_on), "channels": sum(first.channels)}
        page.table("pruning", map(_cells, rows.itertuples()), epochs=first.epochs, **about)
    if networks:
        entries = read_json(zoo / "models.json") if (zoo / "models.json").exists() else []
        points = [(e["bytes"], e["test_error"]) for e in entries if e["dataset"] == "cifar10"]
        picture = page.picture("error_against_bytes", draw(networks, points))
        page.add("error against bytes", file=picture)


def _cells(row: Any) -> list[str]:
    changed = 100 * max(row.images_with_changed_gates, default=0) / row.training_images
    errors = [getattr(row, name) for name in _ERRORS]
    sizes = [getattr(row, name) for name in _SIZES]
    return [
        _threshold(row),
        f"{sum(row.removed)} of {sum(row.channels)}",
        NONE if pd.isna(row.threshold) else f"{changed:.1f}",
        *(NONE if pd.isna(b) else f"{a:.2f}, {b:.2f}" for a, b in (errors[:2], errors[2:])),
        *(NONE if pd.isna(size) else f"{size:,.0f}" for size in sizes),
    ]


def _threshold(row: Any) -> str:
    if pd.isna(row.threshold):
        return "unpruned"
    if row.threshold * row.training_images <= 1:
        return "never" if row.threshold else "0, without loss"
    return f"{100 * row.threshold:g} %"


def draw(networks: dict[str, pd.DataFrame], zoo: list[tuple[int, float]]) -> Figure:
    """Error against bytes: all files, and the pruned ones from near by."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    by = {"textcoords": "offset points", "fontsize": "small"}
    for number, (name, rows) in enumerate(networks.items()):
        color, whole = f"C{number}", rows.iloc[0]
        rows = rows.dropna(subset="litert_bytes").sort_values("litert_bytes")
        tuned = rows.dropna(subset="test_error")
        for axes in (left, right):
            points = (tuned.litert_bytes, tuned.test_error)
            axes.plot(*points, "o-", ms=4, color=color, label=f"{name}, trained on")
            points = (rows.litert_bytes, rows.test_error_before)
            axes.plot(*points, "o:", ms=3, color=color, label="as pruned")
        points = (whole.float32_bytes, whole.test_error_before)
        left.plot(*points, "s", color=color, label="unpruned, as a float32 file")
        for row in tuned.itertuples():
            at = (row.litert_bytes, row.test_error)
            right.annotate(_threshold(row), at, (0, 5), rotation=45, **by)
    if zoo:
        left.plot(*zip(*zoo, strict=True), "x", color="black", ms=5, label="files of the zoo")
    for share in (32, 128):
        size = max(rows.float32_bytes.iloc[0] for rows in networks.values()) / share
        left.axvline(size, color="black", lw=0.8, ls=":")
        left.annotate(f"1/{share}", (size, 1), (3, -12), xycoords=("data", "axes fraction"), **by)
    left.set(xscale="log", title="all files")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.set(title="the pruned networks' files")
    right.margins(0.15)
    for axes in (left, right):
        axes.set(xlabel="bytes of the file", ylabel="top-1 error, test (%)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size / 1000:,.4g} kB"))
        axes.grid(alpha=0.2)
        axes.legend(fontsize="small")
    return figure
