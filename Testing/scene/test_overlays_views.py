"""The slice views with an overlay: coloured where the map is, the user's own layers given back, saved and loaded."""

import numpy as np
import pytest
import slicer
from loaded_case import LoadedCase, add_pet, load_volume, loaded_case
from mrml_headless import HeadlessScene, SliceView, coloured

from SegWithUSlicerLib.scene.case_nodes import find_cases
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.overlay import Overlay
from SegWithUSlicerLib.scene.segmentation import was_touched

KINDS = [{}, {"oblique": True}, {"transformed": True}, {"oblique": True, "transformed": True}]


def _bare(case: LoadedCase) -> None:
    """Take the outlines away: then only the overlay is coloured."""
    case.nodes.segmentation.GetDisplayNode().SetVisibility(False)


def _without_legend(case: LoadedCase) -> None:
    for node in case.nodes.maps.values():
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node)
        if legend is not None:
            legend.SetVisibility(False)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_overlay_colours_the_voxels_above_the_threshold_and_no_others(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    _bare(case)
    row, column = case.focus_on(case.voxel())
    grey = case.view.pixels()
    overlay = Overlay(case.nodes)
    assert overlay.show("error_probability") == 1
    _without_legend(case)
    shown = case.view.pixels(tmp_path / "shown.png")
    assert not coloured(grey).any()
    assert coloured(shown)[row, column]
    # Every voxel whose centre lies in the slice's plane is coloured by its own value.
    rows, columns, values = _voxels_in_plane(case)
    assert (values >= 0.2).sum() > 5
    assert (values < 0.2).sum() > 20
    assert np.array_equal(coloured(shown)[rows, columns], values >= 0.2)


def _voxels_in_plane(case: LoadedCase) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel rows, columns and error values of the voxels in view whose centre is within 0.05 mm of the plane."""
    kji = np.indices(case.disk.error.shape).reshape(3, -1)
    origin = np.array(case.world_of((0, 0, 0)))
    steps = np.array([case.world_of(step) for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]) - origin
    world = origin[:, None] + steps.T @ kji
    x, y, _depth, _one = case.view.world_to_view() @ np.vstack([world, np.ones(world.shape[1])])
    to_ras = case.view.node.GetSliceToRAS()
    normal, plane = ([to_ras.GetElement(row, column) for row in range(3)] for column in (2, 3))
    offset = np.dot(normal, world - np.array(plane)[:, None])
    rows, columns = np.rint(319 - y).astype(int), np.rint(x).astype(int)
    seen = (np.abs(offset) < 0.05) & (rows >= 0) & (rows < 320) & (columns >= 0) & (columns < 320)
    return rows[seen], columns[seen], case.disk.error.ravel()[seen]


def test_threshold_hides_voxels(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    _bare(case)
    case.focus_on(case.voxel())
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    _without_legend(case)
    areas = []
    for threshold in (-13, -5, -1, 0.5):
        overlay.set_threshold(threshold)
        areas.append(int(coloured(case.view.pixels()).sum()))
    assert areas[0] > areas[1] > areas[2] > areas[3] == 0


def test_voxels_that_were_not_assessed_are_never_coloured(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, region=True)
    _bare(case)
    half = case.disk.error.shape[0] // 2
    overlay = Overlay(case.nodes)
    for name in overlay.available:
        overlay.show(name)
        _without_legend(case)
        overlay.set_threshold(-1e9)
        for offset, is_drawn in ((3, False), (-3, True)):
            case.focus_on((half + offset, 20, 15))
            shown = case.view.pixels()
            overlay.hide(True)
            # Against the bare image: the lowest colour is black, which is no colour of its own.
            assert np.array_equal(shown, case.view.pixels()) != is_drawn, name
            overlay.hide(False)


def test_switching_off_gives_the_users_own_foreground_and_opacity_back(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    pet = add_pet(case)
    overlay = Overlay(case.nodes)
    before = case.view.pixels()
    for name in ("error_probability", "ranking", "calibration"):
        overlay.show(name)
        assert case.view.composite.GetForegroundVolumeID() == case.nodes.maps[name].GetID()
    overlay.set_opacity(0.9)
    overlay.show(None)
    assert case.view.composite.GetForegroundVolumeID() == pet.GetID()
    assert case.view.composite.GetForegroundOpacity() == 0.35
    assert np.array_equal(case.view.pixels(), before)


def test_one_of_our_maps_is_never_taken_for_the_users_own_foreground(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    case.view.composite.SetForegroundVolumeID(case.nodes.maps["calibration"].GetID())
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    overlay.show(None)
    assert case.view.composite.GetForegroundVolumeID() is None


def test_overlay_changes_neither_background_nor_zoom_nor_the_images_window(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    image = case.volume.GetDisplayNode()
    case.focus_on(case.voxel())

    def state():
        node, composite = case.view.node, case.view.composite
        matrix = [node.GetSliceToRAS().GetElement(index // 4, index % 4) for index in range(16)]
        window = (image.GetWindow(), image.GetLevel())
        layers = (composite.GetBackgroundVolumeID(), composite.GetLinkedControl())
        return (*node.GetFieldOfView(), *matrix, *window, *layers)

    before = state()
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    overlay.set_threshold(-3)
    overlay.hide(True)
    overlay.hide(False)
    assert state() == before
    overlay.release()
    assert state() == before


def test_a_foreground_that_the_user_chooses_is_left_to_him(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    pet = add_pet(case)
    case.view.composite.SetForegroundVolumeID(None)
    told = []
    overlay = Overlay(case.nodes, lambda: told.append(1))
    overlay.show("ranking")
    case.view.composite.SetForegroundVolumeID(pet.GetID())
    assert overlay.map_name is None
    assert told
    overlay.set_opacity(1.0)
    overlay.show(None)
    assert case.view.composite.GetForegroundVolumeID() == pet.GetID()


def test_one_view_taken_back_leaves_the_overlay_in_the_others(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    pet = load_volume(case.scene, case.disk.image, "PET")
    other = SliceView(case.headless, "Green", "Coronal")
    other.composite.SetBackgroundVolumeID(case.volume.GetID())
    overlay = Overlay(case.nodes)
    assert overlay.show("ranking") == 2
    other.composite.SetForegroundVolumeID(pet.GetID())
    assert (overlay.map_name, overlay.view_count) == ("ranking", 1)
    other.composite.SetForegroundOpacity(0.5)
    assert other.composite.GetForegroundVolumeID() == pet.GetID()
    assert overlay.show("calibration") == 2, "asked for again, it is shown again"
    overlay.show(None)
    assert other.composite.GetForegroundVolumeID() == pet.GetID()
    assert other.composite.GetForegroundOpacity() == 0.5


def test_overlay_is_never_drawn_over_an_image_it_was_not_made_from(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    pet = add_pet(case)
    stranger = load_volume(case.scene, case.disk.image, "another patient")
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    case.view.composite.SetBackgroundVolumeID(stranger.GetID())
    assert case.view.composite.GetForegroundVolumeID() == pet.GetID()
    assert case.view.composite.GetForegroundOpacity() == 0.35
    assert (overlay.map_name, overlay.view_count) == ("ranking", 0)
    assert overlay.show("calibration") == 0
    assert case.view.composite.GetForegroundVolumeID() == pet.GetID()
    case.view.composite.SetBackgroundVolumeID(case.volume.GetID())
    assert overlay.view_count == 1, "back on its image, it is drawn"


def test_a_view_that_a_layout_adds_joins_in(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    late = SliceView(case.headless, "Yellow", "Sagittal")
    late.composite.SetBackgroundVolumeID(case.volume.GetID())
    assert overlay.view_count == 2


def test_opacity_moved_in_the_view_is_followed(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    told = []
    overlay = Overlay(case.nodes, lambda: told.append(overlay.opacity))
    overlay.show("ranking")
    case.view.composite.SetForegroundOpacity(0.25)
    assert told == [0.25]
    overlay.show("calibration")
    assert case.view.composite.GetForegroundOpacity() == 0.25


def test_another_of_our_maps_chosen_in_the_view_becomes_the_shown_one(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    pet = add_pet(case)
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    case.view.composite.SetForegroundVolumeID(case.nodes.maps["calibration"].GetID())
    assert overlay.map_name == "calibration"
    overlay.show(None)
    assert case.view.composite.GetForegroundVolumeID() == pet.GetID()


def test_two_runs_hand_the_views_over_and_the_users_foreground_survives(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    pet = add_pet(case)
    case.nodes.segmentation.SetAttribute("SegWithU.Judged", "1")
    other = load_case(case.disk.folder, case.volume)
    first, second = Overlay(case.nodes), Overlay(other)
    first.show("ranking")
    second.show("ranking")
    assert first.map_name is None
    assert case.view.composite.GetForegroundVolumeID() == other.maps["ranking"].GetID()
    second.show(None)
    assert case.view.composite.GetForegroundVolumeID() == pet.GetID()


def test_a_deleted_map_gives_the_view_back(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    pet = add_pet(case)
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    case.scene.RemoveNode(case.nodes.maps["ranking"])
    assert overlay.map_name is None
    assert case.view.composite.GetForegroundVolumeID() == pet.GetID()
    assert len(overlay._observations) + len(overlay._layers._observations) == 0


def test_a_saved_and_loaded_bundle_shows_the_same_picture(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True, transformed=True)
    add_pet(case)
    case.focus_on(case.voxel())
    overlay = Overlay(case.nodes)
    overlay.show("error_probability")
    overlay.set_threshold(0.4)
    overlay.set_opacity(0.7)
    overlay.set_colour_map("Viridis")
    before = case.view.pixels(tmp_path / "before.png")
    case.headless.save_bundle(tmp_path / "scene.mrb")

    headless = HeadlessScene(tmp_path / "again")
    view = SliceView(headless)
    headless.load_bundle(tmp_path / "scene.mrb")
    view.resize()
    (nodes,) = find_cases(headless.scene)
    again = Overlay(nodes)
    assert (again.map_name, again.opacity) == ("error_probability", 0.7)
    assert (again.threshold, again.window, again.colour_map) == (0.4, (0.0, 1.0), "Viridis")
    # The legend's letters are laid out anew; the picture itself must be the same.
    after = view.pixels(tmp_path / "after.png")
    assert (np.abs(after.astype(int) - before).max(axis=2) > 8).mean() < 0.01
    assert len(again.readout()) == 2
    again.show(None)
    pet = headless.scene.GetFirstNodeByName("PET")
    assert view.composite.GetForegroundVolumeID() == pet.GetID()
    assert view.composite.GetForegroundOpacity() == 0.35


def test_rerun_after_loading_a_bundle_updates_the_loaded_nodes(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True, empty_structure=True)
    case.headless.save_bundle(tmp_path / "scene.mrb")
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    (nodes,) = find_cases(headless.scene)
    assert not was_touched(nodes.segmentation)
    ids = [node.GetID() for node in nodes.results]
    assert load_case(case.disk.folder, nodes.inputs[0]) == nodes
    assert [node.GetID() for node in nodes.results] == ids
