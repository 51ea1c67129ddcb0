"""Metrics of error detection over any number of voxels, in one pass and bounded memory.

A float32 read as an integer keeps its order, so the upper 16 of its bits are bins whose width follows the value: 2^-8
relative, over the whole range, without knowing it beforehand. The counts of a bin are a group of `ScoreGroups`: voxels
within one bin count as ties, and `metric_bounds` tells how far that can move a metric.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from .error_detection import (
    ScoreGroups,
    augrc,
    aurc,
    auroc,
    average_precision,
    excess_aurc,
    false_positive_rate,
    risk_at_coverage,
    score_groups,
    share_of_errors_within,
)

BINS = 1 << 16
CHUNK = 1 << 18
"""Voxels a step: their casts fit L2 (`Testing/Benchmarks/metrics_speed.py` compares sizes)."""
_NONE, _SEVERAL = -1, 1 << 16
"""Instead of the lower bits that all scores of a bin share: there are no scores yet, or they differ."""


class ScoreHistogram:
    """Counts of voxels and of wrong voxels by score; sums of histograms are histograms of all their voxels.

    It also knows which bins hold a single value: those voxels are true ties, and no error comes from binning them.
    """

    def __init__(self) -> None:
        self._voxels = np.zeros(BINS, np.int64)
        self._wrong = np.zeros(BINS, np.int64)
        self._lower = np.full(BINS, _NONE, np.int32)

    def add(self, score: np.ndarray, error: np.ndarray) -> None:
        """Count voxels.

        Args:
            score: higher = riskier, any shape; counted as float32; negative values are in order.
            error: boolean, of the same shape.

        Raises:
            ValueError: another shape, or a score that is not a number.
        """
        if score.shape != error.shape:
            raise ValueError(f"{score.shape} scores but {error.shape} errors.")
        flat, wrong = np.ravel(score), np.ravel(error)
        if wrong.dtype != np.bool_:
            wrong = wrong.astype(np.bool_)
        added = ScoreHistogram()
        for start in range(0, flat.size, CHUNK):
            added._count(flat[start : start + CHUNK], wrong[start : start + CHUNK])
        if added._voxels[_NOT_A_NUMBER].any():
            raise ValueError(f"{added._voxels[_NOT_A_NUMBER].sum()} scores are not a number.")
        added._join_zeros()
        self._include(added)

    def _count(self, scores: np.ndarray, wrong: np.ndarray) -> None:
        halves = np.ascontiguousarray(scores, "<f4").view("<u2").reshape(-1, 2)
        upper, lower = halves[:, 1].astype(np.intp), halves[:, 0]
        self._voxels += np.bincount(upper, minlength=BINS)
        self._wrong += np.bincount(upper[np.flatnonzero(wrong)], minlength=BINS)
        known = self._lower[upper]
        odd = np.flatnonzero((known != lower) & (known != _SEVERAL))
        if odd.size:
            bins, values = upper[odd], lower[odd]
            first = self._lower[bins] == _NONE
            self._lower[bins[first]] = values[first]
            self._lower[bins[self._lower[bins] != values]] = _SEVERAL

    def _join_zeros(self) -> None:
        """Count -0 with 0."""
        for counts in (self._voxels, self._wrong):
            counts[0] += counts[_MINUS_ZERO]
            counts[_MINUS_ZERO] = 0
        if self._lower[_MINUS_ZERO] > 0:  # numbers too small for float32's full precision
            self._lower[0] = _SEVERAL
        elif self._lower[_MINUS_ZERO] == 0:
            self._lower[0] = 0 if self._lower[0] in (_NONE, 0) else _SEVERAL
        self._lower[_MINUS_ZERO] = _NONE

    def _include(self, other: "ScoreHistogram") -> None:
        self._voxels += other._voxels
        self._wrong += other._wrong
        first, second = self._lower, other._lower
        both = np.where(first == second, first, _SEVERAL)
        self._lower = np.where(first == _NONE, second, np.where(second == _NONE, first, both)).astype(np.int32)

    def __add__(self, other: "ScoreHistogram") -> "ScoreHistogram":
        both = ScoreHistogram()
        both._include(self)
        both._include(other)
        return both

    def groups(self) -> ScoreGroups:
        """Return the bins that hold voxels, safest first, for every function of `error_detection`."""
        voxels, wrong, lower = (counts[_IN_ORDER] for counts in (self._voxels, self._wrong, self._lower))
        held = voxels > 0
        return ScoreGroups(voxels[held], wrong[held], lower[held] == _SEVERAL)


def _ascending_bins() -> np.ndarray:
    """Numbers of the bins from the smallest score to the largest: negative ones run backwards."""
    negative = np.arange(BINS - 1, BINS // 2 - 1, -1)
    return np.concatenate([negative, np.arange(BINS // 2)])


_IN_ORDER = _ascending_bins()
_MINUS_ZERO = 1 << 15
_NOT_A_NUMBER = np.flatnonzero((np.arange(BINS) & 0x7FFF) > 0x7F80)


def metric_bounds(groups: ScoreGroups, metric: Callable[[ScoreGroups], float]) -> tuple[float, float]:
    """Least and greatest value that a metric can have, however the voxels of each group are ordered in truth.

    Holds for every metric that only gets better when a correct voxel changes places with a riskier wrong one, as all
    metrics of `error_detection` do: within each group the wrong voxels are put last, then first.

    Args:
        groups: those that are `binned` count as being in unknown order, the others as ties.
        metric: such as `auroc`.
    """
    binned = np.zeros(groups.voxels.size, bool) if groups.binned is None else groups.binned
    right = groups.voxels - groups.wrong
    values = []
    for riskiest in (groups.wrong, right):
        first = np.where(binned, groups.voxels - riskiest, groups.voxels)
        last = np.where(binned, riskiest, 0)
        wrong_first = np.where(binned, first if riskiest is right else 0, groups.wrong)
        voxels = np.stack([first, last], 1).ravel()
        wrong = np.stack([wrong_first, groups.wrong - wrong_first], 1).ravel()
        held = voxels > 0
        values.append(metric(ScoreGroups(voxels[held], wrong[held])))
    return min(values), max(values)


SORTED_UP_TO = 1 << 21
"""Voxels up to which a case is sorted, which is exact and takes less than a second; larger ones are binned."""

METRICS: dict[str, Callable[[ScoreGroups], float]] = {
    "auroc": auroc,
    "auprc": average_precision,
    "aurc": aurc,
    "e-aurc": excess_aurc,
    "augrc": augrc,
    "fpr95": false_positive_rate,
    "risk at 80 %": partial(risk_at_coverage, coverage=0.8),
    "found in 1 %": partial(share_of_errors_within, share=0.01),
    "found in 2 %": partial(share_of_errors_within, share=0.02),
    "found in 5 %": partial(share_of_errors_within, share=0.05),
}
"""Metrics by title: `error_detection` says what each means; "found in 1 %" is the share of the wrong voxels among the
riskiest 1 % of the region, a review budget."""
WHOLE: dict[str, np.ndarray | None] = {"whole": None}


def metrics_of(groups: ScoreGroups) -> dict[str, float]:
    """All of `METRICS`; NaN if there are no errors to be found."""
    return {title: metric(groups) for title, metric in METRICS.items()}


def binning_error(groups: ScoreGroups) -> dict[str, float]:
    """Bound how far each of `METRICS` of binned voxels can be off, whatever their order within the bins."""
    errors = {}
    for title, metric in METRICS.items():
        value, (low, high) = metric(groups), metric_bounds(groups, metric)
        errors[title] = max(high - value, value - low)
    return errors


def region_groups(
    score: np.ndarray,
    error: np.ndarray,
    regions: Mapping[str, np.ndarray | None] = WHOLE,
    sorted_up_to: int = SORTED_UP_TO,
) -> dict[str, ScoreGroups]:
    """Voxels of each region by score, sorted once for all regions; binned where there are more than `sorted_up_to`.

    Args:
        score: higher = riskier, any shape.
        error: boolean, of the same shape.
        regions: boolean masks of that shape by name, None for all voxels.
    """
    if score.size > sorted_up_to:
        return {name: region_histogram(score, error, mask).groups() for name, mask in regions.items()}
    order = np.argsort(score, axis=None, kind="stable")
    ascending, wrong = np.ravel(score)[order], np.ravel(error)[order]
    groups = {}
    for name, mask in regions.items():
        here = slice(None) if mask is None else np.ravel(mask)[order]
        groups[name] = score_groups(ascending[here], wrong[here])
    return groups


def region_histogram(score: np.ndarray, error: np.ndarray, mask: np.ndarray | None) -> ScoreHistogram:
    """Count the voxels of one region, to be added to those of other cases; `mask` is None for all voxels."""
    histogram = ScoreHistogram()
    if mask is None:
        histogram.add(score, error)
    else:
        histogram.add(score[mask], error[mask])
    return histogram


def score_metrics(
    score: np.ndarray, error: np.ndarray, regions: Mapping[str, np.ndarray | None] = WHOLE
) -> dict[str, float]:
    """All metrics of one score on one case.

    Args:
        score: any score, higher = riskier, any shape.
        error: where the segmentation is wrong, boolean, of the same shape.
        regions: boolean masks of that shape by name, None for all voxels.

    Returns:
        Metrics by title: the name of a metric and of a region, such as "auroc band".
    """
    found = region_groups(score, error, regions)
    return {f"{title} {name}": value for name, groups in found.items() for title, value in metrics_of(groups).items()}
