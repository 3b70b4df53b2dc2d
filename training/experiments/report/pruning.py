"""The report's section on pruning: error against bytes, as `training.pruning` measured it."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from training.experiments.records import read_json
from training.experiments.report.page import Page
from training.experiments.report.statistics import NONE

HEADER = (
    "on for fewer than",
    "channels removed",
    "images with other gates changed (%)",
    "error before training on: validation, test (%)",
    "after: validation, test (%)",
    "weights",
    "lce bytes",
    "litert bytes",
    "float32 bytes",
)


def add(page: Page, results: Path, zoo: Path) -> None:
    """A table for each network in `pruning`, and a picture of all.

    Args:
        page: To add to.
        results: The folder of results.
        zoo: The folder of the deployable files, with `models.json`.
    """
    networks = {}
    for folder in sorted({file.parent for file in results.glob("pruning/*/unpruned.json")}):
        rows = pd.DataFrame([read_json(file) for file in folder.glob("*.json")])
        rows = rows.sort_values("threshold", na_position="first", ignore_index=True)
        networks[folder.name] = rows = rows.reindex(columns=[*rows, *_SIZES, *_ERRORS]).loc[
            :, lambda table: ~table.columns.duplicated()
        ]
        first = rows.iloc[0]
        page.table(
            "pruning",
            HEADER,
            [_cells(row) for _, row in rows.iterrows()],
            name=folder.name,
            images=f"{first.training_images:,}",
            never=sum(first.never_on),
            channels=sum(first.channels),
            epochs=first.epochs,
        )
    if networks:
        entries = read_json(zoo / "models.json") if (zoo / "models.json").exists() else []
        points = [(e["bytes"], e["test_error"]) for e in entries if e["dataset"] == "cifar10"]
        picture = page.picture("error_against_bytes", draw(networks, points))
        page.add("error against bytes", file=picture)


_SIZES = ("weights", "lce_bytes", "litert_bytes", "float32_bytes")
_ERRORS = ("validation_error", "test_error", "validation_error_before", "test_error_before")


def _cells(row: pd.Series) -> list[str]:
    changed = 100 * max(row.images_with_changed_gates, default=0) / row.training_images
    return [
        _threshold(row.threshold),
        f"{sum(row.removed)} of {sum(row.channels)}",
        NONE if pd.isna(row.threshold) else f"{changed:.1f}",
        _errors(row.validation_error_before, row.test_error_before),
        _errors(row.validation_error, row.test_error),
        *(NONE if pd.isna(row[size]) else f"{row[size]:,.0f}" for size in _SIZES),
    ]


def _errors(validation: float, test: float) -> str:
    return NONE if pd.isna(test) else f"{validation:.2f}, {test:.2f}"


def _threshold(p: float) -> str:
    if pd.isna(p):
        return "unpruned"
    if p * 1000 < 1:  # of any number of images: not one
        return "never" if p else "0, without loss"
    return f"{100 * p:g} %"


def draw(networks: dict[str, pd.DataFrame], zoo: list[tuple[int, float]]) -> Figure:
    """Error against bytes: all files, and the pruned ones from near by."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, rows) in enumerate(networks.items()):
        _pruned(left, name, rows, f"C{number}")
        _pruned(right, name, rows, f"C{number}")
        whole = rows.iloc[0]
        label = "unpruned, as a float32 file"
        left.plot(whole.float32_bytes, whole.test_error_before, f"C{number}s", label=label)
        for row in rows.dropna(subset=["litert_bytes", "test_error"]).itertuples():
            at = (row.litert_bytes, row.test_error)
            right.annotate(_threshold(row.threshold), at, (5, 4), textcoords="offset points")
    if zoo:
        left.plot(*zip(*zoo, strict=True), "x", color="black", ms=5, label="files of the zoo")
    whole = max(rows.float32_bytes.iloc[0] for rows in networks.values())
    for share in (32, 128):
        at = (whole / share, 1)
        left.axvline(at[0], color="black", lw=0.8, ls=":")
        top = ("data", "axes fraction")
        left.annotate(f"1/{share}", at, (3, -12), xycoords=top, textcoords="offset points")
    left.set(xscale="log", title="all files")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.set(title="the pruned networks' files")
    right.margins(0.15)
    right.xaxis.set_major_locator(MaxNLocator(5))
    for axes in (left, right):
        axes.set(xlabel="bytes of the file", ylabel="top-1 error, test (%)")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size / 1000:,.4g} kB"))
        axes.grid(alpha=0.2)
        axes.legend(fontsize="small")
    return figure


def _pruned(axes: Axes, name: str, rows: pd.DataFrame, color: str) -> None:
    rows = rows.dropna(subset="litert_bytes").sort_values("litert_bytes")
    tuned = rows.dropna(subset="test_error")
    axes.plot(
        tuned.litert_bytes, tuned.test_error, "o-", ms=4, color=color, label=f"{name}, trained on"
    )
    axes.plot(rows.litert_bytes, rows.test_error_before, "o:", ms=3, color=color, label="as pruned")
