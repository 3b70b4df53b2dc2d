"""Writes the report: `python -m training.report [RUNS...]`.

From the runs' logs alone it makes report.html (one self-contained page), report.md and PNG
pictures. It works with whatever runs there are, finished or not, and says which are missing. What
`training.pruning`, `training.position` and `larq_seresnet.inspect --json` left beside the folder of
the runs (`pruning`, `position`, `gates`) becomes sections of its own.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from training import UserError
from training.experiments import sweep
from training.experiments.report import (
    claims,
    figures,
    gate_section,
    page,
    position_section,
    pruning_section,
    runs,
    tables,
)

RESULTS = Path("training/results/paper")
ZOO = Path("tflite_models")


def write(folders: Sequence[Path], out: Path) -> str:
    """Write the report on the runs in these folders; returns what is to be said of it.

    Raises:
        UserError: There are no runs, one cannot be read, or `out` cannot be written to.
    """
    found, others = runs.load(folders)
    if folders and not found:
        raise UserError("there are no runs of the papers' arms: train some, or name their folders")
    introduction = _introduction(found)
    if others:
        introduction.append(f"Left out, since they are no run of an arm: {', '.join(others)}.")
    pictures = figures.all_figures(found) if found else []
    place = folders[0].parent if folders else RESULTS
    tuning = place / "tuning" / "sweep.csv"
    if tuning.exists():
        picture = sweep.draw(pd.DataFrame(sweep.read_trials(tuning)))
        caption = "How the learning rates were chosen: trials on the validation split."
        pictures.append(figures.Figure("tuning", caption, picture))
    results = place.parent
    pictures += gate_section.figures(results, found)
    pictures += pruning_section.figures(results, ZOO)
    pictures += position_section.figures(results)
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = []
        for picture in pictures:
            file = io.BytesIO()
            picture.figure.savefig(file, dpi=120)
            (out / f"{picture.name}.png").write_bytes(file.getvalue())
            files.append((picture.caption, file.getvalue()))
        content = tables.all_tables(found) if found else []
        for section in (gate_section, pruning_section, position_section):
            content += section.tables(results)
        (out / "report.md").write_text(page.markdown(introduction, claims.RULE, content))
        (out / "report.html").write_text(page.html(introduction, claims.RULE, content, files))
    except OSError as error:
        raise UserError(f"--out {out} cannot be written to: {error}") from error
    lacking = tables.missing(found)
    missing = f"; {len(lacking)} groups of runs are missing" if lacking else ""
    return f"done: {len(found)} runs{missing}: {out / 'report.html'}"


def _introduction(found: Sequence[runs.Run]) -> list[str]:
    if not found:
        return [
            "No run of the papers' arms has been made yet: python -m training.paper trains them."
        ]
    lacking = tables.missing(found)
    widths = ", ".join(sorted({str(run.config["width"]) for run in found}))
    return [
        "Measured against P1 (Wu, Yamauchi, A Speed-up Channel Attention Technique for "
        "Accelerating the Learning Curve of a Binarized Squeeze-and-Excitation (SE) Based ResNet "
        "Model, 2024) and P2 (the same authors, A Binarized Feature Mapping Technique for "
        "Enhancing Squeeze-and-Excitation (SE) Channel Attention Mechanism, 2025).",
        f"SEResNet14Bin of width {widths}: 1-bit weights, float activations; float32 is the same "
        "network with float weights. The papers state neither width nor optimizer, learning rate, "
        "augmentation or seeds, and show single curves. Which arms stand in Figs. 3, 7, 8 and 9 "
        "here follows from the papers' tables.",
        f"{len(found)} runs, {sum(len(run.log) for run in found)} epochs. "
        + (f"Missing: {'; '.join(lacking)}." if lacking else "No run of the plan is missing."),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.report", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help=f"run folders (all in {RESULTS})"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("training/results/report"), help="folder to write to"
    )
    options = parser.parse_args(arguments)
    folders = options.runs or sorted(file.parent for file in RESULTS.glob("*/log.csv"))
    try:
        print(write(folders, options.out))
    except UserError as error:
        sys.exit(f"training.report: error: {error}")


if __name__ == "__main__":
    main()
