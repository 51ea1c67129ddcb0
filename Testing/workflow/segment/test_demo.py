"""The demo a new user runs first."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SegWithUCore.cli.__main__ import main

pytestmark = pytest.mark.slow

CASES = ("left", "right_mirrored", "right")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", "--output", str(folder)]) == 0
    return folder


def test_demo_writes_three_case_folders_and_a_picture(demo: Path) -> None:
    for case in CASES:
        facts = json.loads((demo / case / "case.json").read_text(encoding="utf-8"))
        assert facts["name"] == case
        names = [structure["name"] for structure in facts["structures"]]
        assert names == ["background", "anterior hippocampus", "posterior hippocampus"]
    assert not list(demo.glob(".segwithu-*"))


def test_demo_picture_shows_image_contours_and_overlay(demo: Path) -> None:
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(demo / "montage.png"))).astype(int)[..., :3]
    assert min(picture.shape[:2]) > 500
    orange = np.abs(picture - (230, 159, 0)).sum(-1) < 40
    blue = np.abs(picture - (86, 180, 233)).sum(-1) < 40
    colourful = picture.max(-1) - picture.min(-1) > 60
    assert orange.sum() > 500
    assert blue.sum() > 500
    assert colourful.sum() > 10_000


def test_demo_volumes_are_those_of_a_hippocampus(demo: Path) -> None:
    for case in CASES:
        facts = json.loads((demo / case / "case.json").read_text(encoding="utf-8"))
        whole = sum(structure["volume_mm3"] for structure in facts["structures"][1:])
        assert 2500 < whole < 6000, f"{case}: a hippocampus in MNI space, which is larger than life, has about 4 ml"


def test_both_sides_of_the_symmetric_brain_agree(demo: Path) -> None:
    """The sample image is symmetric, so a model that serves both sides must give mirror images."""
    left, right = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(demo / case / "segmentation.nii.gz"))) for case in ("left", "right")
    )
    mirrored = left[:, :, ::-1]
    both = np.count_nonzero((mirrored > 0) & (right > 0))
    assert 2 * both / (np.count_nonzero(left) + np.count_nonzero(right)) > 0.95


def test_a_second_demo_replaces_the_first(demo: Path) -> None:
    before = (demo / "left" / "case.json").stat().st_mtime_ns
    assert main(["demo", "--output", str(demo)]) == 0
    assert (demo / "left" / "case.json").stat().st_mtime_ns > before
