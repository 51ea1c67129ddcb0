"""Review budget: expected and true coverage of errors by the first N regions, and risk-coverage curves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..regions.region import Region, in_order

CHUNK = 1 << 20
"""Voxels binned at once, so that a large image needs little more memory than itself."""
DROPPED_BITS = 13
"""Of a float32's 32: values within 0.1 % of each other share a bin (docs/reference/method.md, section 16)."""
MOST_POINTS = 200


@dataclass(frozen=True)
class Coverage:
    """What the first n regions cover, n from 0 to all.

    Attributes:
        ids: the regions in the order of looking.
        volume_mm3: to be looked at, summed up, one longer than `ids`: entry n belongs to the first n regions.
        wrong_mm3: wrong volume in them, summed up; expected or true.
        total_wrong_mm3: of the case, in regions and outside.
    """

    ids: tuple[int, ...]
    volume_mm3: np.ndarray
    wrong_mm3: np.ndarray
    total_wrong_mm3: float

    @property
    def share(self) -> np.ndarray:
        """Part of the wrong volume that is covered, 0 to 1; 1 if nothing is wrong."""
        if self.total_wrong_mm3 <= 0:
            return np.ones_like(self.wrong_mm3)
        return np.minimum(self.wrong_mm3 / self.total_wrong_mm3, 1.0)

    @property
    def remaining_mm3(self) -> np.ndarray:
        """Wrong volume that is not covered."""
        return np.maximum(self.total_wrong_mm3 - self.wrong_mm3, 0.0)


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve of the voxels, safest first, at most `MOST_POINTS` points.

    Attributes:
        coverage: share of voxels that is trusted, rising to 1.
        selective_risk: how much of what is trusted is wrong.
        aurc, augrc: mean of either over all coverages; NaN without voxels.
    """

    coverage: np.ndarray
    selective_risk: np.ndarray
    aurc: float
    augrc: float


def expected_coverage(regions: Sequence[Region], total_expected_wrong_mm3: float, order: str) -> Coverage:
    """Compute what the first n regions are expected to cover.

    Args:
        total_expected_wrong_mm3: of the case, in regions and outside.
        order: one of `region.ORDERS`.
    """
    ordered = in_order(regions, order)
    volume, wrong = ([getattr(r, name) for r in ordered] for name in ("volume_mm3", "expected_wrong_mm3"))
    return Coverage(tuple(r.id for r in ordered), _summed_up(volume), _summed_up(wrong), total_expected_wrong_mm3)


def true_coverage(
    region_labels: np.ndarray,
    classes: np.ndarray,
    reference: np.ndarray,
    order: Sequence[int],
    voxel_mm3: float,
    assessed: np.ndarray | None = None,
) -> Coverage:
    """Compute what the first n regions cover of the voxels that differ from a reference.

    Args:
        region_labels: region id of each voxel, 0 outside, (z, y, x) as all arrays here.
        classes, reference: what was predicted and what is true, the same values for the same structures.
        order: region ids, for example `Coverage.ids` of the expected curve.
        assessed: where a prediction was made; None for everywhere.
    """
    wrong = classes != reference
    if assessed is not None:
        wrong &= assessed
    length = max(order, default=0) + 1
    ids = list(order)
    voxels = np.bincount(region_labels[region_labels > 0], minlength=length)[ids]
    errors = np.bincount(region_labels[wrong], minlength=length)[ids]
    total = int(np.count_nonzero(wrong)) * voxel_mm3
    return Coverage(tuple(ids), _summed_up(voxels * voxel_mm3), _summed_up(errors * voxel_mm3), total)


def risk_coverage(error_probability: np.ndarray, wrong: np.ndarray | None = None) -> RiskCoverage:
    """Compute the curve of voxels ordered by error probability; those not assessed (negative) are left out.

    Args:
        wrong: what is wrong in truth (boolean); None if the error probability is to be taken for it.
    """
    # Here, because it loads scipy, which Slicer's window must be able to do without until it is needed.
    from ..metrics.error_detection import ScoreGroups, augrc, aurc

    bins = (int(np.float32(np.inf).view(np.uint32)) >> DROPPED_BITS) + 1
    voxels, errors = np.zeros(bins, np.int64), np.zeros(bins)
    for score, error in _chunks(error_probability, wrong):
        keys = score.view(np.uint32) >> DROPPED_BITS  # the bits of floats that are not negative sort as they do
        counted, lost = np.bincount(keys), np.bincount(keys, weights=error)
        voxels[: counted.size] += counted
        errors[: lost.size] += lost
    filled = voxels > 0
    groups = ScoreGroups(voxels[filled], errors[filled])
    if not groups.voxels.size:
        return RiskCoverage(np.zeros(0), np.zeros(0), float("nan"), float("nan"))
    covered, lost = np.cumsum(groups.voxels), np.cumsum(groups.wrong)
    shown = np.unique(np.searchsorted(covered, np.linspace(covered[0], covered[-1], MOST_POINTS)))
    return RiskCoverage(covered[shown] / covered[-1], lost[shown] / covered[shown], aurc(groups), augrc(groups))


def _chunks(error_probability: np.ndarray, wrong: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Assessed voxels' error probability (float32) and how wrong each is, a part of the image at a time."""
    flat = error_probability.reshape(-1)
    truth = None if wrong is None else wrong.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        score = flat[start : start + CHUNK].astype(np.float32, copy=False)
        assessed = score >= 0
        everywhere = assessed.all()
        score = np.abs(score if everywhere else score[assessed])  # -0.0 has the sign bit set
        if truth is None:
            yield score, score
        else:
            error = truth[start : start + CHUNK]
            yield score, error if everywhere else error[assessed]


def _summed_up(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
