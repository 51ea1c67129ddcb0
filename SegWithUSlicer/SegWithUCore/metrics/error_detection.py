"""How well a score finds the voxels where the segmentation is wrong.

All metrics follow from groups of equal score in ascending order: how many voxels a group has, and
how many of them are wrong. Ties count as if ordered at random, so no metric depends on voxel order.

Any number of voxels is counted in one pass and bounded memory: a float32 read as an integer keeps its order, so the
upper 16 of its bits are bins whose width follows the value: 2^-8 relative, over the whole range, without knowing it
beforehand. The counts of a bin are a group of `ScoreGroups`: voxels within one bin count as ties, which moves no metric
by more than 0.001 (a test).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import digamma


@dataclass(frozen=True)
class ScoreGroups:
    """Voxels grouped by equal score, safest first.

    Attributes:
        voxels: number in each group.
        wrong: number of errors in each group.
    """

    voxels: np.ndarray
    wrong: np.ndarray

    @property
    def errors(self) -> int:
        """All errors."""
        return int(self.wrong.sum())

    @property
    def total(self) -> int:
        """All voxels."""
        return int(self.voxels.sum())


def score_groups(score: np.ndarray, error: np.ndarray) -> ScoreGroups:
    """Group voxels by score (higher = riskier) and count errors (boolean), any shape."""
    values, group, voxels = np.unique(np.ravel(score), return_inverse=True, return_counts=True)
    return ScoreGroups(voxels, np.bincount(group, np.ravel(error), values.size).astype(np.int64))


def auroc(groups: ScoreGroups) -> float:
    """Probability that a wrong voxel scores higher than a correct one, ties counted half; NaN without both."""
    correct = groups.voxels - groups.wrong
    below = np.cumsum(correct) - correct
    pairs = groups.errors * int(correct.sum())
    return float((groups.wrong * (below + correct / 2)).sum() / pairs) if pairs else float("nan")


def aurc(groups: ScoreGroups) -> float:
    """Area under the risk-coverage curve: mean over k of the error rate among the k safest voxels.

    Within ties the expectation over random orders is taken in closed form. NaN without voxels.
    Source: Geifman et al., ICLR 2019.
    """
    if not groups.total:
        return float("nan")
    n = groups.voxels.astype(np.float64)
    before = np.cumsum(n) - n
    errors_before = np.cumsum(groups.wrong) - groups.wrong
    harmonic = digamma(before + n + 1) - digamma(before + 1)
    area = errors_before * harmonic + groups.wrong / n * (n - before * harmonic)
    return float(area.sum() / groups.total)


def augrc(groups: ScoreGroups) -> float:
    """Area under the generalised risk-coverage curve; NaN without voxels.

    The mean over k of the share of all voxels that are wrong and among the k safest, ties in the expectation over
    random orders.

    Source: Traub et al., NeurIPS 2024.
    """
    if not groups.total:
        return float("nan")
    n = groups.voxels.astype(np.float64)
    errors_before = np.cumsum(groups.wrong) - groups.wrong
    return float((errors_before * n + groups.wrong * (n + 1) / 2).sum() / groups.total**2)


def average_precision(groups: ScoreGroups) -> float:
    """Average precision of finding errors, riskiest first, one step a group; NaN without errors.

    Equals `sklearn.metrics.average_precision_score`.
    """
    if not groups.errors:
        return float("nan")
    found, looked_at = np.cumsum(groups.wrong[::-1]), np.cumsum(groups.voxels[::-1])
    return float((found / looked_at * groups.wrong[::-1]).sum() / groups.errors)


def excess_aurc(groups: ScoreGroups) -> float:
    """AURC beyond that of a score that puts every wrong voxel last; NaN without voxels.

    Source: e-AURC of Geifman et al., ICLR 2019, with the best area summed exactly instead of approximated.
    """
    if not groups.total:
        return float("nan")
    right = groups.total - groups.errors
    best = ScoreGroups(np.asarray([right, groups.errors]), np.asarray([0, groups.errors]))
    if not groups.errors or not right:
        return 0.0
    return aurc(groups) - aurc(best)


def false_positive_rate(groups: ScoreGroups, true_positive_rate: float = 0.95) -> float:
    """Share of the correct voxels that are flagged with the highest limit which flags so many of the wrong ones.

    NaN without wrong or without correct voxels. Equals the first point of scikit-learn's ROC curve that is as high.
    """
    correct = groups.total - groups.errors
    if not groups.errors or not correct:
        return float("nan")
    found = np.cumsum(groups.wrong[::-1])
    step = int(np.searchsorted(found, true_positive_rate * groups.errors - 1e-9))
    return float((groups.voxels - groups.wrong)[::-1][: step + 1].sum() / correct)


def risk_at_coverage(groups: ScoreGroups, coverage: float) -> float:
    """Error rate among the safest share of voxels, ties in the expectation over random orders; NaN without voxels."""
    if not groups.total:
        return float("nan")
    kept = max(1.0, coverage * groups.total)
    ends = np.cumsum(groups.voxels)
    step = int(np.searchsorted(ends, kept))
    before = float(ends[step] - groups.voxels[step])
    errors = float(groups.wrong[:step].sum()) + groups.wrong[step] / groups.voxels[step] * (kept - before)
    return float(errors / kept)


def share_of_errors_within(groups: ScoreGroups, share: float) -> float:
    """Share of the wrong voxels among the riskiest share of all voxels: what a review budget of voxels finds.

    Ties in the expectation over random orders; NaN without errors.
    """
    if not groups.errors:
        return float("nan")
    safe = groups.total * (1 - share)
    left = risk_at_coverage(groups, 1 - share) * safe if safe >= 1 else 0.0
    return float(1 - left / groups.errors)


BINS = 1 << 16
CHUNK = 1 << 18
"""Voxels a step: their casts fit L2."""


def binned_groups(score: np.ndarray, error: np.ndarray) -> ScoreGroups:
    """Group voxels by the upper half of their score's bits, safest first: `score_groups` without sorting.

    Args:
        score: higher = riskier, any shape; counted as float32; negative values are in order.
        error: boolean, of the same shape.

    Raises:
        ValueError: another shape, or a score that is not a number.
    """
    if score.shape != error.shape:
        raise ValueError(f"{score.shape} scores but {error.shape} errors.")
    flat, is_wrong = np.ravel(score), np.ravel(error).astype(np.bool_, copy=False)
    if np.isnan(flat).any():
        raise ValueError(f"{np.isnan(flat).sum()} scores are not a number.")
    voxels, wrong = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    for start in range(0, flat.size, CHUNK):
        scores = np.ascontiguousarray(flat[start : start + CHUNK], "<f4")
        upper = (scores + np.float32(0)).view("<u2")[1::2].astype(np.intp)  # + 0: -0 counts as 0
        voxels += np.bincount(upper, minlength=BINS)
        wrong += np.bincount(upper[np.flatnonzero(is_wrong[start : start + CHUNK])], minlength=BINS)
    voxels, wrong = voxels[_IN_ORDER], wrong[_IN_ORDER]
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
    """Voxels of each region by score: sorted, or binned where the volume has more than `sorted_up_to`.

    Args:
        score: higher = riskier, any shape.
        error: boolean, of the same shape.
        regions: boolean masks of that shape by name, None for all voxels.
    """
    grouped = binned_groups if score.size > sorted_up_to else score_groups
    inside = {name: ... if mask is None else mask for name, mask in regions.items()}
    return {name: grouped(score[mask], error[mask]) for name, mask in inside.items()}
