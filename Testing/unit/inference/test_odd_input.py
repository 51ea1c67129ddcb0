"""What no model can segment is told in one sentence: another unit, a few voxels, a segmentation instead of an image."""

from pathlib import Path

import numpy as np
import scipy.ndimage
import SimpleITK as sitk

from SegWithUCore.inference.deviation import REFUSED, TOO_SMALL
from SegWithUCore.inference.ood_check import input_deviations
from SegWithUCore.models.bundle import read_bundle

MODEL = read_bundle(Path(__file__).resolve().parents[3] / "Resources" / "Models" / "hippocampus")
VALUES = np.random.default_rng(0)


def refused(array: np.ndarray, spacing: float = 1.0) -> list[str]:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    return [each.kind for each in input_deviations([image], MODEL) if each.severity == REFUSED]


def test_an_image_is_nothing_odd() -> None:
    smooth = scipy.ndimage.gaussian_filter(VALUES.normal(size=(36, 50, 35)), 2)
    for image in (smooth.astype(np.float32), (4000 * smooth + 1000).astype(np.int16)):
        assert not {TOO_SMALL, "spacing", "grey values"} & set(refused(image))


def test_five_voxels_an_axis_are_too_few() -> None:
    assert refused(VALUES.normal(size=(5, 5, 5)).astype(np.float32)) == [TOO_SMALL]


def test_a_spacing_in_another_unit_is_told_alone() -> None:
    assert refused(VALUES.normal(size=(36, 50, 35)).astype(np.float32), spacing=0.001) == ["spacing"]


def test_a_segmentation_is_no_image() -> None:
    labels = np.zeros((36, 50, 35), np.uint8)
    labels[10:20, 10:30, 10:20], labels[20:25, 10:30, 10:20] = 1, 2
    assert refused(labels)[0] == "grey values"
