"""`calibrate --add` on made-up predictions: a second stage is added where the model has none and it helps."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from seen_errors import CASES, predicted
from segwithu_command import MODEL

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.bundle_files import check_whole
from SegWithUCore.models.model_card import calibration_words
from SegWithUCore.models.second_stage_file import BLOCK, CHECK, read_second_stage, second_stage_path
from SegWithUCore.models.training_record import read_record
from SegWithULab.calibration import bundles, fit
from SegWithULab.calibration.bundles import calibrate_model


def without_second_stage(calibration: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the shipped model was calibrated with before it saw the image."""
    assert calibration is not None and BLOCK in calibration
    return {key: value for key, value in calibration.items() if key not in (BLOCK, CHECK)}


def test_second_stage_is_added_and_all_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "predicted", predicted)
    shipped = read_bundle(MODEL)
    shipped = replace(shipped, calibration=without_second_stage(shipped.calibration))
    outcome = calibrate_model(shipped, CASES, tmp_path / "m")
    (sentence,) = (each for each in outcome.messages if each.startswith("Second stage"))
    assert sentence.endswith("over 12 cases: taken.")
    made = check_whole(tmp_path / "m")
    stage = read_second_stage(made)
    assert stage is not None and stage.pairs == ((0, 1), (1, 0))
    assert made.about["version"] == f"{shipped.about['version']}+site" and made.calibration is not None
    assert "sees the image, on 12" in calibration_words(made.calibration)
    assert shipped.calibration is not None
    assert {BLOCK, CHECK} <= set(made.calibration)
    assert made.calibration["baselines"] == shipped.calibration["baselines"]


def test_with_too_few_patients_no_bundle_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "predicted", lambda *_: list(predicted())[:6])
    shipped = read_bundle(MODEL)
    shipped = replace(shipped, calibration=without_second_stage(shipped.calibration))
    outcome = calibrate_model(shipped, CASES[:6], tmp_path / "m")
    assert outcome.bundle is None and "6 patients are too few" in outcome.messages[-1]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("known", [True, False])
def test_a_table_that_knows_the_cases_is_no_rival(known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = read_bundle(MODEL)
    before = read_record(MODEL)
    assert before is not None and before.roles is not None
    record = before.with_role("calibration", before.roles["calibration"][:3] if known else ["0" * 64])
    fixed: list[bool] = []
    monkeypatch.setattr(bundles, "predicted", predicted)
    monkeypatch.setattr(fit, "fit_second_stage", lambda *_, fixed_table: fixed.append(fixed_table))
    shipped = replace(shipped, calibration=without_second_stage(shipped.calibration))
    calibrate_model(shipped, CASES, tmp_path / "m", record=record)
    assert fixed == [not known]


def test_the_file_belongs_to_one_head() -> None:
    assert second_stage_path(Path("m"), "paper") == Path("m/second_stage_paper.safetensors")


def test_cases_of_the_calibration_that_stays_remain_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table was fitted on them, so the model must not be judged on them."""
    before = read_record(MODEL)
    assert before is not None and before.roles is not None
    monkeypatch.setattr(bundles, "predicted", predicted)
    shipped = read_bundle(MODEL)
    shipped = replace(shipped, calibration=without_second_stage(shipped.calibration))
    new = before.with_role("calibration", ["0" * 64])
    calibrate_model(shipped, CASES, tmp_path / "m", record=new)
    written = read_record(tmp_path / "m")
    assert written is not None and written.roles is not None
    assert set(written.roles["calibration"]) == {"0" * 64, *before.roles["calibration"]}
