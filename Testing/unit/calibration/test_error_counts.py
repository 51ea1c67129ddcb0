"""The factor of another site, and whether readings hold."""

import numpy as np
import pytest
from scipy.special import expit

from SegWithUCore.calibration.error_counts import (
    CENTRES,
    ErrorCounts,
    count_errors,
    fit_site_factor,
    patient_counts,
    reading,
    sum_counts,
)
from SegWithUCore.calibration.error_probability import fit_line

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


def test_three_patients_tell_the_factor_of_a_site_and_two_do_not() -> None:
    site = list(patients(12, 1.0, 0.9, 0.2).values())
    found, rest = fit_site_factor(site[:3]), sum_counts(site[3:])
    assert found is not None and 1 < found.low < rest.errors.sum() / rest.expected() < found.high
    assert fit_site_factor(site[:2]) is None


def test_cases_of_one_patient_count_as_one() -> None:
    counts = list(patients(4, 0.5, 2.0).values())
    found = patient_counts(counts, ["a", "a", "b", "b"])
    assert list(found) == ["a", "b"] and found["b"].errors.sum() == counts[2].errors.sum() + counts[3].errors.sum()


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
