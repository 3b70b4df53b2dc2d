"""Means, spreads and confidence intervals over seeds."""

import itertools
import math
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.9
ROUNDING = 1e-9  # values that are closer together are the same
NONE = "-"


class Effect(NamedTuple):
    """A mean difference, with its confidence interval, which is NaN with fewer than 2 seeds."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        known = f" [{self.low:+.2f}, {self.high:+.2f}]" if not math.isnan(self.low) else ""
        return f"{self.value:+.2f}{known}"


def effect(higher: pd.Series, lower: pd.Series, paired: bool = False) -> Effect:
    """How far one side is above another: Welch's t interval, whose seeds are independent samples.

    Args:
        higher: Values by seed, of which there are some.
        lower: The same of the other side.
        paired: Whether both are of the same runs: then it is the t interval of the differences.
    """
    sides = [higher, lower]
    if paired:
        sides = [(higher - lower).dropna()]
    value = float(sides[0].mean() - (0 if paired else lower.mean()))
    if min(map(len, sides)) < 2:
        return Effect(value)
    if max(np.ptp(side.to_numpy()) for side in sides) < ROUNDING:
        return Effect(value, value, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one of the sides may be constant
        test = stats.ttest_1samp(*sides, 0) if paired else stats.ttest_ind(*sides, equal_var=False)
        interval = test.confidence_interval(CONFIDENCE)
    return Effect(value, float(interval.low), float(interval.high))


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
    for count in itertools.count(2):
        threshold = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
        if stats.nct.sf(threshold, count - 1, size * math.sqrt(count)) >= POWER:
            return count
    raise AssertionError


def summary(values: pd.Series) -> str:
    """Mean, sample standard deviation and number."""
    if values.empty:
        return NONE
    spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{spread} (n = {len(values)})"
