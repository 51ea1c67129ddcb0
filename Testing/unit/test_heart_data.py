"""The copy of ACDC that the heart's model is trained on: true spacing, roles, and what is missing."""

import sys
from pathlib import Path

import heart_data
import numpy as np
import pytest
import SimpleITK as sitk


def _image(path: Path, spacing: tuple[float, float, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    table = tmp_path / "split.csv"
    table.write_text("case,patient,phase,role\npatient001_frame01,patient001,ED,train\n")
    monkeypatch.setattr(heart_data, "SPLIT", table)
    return table


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["heart_data.py", *map(str, arguments)])
    return heart_data.main()


def test_a_copy_without_sizes_gets_the_true_ones(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("images", "labels"):
        _image(tmp_path / "copy" / folder / "patient001_frame01.nii.gz", (1.5625, 1.5625, 10.0))
    header = "patient,spacing_i_mm,spacing_j_mm,spacing_k_mm\n"
    (tmp_path / "copy" / "spacing.csv").write_text(header + "patient001,1.25,1.25,5\n")
    assert _run(monkeypatch, tmp_path / "copy", tmp_path / "heart") == 0
    for folder in ("images", "labels"):
        written = sitk.ReadImage(str(tmp_path / "heart" / folder / "patient001_frame01.nii.gz"))
        assert written.GetSpacing() == (1.25, 1.25, 5.0)
        assert sitk.GetArrayFromImage(written).ravel().tolist() == list(range(24))
    assert (tmp_path / "heart" / "split.csv").read_bytes() == split.read_bytes()


def test_the_set_of_its_authors_keeps_its_sizes(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = tmp_path / "acdc" / "training" / "patient001"
    for name in ("patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz"):
        _image(patient / name, (1.5, 1.5, 8.0))
    assert _run(monkeypatch, tmp_path / "acdc", tmp_path / "heart") == 0
    written = sitk.ReadImage(str(tmp_path / "heart" / "labels" / "patient001_frame01.nii.gz"))
    assert written.GetSpacing() == (1.5, 1.5, 8.0)


def test_what_is_missing_is_named_and_nothing_written(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, tmp_path / "empty", tmp_path / "heart") == 2
    assert "patient001_frame01" in capsys.readouterr().err
    assert not (tmp_path / "heart").exists()
