"""The region of interest: which voxels it means, and that segmenting it equals segmenting a cropped file."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from phantoms import AXIS_ORDERS, MAPS, AxisOrder, Volume, asymmetric_array, ras_volume, rotation, segment_through_files
from phantoms import undone as back
from toy_models import registered_toys, write_toy_bundle

from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.segment import segment
from SegWithUCore.inference.settings import RunSettings, parse_roi
from SegWithUCore.io.roi import RegionOfInterest, VoxelBox, voxel_box
from SegWithUCore.util.errors import InputError, UsageError

GRID = ras_volume(asymmetric_array((14, 18, 11)), (1.0, 1.5, 2.0), (-6.0, 40.0, 9.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with registered_toys():
        yield Model(
            write_toy_bundle(tmp_path_factory.mktemp("toy") / "b", "looking", (16, 24, 16)), torch.device("cpu")
        )


def mask_of(box: VoxelBox, shape: tuple[int, ...]) -> np.ndarray:
    """True inside the box, (x, y, z)."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(i, i + n) for i, n in zip(box.index, box.size, strict=True))] = True
    return mask


def centres_inside(volume: Volume, region: RegionOfInterest) -> np.ndarray:
    """Brute force: voxels whose centre lies in the region, lower faces (left, posterior, inferior) included."""
    low = np.subtract(region.centre_ras_mm, np.divide(region.size_mm, 2))
    points = volume.points_ras()
    mask: np.ndarray = ((points >= low - 1e-6) & (points < low + region.size_mm - 1e-6)).all(-1)
    return mask


def random_regions(count: int, seed: int) -> list[RegionOfInterest]:
    """Boxes with faces on and off voxel centres, some reaching beyond the grid."""
    generator = np.random.default_rng(seed)
    low, high = GRID.points_ras()[0, 0, 0], GRID.points_ras()[-1, -1, -1]
    regions = []
    for number in range(count):
        centre, size = generator.uniform(low, high), generator.uniform(3, 14, 3)
        if number % 2:  # faces exactly on voxel centres
            centre, size = (
                np.rint((centre - low) / GRID.spacing) * GRID.spacing + low,
                np.rint(size / 4) * 2 * GRID.spacing,
            )
            size = np.maximum(size, 2 * GRID.spacing)
        regions.append(RegionOfInterest(tuple(centre.tolist()), tuple(size.tolist())))
    return regions


@pytest.mark.parametrize("way", AXIS_ORDERS, ids=range(48))
def test_box_holds_the_voxels_with_centres_in_the_region(way: AxisOrder) -> None:
    volume = GRID.reordered(way)
    for region in random_regions(20, seed=1):
        found = mask_of(voxel_box(region, volume.image()), volume.array.shape)
        np.testing.assert_array_equal(found, centres_inside(volume, region), err_msg=str(region))


def test_box_on_an_oblique_grid_hugs_the_region() -> None:
    direction = rotation((12, -20, 28)) @ GRID.direction
    volume = Volume(GRID.array, GRID.spacing, GRID.origin, direction)
    centre = volume.points_ras()[7, 9, 5]
    region = RegionOfInterest(tuple(centre.tolist()), (5.0, 6.0, 7.0))
    box = voxel_box(region, volume.image())
    assert mask_of(box, volume.array.shape)[centres_inside(volume, region)].all()
    corners = np.asarray([centre + np.multiply(s, (2.5, 3.0, 3.5)) for s in product((-1, 1), repeat=3)])
    index = (corners * [-1, -1, 1] - volume.origin) @ direction / volume.spacing
    for axis in range(3):
        first, last = box.index[axis], box.index[axis] + box.size[axis] - 1
        assert 0 <= first - index[:, axis].min() < 1 or first == 0
        assert 0 <= index[:, axis].max() - last <= 1 or last == volume.array.shape[axis] - 1


def test_a_region_between_two_centres_still_holds_one_voxel() -> None:
    centre = GRID.points_ras()[4, 5, 6] + [0.4, 0.4, 0.4]
    assert voxel_box(RegionOfInterest(tuple(centre.tolist()), (0.2, 0.2, 0.2)), GRID.image()).size == (1, 1, 1)


def test_a_thin_region_in_the_outer_half_of_a_border_voxel_holds_that_voxel() -> None:
    last = np.asarray(GRID.array.shape) - 1
    for index, sign in ((np.zeros(3, int), -1), (last, 1)):
        centre = GRID.points_ras()[tuple(index)] + sign * 0.4 * GRID.spacing
        box = voxel_box(RegionOfInterest(tuple(centre.tolist()), (0.1, 0.1, 0.1)), GRID.image())
        assert box == VoxelBox(tuple(index.tolist()), (1, 1, 1))


def test_size_of_the_box_does_not_depend_on_where_the_region_lies() -> None:
    image = ras_volume(np.zeros((60, 60, 60)), (1.0, 1.0, 1.0)).image()
    for centre in np.random.default_rng(0).uniform(0, 1, (50, 3)) + np.asarray([36, 9, 60]):
        assert voxel_box(RegionOfInterest(tuple(centre.tolist()), (36, 50, 36)), image).size == (36, 50, 36)


def test_a_region_beside_the_image_is_refused_with_both_places() -> None:
    with pytest.raises(InputError, match=r"RAS \(500, 0, 0\) is outside the image .*outside-image"):
        voxel_box(RegionOfInterest((500.0, 0.0, 0.0), (10.0, 10.0, 10.0)), GRID.image())


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5,0", "1,2,3,4,5,-6", "1,2,3,4,5,nan", "a,2,3,4,5,6", "1,2,3,4,5,6,7"]
)
def test_a_region_that_is_not_six_numbers_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a region of interest: give R,A,S,dR,dA,dS"):
        RunSettings(roi=parse_roi(text))


@pytest.mark.parametrize("way", [AXIS_ORDERS[0], AXIS_ORDERS[21], AXIS_ORDERS[47]], ids=["xyz", "21", "47"])
def test_segmenting_a_region_equals_segmenting_the_cropped_file(way: AxisOrder, model: Model, tmp_path: Path) -> None:
    volume = GRID.reordered(way)
    region = RegionOfInterest(tuple(GRID.points_ras()[6, 8, 5].tolist()), (8.0, 12.0, 10.0))
    box = voxel_box(region, volume.image())
    whole = segment_through_files(volume, model, tmp_path / "region", region=region)
    cropped = tmp_path / "cropped.nrrd"
    sitk.WriteImage(box.crop(volume.image()), str(cropped))
    segment(Job("case", [cropped], tmp_path / "case"), model)

    inside = mask_of(box, volume.array.shape)
    assert 0 < inside.sum() < inside.size
    for name, values in {"segmentation": whole.classes, **whole.maps}.items():
        part = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "case" / f"{name}.nii.gz"))).transpose(2, 1, 0)
        np.testing.assert_array_equal(values[inside].reshape(box.size), part, err_msg=name)


def test_outside_the_region_nothing_is_assessed(model: Model, tmp_path: Path) -> None:
    region = RegionOfInterest(tuple(GRID.points_ras()[6, 8, 5].tolist()), (6.0, 9.0, 8.0))
    result = segment_through_files(GRID, model, tmp_path, region=region)
    inside = mask_of(voxel_box(region, GRID.image()), GRID.array.shape)
    assert (result.classes[~inside] == 0).all()
    for name in MAPS:
        outside = np.unique(result.maps[name][~inside])
        assert len(outside) == 1, name
        assert outside[0] < result.maps[name][inside].min(), name


def test_a_region_means_the_same_tissue_in_every_axis_order(model: Model, tmp_path: Path) -> None:
    region = random_regions(2, seed=4)[1]  # its faces lie on voxel centres
    expected = segment_through_files(GRID, model, tmp_path / "upright", region=region)
    for number in (9, 23, 38):
        way = AXIS_ORDERS[number]
        result = segment_through_files(GRID.reordered(way), model, tmp_path / str(number), region=region)
        np.testing.assert_array_equal(back(result.classes, way), expected.classes)
        np.testing.assert_allclose(back(result.maps["ranking"], way), expected.maps["ranking"], rtol=1e-6)
