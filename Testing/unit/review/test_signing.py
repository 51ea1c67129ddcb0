"""Which volumes count as finished or measured, and can be signed."""

from pathlib import Path
from typing import Any

import pytest

from SegWithUCore.review.log_format import Edited, Event, StructureJudged
from SegWithUCore.review.reviews import Review
from SegWithUCore.review.signing import volumes_of
from SegWithUCore.review.state import ReviewState
from SegWithUCore.review.verdicts import Verdict

ENTRY = {
    "name": "caudate",
    "value": 1,
    "voxels": 1000,
    "volume_mm3": 1000.0,
    "expected_wrong_mm3": 50.0,
    "expected_volume_mm3": 1050.0,
    "expected_interval_mm3": [960.0, 1140.0],
}
UNUSUAL = {"severity": "warning", "kind": "range", "message": "The image is unusual."}


def basis(entry: dict[str, Any], **case: Any) -> str:
    (volume,) = volumes_of({"structures": [{**ENTRY, **entry}], **case}, [])
    return volume.basis


@pytest.mark.parametrize(
    ("entry", "case", "expected"),
    [
        ({}, {}, "measured"),
        ({"expected_interval_mm3": [900.0, 1140.0]}, {}, ""),
        ({"held": 7, "held_of": 10}, {}, ""),
        ({"held": 8, "held_of": 10}, {}, "measured"),
        ({"expected_interval_mm3": None}, {}, ""),
        ({"expected_volume_mm3": None, "expected_interval_mm3": None, "edited": True}, {}, ""),
        ({"expected_volume_mm3": None, "expected_interval_mm3": None, "read_by": "Ana"}, {}, "finished"),
        ({"expected_wrong_mm3": 600.0}, {}, ""),
        ({}, {"ood": {"warnings": [UNUSUAL]}}, ""),
    ],
)
def test_only_a_narrow_interval_that_held_and_is_not_doubted_counts_as_measured(entry, case, expected):
    assert basis(entry, **case) == expected


@pytest.mark.parametrize(
    "action", [StructureJudged("caudate", Verdict.SECOND_READER), Edited(None, "caudate, putamen", 9, 0, 9.0)]
)
def test_a_structure_that_a_reader_doubts_or_edited_is_not_measured(action):
    said = Event("2026-12-02T09:00:00Z", "Ana", action)
    review = Review(Path("review.Ana.jsonl"), "Ana", (said,), ReviewState.replayed([said], [], ["caudate"]))
    assert [each.basis for each in volumes_of({"structures": [ENTRY]}, [review])] == [""]
