"""Intervals after simulated reviews (Testing/Benchmarks/review_intervals.py): known answers."""

from typing import Any

import numpy as np
import pytest
from repository import BENCHMARKS


@pytest.fixture
def intervals(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("torch")  # which the benchmarks beside it need
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import review_intervals

    return review_intervals


def review(intervals: Any, patient: str, true: float, step: int = 0, label: str = "left putamen") -> Any:
    """Of a volume of 100, expected to gain 10, at a scale of 20."""
    return intervals.Review("brain", "all", patient, 0, label, "brush", step, 100.0, 10.0, 20.0, true, 0.9, 0.1)


def test_what_was_seen_or_not_assessed_is_not_expected(intervals: Any) -> None:
    error = np.array([0.1, 0.4, 0.3, -1.0, 0.5])
    own = np.array([True, True, False, True, False])
    unseen = np.array([True, False, True, True, True])
    gain, errors = intervals.to_come(error, own, np.array([False, False, True, False, False]), unseen)
    assert (gain, errors) == pytest.approx((0.2, 0.4))


@pytest.mark.parametrize(("patients", "expected"), [(8, np.inf), (9, 9), (10, 10), (19, 18), (99, 90)])
def test_quantile_of_few_patients(intervals: Any, patients: int, expected: float) -> None:
    assert intervals.conformal([*range(1, patients + 1)]) == expected


def test_a_patient_counts_once_with_the_worse_side(intervals: Any) -> None:
    sides = [review(intervals, str(n), 110 + 2 * sign * n) for n in range(9) for sign in (-1, 1)]
    assert intervals.fitted(sides) == (0.0, pytest.approx(0.8))
    assert intervals.measured(review(intervals, "new", 126), 0.0, 0.8) == (True, pytest.approx(16 / 110))
    assert intervals.measured(review(intervals, "new", 127), 0.0, 0.8)[0] is False


def test_a_review_stops_once_and_first(intervals: Any) -> None:
    widths = {0: 0.2, 5: 0.09, 10: 0.3, 20: 0.05}
    found = [(review(intervals, "one", 110, step), step == 5, width) for step, width in widths.items()]
    other = [(review(intervals, "one", 110, step, "right putamen"), True, 0.2) for step in widths]
    assert [(each.step, held) for each, held, _ in intervals.stops(found + other)] == [(5, True)]


def test_brains_are_measured_once_by_other_patients(intervals: Any) -> None:
    every = [review(intervals, str(n), 110) for n in range(15)]
    parts = [([each.patient for each in fit], [each.patient for each in rest])
             for fit, rest in intervals.split("brain", every)]  # fmt: skip
    assert sorted(name for _, rest in parts for name in rest) == sorted(map(str, range(15)))
    assert all(len(fit) == 10 and not {*fit} & {*rest} for fit, rest in parts)
