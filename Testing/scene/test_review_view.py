"""Going from region to region: where views, crosshair and cameras end up, and when the zoom changes."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from loaded_case import LoadedCase, add_pet, loaded_case
from mrml_headless import HeadlessScene, SliceView, ThreeDView
from written_case import write_some_regions

from SegWithUSlicerLib.scene.case_nodes import find_cases
from SegWithUSlicerLib.scene.focus import CLOSEST_MM, focus_on, restore_zoom
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.overlay import Overlay
from SegWithUSlicerLib.scene.review_nodes import RegionMask, box_in_world, region_mask, regions_of, world_of

KINDS = [{}, {"oblique": True}, {"transformed": True}, {"oblique": True, "transformed": True}]


def _views(case: LoadedCase) -> list[SliceView]:
    views = [case.view, SliceView(case.headless, "Green", "Coronal"), SliceView(case.headless, "Yellow", "Sagittal")]
    for view in views:
        view.composite.SetBackgroundVolumeID(case.volume.GetID())
        view.fit()
    return views


def _set_field(view: SliceView, size_mm: float) -> None:
    view.node.SetFieldOfView(size_mm, size_mm, view.node.GetFieldOfView()[2])


def _is_inside(case: LoadedCase, view: SliceView, region_id: int, slack: int = 1) -> bool:
    pixels = [view.pixel_of(corner) for corner in box_in_world(case.nodes, region_mask(case.nodes, region_id))]
    return bool(np.min(pixels) >= -slack and np.max(pixels) <= 319 + slack)


def _through(view: SliceView, point) -> float:
    """Distance in mm of a world point from a view's plane."""
    to_ras = slicer.util.arrayFromVTKMatrix(view.node.GetSliceToRAS())
    return abs(float(np.dot(np.subtract(point, to_ras[:3, 3]), to_ras[:3, 2])))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_slices_and_crosshair_go_to_the_peak_and_the_zoom_stays(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, regions=True, **kind)
    views = _views(case)
    for view in views:
        _set_field(view, 140)
    crosshair = case.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    for region in regions_of(case.nodes):
        prone = np.where(case.disk.region_labels == region.id, case.disk.error, -1)
        peak = case.world_of(np.unravel_index(prone.argmax(), prone.shape))
        focus_on(case.nodes, region)
        assert np.allclose(crosshair.GetCrosshairRAS(), peak, atol=0.01)
        assert crosshair.GetCrosshairMode() == slicer.vtkMRMLCrosshairNode.NoCrosshair
        for view in views:
            assert np.allclose(view.pixel_of(peak), (160, 160), atol=1)
            assert _through(view, peak) < 0.01
            assert view.node.GetFieldOfView()[:2] == (140, 140)
            assert view.node.GetAttribute("SegWithU.UserZoom") is None


def test_a_view_zooms_out_as_far_as_needed_and_back(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    views = _views(case)
    large, small = regions_of(case.nodes)
    for view in views:
        _set_field(view, 15)
    focus_on(case.nodes, small)
    assert [view.node.GetFieldOfView()[0] for view in views] == [15, 15, 15]
    focus_on(case.nodes, large)
    wider = [view.node.GetFieldOfView()[0] for view in views]
    assert min(wider) > 15
    for view in views:
        assert _is_inside(case, view, large.id)
        assert _through(view, world_of(case.nodes, large.peak_ras_mm)) < 0.01
        # With the margin, and no more.
        pixels = np.array([view.pixel_of(corner) for corner in box_in_world(case.nodes, region_mask(case.nodes, 1))])
        assert np.isclose(np.ptp(pixels, axis=0).max(), 320 / 1.2, atol=3)
    focus_on(case.nodes, large)
    assert [view.node.GetFieldOfView()[0] for view in views] == wider
    focus_on(case.nodes, small)
    assert np.allclose([view.node.GetFieldOfView()[0] for view in views], 15)


def _with_sizes(folder, data) -> LoadedCase:
    """A region of 30 x 40 x 30 voxels (id 1) and one of 3 x 3 x 3 (id 2)."""
    case = loaded_case(folder, data)
    ids = np.zeros(case.disk.labels.shape, dtype=np.uint16)
    ids[2:32, 2:42, 2:32] = 1
    ids[12:15, 44:47, 20:23] = 2
    image = sitk.ReadImage(str(case.disk.image))
    write_some_regions(case.disk.folder, case.disk.labels, case.disk.error, image, ids)
    load_case(case.disk.folder, case.volume)
    assert [region.id for region in regions_of(case.nodes)] == [1, 2]
    return case


def test_a_zoom_that_the_user_makes_meanwhile_is_his_and_stays(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    large, small = regions_of(case.nodes)
    _set_field(case.view, 15)
    focus_on(case.nodes, large)
    _set_field(case.view, 70)
    focus_on(case.nodes, small)
    assert case.view.node.GetFieldOfView()[0] == 70
    focus_on(case.nodes, large)
    assert case.view.node.GetFieldOfView()[0] == 70


@pytest.mark.parametrize("size", [(640, 320), (320, 200), (500, 500)], ids=str)
def test_a_view_that_was_made_larger_or_smaller_still_knows_the_users_zoom(tmp_path, data_folder, size):
    case = _with_sizes(tmp_path, data_folder)
    large, small = regions_of(case.nodes)
    _set_field(case.view, 16)
    focus_on(case.nodes, large)
    ours = case.view.node.GetFieldOfView()
    # As Slicer's view widgets do it.
    case.view.logic.ResizeSliceNode(*size)
    resized = case.view.node.GetFieldOfView()
    focus_on(case.nodes, small)
    assert np.allclose(np.divide(case.view.node.GetFieldOfView()[:2], resized[:2]), 16 / ours[0])


def test_the_users_zoom_survives_a_bundle_and_comes_back_at_the_end(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    large, small = regions_of(case.nodes)
    _set_field(case.view, 15)
    focus_on(case.nodes, large)
    case.headless.save_bundle(tmp_path / "scene.mrb")
    restore_zoom(case.scene)
    assert np.isclose(case.view.node.GetFieldOfView()[0], 15)
    restore_zoom(case.scene)
    assert np.isclose(case.view.node.GetFieldOfView()[0], 15)
    headless = HeadlessScene(tmp_path / "again")
    view = SliceView(headless)
    headless.load_bundle(tmp_path / "scene.mrb")
    (nodes,) = find_cases(headless.scene)
    assert view.node.GetFieldOfView()[0] > 40
    focus_on(nodes, small)
    assert np.isclose(view.node.GetFieldOfView()[0], 15)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_a_region_that_hangs_over_the_edge_is_moved_in_without_a_zoom(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, regions=True, **kind)
    region = max(regions_of(case.nodes), key=lambda one: max(one.size_mm))
    focus_on(case.nodes, region, keep_zoom=False)
    needed = max(case.view.node.GetFieldOfView()[:2])
    _set_field(case.view, needed * 1.05)
    focus_on(case.nodes, region)
    assert case.view.node.GetFieldOfView()[0] == needed * 1.05
    assert _is_inside(case, case.view, region.id)
    assert _through(case.view, world_of(case.nodes, region.peak_ras_mm)) < 0.01


def test_framing_brings_regions_close_and_the_zoom_back(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    large, small = regions_of(case.nodes)
    _set_field(case.view, 200)
    focus_on(case.nodes, large, keep_zoom=False)
    assert 40 < case.view.node.GetFieldOfView()[0] < 60
    focus_on(case.nodes, small, keep_zoom=False)
    assert np.isclose(case.view.node.GetFieldOfView()[0], CLOSEST_MM)
    focus_on(case.nodes, small)
    assert np.isclose(case.view.node.GetFieldOfView()[0], 200)


def test_nothing_but_place_and_zoom_changes(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    pet = add_pet(case)
    overlay = Overlay(case.nodes)
    overlay.show("error_probability")
    layout = case.scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    layout.SetViewArrangement(layout.SlicerLayoutFourUpView)
    case.view.composite.SetLinkedControl(1)
    _set_field(case.view, 15)

    def state():
        composite, to_ras = case.view.composite, slicer.util.arrayFromVTKMatrix(case.view.node.GetSliceToRAS())
        windows = [(volume.GetDisplayNode().GetWindow(), volume.GetDisplayNode().GetLevel()) for volume in
                   (case.volume, pet, case.nodes.maps["error_probability"])]  # fmt: skip
        layers = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetLabelVolumeID())
        linking = (composite.GetLinkedControl(), composite.GetHotLinkedControl())
        view = (*to_ras[:3, :3].ravel(), case.view.node.GetFieldOfView()[2], case.view.node.GetOrientation())
        return layers, composite.GetForegroundOpacity(), linking, windows, view, layout.GetViewArrangement()

    before, count = state(), case.scene.GetNumberOfNodes()
    for region in regions_of(case.nodes):
        for keep_zoom in (True, False):
            focus_on(case.nodes, region, keep_zoom)
            assert state() == before
    assert case.scene.GetNumberOfNodes() == count
    assert pet.GetScene() is not None


def test_cameras_move_only_to_what_they_cannot_see_and_keep_their_distance(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    camera = ThreeDView(case.headless).camera
    region = regions_of(case.nodes)[1]
    centre = np.array(world_of(case.nodes, region.centre_ras_mm))

    def pose():
        return np.array([*camera.GetPosition(), *camera.GetFocalPoint(), *camera.GetViewUp(), camera.GetViewAngle()])

    camera.SetPosition(*(centre + np.array([0, 300, 0])))
    camera.SetFocalPoint(*(centre + np.array([15, 0, 5])))
    before = pose()
    focus_on(case.nodes, region)
    assert np.array_equal(pose(), before)
    camera.SetPosition(500, 900, 40)
    camera.SetFocalPoint(500, 700, 40)
    before = pose()
    focus_on(case.nodes, region, in_3d=False)
    assert np.array_equal(pose(), before)
    focus_on(case.nodes, region)
    after = pose()
    assert np.allclose(after[3:6], centre, atol=1e-3)
    assert np.allclose(after[:3] - after[3:6], before[:3] - before[3:6], atol=1e-6)
    assert np.array_equal(after[6:], before[6:])


def test_without_its_voxels_a_region_is_still_jumped_to(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    large = regions_of(case.nodes)[0]
    voxels = region_mask(case.nodes, large.id)
    kept = RegionMask(voxels.mask.copy(), voxels.offset_ijk, voxels.ijk_to_ras)
    case.scene.RemoveNode(case.nodes.regions)
    _set_field(case.view, 15)
    focus_on(case.nodes, large)
    peak = world_of(case.nodes, large.peak_ras_mm)
    assert np.allclose(case.view.pixel_of(peak), (160, 160), atol=1)
    assert case.view.node.GetFieldOfView()[0] == 15
    focus_on(case.nodes, large, voxels=kept)
    assert case.view.node.GetFieldOfView()[0] > 40
