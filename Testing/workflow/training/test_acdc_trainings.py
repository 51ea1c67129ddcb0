"""The driver of the hearts' trainings: killed at any moment it goes on, and two of them never train the same."""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hippocampi import write_hippocampi
from training_runs import small_data_set, tiny_recipe

pytest.importorskip("fcntl")

import acdc_trainings
import trainings
from acdc_trainings import commands, done, locked, status
from patient_folds import read_rows, write_fold_tables, write_unseen_table
from trainings import Training, planned, progress_of

from SegWithULab.training.run_folder import RunFolder

EPOCHS = 5


def options(folder: Path) -> argparse.Namespace:
    return argparse.Namespace(runs=folder / "runs", data=folder, nnunet=folder / "no nnU-Net", threads=1)


def tiny(folder: Path, name: str) -> Training:
    recipe = folder / "recipe.json"
    text = json.dumps(tiny_recipe(backbone_training={"epochs": EPOCHS}, input={"window": [16, 16, 16]}))
    recipe.write_text(text, encoding="utf-8")
    return Training(name, recipe, "data/split.csv:train", "data/split.csv:select")


def log(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "runs" / name / "backbone_log.csv").open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(tmp_path: Path, data_folder: Path) -> None:
    small_data_set(data_folder, tmp_path / "data")
    whole, killed = tiny(tmp_path, "whole"), tiny(tmp_path, "killed")
    assert done(whole, options(tmp_path))
    driver = (
        f"import sys; sys.path[:0] = {sys.path!r}; from argparse import Namespace; from pathlib import PosixPath; "
        f"from trainings import Training; from acdc_trainings import done; done({killed!r}, {options(tmp_path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", driver], start_new_session=True)
    try:
        state = tmp_path / "runs" / "killed" / "backbone_last.pt"
        while not state.is_file():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    while status([killed], options(tmp_path)).endswith("running"):  # the training dies a moment after its driver
        time.sleep(0.01)
    assert not progress_of(killed, tmp_path / "runs").finished
    assert "stopped, goes on" in status([killed], options(tmp_path))
    assert "--resume" in commands(killed, options(tmp_path))[0]
    assert done(killed, options(tmp_path))
    assert progress_of(killed, tmp_path / "runs").finished
    assert log(tmp_path, "killed") == log(tmp_path, "whole")
    weights = [trainings.sha256(trainings.weights_of(each, tmp_path / "runs")) for each in (whole, killed)]
    assert weights[0] == weights[1]
    assert f"{EPOCHS}/{EPOCHS}" in status([killed], options(tmp_path))
    assert "finished" in status([killed], options(tmp_path))
    _gets_a_head(killed, tmp_path)


def _gets_a_head(training: Training, folder: Path) -> None:
    """Another recipe's head on the network of a finished run; what the run's own recipe says else stays."""
    recipe = tiny_recipe(head={"variant": "context"}, head_training={"epochs": 1}, input={"window": [48, 48, 48]})
    (folder / "context.json").write_text(json.dumps(recipe), encoding="utf-8")
    head = replace(training, name="killed_head", recipe=folder / "context.json", backbone_of=training.name)
    head = replace(head, cases="../data/split.csv:train", select="../data/split.csv:select")
    before = trainings.sha256(trainings.weights_of(training, folder / "runs"))
    assert acdc_trainings.why_not(head, options(folder)) is None
    assert done(head, options(folder)), (folder / "runs" / "killed_head.log").read_text(encoding="utf-8")
    at = progress_of(head, folder / "runs")
    assert at.finished and at.epochs == 1
    assert trainings.weights_of(head, folder / "runs") == folder / "runs" / "killed" / "head_best.safetensors"
    kept = RunFolder(folder / "runs" / "killed").recipe()
    assert (kept.head["variant"], list(kept.input.window)) == ("context", [16, 16, 16])
    assert trainings.sha256(trainings.weights_of(training, folder / "runs")) == before
    assert "--resume" in commands(head, options(folder))[0]


def test_a_finished_training_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = tiny(tmp_path, "there")
    folder = tmp_path / "runs" / "there"
    folder.mkdir(parents=True)
    rows = [f"{epoch},1.0,0.1,0.8,2.0" for epoch in range(EPOCHS)]
    log_text = "\n".join(["epoch,loss,select_brier,select_dice,seconds", *rows])
    (folder / "backbone_log.csv").write_text(log_text, encoding="utf-8")
    monkeypatch.setattr(acdc_trainings, "_run", lambda *_: pytest.fail("it was trained again"))
    assert done(training, options(tmp_path))


def test_a_training_that_outlives_its_driver_keeps_the_lock(tmp_path: Path) -> None:
    training = tiny(tmp_path, "one")
    with locked(training, tmp_path / "runs") as handle:
        assert handle is not None
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(handle,))
    try:
        with locked(training, tmp_path / "runs") as second:
            assert second is None
        assert status([training], options(tmp_path)).endswith("running")
        assert done(training, options(tmp_path))  # nothing to do here: another has it
        assert not (tmp_path / "runs" / "one").exists()
    finally:
        sleeper.kill()
        sleeper.wait()
    with locked(training, tmp_path / "runs") as third:
        assert third is not None


def test_trainings_wait_for_the_choice_and_follow_it() -> None:
    waiting = [training for training in planned(None) if training.waits_for]
    assert [training.name for training in waiting] == [
        "acdc_member2",
        "acdc_member3",
        "acdc_fold1",
        "acdc_fold2",
        "acdc_fold3",
        "acdc_fold1_head",
        "acdc_fold2_head",
        "acdc_fold3_head",
    ]
    follows = {training.name: training for training in planned("standard_view")}
    assert all(follows[training.name].waits_for is None for training in waiting)
    assert follows["acdc_member3"].seed == 3
    assert follows["acdc_fold2"].cases == "folds/acdc/fold2.csv:train"
    assert {training.fold for training in planned("nnunet") if training.name.startswith("nnunet_")} == {1, 2, 3}


@pytest.mark.parametrize("kind", ["acdc", "hippocampus"])
def test_folds_part_the_training_patients(kind: str, data_folder: Path, tmp_path: Path) -> None:
    rows = read_rows(data_folder / "tables" / kind / "split.csv")
    train = {row.case for row in rows if row.role == "train"}
    left_out: list[str] = []
    for table in write_fold_tables(data_folder / "tables" / kind, tmp_path):
        fold = read_rows(table)
        out = {row.patient for row in fold if row.role == "out"}
        kept = {row.patient for row in fold if row.role == "train"}
        assert not out & kept
        assert {row.case for row in fold if row.role in ("train", "out")} == train
        assert {row.role for row in fold} == {"train", "out", "select"}
        left_out += [row.case for row in fold if row.role == "out"]
    assert sorted(left_out) == sorted(train)
    assert (tmp_path / "images").resolve() == (data_folder / "tables" / kind / "images").resolve()


def test_a_test_patient_whose_images_are_a_training_patient_s_is_left_out(data_folder: Path, tmp_path: Path) -> None:
    data, roles = tmp_path / "data", ("train", "train", "select", "test", "test", "test")
    names = write_hippocampi(data_folder, data, len(roles))
    patients = ("a", "a", "b", "c", "c", "d")
    lines = [f"{name},{patient},{role}\n" for name, patient, role in zip(names, patients, roles, strict=True)]
    (data / "split.csv").write_text("case,patient,role\n" + "".join(lines), encoding="utf-8")
    assert len(read_rows(write_unseen_table(data, tmp_path / "all"))) == len(roles)
    shutil.copy(data / "images" / f"{names[1]}.nii.gz", data / "images" / f"{names[3]}.nii.gz")
    kept = read_rows(write_unseen_table(data, tmp_path / "unseen"))
    assert [row.case for row in kept] == [*names[:3], names[5]], "the patient goes with all cases"
