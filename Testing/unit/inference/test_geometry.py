"""The same object gives the same result however it is stored: axis orders, oblique and odd grids, through files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from phantoms import (
    AXIS_ORDERS,
    FORMATS,
    AxisOrder,
    Segmented,
    Volume,
    asymmetric_array,
    ras_volume,
    rotation,
    segment_through_files,
    undone,
)
from toy_models import looking_answer, registered_toys, write_toy_bundle

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.preprocessing import to_working_grid
from SegWithUCore.models.input_spec import InputSpec

Models = dict[str, Model]
WAYS = list(zip(AXIS_ORDERS, FORMATS * 16, strict=True))
WAY_NAMES = ["".join("xyz"[a].upper() if f else "xyz"[a] for a, f in zip(*way, strict=True)) for way in AXIS_ORDERS]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tmp_path_factory.mktemp("toys")
    with registered_toys():
        yield {
            "own spacing": Model(write_toy_bundle(folder / "own", "looking", (16, 24, 12)), torch.device("cpu")),
            "1 mm": Model(write_toy_bundle(folder / "mm", "looking", (24, 24, 24), (1, 1, 1)), torch.device("cpu")),
            "local 1 mm": Model(
                write_toy_bundle(folder / "local", "local", (40, 40, 40), (1, 1, 1)), torch.device("cpu")
            ),
        }


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return ras_volume(asymmetric_array(), (0.9, 1.2, 1.9))


@pytest.fixture(scope="module")
def upright(phantom: Volume, models: Models, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Segmented]:
    """Results of the phantom stored R, A, S."""
    folder = tmp_path_factory.mktemp("upright")
    return {name: segment_through_files(phantom, models[name], folder / name) for name in ("own spacing", "1 mm")}


def test_network_sees_right_anterior_and_superior_where_they_are(
    phantom: Volume, upright: dict[str, Segmented]
) -> None:
    expected = looking_answer(phantom.array.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(upright["own spacing"].classes, expected)


@pytest.mark.parametrize(
    ("way", "suffix"),
    [pytest.param(*way, marks=[pytest.mark.slow] * bool(number % 3)) for number, way in enumerate(WAYS)],
    ids=WAY_NAMES,
)
def test_every_axis_order_gives_the_identical_result(
    way: AxisOrder,
    suffix: str,
    phantom: Volume,
    models: Models,
    upright: dict[str, Segmented],
    tmp_path: Path,
) -> None:
    result = segment_through_files(phantom.reordered(way), models["own spacing"], tmp_path, suffix)
    np.testing.assert_array_equal(undone(result.classes, way), upright["own spacing"].classes)
    for name, values in upright["own spacing"].maps.items():  # voxels come in another order: the last bit may differ
        np.testing.assert_allclose(undone(result.maps[name], way), values, rtol=5e-7, atol=5e-7, err_msg=name)


@pytest.mark.parametrize(("way", "suffix"), WAYS[::5], ids=WAY_NAMES[::5])
def test_axis_orders_give_the_same_result_after_resampling(
    way: AxisOrder,
    suffix: str,
    phantom: Volume,
    models: Models,
    upright: dict[str, Segmented],
    tmp_path: Path,
) -> None:
    result = segment_through_files(phantom.reordered(way), models["1 mm"], tmp_path, suffix)
    same = undone(result.classes, way) == upright["1 mm"].classes
    assert same.mean() >= 0.999  # interpolation rounds differently along the axes: only ties may tip over
    for name, values in upright["1 mm"].maps.items():
        np.testing.assert_allclose(undone(result.maps[name], way)[same], values[same], atol=2e-4, err_msg=name)


def ellipsoid(volume: Volume, centre_ras: np.ndarray, radii: np.ndarray) -> Volume:
    """Fill a volume with an ellipsoid along the patient's axes, its edge smooth and at 0.5 on the surface."""
    distance = np.linalg.norm((volume.points_ras() - centre_ras) / radii, axis=-1)
    array = 1 / (1 + np.exp((distance - 1) * 8))
    return Volume(array.astype(np.float32), volume.spacing, volume.origin, volume.direction)


OBLIQUE = [((0, 0, 0), (0.5, 1.3, 3.0)), ((20, 0, 0), (0.5, 1.3, 3.0)), ((10, -25, 30), (0.5, 1.3, 3.0))]
OBLIQUE += [((10, -25, 30), (3.0, 0.5, 1.3)), ((-30, 15, 10), (1.0, 1.0, 1.0)), ((44, 0, 0), (2.0, 2.0, 2.0))]


@pytest.mark.parametrize(
    ("degrees", "spacing", "way"),
    [(*grid, AXIS_ORDERS[number]) for grid, number in zip(OBLIQUE, [0, 29, 38] * 2, strict=True)],
)
def test_oblique_anisotropic_phantom_is_found_where_it_is(
    degrees: tuple[float, float, float],
    spacing: tuple[float, float, float],
    way: AxisOrder,
    models: Models,
    tmp_path: Path,
) -> None:
    centre, radii = np.asarray([-31.0, 12.0, 57.0]), np.asarray([8.0, 6.0, 11.0])
    size = np.ceil(np.asarray([34, 30, 38]) / spacing).astype(int)
    direction = rotation(degrees) @ np.diag([-1.0, -1.0, 1.0])
    middle = (size - 1) / 2 + [1, -1, 0]  # the object is off the middle of the grid
    origin = centre * [-1, -1, 1] - direction @ (middle * spacing)
    grid = Volume(np.zeros(size, np.float32), np.asarray(spacing), origin, direction)
    volume = ellipsoid(grid, centre, radii).reordered(way)

    inside = segment_through_files(volume, models["local 1 mm"], tmp_path).classes == 1
    found = volume.points_ras()[inside]
    # A voxel at most, by the test's rule; as the object is smooth, a quarter of a voxel is met.
    assert np.abs(found.mean(0) - centre).max() < 0.25 * max(spacing)
    truth = 4 / 3 * np.pi * np.prod(radii)
    assert len(found) * np.prod(spacing) == pytest.approx(truth, rel=0.05)
    for axis in range(3):  # extents along the patient's axes: within a voxel on either side
        assert np.ptp(found[:, axis]) == pytest.approx(2 * radii[axis], abs=2 * max(spacing))


def test_a_far_origin_changes_nothing(phantom: Volume, models: Models, tmp_path: Path) -> None:
    far = Volume(
        phantom.array, phantom.spacing, phantom.origin + np.asarray([6345.6, -4876.5, 4321.0]), phantom.direction
    )
    for name in ("own spacing", "1 mm"):
        near_result = segment_through_files(phantom, models[name], tmp_path / "near")
        far_result = segment_through_files(far, models[name], tmp_path / "far")
        assert np.mean(near_result.classes == far_result.classes) >= 0.999, name
        np.testing.assert_allclose(far_result.maps["ranking"], near_result.maps["ranking"], atol=2e-3, err_msg=name)


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize(("axis", "suffix"), list(enumerate(FORMATS)))
def test_volumes_of_one_or_two_slices_work_along_any_axis(
    slices: int, axis: int, suffix: str, models: Models, tmp_path: Path
) -> None:
    shape = [9, 9, 9]
    shape[axis] = slices
    volume = ras_volume(asymmetric_array(shape), (1.0, 1.0, 1.0))
    expected = looking_answer(volume.array.transpose(2, 1, 0)).transpose(2, 1, 0)
    result = segment_through_files(volume, models["1 mm"], tmp_path, suffix)
    np.testing.assert_array_equal(result.classes, expected)


@pytest.mark.parametrize("slices", [1, 2])
def test_thick_single_slices_are_resampled_and_come_back(slices: int, models: Models, tmp_path: Path) -> None:
    array = np.zeros((20, 22, slices), np.float32)
    array[4:12, 5:17] = 1
    result = segment_through_files(ras_volume(array, (0.8, 0.8, 6.0)), models["local 1 mm"], tmp_path, "nii.gz")
    assert np.mean((result.classes == 1) == (array == 1)) > 0.97


def test_a_volume_smaller_than_a_window_is_padded_not_stretched(models: Models, tmp_path: Path) -> None:
    volume = ras_volume(asymmetric_array((3, 5, 2)), (1.0, 1.0, 1.0))
    expected = looking_answer(volume.array.transpose(2, 1, 0)).transpose(2, 1, 0)
    for name in ("own spacing", "1 mm"):
        np.testing.assert_array_equal(segment_through_files(volume, models[name], tmp_path).classes, expected)


@pytest.mark.parametrize("spacing", [(0.5, 1.3, 3.0), (3.0, 0.7, 1.0)])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (10, -25, 30)])
def test_the_working_grid_covers_the_box_of_the_image(
    spacing: tuple[float, float, float], degrees: tuple[float, float, float], models: Models
) -> None:
    """Outer faces of the first voxels coincide, those of the last ones within half a working voxel."""
    direction = rotation(degrees) @ np.diag([-1.0, -1.0, 1.0])
    volume = Volume(asymmetric_array((20, 13, 9)), np.asarray(spacing), np.asarray([5.0, -3.0, 70.0]), direction)
    image = volume.image()
    working = to_working_grid(image, models["1 mm"].bundle.input)
    corners = [[-0.5] * 3, [size - 0.5 for size in working.GetSize()]]
    points = [working.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners]
    faces = [image.TransformPhysicalPointToContinuousIndex(point) for point in points]
    np.testing.assert_allclose(faces[0], -0.5, atol=1e-6)
    gap_mm = (np.asarray(faces[1]) - (np.asarray(image.GetSize()) - 0.5)) * spacing
    assert np.abs(gap_mm).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("thickness", [5.0, 6.5, 10.0])
def test_an_axis_without_a_working_spacing_keeps_its_slices(thickness: float, models: Models) -> None:
    image = ras_volume(asymmetric_array((20, 13, 9)), (0.5, 0.8, thickness)).image()
    spec = replace(models["own spacing"].bundle.input, spacing_mm=(1.0, None, None))
    spec = InputSpec.from_json(spec.to_json())
    working = to_working_grid(image, spec)
    assert working.GetSize() == (10, 13, 9)
    np.testing.assert_allclose(working.GetSpacing(), (1.0, 0.8, thickness))
    given, found = (sitk.GetArrayFromImage(each) for each in (sitk.DICOMOrient(image, "RAS"), working))
    np.testing.assert_allclose(found, (given[..., ::2] + given[..., 1::2]) / 2, atol=1e-6)  # pairs along x only
