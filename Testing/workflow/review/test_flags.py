"""Flags of real cases, and limits fitted on calibration cases."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchanged_cases import changed_case, copied, judged, limited, review
from segwithu_command import MODEL, Command, tiny_bundle

from SegWithUCore.calibration.flag_limits import FlagCase, controlled_limit, fit_flag_limit
from SegWithUCore.case.case_file import asked_structures, read_case
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.models.bundle import read_bundle, write_bundle_json
from SegWithUCore.regions.region import Kind
from SegWithUCore.review.flags import Flag, FlagRules, Rule
from SegWithUCore.review.log_format import PlaceAdded, StructureJudged, Verdict, VerdictGiven
from SegWithUCore.review.worklist import read_for_worklist


@pytest.fixture
def case(segmented_cases: Path, tmp_path: Path) -> Path:
    return copied(segmented_cases / "hippocampus_075", tmp_path)


def raised(case: Path, **limits: Any) -> list[Flag]:
    limited(case, **limits)
    return list(read_for_worklist(case).flags)


def with_figures(case: Path, **figures: Any) -> None:
    """Give the anterior hippocampus figures that a later model knows."""
    changed_case(case, lambda content: content["structures"][1].update(figures))


def test_without_limits_a_usual_case_has_no_flag(case: Path) -> None:
    assert read_for_worklist(case).flags == () and not read_for_worklist(case).is_flagged


def test_the_share_is_that_of_the_structure_s_volume(case: Path) -> None:
    whole, *flags = raised(case, wrong_share=0.01)
    assert whole.structure is None
    shares = {entry["name"]: entry["expected_wrong_mm3"] / entry["volume_mm3"]
              for entry in read_case(case)["structures"][1:]}  # fmt: skip
    assert {flag.structure: flag.value for flag in flags} == pytest.approx(shares)
    assert [flag.value for flag in flags] == sorted(shares.values(), reverse=True)  # the worst comes first
    assert all("above the limit of 1 %" in flag.message for flag in flags)


def test_a_structure_that_is_half_wrong_is_flagged_whatever_the_limit_is(case: Path) -> None:
    for limits in ({}, {"wrong_share": 0.9}):
        with_figures(case, volume_mm3=100.0, expected_wrong_mm3=51.0)
        (flag,) = raised(case, **limits)
        assert (flag.rule, flag.structure, flag.limit) == (Rule.WRONG_SHARE, "anterior hippocampus", 0.5)
        with_figures(case, expected_wrong_mm3=50.0)
        assert raised(case, **limits) == []


def test_an_empty_structure_with_expected_errors_is_flagged(case: Path) -> None:
    with_figures(case, volume_mm3=0.0, expected_wrong_mm3=3.0)
    (flag,) = (flag for flag in raised(case, wrong_share=0.9) if flag.structure)
    assert flag.value is None
    assert flag.message.endswith("above the limit of 50 %.")


def test_warnings_are_flagged_and_notes_are_not(case: Path) -> None:
    warnings = [
        {"severity": "note", "message": "A note.", "kind": "noise", "structure": None},
        {"severity": "warning", "message": "Larger than in training.", "kind": "volume", "structure": 2},
    ]
    changed_case(case, lambda content: content.update(ood={"warnings": warnings}))
    (flag,) = raised(case)
    assert (flag.structure, flag.message) == ("posterior hippocampus", "Larger than in training.")


def test_what_a_reviewer_rejected_or_wants_read_again_is_flagged(case: Path) -> None:
    judged(case, "Ana", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED, 3: Verdict.SECOND_READER})
    flags = raised(case)
    assert {flag.rule for flag in flags} == {Rule.REVIEWER}
    assert sum(flag.value or 0 for flag in flags) == 2
    assert any("Ana wants a second reader for 1 region" in flag.message for flag in flags)
    asked = asked_structures(read_case(case))
    ids = {region.rank: region.id for region in read_regions(case)}
    rejected = VerdictGiven(ids[2], Verdict.REJECTED)
    review(case, "Ana", rejected, *(StructureJudged(name, Verdict.ACCEPTED) for name in asked))
    assert {flag.rule for flag in raised(case)} == {Rule.REVIEWER}, "finished as it is, with a region that is wrong"
    review(case, "Ana", rejected, *(StructureJudged(name, Verdict.CORRECTED) for name in asked))
    assert not raised(case), "what was rejected is mended"
    assert read_for_worklist(case).worst_structure is None, "nothing is left that may be wrong"


@pytest.mark.parametrize("verdict", [Verdict.REJECTED, Verdict.SECOND_READER])
def test_places_and_structures_without_a_region_of_the_list_are_flagged_too(case: Path, verdict: Verdict) -> None:
    asked, regions = asked_structures(read_case(case)), read_regions(case)
    place = max(region.id for region in regions) + 1
    review(case, "Ana", PlaceAdded(place, asked[0], (0.0, 0.0, 0.0)), VerdictGiven(place, verdict))
    assert [(flag.rule, flag.structure) for flag in raised(case)] == [(Rule.REVIEWER, asked[0])]
    (case / "review.Ana.jsonl").unlink()
    (blind,) = [region for region in regions if region.kind is Kind.BLIND][:1]
    finished = [StructureJudged(name, Verdict.ACCEPTED) for name in asked]
    review(case, "Ana", *finished, VerdictGiven(blind.id, verdict))
    assert [(flag.rule, flag.structure) for flag in raised(case)] == [(Rule.REVIEWER, blind.structure)]
    (case / "review.Ana.jsonl").unlink()
    review(case, "Ana", StructureJudged(asked[1], verdict))
    assert [(flag.rule, flag.structure) for flag in raised(case)] == [(Rule.REVIEWER, asked[1])]


def test_the_model_s_fitted_rules_hold_where_the_user_gives_none(case: Path) -> None:
    rules = {"wrong_share": {"limit": 0.01, "useful": True}, "soft_dice": {"limit": None, "useful": False}}
    changed_case(case, lambda content: content["model"].update(flags={"rules": rules}))
    assert {flag.rule for flag in read_for_worklist(case).flags} == {Rule.WRONG_SHARE}


def test_a_damaged_case_is_named(case: Path) -> None:
    changed_case(case, lambda content: content["structures"][1].pop("name"))
    limited(case)
    entry = read_for_worklist(case)
    assert "hippocampus_075" in entry.trouble and entry.is_flagged


def some_cases(scores: np.ndarray, dice: np.ndarray, weight: float = 1.0) -> list[FlagCase]:
    return [FlagCase(float(score), float(each), weight) for score, each in zip(scores, dice, strict=True)]


def test_the_limit_misses_so_many_bad_cases_as_the_bound_allows() -> None:
    dice = np.linspace(0.5, 0.95, 50)
    fitted = fit_flag_limit(some_cases(dice, dice), bad_dice=0.77)
    rule, flagged = fitted["rules"]["soft_dice"], dice < fitted["rules"]["soft_dice"]["limit"]
    assert fitted["bad_cases"] == np.sum(dice < 0.77) == 30
    assert rule["useful"]
    assert rule["missed"] == np.sum((dice < 0.77) & ~flagged) == 5  # (5 + 1) / 31 is the last within 0.2
    assert rule["bound"] == pytest.approx(6 / 31)
    assert rule["flagged_share"] == flagged.mean() and rule["others_flagged_share"] == 0
    assert rule["limit"] == pytest.approx((dice[24] + dice[25]) / 2)
    assert FlagRules.fitted(fitted).soft_dice == rule["limit"]
    assert "fitted on 50 cases" in rule["message"] and "misses 5 of 30 bad ones" in rule["message"]


def test_the_bound_holds_for_new_bad_cases() -> None:
    """The share of bad cases that are not flagged, over many draws of calibration cases and of new ones."""
    draw = np.random.default_rng(0)
    missed = []
    for _ in range(400):
        bad, noise = draw.random(400) < 0.3, draw.normal(size=400)
        scores = noise - bad
        limit = controlled_limit(scores[:40], bad[:40])
        missed.append(np.mean(scores[40:][bad[40:]] >= limit))
    assert 0.1 < np.mean(missed) <= 0.2


def test_alike_cases_of_few_patients_prove_little() -> None:
    """Forty bad cases of three patients are three; and what follows the Dice of four patients may do so by chance."""
    dice = np.r_[np.linspace(0.5, 0.6, 40), np.linspace(0.8, 0.9, 40)]
    cases = [FlagCase(each, each, patient=f"{number // 14}") for number, each in enumerate(dice.tolist())]
    rule = fit_flag_limit(cases, bad_dice=0.7)["rules"]["soft_dice"]
    assert not rule["useful"] and "40 bad cases of 3 patients allow no bound below 25 %" in rule["message"]
    alone = fit_flag_limit(some_cases(dice, dice), bad_dice=0.7)["rules"]["soft_dice"]
    assert alone["useful"] and alone["p_value"] < 1e-9
    few = [FlagCase(each, each, patient=f"{number // 20}") for number, each in enumerate(dice.tolist())]
    assert fit_flag_limit(few, bad_dice=0.59)["rules"]["soft_dice"]["p_value"] == pytest.approx(0, abs=1e-9)
    crossed = [replace(case, dice=1.4 - case.dice) for case in few[:20]] + few[20:]
    assert fit_flag_limit(crossed, bad_dice=0.85)["rules"]["soft_dice"]["p_value"] > 0.05


def test_a_limit_counts_cases_of_other_networks_by_their_weight() -> None:
    dice = np.linspace(0.5, 0.95, 100)
    alone = fit_flag_limit(some_cases(dice, dice), bad_dice=0.7)["rules"]["soft_dice"]
    twice = fit_flag_limit(some_cases(np.repeat(dice, 2), np.repeat(dice, 2), 0.5), bad_dice=0.7)["rules"]["soft_dice"]
    assert (twice["limit"], twice["bound"]) == (alone["limit"], pytest.approx(alone["bound"]))
    bad = dice < 0.7
    weights = np.where(np.arange(100) % 2, 1.0, 0.5)
    limit = controlled_limit(dice, bad, weights)
    lost = [weights[bad & (dice >= each)].sum() for each in (limit, limit - 0.005)]
    assert (lost[0] + 1) / (weights[bad].sum() + 1) <= 0.2 < (lost[1] + 1) / (weights[bad].sum() + 1)


def test_the_bad_cases_of_a_patient_count_as_one() -> None:
    dice = np.linspace(0.5, 0.95, 50)
    alone = fit_flag_limit(some_cases(dice, dice), bad_dice=0.77)["rules"]["soft_dice"]
    twice = [FlagCase(each, each, patient=str(number)) for number, each in enumerate(dice.tolist()) for _ in range(2)]
    rule = fit_flag_limit(twice, bad_dice=0.77)["rules"]["soft_dice"]
    assert (rule["limit"], rule["bound"]) == (alone["limit"], pytest.approx(alone["bound"]))
    three = [FlagCase(each, each, patient=str(number // 10)) for number, each in enumerate(dice.tolist())]
    assert fit_flag_limit(three, bad_dice=0.77)["rules"]["soft_dice"]["limit"] is None  # 30 bad cases of 3 patients
    healthy = [FlagCase(case.soft_dice, case.dice, patient="a" if case.dice >= 0.77 else None) for case in three]
    assert fit_flag_limit(healthy, bad_dice=0.77)["rules"]["soft_dice"]["bound"] == pytest.approx(alone["bound"])


def test_fitted_rules_fit_into_a_bundle(tmp_path: Path) -> None:
    dice = np.linspace(0.5, 0.95, 49)
    folder, flags = tiny_bundle(tmp_path / "tiny"), fit_flag_limit(some_cases(dice, dice))
    bundle = read_bundle(folder)
    assert bundle.calibration is not None
    write_bundle_json(replace(bundle, calibration={**bundle.calibration, "flags": flags}), folder)
    assert (read_bundle(folder).calibration or {})["flags"] == flags


def test_too_few_bad_cases_for_the_bound_are_said() -> None:
    dice = np.linspace(0.5, 0.9, 15)
    rule = fit_flag_limit(some_cases(dice, dice))["rules"]["soft_dice"]
    assert rule["limit"] is None
    assert "3 bad cases allow no bound below 25 %" in rule["message"]
    assert "no case is bad" in fit_flag_limit(some_cases(dice, dice), bad_dice=0.1)["rules"]["soft_dice"]["message"]
    assert fit_flag_limit([])["rules"]["soft_dice"]["useful"] is False


def test_cases_of_one_dice_are_not_called_good() -> None:
    found = fit_flag_limit(some_cases(np.linspace(0.1, 0.2, 28), np.zeros(28)))
    assert found["bad_cases"] == 0
    sentence = found["rules"]["soft_dice"]["message"]
    assert "no case is bad" not in sentence and "all 28 cases have the same Dice (0.00)" in sentence


def test_all_cases_that_share_the_lowest_dice_are_bad() -> None:
    dice = np.r_[np.zeros(10), np.linspace(0.6, 0.9, 18)]
    found = fit_flag_limit(some_cases(dice, dice))
    assert found["bad_cases"] == 10 and found["rules"]["soft_dice"]["useful"]


def test_a_figure_that_says_nothing_gives_no_rule() -> None:
    dice = np.linspace(0.5, 0.9, 40)
    rule = fit_flag_limit(some_cases(np.resize([0.1, 0.2], 40), dice))["rules"]["soft_dice"]
    assert rule["limit"] is None
    assert rule["message"].startswith("No useful rule: the soft Dice does not follow the Dice of the 40 cases")


def test_a_rule_that_would_flag_nearly_all_cases_is_none() -> None:
    dice = np.linspace(0.5, 0.9, 40)
    score = dice.copy()
    score[:4] = 0.895  # half of the bad ones look like the best
    rule = fit_flag_limit(some_cases(score, dice))["rules"]["soft_dice"]
    assert not rule["useful"]
    assert "would flag 39 of 40" in rule["message"]


def test_a_low_soft_dice_is_flagged_below_the_limit_only(case: Path) -> None:
    with_figures(case, soft_dice=0.8)
    (flag,) = raised(case, soft_dice=0.81)
    assert (flag.rule, flag.value, flag.limit) == (Rule.SOFT_DICE, 0.8, 0.81)
    assert raised(case, soft_dice=0.8) == []


def test_a_model_s_useful_rule_flags_the_case_that_segment_writes(
    data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    model = shutil.copytree(MODEL, tmp_path / "model")
    bundle = read_bundle(model)
    rule = {"limit": 0.01, "useful": True, "message": "For the test."}
    calibration = {**(bundle.calibration or {}), "flags": {**(bundle.calibration or {})["flags"]}}
    calibration["flags"]["rules"] = {"wrong_share": rule}
    write_bundle_json(replace(bundle, calibration=calibration), model)
    image = data_folder / "hippocampus" / "images" / "hippocampus_319.nii.gz"
    outcome = segwithu("segment", image, "--model", model, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    flags = read_case(tmp_path / "out" / "hippocampus_319")["flags"]
    assert [flag["rule"] for flag in flags] == ["expected wrong share"] * 3
    assert [flag.to_json() for flag in read_for_worklist(tmp_path / "out" / "hippocampus_319").flags] == flags
    assert all(f"Flagged: {flag['message']}" in outcome.err for flag in flags)
