"""How a map is drawn: fixed window, colours, legend, hiding, live readout, and no observers left behind."""

import gc
import weakref

import numpy as np
import pytest
import slicer
from loaded_case import load_volume, loaded_case
from mrml_headless import HeadlessScene, coloured, observers_on
from written_case import change_case, make_case

from SegWithUCore.case.case_file import read_description
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.map_display import COLOUR_MAPS
from SegWithUSlicerLib.scene.overlay import Overlay
from SegWithUSlicerLib.scene.readout import above_text, share_above, volume_text


def test_window_dragged_by_the_user_is_put_back_and_the_picture_stays(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    case.focus_on(case.voxel())
    overlay = Overlay(case.nodes)
    overlay.show("error_probability")
    before = case.view.pixels()
    # What dragging in a slice view does, step by step.
    for step in range(1, 6):
        case.view.logic.SetForegroundWindowLevel(1.0 - 0.1 * step, 0.5 + 0.05 * step)
    display = case.nodes.maps["error_probability"].GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    display.AutoWindowLevelOn()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    assert np.array_equal(case.view.pixels(), before)


def test_thresholding_cannot_be_switched_off_nor_cut_the_highest_values(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    overlay = Overlay(case.nodes)
    overlay.show("ranking")
    display = case.nodes.maps["ranking"].GetDisplayNode()
    display.ApplyThresholdOff()
    display.SetUpperThreshold(-5)
    assert display.GetApplyThreshold()
    assert display.GetUpperThreshold() > slicer.util.arrayFromVolume(case.nodes.maps["ranking"]).max()


def test_threshold_and_colours_set_in_another_module_are_followed(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    told = []
    overlay = Overlay(case.nodes, lambda: told.append((overlay.threshold, overlay.colour_map)))
    overlay.show("error_probability")
    display = case.nodes.maps["error_probability"].GetDisplayNode()
    display.SetLowerThreshold(0.33)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    assert told[0] == (0.33, "Inferno")
    assert told[-1] == (0.33, None)


def test_windows_are_the_cases_and_the_same_for_a_map_with_other_values(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    overlay = Overlay(case.nodes)
    overlay.show("error_probability")
    assert overlay.window == (0.0, 1.0)
    assert case.disk.error.max() < 1.0


def test_map_without_a_window_in_the_case_is_shown_over_its_own_range(tmp_path, data_folder):

    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path, calibrated=False)
    change_case(disk.folder, maps={"calibration": {"file": "calibration.nii.gz"}})
    nodes = load_case(disk.folder, load_volume(headless.scene, disk.image, "x"))
    overlay = Overlay(nodes)
    overlay.show("calibration")
    assert overlay.window[0] == disk.error.min()
    assert overlay.window[1] == disk.error.max()
    assert overlay.readout() == []


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_every_colour_map_is_a_built_in_node_and_changes_the_picture(tmp_path, data_folder, name):
    case = loaded_case(tmp_path, data_folder)
    case.nodes.segmentation.GetDisplayNode().SetVisibility(False)
    row, column = case.focus_on(case.voxel())
    overlay = Overlay(case.nodes)
    overlay.show("error_probability")
    overlay.set_opacity(1)
    overlay.set_colour_map(name)
    node = case.scene.GetNodeByID(COLOUR_MAPS[name])
    error, colour = case.disk.error[case.voxel()], [0.0] * 4
    node.GetColor(int(error * 256), colour)
    assert overlay.colour_map == name
    assert np.allclose(case.view.pixels()[row, column], np.array(colour[:3]) * 255, atol=4)


def test_unknown_map_and_colour_names_are_errors(tmp_path, data_folder):
    overlay = Overlay(loaded_case(tmp_path, data_folder, calibrated=False).nodes)
    with pytest.raises(KeyError):
        overlay.show("error_probability")
    overlay.show("ranking")
    with pytest.raises(KeyError):
        overlay.set_colour_map("Jet")


def test_only_the_shown_map_has_a_visible_legend_with_plain_words(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    overlay = Overlay(case.nodes)

    def visible():
        logic = slicer.vtkSlicerColorLogic
        legends = [logic.GetColorLegendDisplayNode(node) for node in case.nodes.results[1:]]
        return [legend.GetTitleText() for legend in legends if legend is not None and legend.GetVisibility()]

    titles = []
    for name in ("error_probability", "ranking", "calibration"):
        overlay.show(name)
        titles.append(visible())
    assert titles == [["Error\nprobability"], ["Ranking\nmap"], ["Calibration\nmap"]]
    overlay.show(None)
    assert visible() == []


def test_while_the_key_is_held_the_image_is_bare_and_then_everything_is_back(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    case.focus_on(case.voxel())
    overlay = Overlay(case.nodes)
    overlay.show("error_probability")
    before = case.view.pixels()
    overlay.hide(True)
    assert not coloured(case.view.pixels()).any()
    overlay.hide(True)
    overlay.hide(False)
    assert np.array_equal(case.view.pixels(), before)
    case.nodes.segmentation.GetDisplayNode().SetVisibility(False)
    overlay.hide(True)
    overlay.hide(False)
    assert not case.nodes.segmentation.GetDisplayNode().GetVisibility(), "outlines that were hidden stay hidden"


@pytest.mark.slow
def test_overlays_opened_a_thousand_times_leave_no_observers(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    displays = [node.GetDisplayNode() for node in case.nodes.results]
    watched = [case.scene, case.view.composite, *case.nodes.results, *displays]
    Overlay(case.nodes).release()
    before, last = [], None
    for turn in range(1000):
        overlay = Overlay(case.nodes, lambda: None)
        overlay.show("error_probability")
        overlay.show("ranking")
        overlay.set_threshold(-turn / 100)
        assert len(overlay._observations) + len(overlay._layers._observations) > 0
        overlay.release()
        assert len(overlay._observations) + len(overlay._layers._observations) == 0
        last = weakref.ref(overlay)
        if turn == 1:
            before = [observers_on(node) for node in watched]
    del overlay
    gc.collect()
    assert last() is None, "an observer would keep the overlay alive"
    assert [observers_on(node) for node in watched] == before


def test_closing_the_scene_ends_the_overlay_quietly(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    told = []
    overlay = Overlay(case.nodes, lambda: told.append(overlay.map_name))
    overlay.show("ranking")
    case.scene.Clear(False)
    assert told == [None]
    assert len(overlay._observations) + len(overlay._layers._observations) == 0


def test_readout_is_what_counting_the_voxels_gives(tmp_path, data_folder):
    disk = make_case(data_folder, tmp_path, oblique=True)
    case = read_description(disk.folder)
    for threshold in (0.0, 0.25, 0.5, 0.75, 1.0):  # on bin edges the histogram is exact
        for row in share_above(case, "error_probability", threshold):
            inside = disk.error[disk.labels == row.value]
            assert row.share == pytest.approx((inside >= threshold).mean())
            assert row.volume_mm3 == pytest.approx((inside >= threshold).sum() * case.voxel_mm3)
    between = share_above(case, "error_probability", 0.5 + 0.4 / 256)[0]
    below, above = (share_above(case, "error_probability", 0.5 + step / 256)[0] for step in (0, 1))
    assert above.share <= between.share <= below.share


def test_readout_ends_at_all_and_nothing(tmp_path, data_folder):
    case = read_description(make_case(data_folder, tmp_path, empty_structure=True).folder)
    assert [row.share for row in share_above(case, "ranking", -1e9)] == [1.0, 1.0, None]
    assert [row.volume_mm3 for row in share_above(case, "ranking", 1e9)] == [0.0, 0.0, 0.0]
    assert share_above(case, "no such map", 0) == []


def test_readout_reads_as_a_sentence_with_units(tmp_path, data_folder):
    case = read_description(make_case(data_folder, tmp_path, empty_structure=True).folder)
    first, _second, empty = share_above(case, "error_probability", 0.5)
    assert above_text(first) == f"{100 * first.share:.1f} % of the anterior hippocampus, {first.volume_mm3:.0f} mm³"
    assert above_text(empty) == "empty structure 3: empty"
    assert [volume_text(volume) for volume in (None, 42.4, 12340.0)] == ["not assessed", "42 mm³", "12.3 mL"]
