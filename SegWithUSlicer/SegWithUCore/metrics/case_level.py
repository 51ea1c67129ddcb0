"""Measure how well the numbers of cases hold: predicted Dice and volume intervals; NaN cases are left out."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata


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


def interval_metrics(low: Sequence[float], high: Sequence[float], true: Sequence[float]) -> dict[str, float]:
    """Measure intervals, one a case; NaN ends where a case has none.

    Returns:
        `coverage`, the share of cases whose true value lies in the interval, ends included; mean `width`;
        `relative_width`, the mean of width over true value where that is not 0; `cases` that have an interval.
    """
    values = np.asarray([low, high, true], float)
    lower, upper, value = values[:, np.isfinite(values).all(0)]
    width, exists = upper - lower, value > 0
    parts = {
        "coverage": (lower <= value) & (value <= upper),
        "width": width,
        "relative_width": width[exists] / value[exists],
    }
    means = {name: float(each.mean()) if each.size else float("nan") for name, each in parts.items()}
    return {**means, "cases": value.size}
