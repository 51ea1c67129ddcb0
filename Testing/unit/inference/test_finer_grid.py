"""Images finer than the working grid: labels of interpolated logits, and the error probability of the label drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import MODEL, SAMPLE
from whole_maps import maps_on_grid

from SegWithUCore.inference import finer_grid, grid_blocks
from SegWithUCore.inference.finer_grid import NEITHER, log_odds, maps_grid, spread_chance, two_largest
from SegWithUCore.inference.given_mask import GivenMask, MaskFile
from SegWithUCore.inference.grid_blocks import AxisMapping
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.inference.preprocessing import network_input
from SegWithUCore.inference.segment import segment_images
from SegWithUCore.inference.sliding_window import stitch, window_plan
from SegWithUCore.inference.uncertainty_maps import VoxelMaps
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.roi import RegionOfInterest, voxel_box
from SegWithUCore.io.volume import read_image
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.util import plane_files
from SegWithUCore.util.plane_files import PlaneFile

AXES = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)


def line(voxels: int, mm: float) -> VoxelGrid:
    """A row of voxels along x, from 0 mm on."""
    return VoxelGrid((voxels, 1, 1), (mm, 1.0, 1.0), (mm / 2, 0.5, 0.5), AXES)


@pytest.fixture(scope="module")
def model() -> Model:
    """The shipped model of the hippocampus as if it worked at 2 mm: its answers mean little, its maps are all there."""
    pytest.importorskip("torch")
    bundle = read_bundle(MODEL)
    return Model(replace(bundle, input=replace(bundle.input, spacing_mm=(2.0, 2.0, 2.0))), engine="torch")


@pytest.fixture(scope="module", params=["RAS", "PIR"])
def image(request: pytest.FixtureRequest) -> sitk.Image:
    whole = read_image(SAMPLE)
    part = voxel_box(RegionOfInterest((-28.0, -22.0, -14.0), (50.0, 66.0, 60.0)), whole).crop(whole)
    return sitk.DICOMOrient(part, request.param)


@pytest.fixture(scope="module")
def found(model: Model, image: sitk.Image) -> VoxelMaps:
    return segment_images([image], model)[0]


@pytest.fixture(scope="module")
def voxel_by_voxel(model: Model, image: sitk.Image) -> VoxelMaps:
    """Maps made of interpolated outputs at each voxel of the image, as they were before there was a working grid."""
    array, working = network_input([image], model.bundle.input)
    axis = AxisMapping.between(VoxelGrid.of(working), VoxelGrid.of(image)).slab_axis
    whole = stitch(model.engine, array, window_plan(array.shape[1:], model.bundle.input), axis=axis)
    return maps_on_grid(model.engine, whole, working, image, model.fitted, array)


def test_labels_are_those_of_interpolated_logits(found: VoxelMaps, voxel_by_voxel: VoxelMaps) -> None:
    np.testing.assert_array_equal(found.classes, voxel_by_voxel.classes)
    np.testing.assert_array_equal(found.runner_up, voxel_by_voxel.runner_up)


def test_maps_are_close_to_those_of_each_voxel(found: VoxelMaps, voxel_by_voxel: VoxelMaps) -> None:
    own, before = (np.ravel(maps.error_probability) for maps in (found, voxel_by_voxel))
    assert np.corrcoef(own, before)[0, 1] > 0.95
    assert abs(own.sum() / before.sum() - 1) < 0.1
    for name in ("calibration", "ranking"):
        assert np.corrcoef(*(np.ravel(getattr(maps, name)) for maps in (found, voxel_by_voxel)))[0, 1] > 0.99
    for name in ("expected", "inside"):
        np.testing.assert_allclose(getattr(found.sums, name), getattr(voxel_by_voxel.sums, name), rtol=0.05)


def test_predicting_gives_the_error_probability_of_segmenting(
    found: VoxelMaps, model: Model, image: sitk.Image
) -> None:
    predicted = predict([image], model)
    assert predicted.error_probability is not None
    np.testing.assert_array_equal(predicted.classes, found.classes)
    np.testing.assert_allclose(predicted.error_probability, found.error_probability, rtol=0, atol=1e-5)


def test_a_mask_is_judged_at_each_voxel(found: VoxelMaps, model: Model, image: sitk.Image) -> None:
    """Of the model's own segmentation the share is 0: nothing but its own class agrees with it."""
    labels = model.bundle.labels
    mask = GivenMask(MaskFile(Path("mask")), np.asarray(found.classes), labels, np.arange(len(labels)), {})
    judged = segment_images([image], model, mask=mask)[0]
    assert judged.share is not None and judged.rival is not None
    assert not np.any(judged.share)
    np.testing.assert_array_equal(judged.rival, found.runner_up)
    np.testing.assert_array_equal(judged.error_probability, found.error_probability)


@pytest.mark.parametrize(
    ("spacing", "is_made_there"),
    [((1.0, 1.0, 1.0), True), ((1.0, 1.0, 2.0), True), ((2.0, 2.0, 2.0), False), ((1.7, 1.7, 1.7), False),
     ((0.5, 0.5, 2.5), False), ((3.0, 3.0, 3.0), False)],
)  # fmt: skip
def test_only_finer_images_get_maps_of_the_working_grid(
    spacing: tuple[float, float, float], is_made_there: bool
) -> None:
    working = VoxelGrid((20, 30, 40), (2.0, 2.0, 2.0), (1.0, -2.0, 3.0), AXES)
    target = VoxelGrid((8, 8, 8), spacing, (5.0, 6.0, 7.0), (0, 1.0, 0, 0, 0, -1.0, 1.0, 0, 0))
    grid = maps_grid(working, target)
    assert (grid is not target) is is_made_there
    if is_made_there:
        assert grid.size == (40, 20, 30)
        assert grid.point((39, 3, 5)) == working.point((3, 5, 39))


def test_two_labels_meet_in_the_middle_and_a_third_is_hardly_right() -> None:
    working, target = line(2, 2.0), line(4, 1.0)
    chance, own, other = (np.array(row, kind)[None, None] for row, kind in
                          (([0.1, 0.1], np.float32), ([0, 1], np.uint8), ([1, 0], np.uint8)))  # fmt: skip

    def spread(drawn: list[int]) -> np.ndarray:
        found = np.empty((1, 1, 4), np.float32)
        spread_chance(found, (chance, own, other), np.array(drawn, np.uint8)[None, None], working, target)
        return found[0, 0]

    outer, inner, *others = found = spread([0, 0, 1, 1])
    np.testing.assert_allclose(others, [inner, outer])
    assert log_odds(inner) == pytest.approx(log_odds(outer) / 2, rel=1e-4), "a quarter of the way to opposite log-odds"
    assert found.sum() == pytest.approx(2 * chance.sum(), rel=0.02), "as much is wrong as on the working grid"
    outer, inner, *_ = spread([0, 1, 1, 1])
    assert log_odds(inner) == pytest.approx(-log_odds(outer) / 2, rel=1e-4)
    assert (spread([0, 2, 2, 1])[1:3] >= NEITHER).all()


def test_the_two_largest_logits_are_those_of_sorting() -> None:
    logits = np.random.default_rng(0).integers(0, 6, (7, 5, 6, 9)).astype(np.float32)  # many tie
    order = np.argsort(-logits, 0, kind="stable")
    for own, expected in zip(two_largest(logits), order[:2], strict=True):
        np.testing.assert_array_equal(own, expected)


def test_plane_by_plane_and_on_disk_nothing_changes(
    found: VoxelMaps, model: Model, image: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_blocks, "PIECE_VALUES", 1)
    monkeypatch.setattr(finer_grid, "PIECE_VOXELS", 1)
    monkeypatch.setattr(plane_files, "IN_MEMORY_VOXELS", 0)
    again = segment_images([image], model, scratch=tmp_path)[0]
    assert isinstance(again.error_probability, PlaneFile)
    for name in ("classes", "runner_up", "model_percentile"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    np.testing.assert_allclose(again.error_probability, found.error_probability, rtol=0, atol=1e-5)
