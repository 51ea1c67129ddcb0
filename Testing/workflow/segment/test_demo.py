"""The demo a new user runs first."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SegWithUCore.cli.__main__ import main

pytestmark = pytest.mark.slow


def test_demo_writes_the_whole_brain_with_a_picture_and_a_second_one_replaces_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out" / "brain"
    for _time in range(2):
        assert main(["demo", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.count(str(target / "preview.png")) == 2
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
