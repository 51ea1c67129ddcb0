"""Grids that differ in order and sign of their axes alone: all channels are turned at once, as SimpleITK does it."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from SegWithUCore.inference.uncertainty_maps import resample_to_grid

ORIENTATIONS = ["".join(letters) for axes in permutations(["RL", "AP", "IS"]) for letters in product(*axes)]


def _image(oblique: bool) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(3).normal(size=(4, 5, 6)).astype(np.float32))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((7.0, -5.0, 3.0))
    if oblique:
        image.SetDirection(Rotation.from_euler("zx", [17, 11], degrees=True).as_matrix().ravel())
    return image


@pytest.mark.parametrize("oblique", [False, True])
def test_channels_are_turned_to_every_orientation_as_images_are(oblique: bool) -> None:
    assert len(ORIENTATIONS) == 48
    for own in ORIENTATIONS[oblique::11]:
        working = sitk.DICOMOrient(_image(oblique), own)
        values = sitk.GetArrayFromImage(working)
        for wanted in ORIENTATIONS:
            target = sitk.DICOMOrient(working, wanted)
            turned = resample_to_grid(np.stack([values, -values]), working, target)
            np.testing.assert_array_equal(turned[0], sitk.GetArrayFromImage(target))
            np.testing.assert_array_equal(turned[1], -turned[0])
