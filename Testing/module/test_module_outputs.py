"""The section "Outputs": a new segmentation by default, the same one when the same is segmented again."""

from __future__ import annotations

import numpy as np
import slicer
from opened_module import Opened, sample_crop, segment_crop
from reviewing import Reviewing


def _again(opened: Opened) -> str:
    opened.ui.runButton.click()
    said = opened.finish()
    assert said.startswith("Done"), said
    return said


def _shown(opened: Opened) -> str:
    box = opened.ui.outputSelector
    node = box.currentNode()
    return str(box.noneDisplay) if node is None else str(node.GetName())


def _results(opened: Opened) -> int:
    return int(opened.ui.resultBox.count)


def test_the_result_is_new_and_then_chosen_so_that_the_next_run_replaces_it(opened: Opened) -> None:
    assert _shown(opened) == "Create new segmentation"
    first = segment_crop(opened)
    assert _shown(opened) == "Crop segmentation"
    ids = [node.GetID() for node in first.results]
    _again(opened)
    assert [node.GetID() for node in opened.nodes.results] == ids
    opened.ui.outputSelector.setCurrentNode(None)
    _again(opened)
    assert not {node.GetID() for node in opened.nodes.results} & set(ids)
    assert (_results(opened), _shown(opened)) == (2, opened.nodes.segmentation.GetName())


def test_another_image_gets_a_segmentation_of_its_own_unless_one_is_chosen(opened: Opened) -> None:
    chosen = segment_crop(opened, sample_crop("One")).segmentation
    two = sample_crop("Two")
    opened.panel.inputs.choose(two, None)
    assert _shown(opened) == "Create new segmentation"
    opened.ui.outputSelector.setCurrentNode(chosen)
    assert opened.ui.outputNoteLabel.visible is False
    _again(opened)
    assert opened.nodes.segmentation is chosen
    assert opened.nodes.inputs == [two]
    assert _results(opened) == 1, "the maps of the first image told of a segmentation that is gone"
    slicer.util.setSliceViewerLayers(background=two, fit=True)
    opened.panel.structures._clicked(0, 0)
    assert opened.coloured() > 200, "its overlay is shown"


def test_a_region_elsewhere_gets_a_segmentation_of_its_own_and_one_nearby_does_not(opened: Opened) -> None:
    opened.segment_sample()
    roi, shown = opened.ui.roiSelector.currentNode(), _shown(opened)
    assert shown == "T1 brain segmentation"
    centre = np.array(roi.GetCenter())
    roi.SetCenter(*(centre + np.array([3, 0, 0])))
    assert _shown(opened) == shown
    roi.SetCenter(*(centre * (-1, 1, 1)))
    assert _shown(opened) == "Create new segmentation", "the other side"


def test_an_edited_segmentation_stays_and_the_panel_says_so_before_and_after(opened: Opened) -> None:
    first = segment_crop(opened)
    first.segmentation.GetSegmentation().GetNthSegment(0).SetName("mine")
    opened.ui.outputSelector.setCurrentNode(None)
    opened.ui.outputSelector.setCurrentNode(first.segmentation)
    note = "'Crop segmentation' was edited and stays as it is: the result gets a new segmentation."
    assert (opened.ui.outputNoteLabel.visible, opened.ui.outputNoteLabel.text) == (True, note)
    said = _again(opened)
    name = opened.nodes.segmentation.GetName()
    assert f"'Crop segmentation' was edited and stays as it is: the result is in '{name}'." in said
    assert opened.nodes.segmentation is not first.segmentation
    assert first.segmentation.GetSegmentation().GetNthSegment(0).GetName() == "mine"
    assert (_shown(opened), opened.ui.outputNoteLabel.visible) == (name, False)


def test_an_edit_while_the_run_goes_on_is_not_lost(opened: Opened) -> None:
    first = segment_crop(opened)
    opened.ui.runButton.click()
    opened.until_computing()
    first.segmentation.GetSegmentation().GetNthSegment(1).SetName("mine")
    said = opened.finish()
    assert "was edited and stays as it is" in said
    assert first.segmentation.GetSegmentation().GetNthSegment(1).GetName() == "mine"


def test_a_review_is_told_of_in_the_outputs_after_it(reviewing: Reviewing) -> None:
    opened = reviewing.opened
    opened.ui.outputSelector.setCurrentNode(opened.nodes.segmentation)
    assert opened.ui.outputNoteLabel.visible is False
    reviewing.start()
    reviewing.judge()
    reviewing.ui.endReviewButton.click()
    assert "was reviewed and stays as it is" in opened.ui.outputNoteLabel.text
    reviewed = opened.nodes
    _again(opened)
    assert opened.nodes.hub is not reviewed.hub
    opened.ui.resultBox.currentIndex = 0
    assert opened.ui.startReviewButton.text.startswith("Go on with the review (1 of ")


def test_a_chosen_segmentation_is_remembered_with_the_scene_and_may_be_deleted(opened: Opened) -> None:
    segment_crop(opened)
    opened.host.save_scene(opened.host.folder / "chosen.mrb")
    opened.host.load_scene(opened.host.folder / "chosen.mrb")
    assert _shown(opened) == "Crop segmentation"
    slicer.mrmlScene.RemoveNode(opened.ui.outputSelector.currentNode())
    assert _shown(opened) == "Create new segmentation"
    _again(opened)
    assert opened.nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 2


def test_scripts_choose_an_output_too(opened: Opened) -> None:
    logic, volume = opened.host.widget.logic, sample_crop()
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    nodes = logic.process(volume, device="cpu", outputSegmentation=mine)
    assert nodes.segmentation is mine
    assert mine.GetSegmentation().GetNumberOfSegments() == 2
    assert logic.process(volume, device="cpu").segmentation is mine, "by default that of the last run"
