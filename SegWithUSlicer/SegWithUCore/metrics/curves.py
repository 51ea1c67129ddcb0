"""Reliability diagram and risk-coverage curve of an error probability: of the cases of a model, or of one case."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .calibration import Reliability, ReliabilityBin

if TYPE_CHECKING:
    from .error_detection import ScoreGroups  # needs scipy, which Slicer's window loads only when something is compared

MOST_POINTS = 200
"""Of a risk-coverage curve; half of them even in coverage, half even in errors, which crowd where coverage is high."""


@dataclass(frozen=True)
class ErrorCurves:
    """What is drawn of the voxels of one or of many cases.

    Attributes:
        voxels, errors: how many there are, and how many of them are wrong.
        expected_calibration_error: of the error probability, in bins of equal mass.
        aurc: area under the whole risk-coverage curve, not only under the points that are kept.
        bins: the reliability diagram, bins of equal width without the empty ones.
        coverage, risk: the risk-coverage curve: error rate among the share of least uncertain voxels; coverage rises
            to 1.
    """

    voxels: int
    errors: int
    expected_calibration_error: float
    aurc: float
    bins: tuple[ReliabilityBin, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]


def error_curves(reliability: Reliability, groups: "ScoreGroups") -> ErrorCurves:
    """Compute the curves of voxels that were counted; both arguments count the same ones.

    Raises:
        ValueError: there is no voxel.
    """
    from .error_detection import aurc

    if not groups.total:
        raise ValueError("there is no voxel to draw a curve of.")
    coverage, risk = _risk_coverage(groups)
    return ErrorCurves(
        groups.total,
        groups.errors,
        reliability.expected_calibration_error(),
        aurc(groups),
        tuple(reliability.diagram()),
        tuple(coverage.tolist()),
        tuple(risk.tolist()),
    )


def curves_of_case(error_probability: np.ndarray, wrong: np.ndarray) -> ErrorCurves:
    """Compute the curves of one case; voxels that were not assessed (negative) are left out.

    Args:
        error_probability: of each voxel, any shape.
        wrong: where the segmentation differs from the reference, boolean, of the same shape.

    Raises:
        ValueError: no voxel was assessed.
    """
    from .error_detection import ScoreHistogram

    assessed = error_probability >= 0
    if not assessed.all():
        error_probability, wrong = error_probability[assessed], wrong[assessed]
    reliability, histogram = Reliability(), ScoreHistogram()
    reliability.add(error_probability, wrong)
    histogram.add(error_probability, wrong)
    return error_curves(reliability, histogram.groups())


def _risk_coverage(groups: "ScoreGroups") -> tuple[np.ndarray, np.ndarray]:
    """Return coverage and risk at the first voxel and at ends of groups, at most `MOST_POINTS` points.

    Among the ties of the first group, often most voxels of an image, the expected risk is the same from the first on.
    """
    voxels, errors = np.cumsum(groups.voxels), np.cumsum(groups.wrong)
    half = (MOST_POINTS - 1) // 2
    by_coverage = np.searchsorted(voxels, np.linspace(voxels[0], voxels[-1], half))
    by_error = np.searchsorted(errors, np.linspace(errors[0], errors[-1], half))
    kept = np.unique(np.concatenate([by_coverage, by_error]))
    coverage, risk = voxels[kept] / voxels[-1], errors[kept] / voxels[kept]
    if groups.voxels[0] > 1:
        coverage, risk = np.insert(coverage, 0, 1 / voxels[-1]), np.insert(risk, 0, groups.wrong[0] / groups.voxels[0])
    return coverage, risk
