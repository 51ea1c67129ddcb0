"""An nnU-Net is adopted in one command: nothing is fitted on what it has seen, and whatever ends it, it goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nnunet_results import dataset
from nnunet_trainings import names, write_case, write_results, write_training
from segwithu_command import Command, Outcome, one_sentence

from SegWithUCore import __version__
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.second_stage_file import read_second_stage
from SegWithUCore.models.training_record import read_record
from SegWithUCore.util.errors import UsageError
from SegWithULab.calibration import fit_second_stage
from SegWithULab.evaluation import adopt, evaluate
from SegWithULab.training.head import HeadTrainer


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots, no graphs, few draws: they have tests of their own, and take most of the time of tiny networks."""
    monkeypatch.setattr(adopt, "write_report", lambda folder, *_: (folder / "report.html").touch())
    monkeypatch.setattr(evaluate, "DRAWS", 20)

    def without(*_: object) -> None:
        raise UsageError("none in tests.")

    monkeypatch.setattr(adopt, "add_graphs", without)


OPTIONS = ("--patient-pattern", "(.*)")


def adopted(call: Command, result: Path, raw: Path, *options: str) -> Outcome:
    return call(
        "adopt", result, "--dataset", raw, "--output", result.parents[2] / "blobs", "--epochs", "1", "--json", *options
    )


def final(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.out + outcome.err
    return dict(outcome.events[-1])


@pytest.fixture
def helpful_second_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six patients are enough for it, it is quick, and cross-validation wants it, whatever it does to noise."""
    monkeypatch.setattr(fit_second_stage, "LEAST_PATIENTS", 6)
    monkeypatch.setattr(fit_second_stage, "EPOCHS", 1)
    monkeypatch.setattr(fit_second_stage.FittedSecondStage, "helps", True)


@pytest.mark.usefixtures("quick", "helpful_second_stage")
def test_two_folds_give_a_model_fitted_on_all_their_validation_cases(
    call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = names(6), names(6, 7)
    result, raw = write_training(tmp_path, [(first, second), (second, first)], (0, 1))
    seen = _noted_predictions(monkeypatch)
    found = final(adopted(call, result, raw, *OPTIONS))
    bundle = read_bundle(tmp_path / "blobs")
    assert bundle.calibration is not None and bundle.calibration["cases"] == 12
    assert bundle.metrics is not None and bundle.metrics["cases"] == 12
    assert seen == {"fold_0": second, "fold_1": first}, "each network predicts what it has not seen"
    record = read_record(tmp_path / "blobs")
    assert record is not None and record.roles is not None
    assert {role: len(hashes) for role, hashes in record.roles.items()} == {"train": 6, "calibration": 12}
    card = (tmp_path / "blobs" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "12 cases (patients: 12)" in card and "in 2 groups" in card
    assert bundle.calibration["second_stage"]["cases"] == 12 and read_second_stage(bundle) is not None
    assert (
        f"with the image (second stage), by segwithu {__version__}. Second stage, which sees the image: AUPRC" in card
    )
    assert found["headline"] and (tmp_path / "blobs" / "report.html").is_file()
    image = raw / "imagesTr" / "blob001_0000.nii.gz"
    outcome = call.segment(image, "--unlike-training", model=tmp_path / "blobs", output=tmp_path / "case")
    assert outcome.code == 0, outcome.err
    _goes_on_without_doing_anything_twice(call, result, raw, tmp_path)


def _noted_predictions(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    predict = adopt.predict_case

    def noted(case: Any, model: Any) -> Any:
        found.setdefault(model.bundle.folder.parent.name, []).append(case.name)
        return predict(case, model)

    monkeypatch.setattr(adopt, "predict_case", noted)
    return found


def _goes_on_without_doing_anything_twice(call: Command, result: Path, raw: Path, folder: Path) -> None:
    heads = sorted((folder / "blobs_adoption").glob("fold_*/head_best.safetensors"))
    times = [path.stat().st_mtime_ns for path in heads]
    assert len(times) == 2
    final(adopted(call, result, raw, *OPTIONS))
    final(adopted(call, result, raw, *OPTIONS, "--name", "renamed"))
    assert read_bundle(folder / "blobs").name == "renamed"
    assert [path.stat().st_mtime_ns for path in heads] == times
    changed = adopted(call, result, raw, *OPTIONS, "--epochs", "2")
    assert changed.code == 2 and "--redo" in str(changed.events[-1]["text"])


@pytest.mark.usefixtures("quick")
def test_too_few_unseen_cases_leave_it_uncalibrated(call: Command, tmp_path: Path) -> None:
    result, raw = write_training(tmp_path, [(names(3), names(7, 4))])
    found = final(adopted(call, result, raw, "--patient-pattern", "(.*)"))
    assert found["trust"] == "not known"
    bundle = read_bundle(tmp_path / "blobs")
    assert bundle.calibration is None and bundle.metrics is None
    card = (tmp_path / "blobs" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "not calibrated" in card and "that the network was trained with" in card
    assert "tage two" not in card
    assert "Only 7 cases are left" in found["headline"]


@pytest.mark.usefixtures("quick")
def test_ctrl_c_keeps_what_is_finished(call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, raw = write_training(tmp_path, [(names(3), names(7, 4))])
    fit = HeadTrainer.fit
    monkeypatch.setattr(HeadTrainer, "fit", _interrupted)
    outcome = adopted(call, result, raw)
    assert outcome.code == 130
    sentence = str(outcome.events[-1]["text"])
    assert "'head'" in sentence and "run the same command" in sentence
    assert not (tmp_path / "blobs").exists()
    monkeypatch.setattr(HeadTrainer, "fit", fit)
    final(adopted(call, result, raw))


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_totalsegmentators_folders_are_accepted_with_cases_that_it_never_saw(
    call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their layout: one fold, no splits, no validation predictions; its weights cannot be had here."""
    place = write_results(tmp_path / "Dataset297_TotalSegmentator_total_3mm_1559subj", [0])
    result = place.rename(place.with_name("nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres"))
    for number, case in enumerate(names(9)):
        write_case(tmp_path / "mine", case, number)
    refused = adopted(call, result, tmp_path / "mine")
    assert refused.code == 1 and "--unseen" in str(refused.events[-1]["text"])
    done: list[list[str]] = []

    def noted(_work: Path, stages: Any, *_: object) -> dict[str, Any]:
        done.append([stage.name for stage in stages])
        return {"model": {"headline": "", "trust": "", "graphs": None, "warnings": []}}

    monkeypatch.setattr("SegWithULab.training.stages.run_stages", noted)
    final(adopted(call, result, tmp_path / "mine", "--unseen"))
    assert done == [["import", "head", "head of fold part2", "head of fold part3", "calibration", "model"]]


def regions(described: dict[str, Any]) -> None:
    described["labels"]["whole"] = [1, 2]


def of_one_slice(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["patch_size"] = [1, 64, 64]


def cascade(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"


@pytest.mark.parametrize(
    ("change", "file", "word"),
    [
        (regions, "dataset.json", "region"),
        (of_one_slice, "plans.json", "patch_size"),
        (cascade, "plans.json", "cascade"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_made(
    call: Command, tmp_path: Path, change: Callable[[dict[str, Any]], None], file: str, word: str
) -> None:
    result, raw = write_training(tmp_path, [(names(3), names(8, 4))])
    data = json.loads((result / file).read_text(encoding="utf-8"))
    change(data)
    (result / file).write_text(json.dumps(data), encoding="utf-8")
    one_sentence(call("adopt", result, "--dataset", raw, "--output", tmp_path / "blobs"), word)
    assert not list(tmp_path.glob("blobs*"))


def test_another_number_of_channels_is_refused_at_once(call: Command, tmp_path: Path) -> None:
    result, raw = write_training(tmp_path, [(names(3), names(8, 4))])
    (raw / "imagesTr" / "blob001_0000.nii.gz").rename(raw / "imagesTr" / "blob001_0001.nii.gz")
    assert dataset()["channel_names"] == {"0": "MRI"}
    one_sentence(call("adopt", result, "--dataset", raw, "--output", tmp_path / "blobs"), "blob001")


@pytest.mark.slow
def test_the_whole_command_with_plots_and_graphs(call: Command, tmp_path: Path) -> None:
    """Slow: it draws the plots and compiles the graphs that the quick tests leave out."""
    first, second = names(6), names(6, 7)
    result, raw = write_training(tmp_path, [(first, second), (second, first)], (0, 1))
    final(adopted(call, result, raw, "--patient-pattern", "(.*)"))
    assert read_bundle(tmp_path / "blobs").graphs is not None
    assert "<svg" in (tmp_path / "blobs" / "report.html").read_text(encoding="utf-8"), "the reliability diagram"


def test_one_image_of_two_patients_is_refused_before_anything_is_trained(call: Command, tmp_path: Path) -> None:
    result, raw = write_training(tmp_path, [(names(6), names(6, 7))])
    first, second = (raw / "imagesTr" / f"{name}_0000.nii.gz" for name in names(2))
    shutil.copy(first, second)
    outcome = adopted(call, result, raw, *OPTIONS)
    assert outcome.code == 1 and outcome.events[-1]["code"] == "cases-of-one-scan", outcome.out + outcome.err
    assert first.name in outcome.out and second.name in outcome.out
    assert not list(tmp_path.rglob("head_log.csv")) and not list(tmp_path.rglob("run.json"))
