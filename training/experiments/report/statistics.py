"""Means, spreads and confidence intervals over seeds."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ROUNDING = 1e-9  # values that are closer together are the same


@dataclass(frozen=True)
class Difference:
    """The difference of two means, with its confidence interval.

    Attributes:
        value: First mean minus second.
        low: Lower end of the interval; `None` with fewer than 2 seeds on a side.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


def spread(values: Sequence[float]) -> float | None:
    """The sample's standard deviation; `None` for fewer than 2 values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Welch's t interval of the difference of two means; the seeds are independent samples."""
    value = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return Difference(value)
    if max(np.ptp(first), np.ptp(second)) < ROUNDING:
        return Difference(value, value, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one of the sides may be constant
        interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return Difference(value, float(interval.low), float(interval.high))


def mean_difference(differences: Sequence[float]) -> Difference:
    """The t interval of the mean of differences that were each taken within one run."""
    value = float(np.mean(differences))
    if len(differences) < 2:
        return Difference(value)
    if np.ptp(differences) < ROUNDING:
        return Difference(value, value, value)
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return Difference(value, float(interval.low), float(interval.high))
