"""The papers' claims, and the controls', in `claims.csv`, judged by the rule in `text.md`.

table           where the report shows it: papers, controls or calibrated
text, source    the claim, and where it stands
lower, higher   the arms of which it claims that something is lower, and higher
how, at, column what that is of each run: see `runs.measure`; "close" is "after", and the claim is
                that there is no difference that matters
before          the epoch of the higher value, where runs are compared with themselves
unit            of the effect
dataset         whose runs count
paper_lower, paper_higher   the paper's numbers, in any unit; none where it has none
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from training.experiments.plan import HORIZON
from training.experiments.report.runs import Runs, measure
from training.experiments.report.statistics import Effect, effect, seeds_needed

CLAIMS = pd.read_csv(Path(__file__).with_name("claims.csv"))
CLAIMS["relative"] = 1 - CLAIMS.paper_lower / CLAIMS.paper_higher  # the paper's effect, or NaN

POINT = 1.0  # percentage points that matter, where the paper has no number
CLOSE = 2.0  # percentage points within which two errors are close

DECISIVE = (
    ("epochs to 30 % error, calibrated", "reach", 30.0, "calibrated", "epochs", 1.0),
    ("error after 10 epochs, calibrated", "after", 10, "calibrated", "points", POINT),
    ("mean error of epochs 1 to 10, calibrated", "mean", 10, "calibrated", "points", POINT),
    ("error after 10 epochs, as logged", "after", 10, "test_error", "points", POINT),
)
"""What would answer the papers' question, and the difference that would matter."""


class Outcome(NamedTuple):
    """What the runs say of a claim."""

    verdict: str
    seeds: list[int]  # of the lower and of the higher side
    effect: Effect | None  # higher minus lower, if both were measured
    reason: str = ""  # why it is undecided for want of runs


def judge(claim: Any, runs: Runs) -> Outcome:
    """Apply the rule to a row of `CLAIMS`."""
    reason, sides = "", _measured(claim, runs, 0)
    if any(math.inf in side.values for side in sides):
        sides = _measured(claim, runs, HORIZON)
        if any(math.inf in side.values for side in sides):
            reason = "a seed did not get there"
    lower, higher = (side[side != math.inf] for side in sides)
    seeds = [len(lower), len(higher)]
    if not all(seeds):
        return Outcome("undecided", seeds, None, "no run")
    found = effect(higher, lower, paired=claim.before > 0)
    if not reason and math.isnan(found.low):
        reason = "fewer than 2 seeds"
    if reason:
        return Outcome("undecided", seeds, found, reason)
    matters = POINT if math.isnan(claim.relative) else claim.relative / 2 * higher.mean()
    return Outcome(_verdict(claim.how == "close", found, matters), seeds, found)


def _measured(claim: Any, runs: Runs, shortest: int) -> list[pd.Series]:
    """What each seed of the lower and of the higher side gives, of runs that are so long."""
    sides = []
    for arm, at in ((claim.lower, claim.at), (claim.higher, claim.before or claim.at)):
        epochs = runs.of(arm, claim.dataset)
        sides.append(measure(epochs[epochs.length >= shortest], claim.how, claim.column, at))
    return sides


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
            rows.append([text, str(len(differences)), spread, f"{matters:g}", str(count)])
    return rows


def _verdict(close: bool, found: Effect, matters: float) -> str:
    if close and found.low > -CLOSE and found.high < CLOSE:
        return "reproduced"
    if close:
        return "not reproduced" if found.low > CLOSE or found.high < -CLOSE else "undecided"
    if found.low > 0:
        return "reproduced"
    if found.high < 0:
        return "reversed"
    return "not reproduced" if found.high < matters else "undecided"
