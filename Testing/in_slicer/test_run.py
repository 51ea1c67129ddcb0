"""The module with the real worker on real MRML: from the click to the overlay, results shown, saved and made again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from opened_module import Opened, alive, sample_crop, segment_crop

from SegWithUCore.case.structures_table import table_entries


def test_two_clicks_from_the_module_to_the_overlay(opened: Opened) -> None:
    nodes = opened.segment_sample()
    names = [nodes.segmentation.GetSegmentation().GetNthSegment(n).GetName() for n in range(2)]
    assert names == ["anterior hippocampus", "posterior hippocampus"]
    assert set(nodes.maps) == {"error_probability", "ranking", "calibration"}
    for node in nodes.maps.values():
        assert node.GetImageData().GetScalarType() == vtk.VTK_FLOAT
    volumes = {s.name: s.volume_mm3 for s in nodes.case.structures}
    assert all(500 < volume < 6000 for volume in volumes.values()), volumes
    opened.panel.structures._clicked(0, 0)
    shown = opened.coloured()
    opened.app.press_key("P")
    assert shown > opened.coloured() + 200
    opened.app.press_key("P")
    assert (opened.overlay.map_name, opened.ui.mapBox.currentText) == ("error_probability", "Error probability")
    assert "% of the anterior hippocampus" in opened.ui.readoutLabel.text
    assert opened.ui.structuresTable.rowCount == len(table_entries(nodes.case.raw)) >= 2
    flags = [opened.ui.structuresTable.item(row, 1) for row in range(2)]
    assert [flag.text() for flag in flags] == ["-", "-"], "the shipped model has no useful limit of flags"
    flag = {"rule": "soft Dice", "structure": "anterior hippocampus", "message": "Why."}
    nodes.set_case(replace(nodes.case, raw={**nodes.case.raw, "flags": [flag]}))
    opened.ui.structuresTable.item(2, 0).setIcon(opened.ui.structuresTable.item(0, 0).icon())
    opened.panel.structures.show(nodes)
    assert opened.ui.structuresTable.item(2, 0).icon().isNull(), "a total has no colour, nor that of another case"
    flags = [opened.ui.structuresTable.item(row, 1) for row in range(2)]
    assert [flag.text() for flag in flags] == ["not certain", "-"]
    assert "Why." in flags[0].toolTip()
    for row in (0, 2):  # a structure, and a total
        assert "mm" in opened.ui.structuresTable.item(row, 3).text()
        assert "mm" in opened.ui.structuresTable.item(row, 4).text()
        assert " to " not in opened.ui.structuresTable.item(row, 4).text(), "the interval is in the tool tip"
        assert " to " in opened.ui.structuresTable.item(row, 4).toolTip()
    assert alive(opened.worker.pid)
    assert len(opened.private_folders()) == 1, "the files of the result are kept, to be saved as a case"
    opened.app.close_scene()
    assert opened.private_folders() == []


def test_threshold_and_opacity_change_the_picture_and_the_readout(opened: Opened) -> None:
    segment_crop(opened)
    opened.panel.structures._clicked(0, 0)
    ui = opened.ui
    ui.thresholdSlider.value = ui.thresholdSlider.minimum
    low, text = opened.coloured(), ui.readoutLabel.text
    ui.thresholdSlider.value = 0.5 * (ui.thresholdSlider.minimum + ui.thresholdSlider.maximum)
    assert opened.coloured() < low
    assert ui.readoutLabel.text != text
    assert opened.overlay.threshold == pytest.approx(ui.thresholdSlider.value)
    ui.thresholdSlider.value = ui.thresholdSlider.minimum
    bright = opened.app.render_slice("Red").astype(int)
    ui.opacitySlider.value = 0.1
    assert np.abs(opened.app.render_slice("Red").astype(int) - bright).sum() > 0
    assert opened.app.slice_views["Red"].composite.GetForegroundOpacity() == pytest.approx(0.1)


def test_other_map_and_none(opened: Opened) -> None:
    segment_crop(opened)
    ui = opened.ui
    assert opened.overlay.window[1] < ui.thresholdSlider.maximum == 1.0, "beyond the colours, to the last voxel"
    ui.mapBox.currentIndex = 1
    assert opened.overlay.map_name == "ranking"
    assert ui.thresholdSlider.maximum == pytest.approx(opened.overlay.window[1], abs=0.01)
    ui.colourBox.currentIndex = 1
    assert opened.overlay.colour_map == "Viridis"
    ui.mapBox.currentIndex = 3
    assert opened.overlay.map_name is None
    assert not ui.thresholdSlider.enabled
    assert opened.app.slice_views["Red"].composite.GetForegroundVolumeID() is None


def test_a_key_shows_the_bare_image(opened: Opened) -> None:
    segment_crop(opened)
    opened.panel.structures._clicked(0, 0)
    shown = opened.coloured()
    opened.app.press_key("P")
    assert opened.coloured() == 0
    opened.app.press_key("P")
    assert opened.coloured() == shown


def test_dragged_window_is_put_back(opened: Opened) -> None:
    nodes = segment_crop(opened)
    display = nodes.maps["error_probability"].GetDisplayNode()
    before = (display.GetWindowLevelMin(), display.GetWindowLevelMax())
    display.SetWindowLevel(0.05, 0.9)
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == before


def test_own_foreground_comes_back(opened: Opened) -> None:
    volume = sample_crop()
    pet = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(volume).copy(), name="PET")
    slicer.util.setSliceViewerLayers(background=volume, foreground=pet, foregroundOpacity=0.35)
    opened.panel.inputs.choose(volume, None, "hippocampus")
    opened.ui.runButton.click()
    assert opened.finish().startswith("Done")
    composite = opened.app.slice_views["Red"].composite
    assert composite.GetForegroundVolumeID() == opened.nodes.maps["error_probability"].GetID()
    opened.ui.mapBox.currentIndex = opened.ui.mapBox.count - 1
    assert composite.GetForegroundVolumeID() == pet.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.35)


def test_saved_scene_gives_the_same_overlay(opened: Opened) -> None:
    segment_crop(opened)
    ui = opened.ui
    ui.mapBox.currentIndex = 1
    ui.opacitySlider.value = 0.45
    ui.thresholdSlider.value = 0.5 * (ui.thresholdSlider.minimum + ui.thresholdSlider.maximum)
    opened.panel.structures._clicked(0, 0)
    threshold, text, table = opened.overlay.threshold, ui.readoutLabel.text, ui.structuresTable.item(0, 3).text()
    picture = opened.coloured()
    opened.app.save_scene(opened.app.folder / "run.mrb")
    opened.app.close_scene()
    assert opened.overlay is None
    opened.app.load_scene(opened.app.folder / "run.mrb")
    assert (opened.overlay.map_name, opened.overlay.opacity) == ("ranking", pytest.approx(0.45))
    assert opened.overlay.threshold == pytest.approx(threshold)
    assert (ui.readoutLabel.text, ui.structuresTable.item(0, 3).text()) == (text, table)
    assert [node.GetName() for node in opened.panel.inputs.volumes] == ["Crop"]
    # Off-screen, outlines of a loaded scene are drawn at the next change of the slice node.
    opened.app.slice_views["Red"].node.Modified()
    assert abs(opened.coloured() - picture) <= 0.01 * picture


def test_re_run_updates_the_same_nodes_and_after_an_edit_makes_new_ones(opened: Opened) -> None:
    first = segment_crop(opened)
    volume = first.inputs[0]
    opened.ui.opacitySlider.value = 0.4
    ids = [node.GetID() for node in first.results]
    again = segment_crop(opened, volume)
    assert [node.GetID() for node in again.results] == ids
    assert opened.overlay.opacity == pytest.approx(0.4)
    segment = again.segmentation.GetSegmentation().GetNthSegment(0)
    segment.SetName("mine")
    third = segment_crop(opened, volume)
    assert third.hub is not again.hub
    assert not {node.GetID() for node in third.results} & set(ids)
    assert opened.ui.resultBox.count == 2
    opened.ui.resultBox.currentIndex = 0
    assert opened.nodes.hub is again.hub
    assert opened.app.slice_views["Red"].composite.GetForegroundVolumeID() in ids


def test_results_of_a_transformed_input_lie_on_it_and_follow(opened: Opened) -> None:
    volume = sample_crop()
    turn = vtk.vtkTransform()
    turn.Translate(30, -12, 45)
    turn.RotateZ(25)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Registration")
    transform.SetMatrixTransformToParent(turn.GetMatrix())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    nodes = segment_crop(opened, volume)
    assert {node.GetTransformNodeID() for node in nodes.results} == {transform.GetID()}
    opened.panel.structures._clicked(0, 0)
    assert opened.coloured() > 100
    volume.SetAndObserveTransformNodeID(None)
    assert {node.GetTransformNodeID() for node in nodes.results} == {None}


def test_two_inputs_in_one_scene_keep_their_results(opened: Opened) -> None:
    one = segment_crop(opened, sample_crop("One"))
    two = segment_crop(opened, sample_crop("Two"))
    assert one.hub is not two.hub
    assert [opened.ui.resultBox.itemText(index).split()[0] for index in range(2)] == ["One", "Two"]
    assert opened.app.slice_views["Red"].composite.GetForegroundVolumeID() == two.maps["error_probability"].GetID()
    opened.ui.resultBox.currentIndex = 0
    assert opened.ui.showInputButton.visible
    opened.ui.showInputButton.click()
    assert opened.app.slice_views["Red"].composite.GetForegroundVolumeID() == one.maps["error_probability"].GetID()


def test_an_image_too_large_is_not_assessed_unless_the_user_goes_on(opened: Opened) -> None:
    opened.panel.inputs.choose(sample_crop("Wide", (3, 1, 1)), None, "hippocampus")
    opened.ui.runButton.click()
    said = opened.finish()
    assert opened.controller.status.outcome.value == "refused", said
    assert opened.ui.bannerFrame.visible
    assert "press Propose" in opened.ui.bannerLabel.text
    assert "mm" not in opened.ui.bannerLabel.text, "one line"
    assert "training cases" in opened.ui.bannerLabel.toolTip
    assert opened.ui.insistButton.visible
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_user_who_goes_on_reads_not_assessed(opened: Opened) -> None:
    opened.panel.inputs.choose(sample_crop("Wide", (1.9, 1, 1)), None, "hippocampus")
    opened.ui.runButton.click()
    assert opened.finish().startswith("Not assessed")
    opened.ui.insistButton.click()
    assert opened.finish().startswith("Done")
    assert opened.ui.bannerFrame.visible
    table = opened.ui.structuresTable
    texts = [table.item(0, column).text() for column in (1, 2, 4, 5)]
    assert texts == ["far from the training cases", *["not assessed"] * 3]


def test_a_banner_is_of_the_chosen_image_and_region(opened: Opened) -> None:
    segment_crop(opened)
    assert "Check the result carefully" in opened.ui.bannerLabel.text and not opened.ui.insistButton.visible
    opened.panel.inputs.choose(sample_crop("Wide", (3, 1, 1)), None, "hippocampus")
    assert not opened.ui.bannerFrame.visible
    for change in (opened.ui.proposeButton.click, lambda: opened.ui.roiSelector.currentNode().SetCenter(-27, -22, -14)):
        opened.panel.inputs.choose(opened.panel.inputs.volumes[0], opened.ui.roiSelector.currentNode())
        opened.ui.runButton.click()
        opened.finish()
        change()
        assert not (opened.ui.bannerFrame.visible or opened.ui.insistButton.visible)
        assert opened.ui.statusLabel.text == "Press Apply."


def test_the_worker_is_ready_before_the_first_run(opened: Opened) -> None:
    opened.worker.stop()
    opened.panel.inputs.choose(sample_crop(), None, "hippocampus")
    opened.wait(lambda: opened.worker.state.value == "ready" and not opened.worker.will_answer(None))
    assert not opened.controller.is_busy


def test_process_for_scripts_gives_the_nodes(opened: Opened) -> None:
    volume = sample_crop()
    logic = opened.app.widget.logic
    nodes = logic.process(volume, model="hippocampus", device="cpu")
    assert nodes.inputs == [volume]
    assert opened.nodes.hub is nodes.hub
    with pytest.raises(ValueError, match="no model"):
        logic.process(volume, model="heart")
    with pytest.raises(ValueError, match="T1"):
        logic.process(volume, channels=[volume])


def test_a_chosen_head_reaches_the_run(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it computes is tested with torch, which Slicer need not have."""
    started: list[Any] = []
    opened.panel.inputs.choose(sample_crop(), None, "hippocampus")
    opened.ui.headBox.currentIndex = 1
    monkeypatch.setattr(opened.controller, "start", started.append)
    opened.ui.runButton.click()
    assert [request.settings.head for request in started] == ["paper"]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="no head 'light': choose one of context, paper"):
        opened.app.widget.logic.process(sample_crop(), model="hippocampus", head="light")


def test_click_on_a_structure_centres_it_and_3d_shows_it(opened: Opened) -> None:
    segment_crop(opened)
    offsets = set()
    for row in range(2):
        opened.panel.structures._pressed(row, 0)  # as a click on the name does, and not one on the tick
        opened.panel.structures._clicked(row, 0)
        offsets.add(round(opened.app.slice_views["Green"].node.GetSliceOffset()))
    assert len(offsets) == 2
    opened.ui.show3DBox.checked = True
    assert opened.nodes.segmentation.GetDisplayNode().GetVisibility3D()
    assert opened.nodes.segmentation.GetSegmentation().ContainsRepresentation("Closed surface")


def test_views_are_given_back_when_the_shown_map_is_deleted(opened: Opened) -> None:
    nodes = opened.segment_sample()
    shown = nodes.maps["error_probability"]
    slicer.mrmlScene.RemoveNode(shown)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert [composite.GetForegroundVolumeID() for composite in composites] == [None] * len(composites)
    assert opened.overlay.map_name is None
    legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert not any(legend.GetVisibility() for legend in legends)
