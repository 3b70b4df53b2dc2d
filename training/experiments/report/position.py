"""The report's section on where networks look: what `training.position` and `.shift` measured."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from training.experiments.records import read_csv
from training.experiments.report.page import Page
from training.experiments.report.statistics import NONE, Effect, effect, summary

LEARNED = 50.0  # percent of test error, above which a network says nothing about where to look

_WHAT = {
    "pasted_digits": "handwritten digits",
    "pasted_svhn": "digits of house numbers (SVHN subset)",
}
_SCORES = {
    "pointing": "pointing game (%)",
    "energy": "energy in the box (%)",
    "test_error": "test error (%)",
}


def add(page: Page, results: Path, out: Path) -> None:
    """A table for each of `position/pasted_*.csv` and `shift_*.csv`, and the pictures there.

    Args:
        page: To add to.
        results: The folder of results.
        out: The folder of the report, which shows the pictures where they are.
    """
    for file in sorted(results.glob("position/pasted_*.csv")):
        runs = read_csv(file)
        gates = runs.groupby("gate", sort=False)
        rows = [_cells(gate, score, mine) for gate, mine in gates for score in _SCORES]
        first = runs.iloc[0]
        about = {"what": _WHAT[first.dataset], "layer": first.layer, "images": first.images}
        about |= {"chance": f"{first.chance:.1f}", "centre": f"{first.centre_pointing:.1f}"}
        about["epochs"] = f"{first.epochs} epochs"
        if "fmb_start" in runs and (start := runs.fmb_start.max()):
            about["epochs"] += f", with FMB the first {start} of them with soft gates"
        page.table("position", rows, learned=f"{LEARNED:.0f}", **about)
        if (picture := file.with_suffix(".png")).exists():
            link = Path(os.path.relpath(picture, out)).as_posix()
            page.add("heat maps", what=about["what"], file=link)
    for file in sorted(results.glob("position/shift_*.csv")):
        pairs = read_csv(file)
        about = pairs.iloc[0][["dataset", "layer", "images"]].to_dict()
        page.table("shift", map(_shift, pairs.itertuples()), **about)


def _cells(gate: str, score: str, runs: pd.DataFrame) -> list[str]:
    without, with_fmb = (runs[runs.fmb == fmb].set_index("seed")[score] for fmb in (0, 1))
    difference, verdict = NONE, NONE
    if len(without) and len(with_fmb):
        found = effect(with_fmb, without)
        difference, verdict = str(found), _verdict(found)
    if runs.test_error.max() >= LEARNED and score != "test_error":
        verdict = "no verdict: did not learn"
    return [gate, _SCORES[score], summary(without), summary(with_fmb), difference, verdict]


def _verdict(found: Effect) -> str:
    if pd.isna(found.low):
        return "one run of each"
    if found.low <= 0 <= found.high:
        return f"no effect larger than {max(abs(found.low), abs(found.high)):.1f}"
    return "raises it" if found.low > 0 else "lowers it"


def _shift(pair: Any) -> list[str]:
    networks = ((pair.first, pair.first_fmb), (pair.second, pair.second_fmb))
    names = [f"{name} ({'FMB' if fmb else 'no FMB'})" for name, fmb in networks]
    return [*names, f"{pair.shift:.2f}", f"{pair.median:.2f}", f"{pair.shuffled:.2f}"]
