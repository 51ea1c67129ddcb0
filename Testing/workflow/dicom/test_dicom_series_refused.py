"""Every command that reads a DICOM series refuses the same ones: mixed contrasts, slices that are not there."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
import pytest
from segwithu_command import MODEL, Command, entries, refused

Damage = Callable[[Sequence[Path]], None]


def _two_echoes(files: Sequence[Path]) -> None:
    for number, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        dataset.EchoTime = ("4.9", "80")[number % 2]
        dataset.save_as(path)


def _links_to_nothing(files: Sequence[Path]) -> None:
    for path in files[-6:]:
        path.unlink()
        path.symlink_to(path.parent / ".git" / "annex" / path.name)


def _second_disc(files: Sequence[Path]) -> None:
    (files[0].parent / "disc2").mkdir()
    for path in files[-6:]:
        path.rename(path.parent / "disc2" / path.name)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_two_echoes, "mixed-series"),
        pytest.param(_links_to_nothing, "entries-not-openable", marks=pytest.mark.skipif(os.name == "nt", reason="")),
        (_second_disc, "slices-elsewhere"),
    ],
)
def test_a_series_that_is_mixed_or_lacks_slices_is_refused_by_every_command(
    damage: Damage, code: str, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    series, case, output = tmp_path / "series", dicom_cases / "cases" / "sagittal", tmp_path / "out"
    shutil.copytree(dicom_cases / "series" / "sagittal", series)
    files = sorted(series.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[0]))
    damage(files)
    refused(segwithu("segment", series, "--model", MODEL, "--output", output), code, series)
    refused(segwithu("export-dicom", case, "--source", series, "--output", output), code, series)
    refused(segwithu("report", case, "--image", series, "--output", output / "report.html"), code, series)
    assert entries(output) == []
    checked = segwithu("check", series)
    assert checked.code == 1
    assert checked.error_codes == [code]


def test_a_doubt_about_a_series_is_a_warning_of_its_case(dicom_cases: Path, tmp_path: Path, segwithu: Command) -> None:
    series = tmp_path / "series"
    shutil.copytree(dicom_cases / "series" / "axial", series)
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImagesInAcquisition = 60
        dataset.save_as(path)
    outcome = segwithu("segment", series, "--model", MODEL, "--output", tmp_path / "out")
    assert outcome.code == 0
    assert "ImagesInAcquisition" in outcome.err
    assert "ImagesInAcquisition" in (tmp_path / "out" / "series" / "case.json").read_text(encoding="utf-8")
    assert "warning" in segwithu("check", series).out
