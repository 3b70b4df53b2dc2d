"""The papers' claims, and the rule by which each gets its verdict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from training.experiments.plan import DATASETS, HORIZON
from training.experiments.report import statistics
from training.experiments.report.runs import Run, of

Verdict = Literal["reproduced", "not reproduced", "reversed", "undecided"]
Measure = Callable[[Run], float | None]

RULE = """\
A claim says that one thing is lower than another (an error, a number of epochs, a share of gates).
Its effect is the difference of the two means over the seeds, positive where it goes as claimed,
with a 95 % confidence interval: Welch's t interval between two arms, a t interval of the
differences within each run where one run is compared with itself. The effect that matters is half
of the paper's relative effect, applied to the measured mean of what is claimed to be higher; where
the paper gives no number it is 1 percentage point.

- reproduced: the whole interval is above 0.
- reversed: the whole interval is below 0.
- not reproduced: the interval holds 0 and lies below the effect that matters.
- undecided: the interval holds 0 and reaches the effect that matters; or one side has fewer than 2
  seeds that were trained so far, or one that did not get to the error in question.

A claim that two arms are close is reproduced where the interval lies within 2 percentage points
around 0, not reproduced where it lies outside, and else undecided. The intervals are not corrected
for the number of claims. Errors are top-1 errors on the test split after each epoch. An error
counts as reached in the first of two epochs in a row that are at or below it, so that one lucky
epoch does not count, and the effect interpolates linearly from the epoch before; where not every
seed gets there, only runs of at least 30 epochs are compared."""

POINT = 1.0
CLOSE = 2.0


@dataclass(frozen=True)
class Claim:
    """Something that the papers, or the controls, say about two quantities.

    Attributes:
        text: The claim.
        source: Where it stands.
        unit: Of the effect.
        lower: What is claimed to be lower: an arm, and what is measured of its runs.
        higher: What is claimed to be higher.
        relative: The paper's effect as a share of the higher value; `None` where it has no number.
        kind: "lower" compares two arms, "within" two quantities of the same runs, "close" claims
            that there is no difference that matters.
        dataset: Whose runs count.
    """

    text: str
    source: str
    unit: str
    lower: tuple[str, Measure]
    higher: tuple[str, Measure]
    relative: float | None = None
    kind: Literal["lower", "within", "close"] = "lower"
    dataset: str = "cifar10"


@dataclass(frozen=True)
class Outcome:
    """What the runs say of a claim.

    Attributes:
        claim: Which.
        verdict: By `RULE`.
        seeds: How many runs there are of the lower and of the higher side.
        effect: Higher minus lower, if both were measured.
        reason: Why the claim is undecided for want of runs; empty otherwise.
    """

    claim: Claim
    verdict: Verdict
    seeds: tuple[int, int]
    effect: statistics.Difference | None
    reason: str = ""


def error_after(epoch: int) -> Measure:
    """Measures the test error."""
    return lambda run: run.error_after(epoch)


def training_error_after(epoch: int) -> Measure:
    """Measures the mean error of an epoch's augmented batches, each before its step."""
    return lambda run: run.error_after(epoch, "train_error")


def calibrated_error_after(epoch: int) -> Measure:
    """Measures the test error with batch norm's statistics averaged over many batches."""
    return lambda run: run.calibrated_error_after(epoch)


def mean_calibrated_error(epochs: int) -> Measure:
    """Measures the mean over the first epochs of the test error with batch norm calibrated."""

    def measure(run: Run) -> float | None:
        errors = run.errors(calibrated=True)[:epochs]
        return float(np.mean(errors)) if len(errors) == epochs else None

    return measure


def epochs_to(error: float, calibrated: bool = False) -> Measure:
    """Measures the epochs until an error is reached; infinite where it never is."""
    return lambda run: run.time_to(error, calibrated)


def between(epoch: int) -> Measure:
    """Measures the share of SE1's channel weights, in percent, that are neither low nor high.

    Before FMB; in the 18 of 20 bins between the first and the last.
    """

    def measure(run: Run) -> float | None:
        rows = run.gate_rows(epoch)
        return 100 * sum(rows[0][f"bin_{i:02d}"] for i in range(1, 19)) if rows else None

    return measure


def active(epoch: int) -> Measure:
    """Measures the share of all modules' channels, in percent, that some image opens."""

    def measure(run: Run) -> float | None:
        rows = run.gate_rows(epoch)
        if not rows:
            return None
        channels = [row["channels"] for row in rows]
        return 100 * float(np.average([row["ever_open"] for row in rows], weights=channels))

    return measure


def _faster(text: str, source: str, lower: str, higher: str, epoch: int, relative: float) -> Claim:
    """A claim on the errors after an epoch."""
    measure = error_after(epoch)
    return Claim(text, source, "points", (lower, measure), (higher, measure), relative)


T1, T2, T3 = "P1, Table I", "P1, Table II", "P1, Table III"
TO_30 = epochs_to(30)

PAPER: Sequence[Claim] = [
    _faster("FMB lowers sigmoid's error", T1, "sigmoid_fmb", "sigmoid", 9, 0.4464),
    _faster("FMB to the letter lowers sigmoid's error", T1, "sigmoid_cut", "sigmoid", 9, 0.4464),
    _faster("tanh + FMB beats sigmoid", T1, "tanh_fmb", "sigmoid", 9, 0.4072),
    _faster("tanh beats sigmoid", T1, "tanh", "sigmoid", 9, 0.1995),
    _faster("FMB lowers tanh's error", T1, "tanh_fmb", "tanh", 9, 1 - (1 - 0.4072) / (1 - 0.1995)),
    _faster("sigmoid + FMB beats float32", T2, "sigmoid_fmb", "float32", 6, 1 - 36.27 / 50.29),
    _faster("FMB to the letter beats float32", T2, "sigmoid_cut", "float32", 6, 1 - 36.27 / 50.29),
    _faster("tanh + FMB beats float32", T2, "tanh_fmb", "float32", 6, 1 - 46.54 / 50.29),
    _faster("sigmoid + FMB beats tanh + FMB", T2, "sigmoid_fmb", "tanh_fmb", 6, 1 - 36.27 / 46.54),
    Claim(
        "FMB reaches 30 % error in fewer epochs",
        T3,
        "epochs",
        ("sigmoid_fmb", TO_30),
        ("sigmoid", TO_30),
        1 - 9 / 23,
    ),
    Claim(
        "After 100 epochs the arms are close together",
        "P1, Fig. 10",
        "points",
        ("sigmoid_fmb", error_after(100)),
        ("sigmoid", error_after(100)),
        kind="close",
    ),
    Claim(
        "Fewer of SE1's gates lie between 0 and 1 at epoch 10 than at epoch 1, without FMB",
        "P1, Figs. 4 and 5",
        "points",
        ("sigmoid", between(10)),
        ("sigmoid", between(1)),
        kind="within",
    ),
    Claim(
        "FMB reduces the number of active channels (after 10 epochs)",
        "P2",
        "points",
        ("sigmoid_fmb", active(10)),
        ("sigmoid", active(10)),
    ),
    Claim(
        f"FMB lowers sigmoid's error on the {DATASETS['svhn_cropped']}, after 10 epochs",
        "P2",
        "points",
        ("sigmoid_fmb", error_after(10)),
        ("sigmoid", error_after(10)),
        dataset="svhn_cropped",
    ),
]

CONTROLS: Sequence[Claim] = [
    _faster(text, "control", lower, higher, 9, 0.0)
    for text, lower, higher in (
        ("Attention lowers the error, without FMB", "sigmoid", "no_se"),
        ("Attention with FMB lowers the error", "sigmoid_fmb", "no_se"),
        ("Learned gates beat random ones, with FMB", "sigmoid_fmb", "frozen_fmb"),
        ("Masking by random gates beats no attention", "frozen_fmb", "no_se"),
        ("Masking by random gates beats learned soft ones", "frozen_fmb", "sigmoid"),
        ("A gradient through FMB lowers the error", "sigmoid_fmb", "sigmoid_cut"),
        ("FMB lowers hard_tanh's error", "hard_tanh_fmb", "hard_tanh"),
        ("A scale in front of the gate lowers the error", "sigmoid_scale", "sigmoid"),
        ("A scale in front of FMB lowers the error", "sigmoid_scale_fmb", "sigmoid_fmb"),
        ("Scaled attention lowers the error, without FMB", "sigmoid_scale", "no_se"),
        ("Scaled attention with FMB lowers the error", "sigmoid_scale_fmb", "no_se"),
        ("FMB lowers the error of scaled attention", "sigmoid_scale_fmb", "sigmoid_scale"),
        (
            "FMB throughout beats FMB for the first epochs",
            "sigmoid_fmb",
            "sigmoid_first5",
        ),
    )
]


_CALIBRATED = {
    T1: calibrated_error_after(10),
    T3: epochs_to(30, calibrated=True),
    "control": calibrated_error_after(10),
}

CALIBRATED: Sequence[Claim] = [
    *(
        replace(
            claim,
            lower=(claim.lower[0], _CALIBRATED[claim.source]),
            higher=(claim.higher[0], _CALIBRATED[claim.source]),
        )
        for claim in [*PAPER, *CONTROLS]
        if claim.source in _CALIBRATED
    ),
    *(
        Claim(
            f"FMB lowers {title}'s mean error over epochs 1 to 10",
            "control",
            "points",
            (f"{arm}_fmb", mean_calibrated_error(10)),
            (arm, mean_calibrated_error(10)),
        )
        for arm, title in (("sigmoid", "sigmoid"), ("sigmoid_scale", "scaled sigmoid"))
    ),
    *(
        Claim(
            f"FMB lowers sigmoid's error on {where} after {epoch} epochs",
            "control",
            "points",
            ("sigmoid_fmb", calibrated_error_after(epoch)),
            ("sigmoid", calibrated_error_after(epoch)),
            dataset=dataset,
        )
        for dataset, where, epoch in (
            ("cifar10", "CIFAR-10", 30),
            ("svhn_cropped", f"the {DATASETS['svhn_cropped']}", 60),
        )
    ),
]


def judge(claim: Claim, runs: Sequence[Run]) -> Outcome:
    """Apply `RULE` to the runs."""
    measured = _measured(claim, runs)
    reason = ""
    if math.inf in measured[0] + measured[1]:
        measured = _measured(claim, [run for run in runs if len(run.log) >= HORIZON])
        if math.inf in measured[0] + measured[1]:
            reason = "a seed did not get there"
    values = [[x for x in side if x is not None and x != math.inf] for side in measured]
    seeds = (len(values[0]), len(values[1]))
    if not all(seeds):
        return Outcome(claim, "undecided", seeds, None, "no run")
    if claim.kind == "within":
        pairs = [(a, b) for a, b in zip(*measured, strict=True) if a is not None and b is not None]
        effect = statistics.mean_difference([b - a for a, b in pairs])
    else:
        effect = statistics.difference(values[1], values[0])
    if reason:
        return Outcome(claim, "undecided", seeds, effect, reason)
    if effect.low is None or effect.high is None:
        return Outcome(claim, "undecided", seeds, effect, "fewer than 2 seeds")
    matters = POINT
    if claim.relative:
        matters = claim.relative / 2 * float(np.mean(values[1]))
    return Outcome(claim, _verdict(claim.kind, effect.low, effect.high, matters), seeds, effect)


def _measured(claim: Claim, runs: Sequence[Run]) -> list[list[float | None]]:
    """What each run of the lower and of the higher side gives."""
    return [
        [measure(run) for run in of(runs, arm, claim.dataset)]
        for arm, measure in (claim.lower, claim.higher)
    ]


def _verdict(kind: str, low: float, high: float, matters: float) -> Verdict:
    if kind == "close":
        if low > -CLOSE and high < CLOSE:
            return "reproduced"
        return "not reproduced" if low > CLOSE or high < -CLOSE else "undecided"
    if low > 0:
        return "reproduced"
    if high < 0:
        return "reversed"
    return "not reproduced" if high < matters else "undecided"
