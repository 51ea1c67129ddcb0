"""`calibrate --add` on made-up predictions."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from scipy.special import expit
from seen_errors import CASES, predicted
from segwithu_command import MODEL

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.quality import site_message
from SegWithUCore.models.second_stage_file import BLOCK, CHECK, second_stage_path, verify_second_stage
from SegWithUCore.models.training_record import read_record
from SegWithULab.calibration import bundles, cases
from SegWithULab.calibration import fit as fitting
from SegWithULab.calibration.bundles import calibrate_model
from SegWithULab.calibration.cases import CalibrationCase
from SegWithULab.training.dataset import find_cases


def without_second_stage(calibration: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the shipped model was calibrated with before it saw the image."""
    assert calibration is not None and BLOCK in calibration
    return {key: value for key, value in calibration.items() if key not in (BLOCK, CHECK)}


def test_where_nothing_predicts_better_no_bundle_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "predicted", lambda *_: list(predicted())[:2])
    shipped = read_bundle(MODEL)
    shipped = replace(shipped, calibration=without_second_stage(shipped.calibration))
    outcome = calibrate_model(shipped, CASES[:2], tmp_path / "m")
    assert outcome.bundle is None and "2 patients are too few" in outcome.messages[0]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("room", [0, 9.5, 10], ids=["nothing", "nine cases", "ten cases"])
def test_cases_are_held_only_where_ten_of_them_find_room(
    room: float, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, refs, predict = list[int](), list[Any](), cases.predict

    def noted(*given: Any) -> Any:
        held.append(sum(each() is not None for each in refs))
        found = predict(*given)
        refs.append(ref(found))
        return found

    monkeypatch.setattr(cases, "predict", noted)
    bundle, given = read_bundle(MODEL), find_cases(str(data_folder / "hippocampus"))[:4]
    sizes = [case.bytes for case in cases.predicted(bundle, given, "openvino")]
    held.clear()
    monkeypatch.setattr(fitting, "MOST_BYTES", int(room * (max(sizes) if room == 10 else sizes[0])))
    fitting.fit(cases.predicted(bundle, given, "openvino"), bundle.labels, prior=bundle.calibration)
    assert held == ([0, 1, 2, 3] if room == 10 else [0, 0, 0, 0])


def with_chances(**given: float) -> Iterator[CalibrationCase]:
    """Made-up predictions, with the error probability of a model that does not see the image."""
    for case in predicted(**given):
        prediction = replace(case.prediction, error_probability=expit(case.prediction.ranking))
        yield replace(case, prediction=prediction)


def test_a_second_stage_of_added_cases_is_taken_where_it_finds_more_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, taken = read_bundle(MODEL), {}
    for name, told in (("told", 3.0), ("silent", 0.0)):
        monkeypatch.setattr(bundles, "predicted", lambda *_, told=told: with_chances(told=told, worse=1))
        made = calibrate_model(shipped, CASES, tmp_path / name).bundle
        assert made is not None and made.calibration is not None
        taken[name] = made.calibration
        verify_second_stage(made)
    site = taken["told"]["site"]
    assert site["added"]["difference"]["low"] > 0 and taken["told"][BLOCK]["cases"] == len(CASES)
    assert site["added"]["after"] > site["added"]["before"] and "12" in site_message(taken["told"])
    assert "added" not in taken["silent"]["site"] and taken["silent"]["site"]["factor"]["low"] > 1
    assert taken["silent"][BLOCK]["cases"] == shipped.calibration[BLOCK]["cases"]
    assert "the model's own stays" in taken["silent"]["site"]["messages"][0]


def test_the_file_belongs_to_one_head() -> None:
    assert second_stage_path(Path("m"), "paper") == Path("m/second_stage_paper.safetensors")


def test_cases_of_the_calibration_that_stays_remain_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table was fitted on them, so the model must not be judged on them."""
    before = read_record(MODEL)
    assert before is not None and before.roles is not None
    monkeypatch.setattr(bundles, "predicted", lambda *_: predicted(worse=2))
    shipped = read_bundle(MODEL)
    shipped = replace(shipped, calibration=without_second_stage(shipped.calibration))
    new = before.with_role("calibration", ["0" * 64])
    calibrate_model(shipped, CASES, tmp_path / "m", record=new)
    written = read_record(tmp_path / "m")
    assert written is not None and written.roles is not None
    assert set(written.roles["calibration"]) == {"0" * 64, *before.roles["calibration"]}
