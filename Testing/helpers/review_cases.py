"""Regions and headers for tests of the review."""

from datetime import UTC, datetime, timedelta
from typing import Any

from SegWithUCore.regions.region import Competition, Kind, Region, Shape
from SegWithUCore.review.log_format import Action, Event, Opened

HEADER = Opened("case", "hippocampus", "1.0", "segwithu", "w" * 64, "c" * 64, "r" * 64, {"regions": 12})


def a_region(id_: int, **changes: Any) -> Region:
    """A region with an expected wrong volume of ten over its id."""
    metrics: dict[str, Any] = {
        "id": id_,
        "rank": id_,
        "structure": "anterior",
        "structure_value": 1,
        "kind": Kind.MISSED,
        "shape": Shape.BLOB,
        "expected_wrong_mm3": 10.0 / id_,
        "volume_mm3": 30.0,
        "peak": 0.5,
        "peak_ras_mm": (1.0, 2.0, float(id_)),
        "centre_ras_mm": (1.0, 2.0, float(id_)),
        "size_mm": (3.0, 4.0, 5.0),
        "competing": (Competition("anterior", "background", 0.71),),
        "touches_border": False,
    }
    return Region(**(metrics | changes))


def events_of(*facts: Action) -> list[Event]:
    return [Event("2026-01-01T00:00:00Z", "Anna", fact) for fact in facts]


class Clock:
    """Goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now
