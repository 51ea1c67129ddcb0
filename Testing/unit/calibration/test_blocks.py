"""Numbers of whole cases: what is fitted on cases of the network itself, and what on those of other folds too."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import totals
from repository import ROOT
from segwithu_command import MODEL

from SegWithUCore.calibration.change import EJECTION
from SegWithUCore.calibration.flag_limits import FlagCase, fit_flag_limit
from SegWithUCore.calibration.per_structure import (
    AsymmetryInterval,
    ProbabilitySums,
    VolumeInterval,
    asymmetry,
    fit_predicted_dice,
    fit_volume_interval,
)
from SegWithUCore.models.bundle import CARD_FILE, Bundle, check_bundle, read_bundle
from SegWithUCore.models.input_spec import Code, Label, Total
from SegWithUCore.models.model_card import write_description
from SegWithUCore.util.progress import silent
from SegWithULab.calibration import blocks, cross_validation
from SegWithULab.calibration.blocks import ejection_block, named_volumes, per_structure_blocks, total_blocks
from SegWithULab.calibration.cases import CaseNumbers, PredictedCases
from SegWithULab.training.dataset import Case
from SegWithULab.training.recipe import read_recipe
from SegWithULab.training.run_folder import RunFolder

LABELS = (Label(0, "background", (0, 0, 0)), Label(1, "organ", (9, 9, 9)))


def predicted(count: int, seed: int, patient: str = "own") -> PredictedCases:
    """Cases whose Dice follows their soft Dice."""
    draw, found = np.random.default_rng(seed), PredictedCases()
    for number in range(count):
        inside = draw.uniform(700, 950)
        sums = ProbabilitySums(np.array([9e3, 1000]), np.array([9e3, inside]), np.array([50, 50]))
        dice = np.array([0.99, inside / 1000 - 0.05 + 0.01 * draw.normal()])
        true = 1000 + 20 * draw.normal()
        numbers = CaseNumbers(sums, np.array([9000, 1000]), np.array([1e4 - true, true]), dice, 1.0)
        found.numbers.append(numbers)
        found.wrong_voxels.append(100.0 + number)
        found.patients.append(f"{patient} {number}")
        found.networks.append(f"network {number % 3}")
    return found


def test_cases_of_other_folds_count_by_weight_in_dice_and_flags_and_not_in_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, other = predicted(20, 0), predicted(60, 1, "fold")
    alone, both = per_structure_blocks(LABELS, own), per_structure_blocks(LABELS, own, other)
    assert both["volume_interval"] == alone["volume_interval"]
    assert both["volume_interval"]["1"]["cases"] == 20
    assert (alone["flags"]["cases"], both["flags"]["cases"], both["flags"]["cross_validated_cases"]) == (20, 20, 60)
    assert "cross_validated_cases" not in alone["flags"] and "cross_validated_cases" not in alone["predicted_dice"]["1"]
    dice = both["predicted_dice"]["1"]
    assert (dice["cases"], dice["cross_validated_cases"]) == (20, 60)
    assert (
        both["flags"]["bad_dice"] == alone["flags"]["bad_dice"] and dice["mean"] == alone["predicted_dice"]["1"]["mean"]
    )
    assert both["flags"]["metrics"]["wrong_mm3"] == alone["flags"]["metrics"]["wrong_mm3"]  # ranks are among the own
    assert dice["difference_high"] - dice["difference_low"] < 0.8 * width_of(alone), "more cases tell more"
    monkeypatch.setattr(blocks, "FOLD_WEIGHT", 1e-9)
    weightless = per_structure_blocks(LABELS, own, other)
    for name, value in alone["predicted_dice"]["1"].items():
        assert name.startswith("difference") or weightless["predicted_dice"]["1"][name] == pytest.approx(
            value, rel=1e-6
        )
    rule = both["flags"]["rules"]["soft_dice"]
    assert rule["useful"] and rule["bound"] <= 0.2
    assert (
        "fitted on 20 cases and on 60 cases predicted by cross-validation models, each counted as 0.5 of a case"
        in rule["message"]
    )
    weight_of_bad = both["flags"]["bad_cases"] + 0.5 * both["flags"]["cross_validated_bad_cases"]
    twice_lost = 2 * (rule["bound"] * (weight_of_bad + 1) - 1)
    assert twice_lost == pytest.approx(round(twice_lost), abs=1e-6) and round(twice_lost) >= 2 * rule["missed"]


def width_of(found: dict[str, Any]) -> float:
    """Of the interval of what predicted Dice gains."""
    line = found["predicted_dice"]["1"]
    return float(line["difference_high"] - line["difference_low"])


def moved(cases: PredictedCases, soft: float, dice: float) -> PredictedCases:
    """The cases of networks that are worse in both."""
    found = PredictedCases(patients=cases.patients, networks=cases.networks)
    for case in cases.numbers:
        sums = replace(case.sums, inside=case.sums.inside - np.array([0, 1000 * soft]))
        found.numbers.append(replace(case, sums=sums, dice=case.dice - np.array([0, dice])))
    return found


def test_networks_that_are_worse_in_both_figures_say_the_same() -> None:
    """They were trained with less; where the figure follows the Dice within each, the limit is the same."""
    own, other = predicted(20, 0), predicted(60, 1, "fold")
    plain, worse = (per_structure_blocks(LABELS, own, cases) for cases in (other, moved(other, 0.02, 0.06)))
    for block, name in (("flags", "bad_dice"), ("flags", "cross_validated_bad_cases")):
        assert worse[block][name] == plain[block][name]
    limits = [each["flags"]["rules"]["soft_dice"]["limit"] for each in (plain, worse)]
    assert limits[1] == pytest.approx(limits[0], abs=1e-9)
    lines = [each["predicted_dice"]["1"] for each in (plain, worse)]
    assert [lines[1][name] for name in ("slope", "mean")] == pytest.approx(
        [lines[0][name] for name in ("slope", "mean")]
    )


def flag_case(draw: np.random.Generator, follows: float, noise: float, network: str | None = None) -> FlagCase:
    """A case whose Dice follows its soft Dice so steeply, but for noise; those of folds are worse in both."""
    soft = draw.normal(0, 0.015)
    level = (0.88, 0.85) if network is None else (0.85, 0.79)
    weight = 1.0 if network is None else 0.5
    return FlagCase(level[0] + soft, level[1] + follows * soft + draw.normal(0, noise), weight, network=network)


@pytest.mark.parametrize(
    ("own", "others", "least", "most"),
    [
        ((1.5, 0.015), (1.5, 0.015), 18, 20),
        ((0, 0.03), (0, 0.03), 0, 3),  # pooled, the figure would follow the Dice (p < 0.001)
        ((0, 0.03), (1.5, 0.015), 0, 4),  # what holds for the others does not hold here
    ],
)
def test_a_rule_is_there_where_the_figure_says_something_of_the_network_itself(
    own: tuple[float, float], others: tuple[float, float], least: int, most: int
) -> None:
    useful = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        cases = [flag_case(draw, *own) for _ in range(27)]
        cases += [flag_case(draw, *others, network=str(number % 3)) for number in range(126)]
        useful += fit_flag_limit(cases)["rules"]["soft_dice"]["useful"]
    assert least <= useful <= most


def test_the_limit_misses_no_more_of_the_own_bad_cases_than_is_wanted() -> None:
    others = [FlagCase(0.7 + 0.001 * n, 0.7 + 0.001 * n, 0.5, network="fold") for n in range(400)]
    own = [FlagCase(0.7 + 0.01 * n, 0.7 + 0.01 * n) for n in range(40)]
    plain = fit_flag_limit([*own, *others])["rules"]["soft_dice"]
    high = [replace(case, soft_dice=0.84) if 2 <= n < 5 else case for n, case in enumerate(own)]
    rule = fit_flag_limit([*high, *others])["rules"]["soft_dice"]
    assert plain["useful"] and rule["useful"] and plain["limit"] < 0.84 < rule["limit"] and rule["missed"] <= 1


def test_few_cases_of_the_network_itself_have_no_rule_beside_others() -> None:
    others = [FlagCase(0.7 + 0.001 * n, 0.7 + 0.001 * n, 0.5, network="fold") for n in range(400)]
    own = [FlagCase(0.7 + 0.02 * n, 0.7 + 0.02 * n) for n in range(16)]
    found = fit_flag_limit([*own, *others])["rules"]["soft_dice"]
    assert "16 cases of the network itself are too few besides those of cross-validation models" in found["message"]
    assert found["limit"] is None


@pytest.mark.parametrize("alike", [(0.0, 0.0), (0.7, 0.7015)])
def test_two_alike_cases_of_a_fold_do_not_decide_the_slope(alike: tuple[float, float]) -> None:
    """A structure that is rare: 12 own cases have it, two of a fold."""
    draw, lacks = np.random.default_rng(3), [float("nan")] * 18
    soft = draw.uniform(0.7, 0.95, 50)
    dice = soft - 0.05 + 0.01 * draw.normal(size=50)
    rare_soft = draw.uniform(0.7, 0.95, 14)
    rare_dice = rare_soft - 0.05 + 0.01 * draw.normal(size=14)
    rare_dice[12:] = alike
    rare = tuple([*each[:12], *lacks, *each[12:], *lacks] for each in (rare_soft, rare_dice))
    networks = [None] * 30 + ["a"] * 10 + ["b"] * 10
    found = fit_predicted_dice({1: (soft, dice), 2: rare}, None, [1.0] * 30 + [0.5] * 20, networks)
    assert found.lines[1].slope == pytest.approx(1, abs=0.1) and found.lines[2].informative


def test_a_fold_of_an_earlier_recipe_predicts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe(ROOT / "Resources" / "Recipes" / "hippocampus.json", head={"cross_fit": 2})
    run, train = RunFolder(tmp_path), [Case(name, (), Path()) for name in "abcd"]
    run.start(recipe, {})
    for number, unseen in enumerate(("ab", "cd", "ad")):  # the last was left when there were three folds
        RunFolder(tmp_path / f"fold{number}").start(recipe, {"cases": [c.name for c in train if c.name not in unseen]})
    asked: list[str] = []
    monkeypatch.setattr(cross_validation, "Model", lambda _: None)
    monkeypatch.setattr(cross_validation, "write_weights", lambda *_: "")
    monkeypatch.setattr(RunFolder, "load_best", lambda *_: {})
    monkeypatch.setattr(cross_validation, "predict_case", lambda case, _: asked.append(case.name) or (None, None))
    monkeypatch.setattr(PredictedCases, "add", lambda *_: None)
    bundle = read_bundle(ROOT / "Resources" / "Models" / "hippocampus")
    cross_validation.predicted_by_run_folds(run, train, silent, bundle, 1.0)
    assert asked == ["a", "b", "c", "d"]


def test_the_shipped_model_has_them_of_46_cases() -> None:
    path = ROOT / "Resources" / "Models" / "hippocampus" / "bundle.json"
    block = json.loads(path.read_text(encoding="utf-8"))["calibration"]
    assert block["cases"] == 33
    assert {entry["cases"] for part in ("volume_interval", "predicted_dice") for entry in block[part].values()} == {46}
    assert block["flags"]["cases"] == 46
    rule = block["flags"]["rules"]["soft_dice"]
    assert not rule["useful"] and rule["limit"] is None and rule["bound"] < 0.2 and rule["flagged_share"] > 0.75
    assert all(line["informative"] and line["structures"] == 2 for line in block["predicted_dice"].values())


class TestTotals:
    """Totals and asymmetries are fitted on themselves."""

    LABELS = (LABELS[0], Label(1, "left part", (9, 9, 9)), Label(2, "right part", (8, 8, 8)))
    TOTAL = Total("both parts", (1, 2))

    def bundle(self, *totals: Total) -> Bundle:
        """A model that places a box on either side."""
        return replace(read_bundle(ROOT / "Resources" / "Models" / "hippocampus"), labels=self.LABELS, totals=totals)

    def cases(self, count: int, seed: int = 0) -> PredictedCases:
        """Sides whose volumes err together, by 10 %, and each by 1 % more; two cases a patient."""
        draw, found = np.random.default_rng(seed), PredictedCases()
        for number in range(count):
            true = np.array([1e5, *draw.uniform(900, 1100, 2)])
            shared = np.exp(0.1 * draw.normal())
            drawn = true * shared * np.exp(0.01 * draw.normal(size=3))
            ambiguous = drawn * draw.uniform(0.1, 0.3, 3)
            sums = ProbabilitySums(drawn * 1.1, drawn, ambiguous)
            found.numbers.append(CaseNumbers(sums, np.round(drawn), np.round(true), np.full(3, 0.9), 2.0))
            found.patients.append(f"patient {number // 2}")
        return found

    def test_a_total_is_fitted_on_the_sums_of_its_members(self) -> None:
        own = self.cases(40)
        fitted = total_blocks(own, self.bundle(self.TOTAL))["totals"]
        assert set(fitted) == {"both parts", "left both parts", "right both parts"}
        found = VolumeInterval(**fitted["both parts"])
        rows = [(case.sums.expected, case.sums.ambiguous, case.predicted, case.true) for case in own.numbers]
        expected, ambiguous, drawn, true = 2 * np.array([[each[1] + each[2] for each in row] for row in rows]).T
        base, unit = (drawn, drawn) if found.of == "segmented" else (expected, ambiguous)
        assert found.factor == pytest.approx(true.sum() / base.sum(), rel=1e-12)
        scores = []
        for case in range(40):
            others = [other for other in range(40) if other // 2 != case // 2]
            scores.append(abs(true[case] - true[others].sum() / base[others].sum() * base[case]) / unit[case])
        # 20 patients of two cases: the smallest score below which lie at least 21 * .9 patients
        assert found.half_width == pytest.approx(sorted(scores)[int(np.ceil(2 * 21 * 0.9)) - 1], rel=1e-12)
        assert found.cases == 40

    def test_an_asymmetry_holds_at_its_level_and_is_narrow_where_both_sides_err_alike(self) -> None:
        own, later = self.cases(60), self.cases(2000, 1)
        found = AsymmetryInterval(**total_blocks(own, self.bundle())["asymmetries"]["part"])
        sides = {kind: [2 * np.array([getattr(case, kind)[index] for case in later.numbers]) for index in (1, 2)]
                 for kind in ("predicted", "true")}  # fmt: skip
        drawn, true = (200 * (left - right) / (left + right) for left, right in sides.values())
        assert 0.88 < np.mean(np.abs(true - drawn) <= found.half_width) < 0.97
        single = fit_volume_interval(named_volumes(own.numbers, self.LABELS, [])["left part"], own.patients)
        assert single is not None
        _, low, high = single(1100.0 * 2, 200.0 * 2, 1000.0 * 2)
        in_quadrature = 100 * np.sqrt(2) * (high - low) / 2 / 2000
        assert found.half_width < in_quadrature / 3

    def test_too_few_patients_have_no_asymmetry_interval_and_empty_sides_no_asymmetry(self) -> None:
        assert total_blocks(self.cases(16), self.bundle(self.TOTAL)) == {"totals": {}, "asymmetries": {}}
        assert np.isnan(asymmetry(np.zeros(1), np.zeros(1))).all() and asymmetry(1.0, 0.0) == 200

    def test_two_cases_of_a_patient_become_the_sides_of_one(self) -> None:
        own = PredictedCases()
        for number in range(21):
            case = self.cases(1, number).numbers[0]
            numbers = CaseNumbers(case.sums, case.predicted, case.true, case.dice, 1.0 + number % 2)
            own.numbers.append(numbers)
            own.patients.append(f"scan {number // 2}")
        joined = totals.joined_sides(own)
        assert joined.patients == [f"scan {number}" for number in range(10)]
        first, second = own.numbers[:2]
        np.testing.assert_allclose(joined.numbers[0].true[1:], [*first.true[1:], *2 * second.true[1:]])
        one, other = first.sums.ambiguous, 2 * second.sums.ambiguous
        np.testing.assert_allclose(joined.numbers[0].sums.ambiguous, [one[0] + other[0], *one[1:], *other[1:]])

    def test_what_held_is_counted_of_every_interval_that_the_references_can_judge(self) -> None:
        plain, own = replace(self.bundle(), placement=None), self.cases(40)
        fitted = totals.with_totals(plain, own, [self.TOTAL])
        assert fitted.calibration is not None and plain.calibration is not None
        made = {key: fitted.calibration[key] for key in ("totals", "asymmetries", "fitted_by")}
        assert fitted.calibration == {**plain.calibration, **made}
        measured = totals.with_held(fitted, own).calibration
        assert measured is not None
        found = measured["totals"]["both parts"]
        assert found["held_of"] == 40 and 36 <= found["held"] <= 40
        assert measured["asymmetries"]["part"]["held_of"] == 40
        assert {entry["held_of"] for entry in measured["volume_interval"].values()} == {40}
        check_bundle(replace(fitted, calibration=measured))  # a reader takes it


def hearts(true: list[tuple[float, float]], segmented: list[tuple[float, float]]) -> PredictedCases:
    """Cases of a ventricle at the end of diastole and of systole, (true, segmented) of one patient each."""
    found = PredictedCases()
    for number, (both, drawn) in enumerate(zip(true, segmented, strict=True)):
        for volume, voxels in zip(both, drawn, strict=True):
            sums = ProbabilitySums(np.array([9e3, voxels]), np.array([9e3, voxels]), np.array([50, 50]))
            numbers = CaseNumbers(sums, np.array([9e3, voxels]), np.array([9e3, volume]), np.array([1.0, 0.9]), 1.0)
            found.numbers.append(numbers)
            found.patients.append(f"patient {number}")
    return found


PAIR = (LABELS[0], Label(1, "left ventricle", (9, 9, 9), type=Code("SCT", "87878005", "Left ventricle")))


def test_ejection_fractions_are_of_patients_with_both_phases() -> None:
    true = [(100.0, 40.0)] * 10 + [(100.0, 50.0)]
    segmented = [(100.0, 38.0), (100.0, 46.0)] * 5 + [(100.0, 48.0)]
    own, phases = hearts(true, segmented), ["ED", "ES"] * 11
    found = ejection_block(own, phases, PAIR)["ejection"]["left ventricle"]
    assert found["cases"] == 11
    assert found["mean_error"] == pytest.approx((5 * 2 - 5 * 6 + 2) / 11), "segmented minus true"
    assert ejection_block(own, [""] * 4 + phases[4:], PAIR) == {}, "nine patients are too few"
    assert ejection_block(own, phases, LABELS) == {}, "no ventricle"


def test_bundle_and_card_take_the_ejection_fraction(tmp_path: Path) -> None:
    bundle = read_bundle(MODEL)
    assert EJECTION not in (bundle.calibration or {})
    block = ejection_block(hearts([(100.0, 40.0)] * 12, [(100.0, 38.0), (100.0, 41.0)] * 6), ["ED", "ES"] * 12, PAIR)
    written = write_description(replace(bundle, calibration={**(bundle.calibration or {}), **block}), tmp_path)
    assert read_bundle(written.folder or tmp_path).calibration == written.calibration
    with_block, without = (folder / CARD_FILE for folder in (tmp_path, MODEL))
    assert "left ventricle" in with_block.read_text(encoding="utf-8")
    assert "left ventricle" not in without.read_text(encoding="utf-8")
