"""The papers' claims, and the controls', in `claims.csv`, judged by the rule in `text.md`.

table           where the report shows it: papers or controls
text, source    the claim, and where it stands
lower, higher   the arms of which it claims that something is lower, and higher
how, at, column what that is of each run: see `runs.measure`; "close" is "after", and the claim is
                that there is no difference that matters; the column "error" is judged in each of
                `SETTINGS`
calibrated_at   `at` with batch norm calibrated, where it is another
before          the epoch of the higher value, where runs are compared with themselves
unit            of the effect
dataset         whose runs count
paper_lower, paper_higher   the paper's numbers, in any unit; none where it has none
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from training.experiments.report.runs import Runs, measure
from training.experiments.report.statistics import (
    CONFIDENCE,
    Effect,
    detectable,
    effect,
    holm,
    seeds_needed,
)

CLAIMS = pd.read_csv(Path(__file__).with_name("claims.csv"))
CLAIMS["relative"] = 1 - CLAIMS.paper_lower / CLAIMS.paper_higher  # the paper's effect, or NaN

SETTINGS = {"as logged": "test_error", "calibrated": "calibrated"}
"""The papers', as far as it can be read, and ours: columns of `Runs.epochs`."""

WITHIN = 12  # epochs in which an error is to be reached; one more counts where it is not
CLOSE = 2.0  # percentage points within which two errors are close

DECISIVE = (
    ("epochs to 30 % error, calibrated", "reach", 30.0, "calibrated", "epochs", 1.0),
    ("error after 10 epochs, calibrated", "after", 10, "calibrated", "points", 1.0),
    ("mean error of epochs 1 to 10, calibrated", "mean", 10, "calibrated", "points", 1.0),
    ("error after 10 epochs, as logged", "after", 10, "test_error", "points", 1.0),
)
"""What would answer the papers' question, and the difference that would matter."""


class Outcome(NamedTuple):
    """What the runs say of a claim."""

    verdict: str
    effect: Effect | None  # higher minus lower, if both were measured


def judge(table: str, runs: Runs, setting: str) -> list[Outcome | None]:
    """Apply the rule to a table's claims, in their order; `None` of what is no error.

    What is no error is judged in the first setting alone.
    """
    claims = list(CLAIMS[CLAIMS.table == table].itertuples())
    effects = [_effect(claim, runs, setting) for claim in claims]
    corrected = iter(holm([found.p for found in effects if found and found.count > 1]))
    outcomes: list[Outcome | None] = []
    for claim, found in zip(claims, effects, strict=True):
        if _column(claim, setting) is None:
            outcomes.append(None)
        elif found is None or found.count < 2:
            outcomes.append(Outcome("one run of each" if found else "no run", found))
        else:
            verdict = _verdict(claim.how == "close", found, next(corrected), claim.unit)
            outcomes.append(Outcome(verdict, found))
    return outcomes


def _column(claim: Any, setting: str) -> str | None:
    if claim.column == "error":
        return SETTINGS[setting]
    return claim.column if setting == next(iter(SETTINGS)) else None


def _effect(claim: Any, runs: Runs, setting: str) -> Effect | None:
    sides, column, at = [], _column(claim, setting), claim.at
    if column == "calibrated" and not math.isnan(claim.calibrated_at):
        at = claim.calibrated_at
    for arm, epoch in ((claim.higher, claim.before or at), (claim.lower, at)):
        epochs = runs.of(arm, claim.dataset)
        if claim.how == "reach":
            epochs = epochs[(epochs.length >= WITHIN) & (epochs.epoch <= WITHIN)]
        found = measure(epochs, claim.how, column, epoch) if column else pd.Series()
        sides.append(found.replace(math.inf, WITHIN + 1))
    return effect(*sides) if all(map(len, sides)) else None


def power(runs: Runs) -> list[list[str]]:
    """What it takes to decide about FMB: the spread of the differences between paired seeds."""
    rows = []
    for text, how, at, column, unit, matters in DECISIVE:
        sides = [
            measure(runs.of(arm, "cifar10"), how, column, at) for arm in ("sigmoid", "sigmoid_fmb")
        ]
        differences = (sides[0] - sides[1]).replace([math.inf, -math.inf], math.nan).dropna()
        if (count := seeds_needed(differences, matters)) is not None:
            spread = f"{differences.std():.2f} {unit}"
            found = f"{detectable(differences):.2f}"
            rows.append([text, str(len(differences)), spread, found, f"{matters:g}", str(count)])
    return rows


def _verdict(close: bool, found: Effect, p: float, unit: str) -> str:
    largest = f"no effect larger than {max(abs(found.low), abs(found.high)):.1f} {unit}"
    if close:
        if found.low > -CLOSE and found.high < CLOSE:
            return "reproduced"
        return "not reproduced" if found.low > CLOSE or found.high < -CLOSE else largest
    if found.low <= 0 <= found.high:
        return largest
    direction = "reproduced" if found.value > 0 else "reversed"
    return direction if p < 1 - CONFIDENCE else f"{direction}, uncorrected"
