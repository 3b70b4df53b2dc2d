"""Writes the report: `python -m training.report [RUNS...]`.

From the runs' logs alone it makes report.md and its PNG pictures. It works with whatever runs there
are, finished or not, and says which are missing. What `training.pruning`, `training.position` and
`larq_seresnet.inspect --json` left beside the folder of the runs (`pruning`, `position`, `gates`)
becomes sections of its own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training import UserError
from training.command import ending
from training.experiments import sweep
from training.experiments.records import read_csv
from training.experiments.report import figures, gates, position, pruning, tables
from training.experiments.report.page import Page
from training.experiments.report.runs import Runs, load

RESULTS = Path("training/results/paper")
ZOO = Path("tflite_models")


def write(folders: Sequence[Path], out: Path) -> str:
    """Write the report on the runs in these folders; returns what is to be said of it.

    Raises:
        UserError: There are no runs, one cannot be read, or `out` cannot be written to.
    """
    page, said = Page(), "no runs"
    if folders:
        said = _on_runs(page, load(folders))
    else:
        page.add("no runs")
    place = folders[0].parent if folders else RESULTS
    if (tuning := place / "tuning" / "sweep.csv").exists():
        page.add("tuning", file=page.picture("tuning", sweep.draw(read_csv(tuning))))
    gates.add(page, place.parent)
    pruning.add(page, place.parent, ZOO)
    position.add(page, place.parent, out)
    try:
        page.write(out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written to: {error}") from error
    return f"done: {said}: {out / 'report.md'}"


def _on_runs(page: Page, runs: Runs) -> str:
    """Everything about the runs; returns how many there are, and lack."""
    number, lacking = int((runs.epochs.epoch == 1).sum()), tables.missing(runs)
    page.add(
        "introduction",
        runs=number,
        epochs=len(runs.epochs),
        widths=", ".join(map(str, sorted(runs.epochs.width.unique()))),
        missing=f"Missing: {'; '.join(lacking)}." if lacking else "No run of the plan is missing.",
    )
    if runs.others:
        page.add("others", others=", ".join(runs.others))
    page.add("rule")
    tables.add(page, runs)
    figures.add(page, runs)
    return f"{number} runs" + (f"; {len(lacking)} groups of runs are missing" if lacking else "")


def found(place: Path) -> list[Path]:
    """The folders of runs in a folder."""
    logs = [*place.glob("*/log.csv"), *place.glob("*/epochs.csv")]
    return sorted(file.parent for file in logs)


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
    with ending("training.report", "the same command writes all of it"):
        print(write(options.runs or found(RESULTS), options.out))


if __name__ == "__main__":
    main()
