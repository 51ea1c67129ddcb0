"""The demo a new user runs first."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SegWithUCore.cli.__main__ import main

pytestmark = pytest.mark.slow

SIDES = ("left", "right")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("side", SIDES)
def test_demo_writes_a_case_folder_of_each_side_with_a_picture(demo: Path, side: str) -> None:
    facts = json.loads((demo / side / "case.json").read_text(encoding="utf-8"))
    assert facts["name"] == side
    names = [structure["name"] for structure in facts["structures"]]
    assert names == ["background", "anterior hippocampus", "posterior hippocampus"]
    whole = sum(structure["volume_mm3"] for structure in facts["structures"][1:])
    assert 2500 < whole < 6000, f"{side}: a hippocampus in MNI space, which is larger than life, has about 4 ml"
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(demo / side / "preview.png"))).astype(int)[..., :3]
    for colour in ((230, 159, 0), (86, 180, 233)):
        assert (np.abs(picture - colour).sum(-1) < 40).sum() > 300
    assert not list(demo.glob(".segwithu-*"))


def test_both_sides_of_the_symmetric_brain_agree(demo: Path) -> None:
    """The sample image is symmetric, so a model that serves both sides must give mirror images."""
    left, right = (sitk.GetArrayFromImage(sitk.ReadImage(str(demo / case / "segmentation.nii.gz"))) for case in SIDES)
    mirrored = left[:, :, ::-1]
    both = np.count_nonzero((mirrored > 0) & (right > 0))
    assert 2 * both / (np.count_nonzero(left) + np.count_nonzero(right)) > 0.95


def test_a_second_demo_replaces_the_first(demo: Path) -> None:
    before = (demo / "left" / "case.json").stat().st_mtime_ns
    assert main(["demo", "--output", str(demo)]) == 0
    assert (demo / "left" / "case.json").stat().st_mtime_ns > before
