"""`calibrate --model --gate`: the gate is chosen, and the rest is replaced only by what is better."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from seen_errors import CASES, predicted
from segwithu_command import MODEL, Command, Outcome

from SegWithUCore.calibration.gate import Gate
from SegWithUCore.cli import calibrate as calibrate_command
from SegWithUCore.models.bundle import Bundle, read_bundle
from SegWithUCore.models.calibration_origin import FITTED_BY
from SegWithULab.training import gate as gates
from SegWithULab.training import recalibrate as recalibrating
from SegWithULab.training.refit import Refit, refit

JUDGED = ("judged_1", "judged_2")
Calibrate = Callable[..., Outcome]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve tiny cases and two to judge gates on; what is said of them is made up."""
    folder = tmp_path_factory.mktemp("site")
    names = [*(case.name for case in CASES), *JUDGED]
    for number, name in enumerate(names):
        for part in ("images", "labels"):
            (folder / part).mkdir(exist_ok=True)
            image = sitk.GetImageFromArray(np.arange(64, dtype=np.uint8).reshape(4, 4, 4) + number)
            sitk.WriteImage(image, str(folder / part / f"{name}.nii.gz"))
    rows = "".join(f"{name},{'select' if name in JUDGED else 'site'}\n" for name in names)
    (folder / "split.csv").write_text(f"case,role\n{rows}", encoding="utf-8")
    return f"{folder / 'split.csv'}:site"


@pytest.fixture
def calibrate(table: str, monkeypatch: pytest.MonkeyPatch, segwithu: Command) -> Calibrate:
    """The command, where the gate of these log-odds would be chosen, and nothing else is better."""
    monkeypatch.setattr(recalibrating, "_predicted", predicted)
    monkeypatch.setattr(recalibrating, "refit", lambda own, *_: Refit(own, ("all else stays",), False))
    monkeypatch.setattr(recalibrating, "fit_stage_two", lambda *_, **__: None)
    monkeypatch.setattr(calibrate_command, "compile_graphs", lambda *_: None)

    def run(target: Path, chosen: float | None, *more: str) -> Outcome:
        gate = None if chosen is None else Gate(chosen, 0.64, 12)
        monkeypatch.setattr(gates, "choose_gate", lambda *_: gate)
        given = [] if "--gate" in more else ["--gate", table.replace(":site", ":select")]
        return segwithu("calibrate", "--model", MODEL, "--cases", table, *given, "--output", target, "--json", *more)

    return run


def result_of(outcome: Outcome) -> dict[str, Any]:
    """What the command says at its end."""
    assert outcome.code == 0, outcome.err
    (result,) = (event for event in outcome.events if event["event"] == "result")
    return result


def calibration_of(bundle: Bundle, without: str = "") -> Mapping[str, Any]:
    """The calibration block but for one entry and the version that wrote it."""
    assert bundle.calibration is not None
    kept = {key: value for key, value in bundle.calibration.items() if key not in (without, FITTED_BY)}
    return json.loads(json.dumps(kept))


def test_the_model_s_own_gate_and_nothing_better_write_nothing(calibrate: Calibrate, tmp_path: Path) -> None:
    result = result_of(calibrate(tmp_path / "new", -8.0))
    assert result["kept"] is True and not (tmp_path / "new").exists()
    assert result["sentences"][0].endswith("are -8 or more; that of the model.")


def test_another_gate_is_taken_and_the_rest_stays(calibrate: Calibrate, tmp_path: Path) -> None:
    result = result_of(calibrate(tmp_path / "new", -6.0))
    assert result["kept"] is False and "are -6 or more." in result["sentences"][0]
    before, after = read_bundle(MODEL), read_bundle(tmp_path / "new")
    assert after.calibration is not None and after.calibration["gate"]["log_odds"] == -6
    assert calibration_of(after, "gate") == calibration_of(before, "gate")
    assert after.graphs == before.graphs and after.figures is None
    assert after.about["version"] == f"{before.about['version']}+site"


def test_a_gate_that_harms_here_is_taken_out(calibrate: Calibrate, tmp_path: Path) -> None:
    result = result_of(calibrate(tmp_path / "new", None))
    assert "gate of -8 was taken out" in result["sentences"][0]
    after = read_bundle(tmp_path / "new")
    assert calibration_of(after) == calibration_of(read_bundle(MODEL), "gate")
    assert after.graphs is None, "they keep responses at half resolution, for a gate"


def test_where_probabilities_fail_they_are_moved_with_the_gate_too(
    calibrate: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibrating, "refit", refit)
    monkeypatch.setattr(recalibrating, "_predicted", partial(predicted, worse=2))
    result = result_of(calibrate(tmp_path / "new", -6.0))
    assert "Error probability: fitted anew; on 12 patients, each judged by the others" in str(result["sentences"])
    after = read_bundle(tmp_path / "new").calibration
    assert after is not None and after["gate"]["log_odds"] == -6 and after["site"]["patients"] == 12


def test_an_output_that_exists_is_refused_before_anything_is_tried(calibrate: Calibrate, tmp_path: Path) -> None:
    outcome = calibrate(tmp_path, -6.0)
    assert outcome.code == 1 and "exists already" in str(outcome.events[-1]["text"])


def test_a_gate_is_not_judged_on_the_cases_of_its_table(calibrate: Calibrate, table: str, tmp_path: Path) -> None:
    outcome = calibrate(tmp_path / "new", -6.0, "--gate", table)
    assert outcome.code == 2
    assert f"share 12 case(s), {CASES[0].name} first" in str(outcome.events[-1]["text"])
    assert not (tmp_path / "new").exists()
