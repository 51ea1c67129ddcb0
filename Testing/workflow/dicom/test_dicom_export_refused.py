"""What cannot become DICOM is refused in one sentence, and nothing half-written stays."""

import shutil
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
import SimpleITK as sitk
from dicom_cases import KINDS
from exchanged_cases import CASES, changed_case, copied
from segwithu_command import Command, child, entries, one_sentence, refused
from small_disks import leave

from SegWithUCore.cli.__main__ import main
from SegWithUCore.util.atomic_files import TEMPORARY_PREFIX


@pytest.fixture
def case(dicom_cases: Path, tmp_path: Path) -> Path:
    """A copy of the axial case, which finds its series no more."""
    return copied(dicom_cases / "cases" / "axial", tmp_path / "cases")


@pytest.mark.parametrize("file", ["segmentation.nii.gz", "error_probability.nii.gz"])
def test_a_volume_that_was_saved_over_becomes_no_dicom(
    file: str, case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    sitk.WriteImage(sitk.ReadImage(str(case / file)) * 0, str(case / file), True)
    outcome = segwithu(
        "export-dicom", case, "--output", tmp_path / "sent", "--source", dicom_cases / "series" / "axial"
    )
    refused(outcome, "changed-file", case / file)
    assert not (tmp_path / "sent").exists()


def test_what_does_not_belong_to_the_case_is_refused(
    case: Path, dicom_cases: Path, data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    output, series = tmp_path / "sent", dicom_cases / "series"
    one_sentence(segwithu("export-dicom", case, "--output", output), "is not there", "--source")
    other = series / "oblique"
    for path in other.iterdir():  # the same size and place, other voxels
        dataset = pydicom.dcmread(path)
        dataset.RescaleIntercept = 1
        (tmp_path / "other").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / "other" / path.name)
    outcome = segwithu("export-dicom", case, "--output", output, "--source", tmp_path / "other")
    refused(outcome, "other-image", tmp_path / "other")
    refused(segwithu("export-dicom", case, "--output", output, "--source", other), "another-place", other)
    refused(segwithu("report", case, "--image", other), "another-place", other)
    moved = Path(shutil.copytree(other, tmp_path / "images" / "axial"))
    checked = segwithu("check", case, "--images", moved.parent)
    assert (checked.code, checked.error_codes) == (1, ["another-place"])
    image = data_folder / "hippocampus" / "images" / f"{CASES[0]}.nii.gz"
    one_sentence(segwithu("export-dicom", case, "--output", output, "--source", image), "is not a folder", "--source")
    one_sentence(
        segwithu("export-dicom", dicom_cases / "cases", "--output", output, "--source", series), "one CASE", code=2
    )
    assert not output.exists()


@pytest.mark.parametrize(
    ("keyword", "value", "word"),
    [
        ("FrameOfReferenceUID", None, "names no frame of reference"),
        ("StudyInstanceUID", "9.9.9", "differ in StudyInstanceUID"),
        ("StudyDate", "yesterday", "yesterday"),
    ],
)
def test_headers_that_results_cannot_refer_to_are_named(
    case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command, keyword: str, value: str | None, word: str
) -> None:
    folder = tmp_path / "series"
    shutil.copytree(dicom_cases / "series" / "axial", folder)
    paths = sorted(folder.iterdir())
    for path in paths[:1] if keyword == "StudyInstanceUID" else paths:
        dataset = pydicom.dcmread(path)
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom's would be lines on the terminal
        outcome = segwithu("export-dicom", case, "--output", tmp_path / "sent", "--source", folder)
    one_sentence(outcome, word)
    assert not (tmp_path / "sent").exists()


def test_a_missing_or_old_highdicom_is_said_with_the_command_that_installs_it(
    dicom_cases: Path, tmp_path: Path, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (None, SimpleNamespace(__version__="0.22.0")):
        monkeypatch.setitem(sys.modules, "highdicom", module)
        outcome = segwithu("export-dicom", dicom_cases / "cases", "--output", tmp_path / "sent")
        one_sentence(outcome, "highdicom>=0.28", code=2)
    assert entries(tmp_path) == []


def test_a_killed_export_leaves_nothing_that_the_next_one_does_not_sweep(dicom_cases: Path, tmp_path: Path) -> None:
    call = ("export-dicom", dicom_cases / "cases", "--output", tmp_path / "sent")
    process = child(*call)
    limit = time.monotonic() + 60
    while not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*")) and time.monotonic() < limit:
        time.sleep(0.002)
    process.kill()
    process.wait()
    process.communicate()
    left = [path.name for path in tmp_path.iterdir()]
    assert left and all(name.startswith(TEMPORARY_PREFIX) for name in left), f"not hidden: {left}"
    assert main([str(argument) for argument in call]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["sent"]
    assert len(entries(tmp_path / "sent")) == 3 * 4


def test_a_damaged_case_stops_no_other_and_a_full_disk_leaves_nothing(
    dicom_cases: Path, small_disk: Path, tmp_path: Path, segwithu: Command
) -> None:
    cases = [copied(dicom_cases / "cases" / kind, tmp_path / "root" / "cases") for kind in KINDS[1:]]
    shutil.copytree(dicom_cases / "series", tmp_path / "root" / "series")
    (cases[0] / "error_probability.nii.gz").unlink()
    outcome = segwithu("export-dicom", *cases, "--output", tmp_path / "sent")
    assert outcome.code == 1
    assert "error_probability.nii.gz is missing" in outcome.messages[0]
    files = ["error_probability.dcm", "report.dcm", "segmentation.dcm"]
    assert entries(tmp_path / "sent") == ["oblique", *(f"oblique/{file}" for file in files)]
    changed_case(cases[0], lambda content: content["maps"].pop("error_probability"))
    outcome = segwithu("export-dicom", cases[0], "--output", tmp_path / "again")
    assert "not calibrated" in outcome.err
    assert entries(tmp_path / "again" / "sagittal") == ["report.dcm", "segmentation.dcm"]
    leave(small_disk, 100)
    outcome = segwithu("export-dicom", cases[1], "--output", small_disk / "sent")
    one_sentence(outcome, str(small_disk), "free some space")
    assert entries(small_disk) == ["ballast"]
    one_sentence(segwithu("export-dicom", cases[1], "--output", tmp_path / "sent"), "exists already")


@pytest.mark.parametrize("change", [{"PatientID": "P-2"}, {"PatientID": ""}, {"IssuerOfPatientID": "Hospital B"}])
def test_a_series_that_became_another_patients_gets_results_only_where_it_is_given(
    change: dict[str, str], case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    """The case holds no identifier, only a code of it that needs this user's key."""
    assert "P-1" not in (case / "case.json").read_text(encoding="utf-8")
    series, output = tmp_path / "series" / "axial", tmp_path / "sent"
    shutil.copytree(dicom_cases / "series" / "axial", series)

    def set_all(**values: str) -> None:
        for path in series.iterdir():
            dataset = pydicom.dcmread(path)
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)

    set_all(PatientName="Doe^Married", StudyDescription="corrected")
    unchanged = segwithu("export-dicom", case, "--output", tmp_path / "same")
    assert unchanged.code == 0
    set_all(**change)
    refused(segwithu("export-dicom", case, "--output", output), "other-image", series, "--source")
    assert not output.exists()
    given = segwithu("export-dicom", case, "--output", output, "--source", series)
    assert given.code == 0
    noted = [line for line in given.messages if "PatientID" in line]
    assert len(noted) == 1 and str(series) in noted[0] and "PatientID" not in unchanged.err


@pytest.mark.parametrize("lost", ["patient_mac", "file_mac"])
def test_a_case_of_an_earlier_version_or_another_user_is_exported_as_before(
    lost: str, case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["input"].pop("patient_mac")
        if lost == "file_mac":
            content["input"]["patient_mac"] = "0" * 64
            content["input"]["channels"][0]["file_mac"] = "0" * 64

    changed_case(case, change)
    shutil.copytree(dicom_cases / "series" / "axial", tmp_path / "series" / "axial")
    outcome = segwithu("export-dicom", case, "--output", tmp_path / "sent")
    if lost == "patient_mac":
        assert outcome.code == 0
    else:  # where the series lies, another user wrote, and it is not opened
        refused(outcome, "no-source-series")
        given = segwithu("export-dicom", case, "--output", tmp_path / "sent", "--source", tmp_path / "series" / "axial")
        assert given.code == 0 and "PatientID" not in given.err
