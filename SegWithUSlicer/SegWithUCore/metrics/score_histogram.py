"""Metrics of error detection over any number of voxels, in one pass and bounded memory.

A float32 read as an integer keeps its order, so the upper 16 of its bits are bins whose width follows the value: 2^-8
relative, over the whole range, without knowing it beforehand. The counts of a bin are a group of `ScoreGroups`: voxels
within one bin count as ties, which moves no metric by more than 0.001 (a test).
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
"""Voxels a step: their casts fit L2."""


class ScoreHistogram:
    """Counts of voxels and of wrong voxels by score; sums of histograms are histograms of all their voxels."""

    def __init__(self) -> None:
        self._voxels = np.zeros(BINS, np.int64)
        self._wrong = np.zeros(BINS, np.int64)

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
        if np.isnan(flat).any():
            raise ValueError(f"{np.isnan(flat).sum()} scores are not a number.")
        for start in range(0, flat.size, CHUNK):
            scores = np.ascontiguousarray(flat[start : start + CHUNK], "<f4")
            upper = (scores + np.float32(0)).view("<u2")[1::2].astype(np.intp)  # + 0: -0 counts as 0
            self._voxels += np.bincount(upper, minlength=BINS)
            self._wrong += np.bincount(upper[np.flatnonzero(wrong[start : start + CHUNK])], minlength=BINS)

    def __add__(self, other: "ScoreHistogram") -> "ScoreHistogram":
        both = ScoreHistogram()
        both._voxels, both._wrong = self._voxels + other._voxels, self._wrong + other._wrong
        return both

    def groups(self) -> ScoreGroups:
        """Return the bins that hold voxels, safest first, for every function of `error_detection`."""
        voxels, wrong = self._voxels[_IN_ORDER], self._wrong[_IN_ORDER]
        return ScoreGroups(voxels[voxels > 0], wrong[voxels > 0])


_IN_ORDER = np.concatenate([np.arange(BINS - 1, BINS // 2 - 1, -1), np.arange(BINS // 2)])
"""Numbers of the bins from the smallest score to the largest: negative ones run backwards."""
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
