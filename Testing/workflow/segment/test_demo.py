"""The demo a new user runs first."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SegWithUCore.cli.__main__ import main

# The one test of make test that needs more memory than others: a whole head by the model of the brain.
pytestmark = pytest.mark.serial


def test_demo_writes_the_whole_brain_with_a_picture_and_replaces_an_earlier_one(
    segmented_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out" / "brain"
    shutil.copytree(segmented_cases / "hippocampus_075", target)
    assert main(["demo", "--output", str(tmp_path / "out")]) == 0
    assert str(target / "preview.png") in capsys.readouterr().out
    facts = json.loads((target / "case.json").read_text(encoding="utf-8"))
    volumes = {structure["name"]: structure["volume_mm3"] for structure in facts["structures"][1:]}
    assert len(volumes) == 30
    assert min(volumes.values()) > 200
    sides = [(volumes[name], volumes[f"right {name[5:]}"]) for name in volumes if name.startswith("left ")]
    assert len(sides) == 13
    assert all(0.7 < left / right < 1.4 for left, right in sides), "the sample head is symmetric"
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(target / "segmentation.nii.gz")))
    assert labels.shape == sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "brain.nii.gz"))).shape
    assert np.flatnonzero(labels == 17).size, "left hippocampus"
