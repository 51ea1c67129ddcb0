"""How well a confidence tells good cases from bad ones, and how well a case's numbers hold.

The risk of a case is a real number, such as 1 - mean Dice; otherwise the metrics are those of `error_detection` with
cases for voxels. Cases for which risk or confidence is NaN are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .error_detection import ScoreGroups, augrc, aurc


@dataclass(frozen=True)
class IntervalMetrics:
    """Coverage and width of intervals.

    Attributes:
        coverage: share of cases whose true value lies in the interval, ends included.
        width: mean width.
        relative_width: mean of width over true value, where that is not 0.
        cases: that have an interval.
    """

    coverage: float
    width: float
    relative_width: float
    cases: int


def case_groups(confidence: Sequence[float] | np.ndarray, risk: Sequence[float] | np.ndarray) -> ScoreGroups:
    """Cases by confidence, the surest first; `wrong` holds sums of risk.

    Args:
        confidence: higher = better, one a case.
        risk: 0 to 1, one a case.
    """
    sure, risks = np.asarray(confidence, float), np.asarray(risk, float)
    known = np.isfinite(sure) & np.isfinite(risks)
    values, numbers = np.unique(-sure[known], return_inverse=True)
    return ScoreGroups(
        np.bincount(numbers, minlength=values.size), np.bincount(numbers, risks[known], minlength=values.size)
    )


def case_aurc(confidence: Sequence[float] | np.ndarray, risk: Sequence[float] | np.ndarray) -> float:
    """Area under the risk-coverage curve over cases: mean over k of the mean risk of the k surest; NaN without cases.

    Source: Jaeger et al., ICLR 2023; with 1 - mean Dice as risk: Zenk et al., Medical Image Analysis 101 (2025).
    """
    return aurc(case_groups(confidence, risk))


def case_excess_aurc(confidence: Sequence[float] | np.ndarray, risk: Sequence[float] | np.ndarray) -> float:
    """AURC beyond that of the confidence that orders the cases by their true risk."""
    sure, risks = np.asarray(confidence, float), np.asarray(risk, float)
    known = np.isfinite(sure) & np.isfinite(risks)
    return case_aurc(sure[known], risks[known]) - case_aurc(-risks[known], risks[known])


def case_augrc(confidence: Sequence[float] | np.ndarray, risk: Sequence[float] | np.ndarray) -> float:
    """Area under the generalised risk-coverage curve over cases (Traub et al., NeurIPS 2024); NaN without cases."""
    return augrc(case_groups(confidence, risk))


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Rank correlation, ties with their mean rank; NaN for less than two cases, or where all are equal."""
    x, y = np.asarray(first, float), np.asarray(second, float)
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 2:
        return float("nan")
    a, b = (ranks - ranks.mean() for ranks in (rankdata(x[known]), rankdata(y[known])))
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else float("nan")


def mean_absolute_error(predicted: Sequence[float] | np.ndarray, true: Sequence[float] | np.ndarray) -> float:
    """Mean of |predicted - true| over the cases that have both; NaN if none has."""
    errors = np.abs(np.asarray(predicted, float) - np.asarray(true, float))
    known = np.isfinite(errors)
    return float(errors[known].mean()) if known.any() else float("nan")


def interval_metrics(low: Sequence[float], high: Sequence[float], true: Sequence[float]) -> IntervalMetrics:
    """Coverage and width of intervals, one a case; NaN ends where a case has none."""
    lower, upper, value = (np.asarray(values, float) for values in (low, high, true))
    known = np.isfinite(lower) & np.isfinite(upper) & np.isfinite(value)
    lower, upper, value = lower[known], upper[known], value[known]
    if not value.size:
        return IntervalMetrics(float("nan"), float("nan"), float("nan"), 0)
    width, exists = upper - lower, value > 0
    return IntervalMetrics(
        float(((lower <= value) & (value <= upper)).mean()),
        float(width.mean()),
        float((width[exists] / value[exists]).mean()) if exists.any() else float("nan"),
        int(value.size),
    )
