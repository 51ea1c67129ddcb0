"""Which parts of a calibration new cases replace, which stay, and that it is said."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from repository import ROOT
from scipy.special import expit

from SegWithUCore.calibration.error_counts import count_errors
from SegWithUCore.calibration.per_structure import ProbabilitySums, VolumeInterval
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.model_name import site_version
from SegWithUCore.models.quality import site_message
from SegWithULab.calibration import prior
from SegWithULab.calibration.blocks import Calibration
from SegWithULab.calibration.cases import CaseNumbers
from SegWithULab.calibration.prior import CaseSummary

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
        found.append(CaseSummary(f"patient {patient}", {"organ": counts}, numbers, (0, 1)))
    return found


def refit(own: dict[str, Any], given: list[CaseSummary]) -> Calibration:
    return prior.refit(own, LABELS, given, prior.lines_of(given, LABELS))


def said(found: Calibration, part: str) -> str:
    return next(sentence for sentence in found.messages if sentence.startswith(part))


def test_two_patients_change_nothing(own: dict[str, Any]) -> None:
    found = refit(own, cases(2, offset=0.9, volume=1.3))
    assert not found.is_changed and found.block is own
    assert all("own stay" in sentence for sentence in found.messages)
    assert "2 patients are too few" in said(found, "Error probability")


def test_three_patients_of_another_site_move_error_probability_and_intervals(own: dict[str, Any]) -> None:
    found = refit(own, cases(3, offset=0.9, volume=1.3))
    factor = found.block["site"]["factor"]
    assert found.is_changed and 1 < factor["low"] < factor["factor"] < factor["high"]
    (lines,) = found.block["structure_lines"]
    assert lines["patients"] == 3 and lines["lines"][0]["name"] == "organ" and lines["lines"][0]["offset"] > 0.5
    assert all(found.block[name] == own[name] for name in ("second_stage", "predicted_dice", "flags"))
    before, after = own["volume_interval"]["1"], found.block["volume_interval"]["1"]
    assert after["factor"] == pytest.approx(1.3, abs=0.03) and after["half_width"] > before["half_width"]
    assert f"{factor['factor']:.2g}" in site_message(found.block)
    added = {"cases": 30, "before": 0.4, "after": 0.6, "difference": {"mean": 0.2, "low": 0.1, "high": 0.3}}
    later = refit({**found.block, "site": {"cases": 30, "patients": 15, "messages": [], "added": added}}, cases(3, 0.9))
    assert later.block["site"]["added"] == added and "30 corrected cases" in site_message(later.block)
    assert len(later.block["structure_lines"]) == 2, "lines of a second time come after those of the first"


@pytest.mark.parametrize(("number", "intervals", "flags"), [(8, False, False), (9, True, False), (17, True, True)])
def test_each_part_needs_its_cases(own: dict[str, Any], number: int, intervals: bool, flags: bool) -> None:
    found = refit(own, cases(number, offset=1.5, telling=True))
    assert found.is_changed and "refitted" in said(found, "Error probability")
    assert ("refitted" in said(found, "Volume intervals")) == intervals
    assert ("refitted" in said(found, "Limits of flags")) == flags
    assert (found.block["flags"] != own["flags"]) == flags
    if not intervals:
        assert "from 9 patients on" in said(found, "Volume intervals")
    if not flags:
        assert f"{number} cases are too few, give 17" in said(found, "Limits of flags")
    assert found.block["site"]["patients"] == number
    assert found.block["tempering_scale"] == own["tempering_scale"]


@pytest.mark.parametrize("number", [3, 4, 6, 8])
def test_moved_intervals_hold_volumes_of_other_patients_of_the_site(own: dict[str, Any], number: int) -> None:
    """Nine in ten or more, whatever the site: volumes of its patients spread by 2 % around 1.3 times the expected."""
    draw, held, wide = np.random.default_rng(number), 0, 0.0
    for _ in range(100):
        given = cases(number)
        volumes = 1300 * np.exp(0.02 * draw.standard_normal(number + 1))
        for case, true in zip(given, volumes[1:], strict=True):
            case.numbers.true[1] = true
        interval = refit(own, given).block["volume_interval"]["1"]
        centre, half = interval["factor"] * 1000, interval["half_width"] * 50
        held, wide = held + (abs(centre - volumes[0]) <= half), max(wide, half)
    assert held >= 90 and wide < 0.3 * 1300


def test_fewer_than_five_patients_never_narrow_an_interval_and_more_may(own: dict[str, Any]) -> None:
    wide = {**own, "volume_interval": {"1": {**own["volume_interval"]["1"], "half_width": 8.0}}}
    widths = {}
    for number in (4, 8):
        found = refit(wide, cases(number)).block["volume_interval"]["1"]
        widths[number] = found["half_width"] / found["factor"]
    assert widths[4] >= 8.0 - 1e-9 and widths[8] < 7.9


def test_what_synthesised_cases_could_not_show_is_seen_in_real_ones(own: dict[str, Any]) -> None:
    """Their interval is wider for it, until patients of the site show how far off volumes are."""
    interval = {**own["volume_interval"]["1"], "unseen": 0.2}
    volume, low, high = VolumeInterval(**interval)(1000, 50, 1000)
    assert (volume, high - volume, volume - low) == pytest.approx((1000, np.hypot(100, 200), np.hypot(100, 200)))
    wide = {**own, "volume_interval": {"1": interval}}
    few, more = (refit(wide, cases(number)).block["volume_interval"]["1"] for number in (3, 8))
    assert "unseen" not in few and few["half_width"] * 50 >= np.hypot(100, 200) > more["half_width"] * 50


def test_teaching_the_same_patients_twice_widens_nothing_again(own: dict[str, Any]) -> None:
    once = refit(own, cases(3, volume=1.3)).block
    twice = refit(once, cases(3, volume=1.3)).block
    first, second = (block["volume_interval"]["1"] for block in (once, twice))
    assert first["cases"] == second["cases"] == 3
    assert second["half_width"] == pytest.approx(first["half_width"], rel=0.02)
    assert second["factor"] == pytest.approx(first["factor"], rel=0.01)


def test_a_patient_in_whom_nothing_was_drawn_moves_no_interval(own: dict[str, Any]) -> None:
    """What is left of its probability is no volume: 20,000 times too small."""
    given, plain = cases(4, volume=1.3), cases(3, volume=1.3)
    given[3].numbers.predicted[1], given[3].numbers.sums.expected[1] = 0, 0.05
    found, without = (refit(own, each).block["volume_interval"]["1"] for each in (given, plain))
    assert found["cases"] == 3 and found["half_width"] == pytest.approx(without["half_width"], rel=0.2)


def test_structures_without_a_label_keep_what_the_model_has(own: dict[str, Any]) -> None:
    given = cases(12, offset=0.9, volume=1.3)
    for case in given:
        case.numbers.true[1] = case.numbers.dice[1] = np.nan
    found = refit(own, [replace(case, drawn={}, known=()) for case in given])
    assert not found.is_changed
    few = refit(own, [replace(case, drawn={}, known=()) for case in given[:4]])
    assert not few.is_changed


def test_each_structure_learns_from_the_reviews_that_finished_it(own: dict[str, Any]) -> None:
    """Organ and vessel have the same volumes; all reviews finished the organ, only some the vessel."""
    labels = (*LABELS, Label(2, "vessel", (9, 9, 9)))
    own = {**own, "volume_interval": dict.fromkeys(("1", "2"), own["volume_interval"]["1"])}

    def taught(number: int, without_vessel: int) -> Calibration:
        given = []
        for place, case in enumerate(cases(number, volume=1.3)):
            its, sums = case.numbers, case.numbers.sums
            both = [0, 1, 1]
            sums = ProbabilitySums(sums.expected[both], sums.inside[both], sums.ambiguous[both])
            is_known = place >= without_vessel
            true, dice = (np.where([True, True, is_known], each[both], np.nan) for each in (its.true, its.dice))
            numbers = replace(its, sums=sums, predicted=its.predicted[both], true=true, dice=dice)
            together = () if is_known else (0, 1, 0)
            given.append(replace(case, numbers=numbers, known=(0, 1, 2), together=together))
        return prior.refit(own, labels, given, prior.lines_of(given, labels))

    def intervals(found: Calibration) -> list[VolumeInterval]:
        return [VolumeInterval(**found.block["volume_interval"][key]) for key in ("1", "2")]

    organ, vessel = intervals(taught(12, without_vessel=0))
    assert organ == vessel and organ.cases == 12
    organ, vessel = intervals(taught(12, without_vessel=8))
    assert (organ.cases, vessel.cases) == (12, 4) and vessel.factor == pytest.approx(1.3, abs=0.1)
    organ, vessel = intervals(taught(12, without_vessel=10))
    assert organ.cases == 12 and vessel == VolumeInterval(**own["volume_interval"]["2"]), "two are too few"
    found = taught(4, without_vessel=4)
    lines = prior.lines_of([replace(case, together=(0, 1, 0)) for case in cases(4, offset=0.9)], labels)
    assert lines is not None and lines.lines.together == (0, 1, 0), "vessel and background are not told apart"
    assert "next to finished structures: background, vessel" in said(found, "Error probability")


def test_two_cases_of_a_patient_are_no_two_patients(own: dict[str, Any]) -> None:
    twice = [replace(case, patient=f"patient {number // 2}") for number, case in enumerate(cases(12, volume=1.3))]
    assert "from 9 patients on fitted anew; the model's own held 0 of 12" in said(refit(own, twice), "Volume intervals")
    once = refit(own, [replace(case, patient="one") for case in cases(12, volume=1.3)])
    assert not once.is_changed
    assert "held 0 of 12" not in said(once, "Volume intervals"), "one patient may be off by chance"


@pytest.mark.parametrize("number", [15, 17])
def test_cases_that_give_no_limit_leave_the_model_its_own(own: dict[str, Any], number: int) -> None:
    limit = {"soft_dice": {**own["flags"]["rules"]["soft_dice"], "limit": 0.9, "useful": True}}
    own = {**own, "flags": {**own["flags"], "rules": limit}}
    found = refit(own, cases(number, offset=1.5))
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
