"""Ordering cases by metrics that need no limit, and their flags."""

from pathlib import Path
from typing import Any

import pytest

from SegWithUCore.inference.deviation import JUDGED_KIND
from SegWithUCore.models.quality import EMPTY_KIND, MISPLACED_KIND, QUALITY_KIND
from SegWithUCore.review.flags import (
    LARGEST,
    FlagRules,
    Rule,
    case_flags,
    distinct_texts,
    metrics_of_case,
    rules_of_case,
)
from SegWithUCore.review.reviews import CaseReviews
from SegWithUCore.review.status import Level, Status, status_of
from SegWithUCore.review.worklist import SORTS, WORST_FIRST, WorklistEntry, entry_of, worklist_of

FIGURES = {"wrong_share": [0.1, 0.2, 0.4], "predicted_dice": [0.8, 0.85, 0.9], "wrong_mm3": [10.0, 20.0, 900.0]}


def case(
    name: str = "a", wrong: float = 20.0, missed: float = 10.0, dice: float | None = 0.82, informative: bool = True
) -> dict[str, Any]:
    return {
        "name": name,
        "structures": [
            {"value": 0, "name": "background", "volume_mm3": 900.0, "expected_wrong_mm3": missed},
            {"value": 1, "name": "atrium", "volume_mm3": 100.0, "expected_wrong_mm3": wrong, "dice_estimate": dice,
             "predicted_dice": dice if informative else None, "predicted_dice_informative": informative},
        ],
        "model": {"flags": {"rules": {}, "metrics": FIGURES}},
    }  # fmt: skip


def order(sort: str, *cases: dict[str, Any]) -> list[str]:
    entries = [entry_of(Path(c["name"]), c, CaseReviews((), (), ()), ()) for c in cases]
    broken = WorklistEntry("broken", Path("broken"), trouble="no")
    return [entry.name for entry in worklist_of([broken, *entries], sort=sort).entries]


def test_the_share_counts_missed_tissue() -> None:
    found = metrics_of_case(case(informative=True))
    assert found == {"wrong_share": pytest.approx(0.3), "wrong_mm3": 30.0, "predicted_dice": 0.82, "mean_dice": 0.82}


def test_an_empty_segmentation_has_the_largest_share() -> None:
    empty = case()
    empty["structures"][1]["volume_mm3"] = 0.0
    assert metrics_of_case(empty)["wrong_share"] == LARGEST


def status(found: dict[str, Any]) -> Status:
    return status_of(found, case_flags(found, rules_of_case(found)))


def test_empty_structures_and_poor_models_are_flagged_whatever_is_switched_off() -> None:
    warnings = [
        {"severity": "note", "message": "may lack", "kind": EMPTY_KIND, "structure": 1},
        {"severity": "warning", "message": "lacks", "kind": EMPTY_KIND, "structure": 1},
        {"severity": "warning", "message": "poor", "kind": QUALITY_KIND, "structure": None},
        {"severity": "warning", "message": "noisy", "kind": "noise", "structure": None},
    ]
    warned = {**case(), "ood": {"warnings": warnings}}
    found = case_flags(warned, FlagRules())
    assert [(flag.rule, flag.structure, flag.message) for flag in found] == [
        (Rule.MODEL, None, "poor"), (Rule.EMPTY, "atrium", "lacks"), (Rule.OOD, None, "noisy"),
    ]  # fmt: skip
    assert status(warned) == Status(Level.DO_NOT_USE, "poor")
    for number, level in ((0, Level.NOT_FLAGGED), (1, Level.DO_NOT_USE), (2, Level.DO_NOT_USE), (3, Level.LOOK)):
        assert status({**case(), "ood": {"warnings": warnings[number : number + 1]}}).level is level
    refused = {**warnings[3], "severity": "refused", "message": "another organ"}
    assert status({**case(), "ood": {"warnings": [warnings[3], refused]}}) == Status(Level.DO_NOT_USE, "another organ")


def test_the_headline_is_the_most_important_flag_and_not_the_first_warning() -> None:
    blank = {"severity": "warning", "message": "1.1 % is blank", "kind": "calibration", "structure": None}
    half_wrong = {**case(wrong=60.0), "ood": {"warnings": [blank]}}
    found = status(half_wrong)
    assert found.level is Level.LOOK and found.reason.startswith("70 % of the segmented volume")
    misplaced = {"severity": "warning", "message": "sides", "kind": MISPLACED_KIND, "structure": None}
    half_wrong["ood"] = {"warnings": [blank, misplaced]}
    assert status(half_wrong) == Status(Level.DO_NOT_USE, "sides")
    rules = [flag.rule for flag in case_flags(half_wrong, FlagRules())]
    assert rules == [Rule.MISPLACED, Rule.WRONG_SHARE, Rule.WRONG_SHARE, Rule.OOD]


def test_half_wrong_or_unknown_is_looked_at_without_any_rule() -> None:
    assert status(case(wrong=40.0, missed=20.0)).level is Level.LOOK
    unknown = case()
    for entry in unknown["structures"]:
        del entry["expected_wrong_mm3"]
    assert status(unknown).level is Level.LOOK


def test_no_sign_of_trouble_says_how_often_that_misses_a_bad_case() -> None:
    rule = {"limit": 0.9, "useful": True, "missed": 1, "bound": 0.182}
    measured = case()
    measured["model"]["flags"] = {"bad_cases": 10, "bad_dice": 0.835, "rules": {"soft_dice": rule}}
    found = status(measured)
    assert found.level is Level.NOT_FLAGGED
    assert all(text in found.reason for text in ("Of 10 ", "below 0.83)", " 1 had", "17 to 32 %"))
    made_elsewhere = {"severity": "note", "message": "disagreement", "kind": JUDGED_KIND, "structure": None}
    assert "not measured" in status({**measured, "ood": {"warnings": [made_elsewhere]}}).reason
    for rules in ({}, {"soft_dice": {**rule, "useful": False}}, {"soft_dice": {"limit": 0.9, "useful": True}}):
        measured["model"]["flags"]["rules"] = rules
        assert status(measured).level is Level.NOT_FLAGGED and "not measured" in status(measured).reason


def test_no_order_puts_a_case_above_one_of_a_worse_status() -> None:
    empty, noisy = case("empty", wrong=1.0, missed=1.0, dice=0.99), case("noisy", wrong=2.0, missed=2.0, dice=0.98)
    good, warning = case("good", wrong=40.0, missed=0.0, dice=0.1), {"severity": "warning", "message": "lacks"}
    empty["ood"] = {"warnings": [{**warning, "kind": EMPTY_KIND, "structure": 1}]}
    noisy["ood"] = {"warnings": [{**warning, "kind": "noise", "structure": None}]}
    assert [status(one).level for one in (empty, noisy, good)] == list(Level)
    for sort in SORTS:
        assert order(sort, good, noisy, empty) == ["empty", "noisy", "good", "broken"], sort


def test_each_order_sorts_by_its_figure_and_puts_what_is_unknown_last() -> None:
    large, small = case("large", wrong=50.0, missed=50.0, dice=0.9), case("small", wrong=30.0, missed=0.0, dice=0.6)
    for entry in large["structures"][1:]:
        entry["volume_mm3"] = 1000.0
    unknown, worse = case("unknown", wrong=9.0, missed=0.0, dice=None), case("worse", missed=0.0, dice=None)
    given = (large, small, unknown, worse)
    assert order("share", *given) == ["small", "worse", "large", "unknown", "broken"]
    assert order(WORST_FIRST, *given) == ["small", "large", "worse", "unknown", "broken"]


def test_the_first_order_is_by_the_mean_of_the_structures_whether_it_is_shown_or_not() -> None:
    uneven, even = case("uneven", dice=0.5, informative=False), case("even", dice=0.6, informative=False)
    for one, dice in ((uneven, 0.9), (even, 0.6)):
        one["structures"].append({**one["structures"][1], "value": 2, "name": "vein", "dice_estimate": dice})
    assert order(WORST_FIRST, uneven, even) == ["even", "uneven", "broken"]


def test_a_figure_and_its_limit_never_read_the_same() -> None:
    assert distinct_texts(0.8966, 0.8969, 3) == ("0.8966", "0.8969")
    assert distinct_texts(0.89, 0.9, 2) == ("0.89", "0.90")
    assert distinct_texts(0.5, 0.5 + 1e-12, 2) == ("0.50000", "0.50000")


def test_the_share_of_the_whole_case_is_limited_too() -> None:
    (flag,) = case_flags(case(), FlagRules(wrong_share=0.25))
    assert flag.structure is None
    assert flag.message.startswith("30 % of the segmented volume (30 mm3, missed tissue included)")


def test_a_case_is_about_the_structures_asked_for() -> None:
    vein = {"value": 2, "name": "vein", "volume_mm3": 50.0, "expected_wrong_mm3": 45.0, "dice_estimate": 0.3}
    vein |= {"predicted_dice": 0.3, "predicted_dice_informative": True, "soft_dice": 0.2}
    both = case(wrong=10.0, missed=400.0)
    both["structures"] += [vein]
    both["ood"] = {"warnings": [{"severity": "refused", "message": "lacks", "kind": EMPTY_KIND, "structure": 2}]}
    rules, asked = FlagRules(wrong_share=0.05, soft_dice=0.5), {**both, "asked": ["atrium"]}
    assert {flag.structure for flag in case_flags(both, rules)} == {None, "atrium", "vein"}
    (flag,) = case_flags(asked, rules)
    assert flag.structure == "atrium", "the limit of the whole case is about all structures"
    found = {"wrong_share": pytest.approx(0.1), "wrong_mm3": 10.0, "predicted_dice": 0.82, "mean_dice": 0.82}
    assert metrics_of_case(asked) == found, "whose the missed tissue is nobody knows"
    assert (status(both).level, status(asked).level) == (Level.DO_NOT_USE, Level.NOT_FLAGGED)
    asked["model"] = {"flags": {"bad_cases": 10, "bad_dice": 0.8, "rules": {"soft_dice": {
        "limit": 0.1, "useful": True, "missed": 1, "bound": 0.2}}}}  # fmt: skip
    assert "10 bad" not in status(asked).reason and "10 bad" in status({**case(), "model": asked["model"]}).reason
    asked["structures"][1]["expected_wrong_mm3"] = 60.0
    assert [flag.structure for flag in case_flags(asked, FlagRules())] == [None, "atrium"]
    entry = entry_of(Path("a"), {**both, "asked": ["vein"]}, CaseReviews((), (), ()), ())
    assert (entry.worst_structure, entry.asked, entry.metrics["wrong_mm3"]) == ("vein", ("vein",), 45.0)
    sure, worse = {**both, "name": "sure", "asked": ["atrium"]}, {**both, "name": "worse", "asked": ["vein"]}
    assert order("share", sure, worse) == ["worse", "sure", "broken"]


def test_a_prediction_that_is_not_informative_ranks_nothing() -> None:
    assert metrics_of_case(case(informative=False))["predicted_dice"] is None
