"""Which parts of a calibration new cases replace, which stay, and that it is said."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from repository import ROOT
from scipy.special import expit

from SegWithUCore.calibration.error_counts import count_errors
from SegWithUCore.calibration.per_structure import ProbabilitySums
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.model_name import site_version
from SegWithUCore.models.quality import site_message
from SegWithULab.calibration.blocks import Calibration
from SegWithULab.calibration.cases import CaseNumbers
from SegWithULab.calibration.prior import CaseSummary, refit

LABELS = (Label(0, "background", (0, 0, 0)), Label(1, "organ", (9, 9, 9)))
VOXELS = 10_000


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    """The shipped calibration, of one structure."""
    path = ROOT / "Resources" / "Models" / "hippocampus" / "bundle.json"
    block: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["calibration"]
    interval = {"factor": 1.0, "half_width": 2.0, "level": 0.9, "cases": 30}
    return {**block, "volume_interval": {"1": interval}, "predicted_dice": {}}


def cases(number: int, offset: float = 0.0, volume: float = 1.0, telling: bool = False) -> list[CaseSummary]:
    """Cases whose log-odds of an error lie `offset` above what is read.

    Args:
        telling: the soft Dice of a case is its Dice; else it is the same for all.
    """
    draw = np.random.default_rng(number)
    found = []
    for patient in range(number):
        odds = draw.normal(-3, 2, VOXELS)
        counts = count_errors(expit(odds), draw.random(VOXELS) < expit(odds + offset))
        true = 1000 * volume + 20 * draw.normal()
        dice = np.array([0.99, 0.85 + 0.02 * draw.normal()])
        inside = 1000 * dice[1] if telling else 900
        sums = ProbabilitySums(np.array([9e3, 1000]), np.array([9e3, inside]), np.array([50, 50]))
        numbers = CaseNumbers(sums, np.array([9000, 1000]), np.array([1e4 - true, true]), dice, 1.0)
        found.append(CaseSummary(f"patient {patient}", counts, numbers))
    return found


def said(found: Calibration, part: str) -> str:
    return next(sentence for sentence in found.messages if sentence.startswith(part))


def test_cases_like_those_of_the_model_keep_its_calibration(own: dict[str, Any]) -> None:
    for number in (6, 12, 30):
        found = refit(own, LABELS, cases(number))
        assert not found.is_changed and found.block is own
        assert all("own stay" in sentence for sentence in found.messages)
    assert "2 patients are too few" in said(refit(own, LABELS, cases(2)), "Error probability")


def test_three_patients_of_another_site_move_the_error_probability_alone(own: dict[str, Any]) -> None:
    found = refit(own, LABELS, cases(3, offset=0.9))
    factor = found.block["site"]["factor"]
    assert found.is_changed and 1 < factor["low"] < factor["factor"] < factor["high"]
    assert found.block["second_stage"]["line"][0] == 1 and found.block["second_stage"]["line"][1] > 0.5
    assert all(found.block[name] == own[name] for name in ("volume_interval", "predicted_dice", "flags"))
    assert f"{factor['factor']:.2g}" in site_message(found.block)
    added = {"cases": 30, "before": 0.4, "after": 0.6, "difference": {"mean": 0.2, "low": 0.1, "high": 0.3}}
    later = refit({**own, "site": {"cases": 30, "patients": 15, "messages": [], "added": added}}, LABELS, cases(3, 0.9))
    assert later.block["site"]["added"] == added and "30 corrected cases" in site_message(later.block)


@pytest.mark.parametrize(("number", "intervals", "flags"), [(8, False, False), (9, True, False), (17, True, True)])
def test_each_part_needs_its_cases(own: dict[str, Any], number: int, intervals: bool, flags: bool) -> None:
    found = refit(own, LABELS, cases(number, offset=1.5, telling=True))
    assert found.is_changed and "refitted" in said(found, "Error probability")
    assert ("refitted" in said(found, "Volume intervals")) == intervals
    assert (found.block["volume_interval"] != own["volume_interval"]) == intervals
    assert ("refitted" in said(found, "Limits of flags")) == flags
    assert (found.block["flags"] != own["flags"]) == flags
    if not intervals:
        assert "8 patients are too few, give 9" in said(found, "Volume intervals")
    if not flags:
        assert f"{number} cases are too few, give 17" in said(found, "Limits of flags")
    assert found.block["site"]["patients"] == number
    assert found.block["tempering_scale"] == own["tempering_scale"]


def test_intervals_that_fail_are_replaced_though_probabilities_hold(own: dict[str, Any]) -> None:
    found = refit(own, LABELS, cases(12, volume=1.3))
    assert found.is_changed and found.block["error_probability"] == own["error_probability"]
    assert "own held 0 of 12 volumes of organ" in said(found, "Volume intervals")
    assert found.block["volume_interval"]["1"]["factor"] == pytest.approx(1.3, abs=0.02)
    few = refit(own, LABELS, cases(8, volume=1.3))
    assert not few.is_changed and "own held 0 of 8 volumes" in said(few, "Volume intervals")


def test_two_cases_of_a_patient_are_no_two_patients(own: dict[str, Any]) -> None:
    twice = [replace(case, patient=f"patient {number // 2}") for number, case in enumerate(cases(12, volume=1.3))]
    found = refit(own, LABELS, twice)
    assert not found.is_changed
    assert "6 patients are too few, give 9; the model's own held 0 of 12" in said(found, "Volume intervals")
    once = refit(own, LABELS, [replace(case, patient="one") for case in cases(12, volume=1.3)])
    assert "held 0 of 12" not in said(once, "Volume intervals"), "one patient may be off by chance"


@pytest.mark.parametrize("number", [15, 17])
def test_cases_that_give_no_limit_leave_the_model_its_own(own: dict[str, Any], number: int) -> None:
    limit = {"soft_dice": {**own["flags"]["rules"]["soft_dice"], "limit": 0.9, "useful": True}}
    own = {**own, "flags": {**own["flags"], "rules": limit}}
    found = refit(own, LABELS, cases(number, offset=1.5))
    assert found.is_changed
    assert found.block["flags"]["rules"] == limit
    assert "the model's own stay" in said(found, "Limits of flags")
    ranked = len(found.block["flags"]["metrics"]["wrong_share"])
    assert ranked == (number if number >= 17 else len(own["flags"]["metrics"]["wrong_share"]))


def test_versions_of_copies_are_told_apart() -> None:
    assert site_version("1.1.0") == "1.1.0+site"
    assert site_version("1.1.0+site") == "1.1.0+site.2"
    assert site_version("1.1.0+site.2") == "1.1.0+site.3"
    assert site_version("1.1.0+ward") == "1.1.0+ward.site"
