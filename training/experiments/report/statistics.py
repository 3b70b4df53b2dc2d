"""Means, spreads and confidence intervals over seeds."""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.9
BOOTSTRAP = 10  # pairs from which on intervals are the bootstrap's
ROUNDING = 1e-9  # values that are closer together are the same
NONE = "-"


@dataclass(frozen=True)
class Effect:
    """A mean difference, with its confidence interval, which is NaN with fewer than 2 seeds."""

    value: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan  # of the t test that there is no difference
    count: int = 0  # pairs of runs, or, of unpaired ones, runs of the side that has fewer

    def __str__(self) -> str:
        known = f" [{self.low:+.2f}, {self.high:+.2f}]" if not math.isnan(self.low) else ""
        return f"{self.value:+.2f}{known}"


def effect(higher: pd.Series, lower: pd.Series) -> Effect:
    """How far one side is above another.

    Runs of the same seed start with the same weights and see the same images in the same order:
    where two or more seeds are on both sides, it is the mean of their differences, with Student's
    interval, and from `BOOTSTRAP` pairs on the bootstrap's (BCa). Else it is Welch's, of
    independent samples.

    Args:
        higher: Values by seed, of which there are some.
        lower: The same of the other side.
    """
    differences = (higher - lower).dropna().to_numpy()
    paired = len(differences) > 1
    sides = [differences] if paired else [higher.to_numpy(), lower.to_numpy()]
    value = float(sides[0].mean() - (0 if paired else sides[1].mean()))
    count = min(map(len, sides))
    if count < 2:
        return Effect(value, count=count)
    if max(np.ptp(side) for side in sides) < ROUNDING:
        return Effect(value, value, value, float(abs(value) < ROUNDING), count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one of the sides may be constant
        test = stats.ttest_1samp(*sides, 0) if paired else stats.ttest_ind(*sides, equal_var=False)
        interval = test.confidence_interval(CONFIDENCE)
        if paired and count >= BOOTSTRAP:
            options = {"n_resamples": 9999, "confidence_level": CONFIDENCE, "random_state": 0}
            interval = stats.bootstrap(sides, np.mean, **options).confidence_interval
    return Effect(value, float(interval.low), float(interval.high), float(test.pvalue), count)


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p-values, in their order, by Holm's step-down method."""
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.asarray(p, float)[order] * factors)
    return np.minimum(corrected, 1).tolist()


def detectable(differences: pd.Series) -> float:
    """The mean difference that so many pairs find in 9 of 10 experiments, as `seeds_needed`."""
    count = len(differences)
    size = optimize.brentq(lambda size: _power(size, count) - POWER, 0, 100 / math.sqrt(count))
    return float(size * max(differences.std(), ROUNDING))


def seeds_needed(differences: pd.Series, matters: float) -> int | None:
    """How many pairs of runs find a mean difference in 9 of 10 experiments, by a paired t test.

    Args:
        differences: Of the pairs that there are, whose spread is taken for the true one.
        matters: The difference to be found, at the level of `effect`'s intervals.

    Returns:
        `None` with fewer than 2 pairs.
    """
    if len(differences) < 2:
        return None
    size = matters / max(differences.std(), ROUNDING)
    return next(count for count in itertools.count(2) if _power(size, count) >= POWER)


def _power(size: float, count: int) -> float:
    """Of a paired t test, where the mean difference is so many standard deviations."""
    threshold = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return float(stats.nct.sf(threshold, count - 1, size * math.sqrt(count)))


def summary(values: pd.Series) -> str:
    """Mean, sample standard deviation and number."""
    if values.empty:
        return NONE
    spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread} (n = {len(values)})"
