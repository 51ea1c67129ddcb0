"""The mark around a region: where it is drawn, how fast, and that nothing is left of it and nothing else changed."""

import zipfile
from functools import partial

import numpy as np
import pytest
from counting import allocated_mib, calls_of
from loaded_case import LoadedCase, add_pet, add_transform, loaded_case
from mrml_headless import HeadlessScene, SliceView, ThreeDView, coloured, observers_on

from SegWithUSlicerLib.scene.focus import RegionHighlight, focus_on
from SegWithUSlicerLib.scene.map_display import COLOUR_MAPS
from SegWithUSlicerLib.scene.overlay import Overlay
from SegWithUSlicerLib.scene.review_nodes import region_mask, regions_of, world_of

KINDS = [{}, {"oblique": True}, {"transformed": True}, {"oblique": True, "transformed": True}]


def _case(folder, data, **kind) -> LoadedCase:
    case = loaded_case(folder, data, regions=True, **kind)
    case.nodes.segmentation.GetDisplayNode().SetVisibility(False)
    return case


def _projected(case: LoadedCase, view: SliceView, region_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest row and column of a region's box in a view."""
    found = region_mask(case.nodes, region_id)
    low = np.array(found.offset_ijk) - 0.5
    corners = np.array(np.meshgrid(*zip(low, low + found.mask.shape[::-1], strict=True))).reshape(3, 8).T
    own = [found.ijk_to_ras.MultiplyPoint([*corner, 1.0])[:3] for corner in corners]
    pixels = [view.pixel_of(world_of(case.nodes, corner)) for corner in own]
    return np.min(pixels, axis=0), np.max(pixels, axis=0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_the_region_is_outlined_where_it_lies_in_every_slice_view(tmp_path, data_folder, kind):
    case = _case(tmp_path, data_folder, **kind)
    views = [case.view, SliceView(case.headless, "Green", "Coronal"), SliceView(case.headless, "Yellow", "Sagittal")]
    for view in views:
        view.composite.SetBackgroundVolumeID(case.volume.GetID())
        view.fit()
    highlight = RegionHighlight(case.nodes)
    for region in regions_of(case.nodes)[:3]:
        highlight.hide()
        focus_on(case.nodes, region)
        before = [view.pixels() for view in views]
        assert highlight.show(region.id)
        for view, bare in zip(views, before, strict=True):
            drawn = np.abs(view.pixels().astype(int) - bare).max(axis=2) > 24
            low, high = _projected(case, view, region.id)
            places = np.argwhere(drawn)
            assert len(places) > 10
            # Nothing outside the region's box, and around the peak, which lies in the region.
            assert np.all(places >= low - 3)
            assert np.all(places <= high + 3)
            row, column = view.pixel_of(world_of(case.nodes, region.peak_ras_mm))
            assert places[:, 0].min() - 3 <= row <= places[:, 0].max() + 3
            assert places[:, 1].min() - 3 <= column <= places[:, 1].max() + 3
    highlight.release()
    assert not any(coloured(view.pixels()).any() for view in views)


def test_the_outline_is_bright_and_leaves_the_inside_free(tmp_path, data_folder):
    case = _case(tmp_path, data_folder)
    region = max(regions_of(case.nodes), key=lambda one: one.volume_mm3)
    focus_on(case.nodes, region)
    bare = case.view.pixels()
    highlight = RegionHighlight(case.nodes)
    highlight.show(region.id)
    shown = case.view.pixels(tmp_path / "outline.png")
    colour = np.array(highlight.node.GetSegmentation().GetNthSegment(0).GetColor()) * 255
    exact = (np.abs(shown - colour).max(axis=2) < 30).sum()
    changed = (shown != bare).any(axis=2).sum()
    assert exact > 0.6 * changed
    highlight.node.GetDisplayNode().SetSliceIntersectionThickness(1)
    thin = (case.view.pixels() != bare).any(axis=2).sum()
    assert changed > 1.8 * thin
    mask = region_mask(case.nodes, region.id).mask
    pixels_a_voxel = (320 / case.view.node.GetFieldOfView()[0]) ** 2
    assert changed < mask.any(axis=0).sum() * pixels_a_voxel


def test_it_is_a_surface_in_3d_and_gone_after_release(tmp_path, data_folder):
    case = _case(tmp_path, data_folder, transformed=True)
    view = ThreeDView(case.headless)
    region = regions_of(case.nodes)[0]
    focus_on(case.nodes, region)
    empty = view.pixels()
    highlight = RegionHighlight(case.nodes)
    highlight.show(region.id)
    shown = np.argwhere((view.pixels(tmp_path / "threed.png") != empty).any(axis=2))
    assert len(shown) > 20
    # The camera looks at it.
    assert np.abs(shown.mean(axis=0) - 160).max() < 80
    highlight.hide()
    assert np.array_equal(view.pixels(), empty)
    highlight.show(region.id)
    highlight.release()
    assert np.array_equal(view.pixels(), empty)


def test_it_moves_with_the_input(tmp_path, data_folder):
    case = _case(tmp_path, data_folder)
    region = regions_of(case.nodes)[0]
    focus_on(case.nodes, region)
    highlight = RegionHighlight(case.nodes)
    highlight.show(region.id)
    assert coloured(case.view.pixels()).any()
    case.volume.SetAndObserveTransformNodeID(add_transform(case.scene).GetID())
    assert highlight.node.GetTransformNodeID() == case.volume.GetTransformNodeID()
    focus_on(case.nodes, region)
    assert coloured(case.view.pixels()).any()
    case.volume.SetAndObserveTransformNodeID(None)
    assert highlight.node.GetTransformNodeID() is None


def test_nothing_but_the_mark_changes(tmp_path, data_folder):
    case = _case(tmp_path, data_folder)
    pet = add_pet(case)
    overlay = Overlay(case.nodes)
    overlay.show("error_probability")
    case.focus_on(case.voxel())

    def state():
        node, composite = case.view.node, case.view.composite
        windows = [(volume.GetDisplayNode().GetWindow(), volume.GetDisplayNode().GetLevel()) for volume in
                   (case.volume, pet, case.nodes.maps["error_probability"])]  # fmt: skip
        layers = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetLabelVolumeID())
        visible = case.nodes.segmentation.GetDisplayNode().GetVisibility()
        return layers, composite.GetForegroundOpacity(), node.GetFieldOfView(), windows, visible

    before, count, picture = state(), case.scene.GetNumberOfNodes(), case.view.pixels()
    watched = [observers_on(case.scene), observers_on(case.volume)]
    highlight = RegionHighlight(case.nodes)
    for region in regions_of(case.nodes):
        highlight.show(region.id)
        assert state() == before
        # One node and its display node, however many regions were looked at.
        assert case.scene.GetNumberOfNodes() == count + 2
    highlight.release()
    assert state() == before
    assert case.scene.GetNumberOfNodes() == count + 1 or case.scene.GetNumberOfNodes() == count
    assert len(highlight._observations) == 0
    assert [observers_on(case.scene), observers_on(case.volume)] == watched
    assert np.array_equal(case.view.pixels(), picture)


def test_it_is_not_saved(tmp_path, data_folder):
    case = _case(tmp_path, data_folder)
    highlight = RegionHighlight(case.nodes)
    highlight.show(regions_of(case.nodes)[0].id)
    name = highlight.node.GetName()
    case.headless.save_bundle(tmp_path / "scene.mrb")
    with zipfile.ZipFile(tmp_path / "scene.mrb") as bundle:
        assert not [file for file in bundle.namelist() if file.endswith((f"/{name}.seg.nrrd", f"/{name}.vtm"))]
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    assert headless.scene.GetFirstNodeByName(name) is None
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2  # the run's and the model's own
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationDisplayNode") == 2


def test_marking_a_region_touches_its_voxels_alone(tmp_path, data_folder):
    case = _case(tmp_path, data_folder)
    highlight = RegionHighlight(case.nodes)
    regions = regions_of(case.nodes)
    highlight.show(regions[0].id)
    for region in regions:
        show = partial(highlight.show, region.id)
        assert calls_of(show) < 1000
        assert allocated_mib(show) < 0.5
        extent = highlight.node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap").GetExtent()
        sides = [high - low + 1 for low, high in zip(extent[::2], extent[1::2], strict=True)]
        mask = region_mask(case.nodes, region.id).mask
        assert all(side <= size + 2 for side, size in zip(sides, mask.shape[::-1], strict=True)), sides


def test_nodes_deleted_by_the_user_and_closed_scenes_are_survived(tmp_path, data_folder):
    case = _case(tmp_path, data_folder)
    first, second = regions_of(case.nodes)[:2]
    highlight = RegionHighlight(case.nodes)
    highlight.show(first.id)
    case.scene.RemoveNode(highlight.node)
    assert highlight.node is None
    assert highlight.show(second.id)
    focus_on(case.nodes, second)
    assert coloured(case.view.pixels()).any()
    with pytest.raises(KeyError):
        highlight.show(60000)
    case.scene.RemoveNode(case.nodes.regions)
    assert not highlight.show(first.id)
    assert not coloured(case.view.pixels()).any()
    case.scene.Clear(False)
    assert highlight.node is None
    assert len(highlight._observations) == 0
    highlight.release()


def test_its_colour_differs_from_every_structure_and_every_overlay(tmp_path, data_folder):
    case = _case(tmp_path, data_folder)
    tables = [case.scene.GetNodeByID(identifier) for identifier in COLOUR_MAPS.values()]
    maps = []
    for table in tables:
        for entry in range(table.GetNumberOfColors()):
            colour = [0.0] * 4
            table.GetColor(entry, colour)
            maps.append(tuple(colour[:3]))
    highlight = RegionHighlight(case.nodes)
    highlight.show(regions_of(case.nodes)[0].id)
    drawn = highlight.node.GetSegmentation().GetNthSegment(0).GetColor()
    taken = [*maps, *(np.array(structure.color) / 255 for structure in case.nodes.case.structures)]
    assert min(np.abs(np.subtract(drawn, colour)).max() for colour in taken) > 0.25
