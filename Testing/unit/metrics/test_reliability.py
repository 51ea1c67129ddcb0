"""Calibration over many voxels by histogram against sorting; ACE and Brier scores against MONAI and scikit-learn."""

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from SegWithUCore.metrics.calibration import (
    Reliability,
    average_calibration_error,
    expected_calibration_error,
    mean_class_calibration_error,
    multiclass_brier_score,
)


def voxels(size: int = 50_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Error probabilities as a band has them, and events that are rarer than they say."""
    generator = np.random.default_rng(seed)
    probability = (generator.random(size) ** 4).astype(np.float32)
    return probability, generator.random(size) < 0.8 * probability


def counted(probability: np.ndarray, event: np.ndarray) -> Reliability:
    found = Reliability()
    found.add(probability, event)
    return found


def classified(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident probabilities (classes, 10, 12, 14), most of them background, and true classes."""
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (classes, 10, 12, 14)) + np.array([2.0, 0, 0])[:, None, None, None]
    chances = np.cumsum(softmax(logits, 0), 0)
    truth = (generator.random(logits.shape[1:]) > chances[:-1]).sum(0)
    return softmax(1.7 * logits, 0).astype(np.float32), truth


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_ece_by_histogram_equals_sorting(bins: int) -> None:
    probability, event = voxels()
    exact = expected_calibration_error(probability, event, bins)
    assert counted(probability, event).expected_calibration_error(bins) == pytest.approx(exact, abs=2e-5)


def test_parts_add_up_to_the_whole() -> None:
    probability, event = voxels()
    parts, whole = counted(probability[:777], event[:777]), counted(probability, event)
    parts.add(probability[777:], event[777:])
    assert parts.expected_calibration_error() == pytest.approx(whole.expected_calibration_error(), rel=1e-9)
    assert parts.diagram() == whole.diagram()


def test_the_diagram_shows_mean_probability_and_observed_share_of_each_bin() -> None:
    probability, event = voxels()
    found = counted(probability, event).diagram(10)
    assert [round(10 * bar["low"]) for bar in found] == list(range(10))
    assert sum(bar["voxels"] for bar in found) == probability.size
    for bar in found:
        here = (probability >= bar["low"]) & (probability < bar["high"])
        assert bar["voxels"] == pytest.approx(here.sum(), rel=0.05)
        assert bar["predicted"] == pytest.approx(probability[here].mean(), rel=0.01)
        assert bar["observed"] == pytest.approx(event[here].mean(), abs=0.01)
    assert counted(np.array([0.0, -0.0, 1.0]), np.array([False, True, True])).diagram(4)[0]["observed"] == 0.5


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        counted(np.array([0.5, bad]), np.zeros(2, bool))


def test_nothing_counted_has_no_figures() -> None:
    assert np.isnan(Reliability().expected_calibration_error())
    assert Reliability().diagram() == []
    assert np.isnan(average_calibration_error(np.zeros(0), np.zeros(0, bool)))


@pytest.mark.parametrize("bins", [5, 20])
def test_ace_equals_monai(bins: int) -> None:
    probabilities, truth = classified()
    metric = CalibrationErrorMetric(
        num_bins=bins, include_background=False, calibration_reduction="average", metric_reduction="none"
    )
    one_hot = np.stack([truth == c for c in range(3)]).astype(np.float32)
    metric(torch.from_numpy(probabilities)[None], torch.from_numpy(one_hot)[None])
    expected = metric.aggregate()[0].tolist()
    for index, value in enumerate(expected, 1):
        assert average_calibration_error(probabilities[index], truth == index, bins) == pytest.approx(value, abs=1e-5)
    if bins == 20:
        assert mean_class_calibration_error(probabilities, truth) == pytest.approx(np.mean(expected), abs=1e-5)


def test_multiclass_brier_equals_scikit_learn() -> None:
    probabilities, truth = classified()
    flat = probabilities.reshape(3, -1).T.astype(np.float64)
    expected = brier_score_loss(truth.ravel(), flat / flat.sum(1, keepdims=True), scale_by_half=False, labels=[0, 1, 2])
    assert multiclass_brier_score(probabilities, truth) == pytest.approx(expected, rel=1e-5)
