"""Going from region to region: where views, crosshair and cameras end up, and that the zoom stays."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from loaded_case import LoadedCase, add_pet, loaded_case
from mrml_headless import SliceView, ThreeDView
from written_case import write_some_regions

from SegWithUSlicerLib.scene.focus import focus_on
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.overlay import Overlay
from SegWithUSlicerLib.scene.review_nodes import regions_of, world_of

KINDS = [{}, {"oblique": True}, {"transformed": True}, {"oblique": True, "transformed": True}]


def _views(case: LoadedCase) -> list[SliceView]:
    views = [case.view, SliceView(case.headless, "Green", "Coronal"), SliceView(case.headless, "Yellow", "Sagittal")]
    for view in views:
        view.composite.SetBackgroundVolumeID(case.volume.GetID())
        view.fit()
    return views


def _set_field(view: SliceView, size_mm: float) -> None:
    view.node.SetFieldOfView(size_mm, size_mm, view.node.GetFieldOfView()[2])


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


def test_nothing_but_the_place_changes(tmp_path, data_folder):
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
        view = (*to_ras[:3, :3].ravel(), *case.view.node.GetFieldOfView(), case.view.node.GetOrientation())
        return layers, composite.GetForegroundOpacity(), linking, windows, view, layout.GetViewArrangement()

    before, count = state(), case.scene.GetNumberOfNodes()
    for region in regions_of(case.nodes):
        focus_on(case.nodes, region)
        assert state() == before
    assert case.scene.GetNumberOfNodes() == count
    assert pet.GetScene() is not None


def test_cameras_keep_their_direction_and_distance(tmp_path, data_folder):
    case = _with_sizes(tmp_path, data_folder)
    camera = ThreeDView(case.headless).camera
    region = regions_of(case.nodes)[1]
    centre = np.array(world_of(case.nodes, region.centre_ras_mm))

    def pose():
        return np.array([*camera.GetPosition(), *camera.GetFocalPoint(), *camera.GetViewUp(), camera.GetViewAngle()])

    camera.SetPosition(500, 900, 40)
    camera.SetFocalPoint(500, 700, 40)
    before = pose()
    focus_on(case.nodes, region)
    after = pose()
    assert np.allclose(after[3:6], centre, atol=1e-3)
    assert np.allclose(after[:3] - after[3:6], before[:3] - before[3:6], atol=1e-6)
    assert np.array_equal(after[6:], before[6:])
