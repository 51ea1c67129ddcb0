"""Further passes: where they look, which class is which in a mirror, and what becomes of the error probability."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from evaluated_cases import shipped_bundle
from segwithu_command import MODEL

from SegWithUCore.calibration.per_structure import ProbabilitySums
from SegWithUCore.inference.finer_grid import NEITHER
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.passes import Look, further_looks, look_again, mirrored_classes
from SegWithUCore.inference.segment import segment_images
from SegWithUCore.inference.uncertainty_maps import VoxelMaps
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.models.bundle import Bundle, read_bundle

IMAGE = Path(__file__).parents[2] / "data" / "hippocampus" / "images"


def with_names(*names: str) -> Bundle:
    bundle = shipped_bundle()
    return replace(bundle, labels=tuple(replace(bundle.labels[0], name=name) for name in ("background", *names)))


@pytest.mark.parametrize("look", [Look(True), Look(False, 3), Look(True, 3)])
def test_every_voxel_stays_where_it_was(look: Look) -> None:
    array = np.arange(2 * 4 * 5 * 6, dtype=np.float32).reshape(2, 4, 5, 6) + 1
    image = sitk.DICOMOrient(sitk.GetImageFromArray(array[0]), "RAS")
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((3.0, -2.0, 7.0))
    grid = VoxelGrid.of(image)
    moved, its = look.moved(array, grid, "RAS", (1, 8, 8))
    placed = its.image(moved[0])
    for index in np.ndindex(6, 5, 4):
        there = placed.TransformPhysicalPointToIndex(image.TransformIndexToPhysicalPoint(index))
        assert placed[there] == array[0][index[::-1]]
    assert moved.shape[1] == 4, "a network of single slices sees them as they are"
    assert moved[0].sum() == array[0].sum()


def test_classes_in_a_mirror() -> None:
    bundle = shipped_bundle()
    assert mirrored_classes(bundle) is not None and np.array_equal(mirrored_classes(bundle), [0, 1, 2])
    assert np.array_equal(
        mirrored_classes(with_names("Left kidney", "right kidney", "b left", "b right")), [0, 2, 1, 4, 3]
    )
    assert mirrored_classes(with_names("left kidney", "right kidney", "liver")) is None
    assert mirrored_classes(with_names("left kidney")) is None
    as_stored = replace(bundle, input=replace(bundle.input, orientation="xyz"))
    assert mirrored_classes(as_stored) is None and not any(look.is_mirrored for look in further_looks(as_stored, 4))
    assert mirrored_classes(replace(bundle, folder=None)) is None, "nobody knows how it was trained"
    assert [len(further_looks(bundle, passes)) for passes in (1, 2, 4)] == [0, 1, 3]


def test_log_odds_are_averaged_for_the_first_segmentation() -> None:
    def maps(classes: list[int], runner_up: list[int], chance: list[float]) -> VoxelMaps:
        planes = [np.array(each)[:, None, None] for each in (classes, runner_up, chance)]
        own, other, error = planes[0].astype(np.uint8), planes[1].astype(np.uint8), planes[2].astype(np.float32)
        return VoxelMaps(own, other, error, error, error.copy(), None, None, ProbabilitySums.zeros(3))

    first = maps([1, 1, 2, 0], [0, 2, 0, 1], [0.2, 0.4, 0.4, 0.1])
    again = maps([2, 1, 0, 0], [0, 2, 1, 2], [0.2, 0.4, 0.3, 0.1])  # mirrored: 1 and 2 are exchanged
    bundle = with_names("left one", "right one")
    look_again(first, [Look(True)], lambda look: again, bundle, None)
    odds = [np.log(p / (1 - p)) for p in (0.2, 0.6, 0.7, 0.1)]
    before = [np.log(p / (1 - p)) for p in (0.2, 0.4, 0.4, 0.1)]
    wanted = 1 / (1 + np.exp(-(np.array(odds) + before) / 2))
    np.testing.assert_allclose(np.ravel(first.error_probability), wanted, atol=1e-6)
    third = maps([1], [0], [0.5])
    look_again(third, [Look()], lambda look: maps([0], [2], [0.1]), bundle, None)
    assert np.ravel(third.error_probability)[0] == pytest.approx(1 / (1 + np.sqrt((1 - NEITHER) / NEITHER)), abs=1e-5)


def test_the_segmentation_is_that_of_the_first_pass_however_the_image_is_stored() -> None:
    model = Model(read_bundle(MODEL), engine="auto")
    image = sitk.Cast(sitk.ReadImage(str(min(IMAGE.glob("*.nii.gz")))), sitk.sitkFloat32)
    one, two = (segment_images([image], model, passes=passes)[0] for passes in (1, 2))
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("classes", "ranking", "calibration"))
    assert not np.array_equal(one.error_probability, two.error_probability)
    turned = sitk.DICOMOrient(image, "SAL")
    other = segment_images([turned], model, passes=2)[0]
    back = VoxelGrid.of(turned).image(np.asarray(other.error_probability))
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(back, sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(
        image.GetDirection())))  # fmt: skip
    np.testing.assert_allclose(back, two.error_probability, atol=2e-6)
