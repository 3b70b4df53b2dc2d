"""The report's section on pruning: error against bytes."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from training.experiments.report.figures import Figure
from training.experiments.report.records import read_json
from training.experiments.report.tables import NONE, Table

COLUMNS = (
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


def tables(results: Path) -> list[Table]:
    """A table for each network that `python -m training.pruning` pruned."""
    found = []
    for folder in _folders(results):
        rows = _rows(folder)
        first = rows[0]
        note = (
            f"Channels in front of the attention that are on for fewer than this share of the "
            f"{first['training_images']:,} training images were removed; 0: only where no other "
            f"gate changes on any of them. {sum(first['never_on'])} of {sum(first['channels'])} "
            "channels are off on every image; what they feed to the other gates varies from image "
            "to image. The share of images with other gates changed is of the module where it is "
            f"highest. Trained on for {first['epochs']} epochs, as the unpruned network was."
        )
        cells = [_cells(row) for row in rows]
        found.append(Table(f"Pruning {folder.name}: error against bytes", COLUMNS, cells, note))
    return found


def _cells(row: dict[str, Any]) -> list[str]:
    p, removed = row["threshold"], sum(row["removed"])
    changed = max(row["images_with_changed_gates"], default=0) / row["training_images"]
    sizes = ("weights", "lce_bytes", "litert_bytes", "float32_bytes")
    return [
        _threshold(p),
        f"{removed} of {sum(row['channels'])}",
        NONE if p is None else f"{100 * changed:.1f}",
        _errors(row, "_before"),
        _errors(row, ""),
        *(f"{row[key]:,}" if key in row else NONE for key in sizes),
    ]


def _threshold(p: float | None) -> str:
    if p is None:
        return "unpruned"
    if p * 1000 < 1:  # of any number of images: not one
        return "never" if p else "0, without loss"
    return f"{100 * p:g} %"


def _errors(row: dict[str, Any], when: str) -> str:
    keys = (f"validation_error{when}", f"test_error{when}")
    return ", ".join(f"{row[key]:.2f}" for key in keys) if keys[0] in row else NONE


def figures(results: Path, zoo: Path) -> list[Figure]:
    """Error against bytes: all files, and the pruned ones from near by.

    Args:
        results: The folder of results.
        zoo: The folder of the deployable files, with `models.json`.
    """
    found = {folder.name: _rows(folder) for folder in _folders(results)}
    if not found:
        return []
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for number, (name, rows) in enumerate(found.items()):
        _plot_network(left, right, name, rows, f"C{number}")
    entries = read_json(zoo / "models.json") if (zoo / "models.json").exists() else []
    points = [(e["bytes"], e["test_error"]) for e in entries if e["dataset"] == "cifar10"]
    if points:
        left.plot(*zip(*points, strict=True), "x", color="black", ms=5, label="files of the zoo")
    whole = max(_unpruned(rows)["float32_bytes"] for rows in found.values())
    for share in (32, 128):
        left.axvline(whole / share, color="black", lw=0.8, ls=":")
        left.annotate(
            f"1/{share}",
            (whole / share, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -12),
            textcoords="offset points",
            fontsize="small",
        )
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
    plt.close(figure)
    caption = (
        "Error against bytes on disk (litert files). Dotted: 1/32 of the float32 file, which is 1 "
        "bit a weight and nothing else, and 1/128, which the paper adds for half of the input and "
        "half of the output channels of every layer. Percentages: channels that are on for fewer "
        "of the images were removed."
    )
    return [Figure("error_against_bytes", caption, figure)]


def _plot_network(left: Any, right: Any, name: str, rows: list[dict[str, Any]], color: str) -> None:
    rows = [row for row in rows if "litert_bytes" in row]
    tuned = [row for row in rows if "test_error" in row]
    unpruned = _unpruned(rows)
    for axes in (left, right):
        axes.plot(
            *_points(tuned, "test_error"), "o-", ms=4, color=color, label=f"{name}, trained on"
        )
        axes.plot(*_points(rows, "test_error_before"), "o:", ms=3, color=color, label="as pruned")
    left.plot(
        unpruned["float32_bytes"],
        unpruned["test_error_before"],
        "s",
        color=color,
        label="unpruned, as a float32 file",
    )
    for row in tuned:
        right.annotate(
            _threshold(row["threshold"]),
            (row["litert_bytes"], row["test_error"]),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize="x-small",
        )


def _unpruned(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["threshold"] is None)


def _points(rows: list[dict[str, Any]], error: str) -> tuple[list[float], list[float]]:
    """Bytes and errors, the smallest file first."""
    rows = sorted(rows, key=lambda row: row["litert_bytes"])
    return [row["litert_bytes"] for row in rows], [row[error] for row in rows]


def _folders(results: Path) -> list[Path]:
    return sorted({file.parent for file in results.glob("pruning/*/unpruned.json")})


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The unpruned network first, then by the threshold."""
    rows = [read_json(file) for file in folder.glob("*.json")]
    return sorted(rows, key=lambda row: -1 if row["threshold"] is None else row["threshold"])
