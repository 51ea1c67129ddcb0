"""Intervals of change: known answers, and patients who count once."""

import math

import numpy as np
import pytest

from SegWithUCore.calibration.change import AGAIN, ChangeInterval, EjectionFraction, fit_ejection
from SegWithULab.calibration.fit_changes import fit_change_intervals


def test_a_change_and_its_reverse_are_equally_large() -> None:
    interval = ChangeInterval(math.log(1.1), 0.9, 10, 20, AGAIN)
    percent, low, high = interval(1000.0, 1050.0)
    assert (percent, low, high) == pytest.approx((5.0, 100 * (1.05 / 1.1 - 1), 100 * (1.05 * 1.1 - 1)))
    assert interval.repeats_within_percent == pytest.approx(10)
    grown, shrunk = interval(1000.0, 1100.1), interval(1100.1, 1000.0)
    assert grown[1] > 0 and shrunk[2] < 0


def test_nine_in_ten_pairs_of_new_patients_lie_within() -> None:
    generator = np.random.default_rng(1)

    def scans(patients: int) -> list[dict[str, float]]:
        sizes = generator.uniform(1000, 5000, patients)
        return [{"left part": float(size * math.exp(generator.normal(0, 0.02)))} for size in sizes for _ in range(2)]

    held = []
    for _ in range(40):
        fitted = fit_change_intervals(scans(12), [str(number // 2) for number in range(24)])["part"]
        new = scans(100)
        pairs = zip(new[::2], new[1::2], strict=True)
        held += [fitted(a["left part"], b["left part"])[1] <= 0 <= fitted(a["left part"], b["left part"])[2]
                 for a, b in pairs]  # fmt: skip
        assert (fitted.patients, fitted.scans) == (12, 24)
    assert np.mean(held) == pytest.approx(0.9, abs=0.015)  # 4,000 pairs: standard error .005


def test_both_sides_of_a_patient_are_one_patient() -> None:
    one_side = [{"left part": 100.0}, {"left part": 104.0}] * 3
    both = [{**scan, "right part": scan["left part"]} for scan in one_side]
    patients = [str(number // 2) for number in range(6)]
    assert fit_change_intervals(one_side, patients) == fit_change_intervals(both, patients)


def test_too_few_patients_and_empty_structures_have_none() -> None:
    scans = [{"part": 100.0, "gone": 0.0}, {"part": 101.0, "gone": 0.0}] * 3
    patients = [str(number // 2) for number in range(6)]
    assert set(fit_change_intervals(scans, patients)) == {"part"}
    assert fit_change_intervals(scans[:4], patients[:4]) == {}


def test_limits_of_agreement_are_mean_and_spread_of_the_errors() -> None:
    errors = [1.0, 3.0] * 5 + [20.0]
    fitted = fit_ejection(errors)
    assert fitted is not None
    assert fitted.mean_error == pytest.approx(np.mean(errors))
    assert fitted.half_width == pytest.approx(1.96 * np.std(errors, ddof=1))
    assert (fitted.cases, fitted.held) == (11, 10), "the last is far from the others"
    assert fit_ejection(errors[:9]) is None
    fraction, low, high = EjectionFraction(2.0, 5.0, 20, 19)(100.0, 40.0)
    assert (fraction, low, high) == pytest.approx((60.0, 53.0, 63.0))
