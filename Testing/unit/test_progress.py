"""Time left, on a clock that only the test moves."""

import pytest

from SegWithUCore.util.progress import TimeLeft, part_of


class Job:
    """Reports its progress at times that the test chooses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.left = TimeLeft(lambda: self.now)

    def report(self, after: float, fraction: float) -> float | None:
        self.now += after
        return self.left.seconds(fraction)


def test_nothing_is_told_before_there_is_something_to_average() -> None:
    job = Job()
    assert [job.report(60.0, fraction) for fraction in (0.0, 0.01, 0.02)] == [None] * 3
    assert job.report(9.0, 0.1) is None
    assert job.report(0.5, 0.1) is None, "no progress"
    assert job.report(0.5, 0.2) == pytest.approx(8.0)  # 1 s for a tenth, whatever went before
    assert job.left.message(0.2) == "about 10 s left"
    assert (job.report(8.0, 1.0), job.left.message(1.0)) == (0.0, "")


def test_the_last_quarter_sets_the_pace() -> None:
    job = Job()
    for step in range(1, 11):
        job.report(10.0, 0.05 * step)
    assert job.report(1.0, 0.55) == pytest.approx(0.45 * 41.0 / 0.25, abs=0.1)
    for step in range(12, 17):
        job.report(1.0, 0.05 * step)
    assert job.report(1.0, 0.85) == pytest.approx(3.0)


def test_work_that_begins_again_is_averaged_from_there() -> None:
    job = Job()
    for fraction in (0.1, 0.2, 0.3):
        job.report(1.0, fraction)
    assert job.report(5.0, 0.02) is None
    assert job.report(5.0, 0.1) is None
    assert job.report(5.0, 0.2) == pytest.approx(40.0)


def test_a_part_ends_where_the_next_one_begins() -> None:
    told: list[float] = []
    part = part_of(lambda stage, fraction, detail="": told.append(fraction), 0.02, 0.8)
    for fraction in (0.0, 0.5, 1.0):
        part("", fraction)
    assert told == [0.02, pytest.approx(0.41), 0.8]
