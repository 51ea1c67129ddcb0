"""How well a score finds the voxels where the segmentation is wrong.

All figures follow from groups of equal score in ascending order: how many voxels a group has, and
how many of them are wrong. Ties count as if ordered at random, so no figure depends on voxel order.
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
    Source: Geifman et al., ICLR 2019; definition in research/uq.md section 3.
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
    """Area under the generalised risk-coverage curve: mean over k of the share of all voxels that are wrong and
    among the k safest, ties in the expectation over random orders. NaN without voxels.

    Source: Traub et al., NeurIPS 2024; definition in research/uq.md section 3.
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
