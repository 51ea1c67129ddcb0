"""Reliability diagram and risk-coverage curve of a case: against voxels that are sorted one by one."""

import numpy as np
import pytest

from SegWithUCore.metrics.curves import MOST_POINTS, ErrorCurves, curves_of_case

SHAPE = (20, 30, 40)


def case(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Error probabilities with many low and few high values, a margin that was not assessed, and errors as they say."""
    generator = np.random.default_rng(seed)
    probability = (0.6 * generator.random(SHAPE) ** 6).astype(np.float32)
    wrong = generator.random(SHAPE) < probability
    probability[:3], wrong[:3] = -1, True
    return probability, wrong


def test_curves_of_a_case_are_those_of_its_assessed_voxels_one_by_one() -> None:
    probability, wrong = case()
    found = curves_of_case(probability, wrong)
    order = np.argsort(probability[3:], axis=None, kind="stable")
    errors = wrong[3:].ravel()[order]
    risks = np.cumsum(errors) / np.arange(1, errors.size + 1)
    assert (found.voxels, found.errors) == (errors.size, int(errors.sum()))
    assert found.aurc == pytest.approx(risks.mean(), rel=0.01)
    ends = np.rint(np.asarray(found.coverage) * errors.size).astype(int)
    assert np.allclose(found.risk[1:], risks[ends[1:] - 1], atol=1e-12), "points lie between voxels of different bins"
    assert ends[0] == 1 and found.risk[0] == found.risk[1], "the first group's ties are in any order"
    assert found.coverage[-1] == 1.0 and found.risk[-1] == pytest.approx(errors.mean())
    assert (np.diff(found.coverage) > 0).all() and len(found.coverage) <= MOST_POINTS
    for bar in found.bins:
        least, most = (
            np.count_nonzero((probability[3:] >= bar.low * (1 + by)) & (probability[3:] < bar.high * (1 - by)))
            for by in (2**-7, -(2**-7))
        )
        assert least <= bar.voxels <= most, "bins are as exact as the histogram"
        assert bar.low <= bar.predicted <= bar.high
    assert sum(bar.voxels for bar in found.bins) == found.voxels
    assert sum(bar.observed * bar.voxels for bar in found.bins) == pytest.approx(found.errors)


def test_most_points_lie_where_the_errors_are() -> None:
    probability, wrong = case()
    found = curves_of_case(probability, wrong)
    errors = np.asarray(found.risk) * np.asarray(found.coverage)
    between = np.diff(errors / errors[-1])
    assert between.max() < 0.03, "no step of the curve hides many errors"


def test_a_case_without_errors_has_a_flat_curve_and_one_without_assessed_voxels_none() -> None:
    probability, wrong = case()
    found: ErrorCurves = curves_of_case(probability, np.zeros_like(wrong))
    assert (found.errors, found.aurc, set(found.risk)) == (0, 0.0, {0.0})
    with pytest.raises(ValueError, match="no voxel"):
        curves_of_case(np.full(SHAPE, -1.0, np.float32), wrong)
