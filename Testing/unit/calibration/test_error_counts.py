"""Slope and offset on another site's cases, what counts as better, and whether readings hold."""

import numpy as np
import pytest
from scipy.special import expit, logit

from SegWithUCore.calibration.error_counts import (
    CENTRES,
    FULL_WEIGHT_PATIENTS,
    ErrorCounts,
    count_errors,
    fit_site_line,
    moved,
    patient_counts,
    reading,
    sum_counts,
    weight,
)
from SegWithUCore.calibration.error_probability import Direction, ErrorProbability, fit_line

VOXELS = 8_000


def patients(number: int, slope: float, offset: float, spread: float = 0.0, seed: int = 0) -> dict[object, ErrorCounts]:
    """Patients of a site where the true log-odds are slope * what is read + offset, give or take `spread` each."""
    draw = np.random.default_rng(seed)
    found: dict[object, ErrorCounts] = {}
    for patient in range(number):
        odds = draw.normal(-3, 2, VOXELS)
        wrong = draw.random(VOXELS) < expit(slope * odds + offset + spread * draw.normal())
        found[patient] = count_errors(expit(odds), wrong)
    return found


def test_what_is_fitted_counts_by_the_number_of_patients() -> None:
    for number, share in ((10, 0.25), (20, 0.5), (FULL_WEIGHT_PATIENTS, 1.0)):
        line = fit_site_line(patients(number, 0.6, 0.8))
        assert line is not None and weight(number) == share
        assert line.slope == pytest.approx(1 + share * (0.6 - 1), abs=0.07)
        total = sum_counts(list(patients(number, 0.6, 0.8).values()))
        assert total.expected(line.slope, line.offset) == pytest.approx(total.errors.sum(), rel=0.05)


def test_a_site_that_differs_is_taken_and_one_that_does_not_is_not() -> None:
    for number in (8, 12, 20):
        other = fit_site_line(patients(number, 0.7, 1.0, 0.2))
        assert other is not None and other.is_better and other.change.mean < 0
    taken = [fit_site_line(patients(12, 1.0, 0.0, 0.3, seed)) for seed in range(6)]
    assert sum(line is not None and line.is_better for line in taken) <= 1  # one in forty by chance


def test_few_patients_are_never_enough_and_no_errors_are_nothing() -> None:
    few = fit_site_line(patients(2, 0.5, 2.0))
    assert weight(60) == 1
    assert few is not None and few.factor is None and not few.is_better
    right = count_errors(np.full(100, 0.1), np.zeros(100, bool))
    assert fit_site_line({"a": right, "b": right}) is None
    assert fit_site_line(patients(1, 0.5, 1.0)) is None


def test_three_patients_of_another_site_give_its_factor_and_three_of_the_own_none() -> None:
    site = patients(12, 1.0, 0.9, 0.2)
    line = fit_site_line(dict(list(site.items())[:3]))
    assert line is not None and line.factor is not None and line.is_better and line.slope == 1
    rest = sum_counts(list(site.values())[3:])
    true = rest.errors.sum() / rest.expected()
    assert line.factor.low < true < line.factor.high and line.factor.low > 1
    assert rest.expected(line.slope, line.offset) == pytest.approx(rest.errors.sum(), rel=0.2)
    own = [fit_site_line(patients(3, 1.0, 0.0, 0.3, seed)) for seed in range(10)]
    assert sum(each is not None and each.is_better for each in own) <= 1


def test_cases_of_one_patient_count_as_one() -> None:
    counts = list(patients(8, 0.5, 2.0).values())
    line = fit_site_line(patient_counts(counts, ["a", "a", "b", "b", "c", "c", "d", "d"]))
    assert line is not None and line.patients == 4


def test_a_moved_table_reads_as_the_line_says_by_direction_too() -> None:
    table = ErrorProbability((0.0, 1.0, 2.0), (0.01, 0.2, 0.7), 5, (Direction(1, 0, 1.3, -0.4, 9),))
    ranking, predicted, other = np.array([0.0, 1.0, 2.0, 1.0]), np.array([0, 1, 1, 1]), np.array([1, 0, 0, 2])
    before, after = (t(ranking, predicted, other) for t in (table, moved(table, 0.8, 0.5)))
    assert after == pytest.approx(expit(0.8 * logit(before.astype(float)) + 0.5), abs=1e-5)
    assert moved(table, 1, 0)(ranking, predicted, other) == pytest.approx(before, abs=1e-6)


def test_counts_lose_nothing_that_matters() -> None:
    draw = np.random.default_rng(1)
    chance = expit(draw.normal(-3, 2, VOXELS))
    wrong = draw.random(VOXELS) < chance
    counts = count_errors(chance, wrong)
    exact = -np.where(wrong, np.log(chance), np.log1p(-chance)).mean()
    assert counts.log_loss() == pytest.approx(exact, rel=1e-3)
    assert counts.expected() == pytest.approx(chance.sum(), rel=1e-3)
    assert counts.errors.sum() == wrong.sum()
    assert fit_line(CENTRES, counts.voxels, counts.errors) == pytest.approx((1, 0), abs=0.1)


@pytest.mark.parametrize(("offset", "verdict"), [(0.0, "holds"), (1.0, "too optimistic"), (-1.0, "too pessimistic")])
def test_a_reading_says_whether_it_holds(offset: float, verdict: str) -> None:
    found = reading(patients(12, 1.0, offset, 0.1))
    assert found.verdict == verdict
    assert found.observed.low <= found.observed.mean <= found.observed.high
    assert found.message.startswith("Of voxels that read 0.25, ") and found.message.endswith(".")
    assert ("the probabilities hold here" in found.message) == (verdict == "holds")
    assert found.read == pytest.approx(0.25, abs=0.01)


def test_a_reading_of_few_or_unlike_patients_is_no_verdict() -> None:
    few = reading(patients(7, 1.0, 2.0))
    assert few.verdict == "no verdict" and "7 patients are too few" in few.message
    unlike = reading(patients(8, 1.0, 0.0, 1.5, seed=4))
    assert unlike.verdict == "no verdict" and "too wide" in unlike.message
    none = reading({"a": count_errors(np.full(9, 0.01), np.zeros(9, bool))})
    assert none.verdict == "no verdict" and none.message == "No verdict: no voxel reads 0.25."
    assert none.to_json()["observed"] is None
