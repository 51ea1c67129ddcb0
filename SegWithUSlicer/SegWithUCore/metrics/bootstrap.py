"""Confidence intervals over cases; never over voxels, which are not independent.

Where several volumes come from one patient they are drawn together: two phases of one heart are no two cases.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .patients import by_patient, numbered

LEVEL_PERCENTILES = (2.5, 97.5)
_SEED = 0
_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A metric and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
) -> Interval:
    """Mean of `first - second` over cases, with the percentile interval of resampled cases or groups.

    Args:
        first, second: one metric a case, the same cases in the same order.
        groups: of each case, such as its patient; None if every case stands alone.
        weights: of each case in the mean; None for 1.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    return mean_interval(difference.tolist(), groups, weights)


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable] | None = None, weights: Sequence[float] | None = None
) -> Interval:
    """Mean over cases, with the percentile interval of resampled cases or groups; cases without a value are left out.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993); groups: Field and Welsh, JRSS B 69 (2007).
    """
    metrics = np.asarray(values, float)
    known = np.isfinite(metrics)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    ids = range(metrics.size) if groups is None else groups
    numbers = numbered([ids[index] for index in np.flatnonzero(known).tolist()])
    weight = np.ones(metrics.size)[known] if weights is None else np.asarray(weights, float)[known]
    sums, sizes = np.bincount(numbers, weight * metrics[known]), np.bincount(numbers, weight)
    picks = np.random.default_rng(_SEED).integers(sums.size, size=(_DRAWS, sums.size))
    low, high = np.percentile(sums[picks].sum(1) / sizes[picks].sum(1), LEVEL_PERCENTILES)
    return Interval(float(np.average(metrics[known], weights=weight)), float(low), float(high))


def metric_interval(metric: Callable[[np.ndarray], float], groups: Sequence[Hashable], draws: int = 1000) -> Interval:
    """Any metric over cases, with the percentile interval of resampled groups.

    Args:
        metric: of the cases with these indices; draws for which it is NaN are left out.
        groups: of each case.
    """
    members = [np.asarray(cases) for cases in by_patient(groups).values()]
    picks = np.random.default_rng(_SEED).integers(len(members), size=(draws, len(members)))
    found = np.asarray([metric(np.concatenate([members[number] for number in row])) for row in picks])
    found = found[np.isfinite(found)]
    low, high = np.percentile(found, LEVEL_PERCENTILES) if found.size else (float("nan"), float("nan"))
    return Interval(metric(np.arange(len(groups))), float(low), float(high))


def ratio_interval(above: Sequence[float], below: Sequence[float], groups: Sequence[Hashable]) -> Interval:
    """Ratio of two sums over cases, with the interval that `metric_interval` gives, ten times as quickly.

    Args:
        above, below: of each case; a case without one of them (NaN) adds nothing.
        groups: of each case; draws in which `below` sums to 0 are left out.
    """
    numbers = numbered(groups)
    values = np.asarray([above, below], float)
    values[:, ~np.isfinite(values).all(0)] = 0.0
    sums = np.asarray([np.bincount(numbers, row) for row in values])
    picks = np.random.default_rng(_SEED).integers(sums.shape[1], size=(1000, sums.shape[1]))
    drawn = sums[:, picks].sum(2)
    there = drawn[1] != 0
    found = drawn[0, there] / drawn[1, there]
    low, high = np.percentile(found, LEVEL_PERCENTILES) if found.size else (float("nan"), float("nan"))
    whole = values.sum(1)
    return Interval(float(whole[0] / whole[1]) if whole[1] else float("nan"), float(low), float(high))
