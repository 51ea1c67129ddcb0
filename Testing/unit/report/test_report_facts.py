"""What a report says of the model that a case was made with."""

from typing import Any

import pytest

from SegWithUCore.report.tables import case_facts


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"calibrated": False}, "none"),
        ({"calibrated": True, "calibration_cases": 27, "calibrated_with_image": True}, "on 27 cases, with the image"),
        ({"calibrated": True, "calibration_cases": 9, "calibrated_with_image": False}, "on 9 cases, without the image"),
    ],
)
def test_it_says_whether_the_error_probability_sees_the_image(model: dict[str, Any], words: str) -> None:
    grid = {"size_ijk": [1, 2, 3], "spacing_mm": [1.0, 1.0, 1.0]}
    case = {
        "input": {"grid": grid, "channels": []},
        "model": {"name": "m", "version": "1", "head": "context", **model},
    }
    assert dict(case_facts(case))["Calibration"] == words
