"""The review budget against hand-computed numbers, sorting and the definitions."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from counting import allocated_mib, calls_of
from review_cases import a_region, real_labels
from scipy.ndimage import distance_transform_edt, label

from SegWithUCore.metrics.error_detection import augrc, aurc, auroc, score_groups
from SegWithUCore.review.budget import (
    MOST_POINTS,
    expected_coverage,
    risk_coverage,
    true_coverage,
)

REGIONS = [
    a_region(1, expected_wrong_mm3=2.0, volume_mm3=10.0, peak=0.9),
    a_region(2, expected_wrong_mm3=5.0, volume_mm3=20.0, peak=0.4),
    a_region(3, expected_wrong_mm3=1.0, volume_mm3=40.0, peak=0.6),
]


def scores(size: int, levels: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Error probabilities, most of them small, and errors drawn from them."""
    generator = np.random.default_rng(seed)
    probability = generator.random(size, dtype=np.float32) ** 6
    if levels:
        probability = np.round(probability * levels).astype(np.float32) / np.float32(levels)
    return probability, generator.random(size) < probability


def test_expected_coverage_by_hand() -> None:
    coverage = expected_coverage(REGIONS, 10.0, "expected wrong volume")
    assert coverage.ids == (2, 1, 3)
    assert coverage.volume_mm3.tolist() == [0, 20, 30, 70]
    assert coverage.wrong_mm3.tolist() == [0, 5, 7, 8]
    assert coverage.share.tolist() == [0, 0.5, 0.7, 0.8]
    assert coverage.remaining_mm3.tolist() == [10, 5, 3, 2]
    assert expected_coverage(REGIONS, 10.0, "peak").ids == (1, 3, 2)
    assert expected_coverage(REGIONS, 7.9999, "peak").share[-1] == 1, "rounding never says more than all"


def test_a_case_without_regions_or_without_errors() -> None:
    nothing = expected_coverage([], 0.0, "peak")
    assert (nothing.ids, nothing.share.tolist(), nothing.remaining_mm3.tolist()) == ((), [1.0], [0.0])
    outside = expected_coverage([], 4.0, "peak")
    assert (outside.share.tolist(), outside.remaining_mm3.tolist()) == ([0.0], [4.0])
    empty = np.zeros((2, 3, 4), np.uint8)
    perfect = true_coverage(empty, empty, empty, [], 1.0)
    assert (perfect.share.tolist(), perfect.total_wrong_mm3) == ([1.0], 0.0)


def test_true_coverage_equals_counting_on_a_real_case(data_folder: Path) -> None:
    _, reference = real_labels(data_folder)
    classes = np.roll(reference, 1, axis=1)
    near = distance_transform_edt(classes == 0) < 3
    regions, count = label(near & (np.indices(near.shape).sum(0) % 7 > 1))
    order = np.random.default_rng(0).permutation(np.arange(1, count + 1)).tolist()
    assessed = np.ones(near.shape, bool)
    assessed[:10] = False
    for where in (None, assessed):
        coverage = true_coverage(regions, classes, reference, order, 0.5, where)
        wrong = (classes != reference) & (assessed if where is not None else True)
        for number in range(min(count, 12) + 1):
            looked = np.isin(regions, order[:number])
            assert coverage.volume_mm3[number] == pytest.approx(looked.sum() * 0.5)
            assert coverage.wrong_mm3[number] == pytest.approx((looked & wrong).sum() * 0.5)
        assert coverage.total_wrong_mm3 == pytest.approx(wrong.sum() * 0.5)
        assert 0 < coverage.share[-1] <= 1


@pytest.mark.parametrize("levels", [2, 5])
def test_augrc_is_the_mean_over_random_orders_of_ties(levels: int) -> None:
    score, error = scores(60, levels)
    generator, areas = np.random.default_rng(1), []
    for _ in range(4000):
        order = np.lexsort((generator.random(score.size), score))
        areas.append(np.cumsum(error[order]).mean() / score.size)
    assert augrc(score_groups(score, error)) == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / 63)


def test_augrc_equals_sorting_and_follows_from_auroc() -> None:
    score, error = scores(20_000)
    order, wrong = np.argsort(score), error.mean()
    groups = score_groups(score, error)
    assert groups.voxels.max() == 1 or augrc(groups) > 0
    by_sorting = np.cumsum(error[order]).mean() / error.size
    assert augrc(groups) == pytest.approx(by_sorting, rel=1e-3)
    # Traub et al., continuous coverage; the mean over k = 1..N is half a voxel more
    by_auroc = (1 - auroc(groups)) * wrong * (1 - wrong) + wrong**2 / 2 + wrong / (2 * error.size)
    assert augrc(groups) == pytest.approx(by_auroc, rel=1e-9)
    assert np.isnan(augrc(score_groups(np.zeros(0), np.zeros(0, bool))))


@pytest.mark.parametrize("levels", [0, 12])
def test_curves_equal_sorting(levels: int) -> None:
    score, error = scores(300_000, levels)
    exact = score_groups(score, error)
    curve = risk_coverage(score.reshape(3, 100, 1000), error.reshape(3, 100, 1000))
    assert curve.aurc == pytest.approx(aurc(exact), rel=1e-3)
    assert curve.augrc == pytest.approx(augrc(exact), rel=1e-3)
    order = np.argsort(score, kind="stable")
    k = np.arange(1, score.size + 1)
    for found, values in ((curve, error), (risk_coverage(score), score)):
        summed = np.cumsum(values[order], dtype=np.float64)
        at = np.rint(found.coverage * score.size).astype(int) - 1
        assert len(at) <= MOST_POINTS
        assert found.coverage[-1] == 1
        assert (np.diff(found.coverage) > 0).all()
        np.testing.assert_allclose(found.selective_risk, summed[at] / k[at], rtol=2e-3, atol=1e-7)
    expected = risk_coverage(score)
    summed = np.cumsum(score[order], dtype=np.float64)
    assert expected.aurc == pytest.approx((summed / k).mean(), rel=1e-3)
    assert expected.augrc == pytest.approx(summed.mean() / score.size, rel=1e-3)


def test_voxels_that_were_not_assessed_are_left_out_and_minus_zero_is_zero() -> None:
    score, error = scores(1000)
    score[:200] = 0.0
    alone = risk_coverage(score, error)
    padded = risk_coverage(
        np.r_[np.full(500, -1, np.float32), np.where(score == 0, -0.0, score)], np.r_[np.ones(500, bool), error]
    )
    assert padded.aurc == alone.aurc
    np.testing.assert_array_equal(padded.coverage, alone.coverage)
    nowhere = risk_coverage(np.full(9, -1.0, np.float32))
    assert nowhere.coverage.size == 0
    assert np.isnan([nowhere.aurc, nowhere.augrc]).all()


def test_a_map_that_is_right_promises_what_comes_true() -> None:
    score, error = scores(1_000_000)
    expected, true = risk_coverage(score), risk_coverage(score, error)
    assert expected.augrc == pytest.approx(true.augrc, rel=0.01)
    assert expected.aurc == pytest.approx(true.aurc, rel=0.01)


@pytest.mark.parametrize("kind", ["expected", "true"])
def test_curves_go_over_the_voxels_once_and_hold_few_of_them(kind: str) -> None:
    held = {}
    for size in (1_000_000, 4_000_000):
        score, error = scores(size)
        curve = partial(risk_coverage, score) if kind == "expected" else partial(risk_coverage, score, error)
        assert calls_of(curve) < 300  # numpy's own loops, a part of the image at a time, and no sorting of voxels
        held[size] = allocated_mib(curve)
    assert held[4_000_000] < held[1_000_000] + 8 < 48
