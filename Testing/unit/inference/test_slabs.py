"""Segmentation slab by slab: the same as the whole at once, on any grid, in memory and on disk."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import rotation
from repository import ROOT
from segwithu_command import SAMPLE
from toy_models import registered_toys, write_toy_bundle
from whole_maps import maps_on_grid, pieces_of_volume

from SegWithUCore.inference import grid_blocks
from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.engines.base import Engine
from SegWithUCore.inference.grid_blocks import AxisMapping, blocks_on_grid
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.preprocessing import network_input
from SegWithUCore.inference.segment import segment, segment_images
from SegWithUCore.inference.settings import RunSettings, SixNumbers
from SegWithUCore.inference.sliding_window import WindowPlan, stitch, window_plan
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.roi import RegionOfInterest, voxel_box
from SegWithUCore.io.volume import read_image
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util import plane_files
from SegWithUCore.util.errors import OutputError
from SegWithUCore.util.plane_files import PlaneFile, plane_pieces

SHAPE = (20, 24, 18)


def grids(letters: str, factor: float, degrees: float = 0.0) -> tuple[VoxelGrid, VoxelGrid]:
    """An oblique working grid, and one whose axes run towards `letters`, of voxels `factor` times as large."""
    working = sitk.Image(SHAPE[::-1], sitk.sitkUInt8)
    working.SetDirection(rotation((17.0, -11.0, 6.0)).ravel().tolist())
    working.SetSpacing((1.1, 0.9, 1.3))
    working.SetOrigin((5.0, -7.0, 3.0))
    turned = sitk.DICOMOrient(working, letters)
    axes = np.reshape(turned.GetDirection(), (3, 3)) @ rotation((degrees, 0.0, degrees))
    size = [max(1, round(n / factor)) for n in turned.GetSize()]
    spacing = np.multiply(turned.GetSize(), turned.GetSpacing()) / size
    shift = axes @ (spacing - turned.GetSpacing()) / 2
    origin = (np.asarray(turned.GetOrigin()) + shift).tolist()
    i, j, k = size
    target = VoxelGrid((i, j, k), tuple(spacing.tolist()), tuple(origin), tuple(axes.ravel().tolist()))
    return VoxelGrid.of(working), target


def resampled_at_once(stitched: np.ndarray, working: VoxelGrid, target: VoxelGrid) -> np.ndarray:
    filter_ = sitk.ResampleImageFilter()
    filter_.SetReferenceImage(target.put_on(sitk.Image(list(target.size), sitk.sitkUInt8)))
    filter_.SetInterpolator(sitk.sitkLinear)
    filter_.UseNearestNeighborExtrapolatorOn()
    return np.stack([sitk.GetArrayFromImage(filter_.Execute(working.image(channel))) for channel in stitched])


def test_grids_whose_axes_are_not_parallel_are_refused() -> None:
    with pytest.raises(ValueError):
        AxisMapping.between(*grids("LPS", 1.2, 0.5))


@pytest.mark.parametrize("letters", ["LPS", "RAS", "ASL", "SRA"])
@pytest.mark.parametrize("factor", [1.0, 0.7, 1.2, 1.6])
@pytest.mark.parametrize("piece", [1, 3000, 1 << 24])
@pytest.mark.parametrize("halo", [0, 3])
def test_blocks_are_the_whole_cut_with_a_halo(
    letters: str, factor: float, piece: int, halo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_blocks, "PIECE_VALUES", piece)
    working, target = grids(letters, factor)
    values = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    whole = resampled_at_once(values, working, target)
    turn = AxisMapping.between(working, target)
    assert turn.is_all(working, target) == (factor == 1.0)
    seen = np.zeros(len(whole[0]), int)
    for block in blocks_on_grid(pieces_of_volume(values, turn.slab_axis), working, target, turn, halo):
        first, last = block.planes.start, block.planes.stop
        begin, end = first - block.inner.start, first - block.inner.start + block.values.shape[1]
        assert begin <= max(0, first - halo) and end >= min(len(seen), last + halo)
        np.testing.assert_allclose(block.values, whole[:, begin:end], atol=1e-6)
        assert block.own.shape[1] == last - first
        seen[block.planes] += 1
    assert (seen == 1).all()


@pytest.fixture(scope="module")
def shipped() -> Model:
    return Model(resolve_model(str(ROOT / "Resources" / "Models" / "hippocampus")))


def part_of_sample() -> sitk.Image:
    image = read_image(SAMPLE)
    return voxel_box(RegionOfInterest((-28.0, -22.0, -14.0), (50.0, 66.0, 60.0)), image).crop(image)


def oblique(image: sitk.Image) -> sitk.Image:
    turned = sitk.Image(image)
    turned.SetDirection((rotation((9.0, 5.0, -7.0)) @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    return turned


def thinner(image: sitk.Image) -> sitk.Image:
    filter_ = sitk.ResampleImageFilter()
    filter_.SetReferenceImage(image)
    filter_.SetSize([40, 53, 69])
    filter_.SetOutputSpacing((1.25, 1.25, 0.87))
    return filter_.Execute(image)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: sitk.DICOMOrient(image, "PIR"), id="sagittal", marks=pytest.mark.slow),
        pytest.param(lambda image: oblique(thinner(image)), id="oblique, resampled"),
    ],
)
def test_a_real_case_of_several_windows_is_the_same_as_at_once(shipped: Model, change: object) -> None:
    image = change(part_of_sample())  # type: ignore[operator]
    # 1 mm is what the model was trained on: only this test makes it resample.
    bundle = replace(shipped.bundle, input=replace(shipped.bundle.input, spacing_mm=(1.0, 1.0, 1.0)))
    array, working = network_input([image], bundle.input)
    assert WindowPlan.overlapping(array.shape[1:], bundle.input.window_zyx).count >= 4
    model = _with_bundle(shipped, bundle)
    seen = RememberedWindows(shipped.engine)
    vars(model).update(engine=seen)
    found, _ = segment_images([image], model)
    plan = window_plan(array.shape[1:], bundle.input)
    axis = AxisMapping.between(*map(VoxelGrid.of, (working, image))).slab_axis
    assert axis == (2 if image.GetSize()[2] == 50 else 0)
    for order, tolerance in ((axis, 1e-6), (0, 3e-5)):  # as swept, and as MONAI has it, where the last bits differ
        whole = stitch(seen, array, plan, axis=order)
        expected = maps_on_grid(model.engine, whole, working, image, model.fitted, array)
        np.testing.assert_array_equal(found.classes, expected.classes)
        np.testing.assert_allclose(found.error_probability, expected.error_probability, rtol=0, atol=tolerance)
        np.testing.assert_allclose(found.sums.expected, expected.sums.expected, rtol=1e-6)


class RememberedWindows:
    """An engine that runs each window once."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._known = engine, {}

    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        key = image.tobytes()
        if key not in self._known:
            self._known[key] = [part.copy() for part in self._engine.window(image)]
        return self._known[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _with_bundle(model: Model, bundle: object) -> Model:
    changed = object.__new__(Model)
    vars(changed).update(vars(model), bundle=bundle)
    return changed


@pytest.fixture(params=[1.1, 2.2], ids=["voxel by voxel", "finer than the working grid"])
def toy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Model]:
    with registered_toys():
        yield Model(write_toy_bundle(tmp_path / "bundle", "looking", (12, 20, 16), spacing=(request.param,) * 3))


@pytest.mark.parametrize("region", [None, (-10.0, -12.0, 9.0, 14.0, 20.0, 12.0)])
def test_maps_on_disk_give_the_same_case_folder_as_in_memory(
    toy: Model, region: SixNumbers | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, written = tmp_path / "image.nii.gz", []
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).uniform(0, 1, (33, 41, 27)).astype("f4")), file)
    monkeypatch.setattr(plane_files, "PIECE_VOXELS", 5000)
    for limit in (1 << 25, 0):
        monkeypatch.setattr(plane_files, "IN_MEMORY_VOXELS", limit)
        target = tmp_path / "cases" / str(limit)
        result = segment(Job("case", [file], target, RunSettings(roi=region)), toy)
        kinds = {type(getattr(result.maps, each.name)) for each in fields(result.maps) if each.name != "sums"}
        assert PlaneFile in kinds if limit == 0 else PlaneFile not in kinds
        written.append(target)
    assert sorted(path.name for path in (tmp_path / "cases").iterdir()) == ["0", str(1 << 25)]
    memory, disk = written
    assert sorted(path.name for path in memory.iterdir()) == sorted(path.name for path in disk.iterdir())
    for path in memory.iterdir():
        if path.name == "case.json":
            facts = [json.loads((folder / path.name).read_text(encoding="utf-8")) for folder in written]
            for each in facts:
                for key in ("created", "timings_s", "peak_memory_mb", "content_sha256"):
                    del each[key]
            assert facts[0] == facts[1]
        elif path.suffix == ".csv":
            assert path.read_bytes() == (disk / path.name).read_bytes()
        else:
            images = [sitk.ReadImage(str(folder / path.name)) for folder in written]
            np.testing.assert_array_equal(*[sitk.GetArrayViewFromImage(image) for image in images])


def test_plane_files_hold_planes_in_any_order_and_leave_no_name(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)
    volume = PlaneFile(values.shape, np.float32, tmp_path)
    assert list(tmp_path.iterdir()) == []
    for part in list(plane_pieces(values.shape, 30))[::-1]:
        volume[part] = values[part]
    np.testing.assert_array_equal(volume, values)
    np.testing.assert_array_equal(volume[2:4], values[2:4])
    assert volume[5:5].shape == (0, 5, 3)
    with pytest.raises(ValueError, match="follow each other"):
        volume[::2]


def test_a_disk_that_cannot_take_the_maps_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Cannot write .*missing"):
        PlaneFile((7, 5, 3), np.float32, tmp_path / "missing")
