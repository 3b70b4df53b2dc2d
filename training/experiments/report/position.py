"""The report's section on where networks look: what `training.position` and `.shift` measured."""

from pathlib import Path

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
_HEADER = ("gate", "", "without FMB", "with FMB", "with minus without, 95 %", "FMB")
_SHIFT_HEADER = ("first", "second", "mean shift (pixels)", "median", "different images")


def add(page: Page, results: Path) -> None:
    """A table for each of `position/pasted_*.csv` and `position/shift_*.csv`."""
    for file in sorted(results.glob("position/pasted_*.csv")):
        runs = read_csv(file)
        first = runs.iloc[0]
        page.table(
            "position",
            _HEADER,
            [
                _cells(gate, score, mine)
                for gate, mine in runs.groupby("gate", sort=False)
                for score in _SCORES
            ],
            what=_WHAT[first.dataset],
            layer=first.layer,
            images=first.images,
            chance=f"{first.chance:.1f}",
            centre=f"{first.centre_pointing:.1f}",
            learned=f"{LEARNED:.0f}",
        )
    for file in sorted(results.glob("position/shift_*.csv")):
        pairs = read_csv(file)
        about = pairs.iloc[0][["dataset", "layer", "images"]].to_dict()
        page.table("shift", _SHIFT_HEADER, [_shift(pair) for pair in pairs.itertuples()], **about)


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
        return "undecided"
    if found.low <= 0 <= found.high:
        return "no difference shown"
    return "raises it" if found.low > 0 else "lowers it"


def _shift(pair: tuple) -> list[str]:
    networks = ((pair.first, pair.first_fmb), (pair.second, pair.second_fmb))
    numbers = (pair.shift, pair.median, pair.shuffled)
    return [
        *(f"{name} ({'FMB' if fmb else 'no FMB'})" for name, fmb in networks),
        *(f"{number:.2f}" for number in numbers),
    ]
