"""Files that version 0.2.0 wrote, before modules moved: all of them are read, continued and give the same results."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import Command

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "Testing" / "data" / "files_of_0_2.zip"
MAPS = ("calibration", "ranking", "error_probability")


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that version 0.2.0 worked in; commands run there, for paths in its files are relative."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


def test_bundle_segments_as_it_did(older: Path, command: Command) -> None:
    assert command("models", "verify", older / "blobs", "--load").code == 0
    again = command.segment(
        "data/images/blob_8.nii.gz", "--unlike-training", model=older / "blobs", output=older / "new"
    )
    assert again.code == 0, again.err
    then, now = older / "results" / "blob_8", older / "new" / "blob_8"
    labels = [sitk.GetArrayFromImage(sitk.ReadImage(str(case / "segmentation.nii.gz"))) for case in (then, now)]
    assert np.array_equal(*labels)
    assert labels[0].any()
    for name in MAPS:
        maps = [sitk.GetArrayFromImage(sitk.ReadImage(str(case / f"{name}.nii.gz"))) for case in (then, now)]
        np.testing.assert_allclose(*maps, rtol=1e-3, atol=1e-4)
    cases = [json.loads((case / "case.json").read_text(encoding="utf-8")) for case in (then, now)]
    assert set(cases[0]) <= set(cases[1])
    for old, new in zip(cases[0]["structures"], cases[1]["structures"], strict=True):
        assert old.keys() <= new.keys()
        assert (old["name"], old["voxels"]) == (new["name"], new["voxels"])


def test_case_folders_with_reviews_are_listed_reported_checked_and_exported(older: Path, command: Command) -> None:
    listed = command("worklist", "results", "--output", "new_list")
    assert listed.code == 0, listed.err
    entries = [
        json.loads((older / place / "worklist.json").read_text(encoding="utf-8")) for place in ("list", "new_list")
    ]
    before, after = ({case["case"]: case for case in entry["cases"]} for entry in entries)
    assert before.keys() == after.keys() == {"blob_8", "blob_9"}
    for name, case in before.items():
        for old, new in zip(case["reviews"], after[name]["reviews"], strict=True):
            assert old.items() <= new.items(), name
        assert case["regions"] == after[name]["regions"], name
    assert command("check", "results").code == 0
    assert command("report", "results/blob_8").code == 0
    assert "said before the move" in (older / "results" / "blob_8" / "report.html").read_text(encoding="utf-8")
    assert command("export", "results", "--output", "exported", "--anonymous").code == 0
    merged = command("merge-reviews", "exported", "--into", "results")
    assert merged.code == 0, merged.err


def test_training_run_is_calibrated_again_to_the_same_tables(older: Path, command: Command) -> None:
    made = command("calibrate", "--run", "run", "--cases", "data/split.csv:calibration", "--output", "again")
    assert made.code == 0, made.err
    bundles = [json.loads((older / name / "bundle.json").read_text(encoding="utf-8")) for name in ("blobs", "again")]
    assert bundles[0]["weights_sha256"] == bundles[1]["weights_sha256"]
    for kind in ("input", "labels", "backbone", "heads"):
        assert bundles[0][kind] == bundles[1][kind]
    tables = [np.asarray(bundle["calibration"]["error_probability"]["probability"], float) for bundle in bundles]
    np.testing.assert_allclose(*tables, atol=1e-3)


def test_training_and_benchmark_go_on_where_they_stopped(older: Path, command: Command) -> None:
    cases = ["--cases", "data/split.csv:train", "--select", "data/split.csv:select", "--threads", "1"]
    trained = command("train-head", "--run", "run", *cases, "--resume")
    assert trained.code == 0, trained.err
    before = (older / "benchmark" / "rivals" / "softmax" / "cases" / "blob_8.json").stat().st_mtime_ns
    measured = command(
        "benchmark", "--model", "blobs", "--cases", "data/split.csv:test",
        "--calibration", "data/split.csv:calibration",
        "--output", "benchmark", "--threads", "1", "--rivals", "softmax,temperature,distance,heads", "--repeats", "1",
        "--resume",
    )  # fmt: skip
    assert measured.code == 0, measured.err
    assert (older / "benchmark" / "rivals" / "softmax" / "cases" / "blob_8.json").stat().st_mtime_ns == before
