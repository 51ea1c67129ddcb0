"""What no model can segment is told in one sentence: another unit, a few voxels, a segmentation instead of an image."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.deviation import REFUSED
from SegWithUCore.inference.ood_check import odd_inputs
from SegWithUCore.models.bundle import read_bundle

MODEL = read_bundle(Path(__file__).resolve().parents[3] / "Resources" / "Models" / "hippocampus")
VALUES = np.random.default_rng(0)


def said(array: np.ndarray, spacing: float = 1.0) -> list[str]:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    found = odd_inputs([image], MODEL)
    assert {each.severity for each in found} <= {REFUSED}
    return [each.message for each in found]


def test_an_image_is_nothing_odd() -> None:
    assert said(VALUES.normal(size=(36, 50, 35)).astype(np.float32)) == []
    assert said(VALUES.integers(0, 200, (36, 50, 35)).astype(np.uint8)) == []
    assert said(np.zeros((36, 50, 35), np.uint8)) == [], "an empty image is told by the other check"


def test_five_voxels_an_axis_are_too_few() -> None:
    (sentence,) = said(VALUES.normal(size=(5, 5, 5)).astype(np.float32))
    assert sentence.startswith("The part to be segmented spans only 5 x 5 x 5 mm (5 x 5 x 5 voxels)")


def test_a_spacing_in_another_unit_is_told_first() -> None:
    first, *_ = said(VALUES.normal(size=(36, 50, 35)).astype(np.float32), spacing=0.001)
    assert first.startswith("The voxels are 0.001 x 0.001 x 0.001 mm")
    assert "another unit than millimetres" in first


def test_a_segmentation_is_no_image() -> None:
    labels = np.zeros((36, 50, 35), np.uint8)
    labels[10:20, 10:30, 10:20], labels[20:25, 10:30, 10:20] = 1, 2
    (sentence,) = said(labels)
    assert "holds 3 different values only (0, 1, 2), as a segmentation does" in sentence
