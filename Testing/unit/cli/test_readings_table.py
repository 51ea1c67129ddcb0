"""The table of `check-calibration`: a verdict stands beside both figures that it compares."""

from SegWithUCore.calibration.error_counts import Reading
from SegWithUCore.cli.calibrate import _table
from SegWithUCore.metrics.bootstrap import Interval


def test_what_was_read_stands_beside_what_was_wrong() -> None:
    optimistic = Reading(0.5, 9050, 20, 0.462, Interval(0.51, 0.47, 0.547), Interval(0.048, 0.01, 0.08))
    row = " ".join(_table([optimistic]).splitlines()[2].split())
    assert row == "0.5 46.2 % 51.0 % (47.0 to 54.7) 9050 20 too optimistic"
