"""Numbers of whole cases: what is fitted on cases of the network itself, and what on those of other folds too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT

from SegWithUCore.calibration.case_level import ProbabilitySums
from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.input_spec import Label
from SegWithUCore.training import fold_cases
from SegWithUCore.training.calibrate import CaseNumbers
from SegWithUCore.training.dataset import Case
from SegWithUCore.training.recipe import read_recipe
from SegWithUCore.training.run_folder import RunFolder
from SegWithUCore.training.whole_cases import PredictedCases, whole_case_blocks

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
    return found


def test_cases_of_other_folds_count_by_weight_in_dice_and_flags_and_not_in_intervals() -> None:
    own, other = predicted(20, 0), predicted(60, 1, "fold")
    alone, both = whole_case_blocks(LABELS, own), whole_case_blocks(LABELS, own, other)
    assert both["volume_interval"] == alone["volume_interval"]
    assert both["volume_interval"]["1"]["cases"] == 20
    assert (alone["flags"]["cases"], both["flags"]["cases"]) == (20, 80)
    assert (alone["predicted_dice"]["1"]["cases"], both["predicted_dice"]["1"]["cases"]) == (20, 80)
    assert both["flags"]["figures"]["wrong_mm3"] == alone["flags"]["figures"]["wrong_mm3"]  # ranks are among the own
    weightless = whole_case_blocks(LABELS, own, other, weight=1e-9)
    line, plain = weightless["predicted_dice"]["1"], alone["predicted_dice"]["1"]
    assert (line["slope"], line["mean"]) == (pytest.approx(plain["slope"], rel=1e-6), pytest.approx(plain["mean"]))
    rule = both["flags"]["rules"]["soft_dice"]
    bad = [min(case.dice[1:]) < both["flags"]["bad_dice"] for case in [*own.numbers, *other.numbers]]
    soft = [case.confidence(1) for case in [*own.numbers, *other.numbers]]
    weight = [1.0] * 20 + [0.5] * 60
    lost = sum(w for w, s, b in zip(weight, soft, bad, strict=True) if b and s >= rule["limit"])
    assert rule["bound"] == pytest.approx((lost + 1) / (sum(w for w, b in zip(weight, bad, strict=True) if b) + 1))
    assert rule["useful"] and rule["bound"] <= 0.2


def test_a_fold_of_an_earlier_recipe_predicts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe(ROOT / "Resources" / "Recipes" / "hippocampus.json", head={"cross_fit": 2})
    run, train = RunFolder(tmp_path), [Case(name, (), Path()) for name in "abcd"]
    run.start(recipe, {})
    for number, unseen in enumerate(("ab", "cd", "ad")):  # the last was left when there were three folds
        RunFolder(tmp_path / f"fold{number}").start(recipe, {"cases": [c.name for c in train if c.name not in unseen]})
    asked: list[str] = []
    monkeypatch.setattr(fold_cases, "Model", lambda _: None)
    monkeypatch.setattr(fold_cases, "_with_backbone", lambda *_: None)
    monkeypatch.setattr(
        fold_cases, "predict_into", lambda _b, _m, cases, _f, **_: [asked.append(case.name) for case in cases]
    )
    monkeypatch.setattr(fold_cases, "whole_case_blocks", lambda *_: {})
    fold_cases.fit_on_folds(run, read_bundle(ROOT / "Resources" / "Models" / "hippocampus"), train, [])
    assert asked == ["a", "b", "c", "d"]


@pytest.mark.parametrize("more", [("--gate", "elsewhere"), ("--stage-two-only",)])
def test_what_is_kept_cannot_be_asked_for(more: tuple[str, ...], tmp_path: Any, capsys: Any) -> None:
    table = tmp_path / "images"
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.nii.gz").write_bytes(b"")
    model = str(ROOT / "Resources" / "Models" / "hippocampus")
    options = ["--model", model, "--cases", str(table.parent), "--output", str(tmp_path / "new"), *more]
    assert main(["calibrate", "--whole-cases-only", *options]) == 2
    assert "--whole-cases-only keeps stage two and gate" in capsys.readouterr().err


def test_the_shipped_model_has_them_of_47_cases() -> None:
    path = ROOT / "Resources" / "Models" / "hippocampus" / "bundle.json"
    block = json.loads(path.read_text(encoding="utf-8"))["calibration"]
    assert block["cases"] == 27
    assert {entry["cases"] for part in ("volume_interval", "predicted_dice") for entry in block[part].values()} == {47}
    assert block["flags"]["cases"] == 47
    rule = block["flags"]["rules"]["soft_dice"]
    assert rule["useful"] and 0.89 < rule["limit"] < 0.9
    assert all(line["informative"] and line["structures"] == 2 for line in block["predicted_dice"].values())
