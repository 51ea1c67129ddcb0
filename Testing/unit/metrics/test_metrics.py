"""Metrics against scikit-learn, torch, MONAI, or brute force from the definition."""

from itertools import product

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from torch.nn import functional

from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.calibration import (
    binary_cross_entropy,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from SegWithUCore.metrics.error_detection import aurc, auroc, average_precision, score_groups
from SegWithUCore.metrics.overlap import boundary_voxels, class_dice, dice_of, distance_to_boundary, mean_dice


def scored(levels: int, size: int = 500, seed: int = 0, rate: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Scores (negative ones too; `levels` distinct values, 0 for all distinct) and errors that go with them."""
    generator = np.random.default_rng(seed)
    score = generator.normal(size=size).astype(np.float32)
    if levels:
        score = np.round(score * levels) / levels
    return score, generator.random(size) < rate / (1 + np.exp(-2 * score))


@pytest.mark.parametrize("levels", [0, 1, 3, 20])
@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_average_precision_equal_scikit_learn_with_and_without_ties(levels: int, seed: int) -> None:
    score, error = scored(levels, seed=seed)
    groups = score_groups(score, error)
    assert auroc(groups) == pytest.approx(roc_auc_score(error, score), rel=1e-12)
    assert average_precision(groups) == pytest.approx(average_precision_score(error, score), rel=1e-12)


def risk_coverage_area(score: np.ndarray, error: np.ndarray, generator: np.random.Generator) -> float:
    """Mean over k of the error rate among the k safest, ties in random order."""
    order = np.lexsort((generator.random(score.size), score))
    return float(np.mean(np.cumsum(error[order]) / np.arange(1, score.size + 1)))


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_aurc_is_the_mean_over_random_orders_of_ties(levels: int) -> None:
    score, error = scored(levels, size=60)
    generator = np.random.default_rng(1)
    areas = [risk_coverage_area(score, error, generator) for _ in range(4000 if levels else 1)]
    spread = np.std(areas) / np.sqrt(len(areas))
    assert aurc(score_groups(score, error)) == pytest.approx(np.mean(areas), abs=max(4 * spread, 1e-12))


def test_metrics_without_errors_or_voxels_are_nan() -> None:
    score = np.arange(5.0)
    clean, spoilt = score_groups(score, np.zeros(5, bool)), score_groups(score, np.ones(5, bool))
    empty = score_groups(np.zeros(0), np.zeros(0, bool))
    assert np.isnan([auroc(clean), auroc(spoilt), auroc(empty), average_precision(clean), aurc(empty)]).all()
    assert aurc(clean) == 0
    assert aurc(spoilt) == pytest.approx(1)
    assert average_precision(spoilt) == 1


def test_brier_score_and_cross_entropy_equal_scikit_learn() -> None:
    _, event = scored(0)
    probability = np.random.default_rng(2).random(event.size).astype(np.float32)
    assert brier_score(probability, event) == pytest.approx(brier_score_loss(event, probability), rel=1e-6)
    assert binary_cross_entropy(probability, event) == pytest.approx(log_loss(event, probability), rel=1e-6)


def test_cross_entropy_of_a_certain_mistake_is_floored() -> None:
    assert binary_cross_entropy(np.zeros(1), np.ones(1, bool)) == pytest.approx(-np.log(1e-7))


def test_nll_equals_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 6, 7, generator=generator)
    truth = torch.randint(4, (5, 6, 7), generator=generator)
    expected = functional.cross_entropy(logits[None], truth[None]).item()
    found = negative_log_likelihood(torch.softmax(logits, 0).numpy(), truth.numpy())
    assert found == pytest.approx(expected, rel=1e-5)


def brute_force_ece(probability: np.ndarray, event: np.ndarray, bins: int) -> float:
    pairs = sorted(zip(probability.tolist(), event.tolist(), strict=True))
    size = len(pairs) // bins
    groups = [pairs[i * size : (i + 1) * size] for i in range(bins)]
    gaps = [abs(sum(p for p, _ in g) / size - sum(e for _, e in g) / size) for g in groups]
    return float(np.mean(gaps))


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_ece_over_bins_of_equal_mass_equals_brute_force(bins: int) -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(1500) ** 4
    event = generator.random(1500) < probability
    expected = brute_force_ece(probability, event, bins)
    assert expected_calibration_error(probability, event, bins) == pytest.approx(expected, rel=1e-9)


def test_ece_tells_calibrated_from_overconfident_probabilities() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random((40, 50, 60)).astype(np.float32)
    event = generator.random(probability.shape) < probability
    assert expected_calibration_error(probability, event) < 0.005
    assert expected_calibration_error(probability / 2, event) == pytest.approx(0.25, abs=0.01)
    assert expected_calibration_error(np.zeros(100), np.arange(100) < 30) == pytest.approx(0.3)


def test_dice_equals_monai() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 4, (2, 12, 13, 14))
    one_hot = [functional.one_hot(torch.from_numpy(a), 4).movedim(-1, 0)[None] for a in (first, second)]
    expected = DiceMetric(include_background=False, reduction="none")(*one_hot)[0].tolist()
    assert class_dice(first, second, 4) == pytest.approx(expected, rel=1e-6)
    assert mean_dice(first, second, 4) == pytest.approx(np.mean(expected), rel=1e-6)


def test_dice_of_absent_structures_is_nan_and_left_out_of_the_mean() -> None:
    nothing, something = np.zeros((3, 3, 3), int), np.ones((3, 3, 3), int)
    assert np.isnan(dice_of(nothing > 0, nothing > 0))
    assert dice_of(nothing > 0, something > 0) == 0
    assert mean_dice(something, something, 3) == 1
    assert np.isnan(mean_dice(nothing, nothing, 3))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 1.3)])
def test_distance_to_the_surface_equals_brute_force(spacing: tuple[float, float, float]) -> None:
    """shared/data/README.md: distance of centres to the nearest voxel with a 6-neighbour of another class."""
    classes = np.zeros((7, 8, 9), int)
    classes[2:5, 2:6, 3:7] = 1
    classes[2:5, 4:6, 3:7] = 2  # an inner interface
    index = np.asarray(list(product(*map(range, classes.shape))))
    boundary = []
    for place in index:
        for axis, step in product(range(3), (-1, 1)):
            other = place.copy()
            other[axis] += step
            inside = (other >= 0).all() and (other < classes.shape).all()
            if inside and classes[tuple(other)] != classes[tuple(place)]:
                boundary.append(tuple(place))
    expected_mask = np.zeros(classes.shape, bool)
    expected_mask[tuple(np.asarray(boundary).T)] = True
    np.testing.assert_array_equal(boundary_voxels(classes), expected_mask)
    steps = (index[:, None] - np.asarray(sorted(set(boundary)))[None]) * np.asarray(spacing)
    expected = np.linalg.norm(steps, axis=-1).min(1).reshape(classes.shape)
    np.testing.assert_allclose(distance_to_boundary(classes, spacing), expected, atol=1e-9)


def test_without_a_surface_no_voxel_is_in_the_band() -> None:
    assert np.isinf(distance_to_boundary(np.ones((3, 4, 5), int), (1, 1, 1))).all()


def test_paired_bootstrap_excludes_zero_only_for_a_real_difference() -> None:
    generator = np.random.default_rng(0)
    second = generator.normal(0, 3, 60)
    clear = paired_bootstrap(second + generator.normal(0.5, 0.3, 60), second)
    assert clear.low < clear.mean < clear.high
    assert clear.low > 0
    assert clear.mean == pytest.approx(0.5, abs=0.15)
    assert clear.high - clear.low == pytest.approx(2 * 1.96 * 0.3 / np.sqrt(60), rel=0.25)
    nothing = paired_bootstrap(second + generator.normal(0, 0.3, 60), second)
    assert nothing.low < 0 < nothing.high
    assert paired_bootstrap([1, 2, 3], [1, 2, 3]) == paired_bootstrap([4, 5, 6], [4, 5, 6])


def test_paired_bootstrap_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(3)
    draws = [paired_bootstrap(generator.normal(1, 1, 40), np.zeros(40)) for _ in range(200)]
    covered = np.mean([interval.low <= 1 <= interval.high for interval in draws])
    assert 0.88 <= covered <= 0.99
