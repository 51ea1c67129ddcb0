"""Error detection by histogram against sorting every voxel, and the further figures against their definitions."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from SegWithUCore.metrics.error_detection import (
    ScoreGroups,
    augrc,
    aurc,
    auroc,
    average_precision,
    binned_groups,
    excess_aurc,
    false_positive_rate,
    risk_at_coverage,
    score_groups,
    share_of_errors_within,
)

FIGURES = (auroc, average_precision, aurc, augrc)


def skewed(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores as a ranking map has them: most near its lowest value, some of them negative, few large; 1 % wrong."""
    generator = np.random.default_rng(seed)
    score = (np.exp(generator.normal(-3, 2, size)) - 0.05).astype(np.float32)
    return score, generator.random(size) < np.clip(0.05 * (score + 0.05), 0, 0.9)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_a_histogram_are_close_to_those_of_sorting(figure, seed: int) -> None:  # type: ignore[no-untyped-def]
    score, error = skewed(200_000, seed)
    exact = figure(score_groups(score, error))
    groups = binned_groups(score, error)
    assert figure(groups) == pytest.approx(exact, rel=2e-3)
    assert auroc(groups) == pytest.approx(auroc(score_groups(score, error)), abs=1e-5)


def test_negative_scores_are_in_order() -> None:
    score = np.asarray([-1e30, -2.0, -1.0, -1e-30, 0.0, 1e-30, 1.0, 2.0, 1e30], np.float32)
    for rank in range(score.size):
        error = np.arange(score.size) == rank
        assert binned_groups(score, error).wrong.tolist() == error.astype(int).tolist()


def test_zero_has_one_place_whatever_its_sign() -> None:
    assert binned_groups(np.asarray([0.0, -0.0], np.float32), np.asarray([True, False])).voxels.tolist() == [2]


def test_shape_kind_and_byte_order_of_the_scores_do_not_matter() -> None:
    score, error = skewed(6000)
    whole = binned_groups(score, error)
    for other in (score.astype(">f4"), score.astype(np.float64), score.reshape(10, 20, 30).transpose(2, 1, 0)):
        groups = binned_groups(other, error if other.ndim == 1 else error.reshape(10, 20, 30).transpose(2, 1, 0))
        assert (groups.voxels == whole.voxels).all()
        assert (groups.wrong == whole.wrong).all()


@pytest.mark.parametrize("bad", [np.nan, -np.nan])
def test_a_score_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="1 scores are not a number"):
        binned_groups(np.asarray([0.5, bad], np.float32), np.zeros(2, bool))


def test_infinite_scores_count_as_the_highest() -> None:
    score = np.asarray([np.inf, 1.0, -np.inf], np.float32)
    assert binned_groups(score, np.asarray([True, False, False])).wrong.tolist() == [0, 0, 1]


@pytest.mark.parametrize("figure", FIGURES)
def test_values_that_repeat_are_exact(figure) -> None:  # type: ignore[no-untyped-def]
    """Distances take few values; their metrics by histogram are those of sorting."""
    generator = np.random.default_rng(4)
    score = -np.sqrt(generator.integers(0, 60, 20_000)).astype(np.float32)
    error = generator.random(score.size) < 0.3 / (1 - score)
    assert figure(binned_groups(score, error)) == pytest.approx(figure(score_groups(score, error)), rel=1e-12)


def test_false_positive_rate_equals_the_roc_curve_of_scikit_learn() -> None:
    score, error = skewed(20_000)
    false, true, _ = roc_curve(error, score, drop_intermediate=False)
    assert false_positive_rate(score_groups(score, error)) == pytest.approx(false[np.argmax(true >= 0.95)])


def test_risk_at_coverage_is_the_error_rate_of_the_safest() -> None:
    score, error = skewed(10_000)
    safest = np.argsort(score, kind="stable")
    for coverage in (0.01, 0.5, 0.8, 1.0):
        expected = error[safest[: int(coverage * score.size)]].mean()
        assert risk_at_coverage(score_groups(score, error), coverage) == pytest.approx(expected)
        found = error[safest[int((1 - coverage) * score.size) :]].sum() / error.sum()
        assert share_of_errors_within(score_groups(score, error), coverage) == pytest.approx(found)


def test_ties_are_cut_as_if_ordered_at_random() -> None:
    groups = ScoreGroups(np.asarray([4]), np.asarray([2]))
    assert risk_at_coverage(groups, 0.25) == 0.5
    assert share_of_errors_within(groups, 0.25) == 0.25


def test_excess_aurc_of_a_perfect_score_is_zero() -> None:
    _, error = skewed(5000)
    assert excess_aurc(score_groups(error.astype(np.float32), error)) == pytest.approx(0, abs=1e-12)
    assert excess_aurc(score_groups(-error.astype(np.float32), error)) > 0.01


def test_cases_without_errors_have_no_rates_and_no_excess() -> None:
    groups = score_groups(np.arange(5.0), np.zeros(5, bool))
    assert np.isnan([auroc(groups), average_precision(groups), false_positive_rate(groups)]).all()
    assert (excess_aurc(groups), risk_at_coverage(groups, 0.5)) == (0, 0)
