"""How well a score finds the voxels where the segmentation is wrong.

All metrics follow from groups of equal score in ascending order: how many voxels a group has, and
how many of them are wrong. Ties count as if ordered at random, so no metric depends on voxel order.
"""

from dataclasses import dataclass

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
    order = np.argsort(score, axis=None, kind="stable")
    values, wrong = np.ravel(score)[order], np.ravel(error)[order].astype(np.int64)
    if not values.size:
        return ScoreGroups(np.zeros(0, np.int64), np.zeros(0, np.int64))
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    return ScoreGroups(np.diff(np.r_[starts, values.size]), np.add.reduceat(wrong, starts))


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
