"""The module before any run: what it registers, what it offers, what it says, and that nothing is started by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import slicer
from opened_module import Opened
from repository import ROOT

UI_FILE = ROOT / "Resources" / "UI" / "SegWithUSlicer.ui"


def _volume(name: str = "T1", size: int = 20) -> slicer.vtkMRMLScalarVolumeNode:
    return slicer.util.addVolumeFromArray(np.zeros((size, size, size), np.int16), name=name)


def test_registration(opened: Opened) -> None:
    module = slicer.modules.segwithuslicer
    assert module.title == "Segment with Uncertainty"
    assert list(module.categories) == ["Segmentation"]
    assert "arXiv:2604.15271" in module.acknowledgementText
    assert "not mean that the segmentation is correct" in module.helpText
    assert not module.icon.isNull()
    assert Path(opened.app.widget.resourcePath("UI/SegWithUSlicer.ui")) == UI_FILE


def test_registration_says_where_help_is_and_who_made_what(opened: Opened) -> None:
    module = slicer.modules.segwithuslicer
    assert {"Segmentations", "SegmentEditor", "Markups", "Colors"} <= set(module.dependencies)
    assert 'href="https://github.com/SegWithUSlicer/SlicerSegWithU/' in module.helpText
    assert "CC-BY-SA" in module.acknowledgementText
    assert 'href="https://arxiv.org/abs/2604.15271"' in module.acknowledgementText
    assert "developers" not in " ".join(module.contributors)


def test_opening_starts_nothing_and_names_the_first_click(opened: Opened) -> None:
    opened.worker.stop()
    opened.app.leave_module()
    opened.app.enter_module()
    opened.app.settle(1.5)
    assert opened.worker.state.value == "stopped"
    assert opened.ui.statusLabel.text == "Press Try it, or choose the T1 volume."
    assert opened.ui.runButton.enabled is False
    assert opened.ui.overlayButton.visible is False
    assert "whole head" in opened.ui.modelLabel.text.lower()


def test_the_sample_is_loaded_once(opened: Opened) -> None:
    for _click in range(2):
        opened.ui.tryItButton.click()
    (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert volume.GetImageData().GetDimensions() == (197, 233, 189)


def test_try_it_chooses_the_whole_head_and_its_model_and_shows_the_head(opened: Opened) -> None:
    opened.ui.tryItButton.click()
    ui = opened.ui
    assert ui.statusLabel.text == "Press Apply."
    assert ui.runButton.enabled
    assert (ui.modelBox.currentText, ui.roiSelector.currentNode()) == ("brain", None)
    volume = opened.panel.inputs.volumes[0]
    for view in opened.app.slice_views.values():
        assert view.composite.GetBackgroundVolumeID() == volume.GetID()
    opened.ui.tryItButton.click()
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1


def test_a_volume_that_is_loaded_meanwhile_is_chosen_unless_one_was(opened: Opened) -> None:
    one = _volume("One")
    opened.wait(lambda: opened.panel.inputs.volumes == [one], timeout=10)
    assert opened.ui.runButton.enabled
    _volume("Two")
    opened.app.settle(1)
    assert opened.panel.inputs.volumes == [one]


def test_the_image_in_the_views_is_chosen_when_the_module_opens_unless_another_was(opened: Opened) -> None:
    opened.app.leave_module()
    one = _volume("One")
    opened.app.enter_module()
    assert opened.panel.inputs.volumes == [one], "the only one"
    two = _volume("Two")
    slicer.util.setSliceViewerLayers(background=two)
    opened.app.leave_module()
    opened.app.enter_module()
    assert opened.panel.inputs.volumes == [one], "what was chosen stays"
    selector = opened.panel.inputs._selectors[0]
    selector.setCurrentNode(None)
    opened.app.leave_module()
    opened.app.enter_module()
    assert opened.panel.inputs.volumes == [two]
    selector.setCurrentNode(None)
    slicer.util.setSliceViewerLayers(background=None)
    opened.app.leave_module()
    opened.app.enter_module()
    assert opened.panel.inputs.volumes == [None], "two, and nobody can know which"


def test_label_maps_and_our_own_maps_are_not_offered(opened: Opened) -> None:
    from SegWithUSlicerLib.scene.case_nodes import MAP_ATTRIBUTE

    own = _volume("Ranking map")
    own.SetAttribute(MAP_ATTRIBUTE, "ranking")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    image = _volume("T1")
    opened.panel.inputs.hide_own_maps()
    assert opened.panel.inputs.offered() == [image]


def test_whole_head_needs_no_region_and_a_large_crop_asks_for_one_which_propose_makes(opened: Opened) -> None:
    opened.panel.inputs.choose(_volume("Head", 200), None, "hippocampus")
    assert "whole image" in opened.ui.statusLabel.text
    opened.panel.inputs.choose(_volume("Crop", 80), None)
    assert "press Propose" in opened.ui.statusLabel.text
    assert opened.ui.proposeButton.enabled
    opened.ui.proposeButton.click()
    roi = opened.ui.roiSelector.currentNode()
    assert [round(length) for length in roi.GetSize()] == [41, 59, 45]
    assert opened.ui.statusLabel.text == "Press Apply."


def test_choices_survive_in_the_parameter_node(opened: Opened) -> None:
    volume = _volume()
    opened.panel.inputs.choose(volume, None, "hippocampus")
    opened.ui.deviceBox.currentIndex = 1
    opened.ui.engineBox.currentIndex = 2
    parameters = opened.app.widget.logic.getParameterNode()
    assert (list(parameters.channels), parameters.device, parameters.engine) == ([volume], "cpu", "openvino")
    opened.app.save_scene(opened.app.folder / "choices.mrb")
    opened.app.load_scene(opened.app.folder / "choices.mrb")
    assert [node.GetName() for node in opened.panel.inputs.volumes] == ["T1"]
    assert (opened.ui.deviceBox.currentIndex, opened.ui.engineBox.currentIndex) == (1, 2)


def test_a_head_can_be_chosen_where_a_model_has_several_and_is_remembered(opened: Opened) -> None:
    box = opened.ui.headBox
    opened.ui.advancedButton.collapsed = False
    opened.panel.inputs.choose(_volume(), None, "hippocampus")
    assert [box.itemText(index) for index in range(box.count)] == ["context (default)", "paper"]
    assert box.visible
    assert opened.panel.inputs.head == ""
    box.currentIndex = 1
    assert (opened.panel.inputs.head, opened.app.widget.logic.getParameterNode().head) == ("paper", "paper")
    opened.app.save_scene(opened.app.folder / "head.mrb")
    opened.app.load_scene(opened.app.folder / "head.mrb")
    assert (box.currentIndex, opened.panel.inputs.head) == (1, "paper")


def test_the_choice_of_a_head_is_hidden_where_there_is_none(opened: Opened) -> None:
    inputs = opened.panel.inputs
    opened.ui.advancedButton.collapsed = False
    inputs.choose(_volume(), None, "hippocampus")
    shipped = list(inputs.models)
    inputs.models[:] = [replace(model, heads=("paper",)) for model in shipped]
    try:
        inputs.bind(opened.app.widget.logic.getParameterNode())
        assert (opened.ui.headBox.visible, opened.ui.headLabel.visible) == (False, False)
        assert inputs.head == ""
    finally:
        inputs.models[:] = shipped
        inputs.bind(opened.app.widget.logic.getParameterNode())
    assert opened.ui.headBox.visible


def test_key_is_there_only_while_the_module_is_open(opened: Opened) -> None:
    import qt

    def keys() -> int:
        return [one.key.toString() for one in slicer.util.mainWindow().findChildren(qt.QShortcut)].count("P")

    assert opened.ui.keyLabel.text.startswith("P ")
    assert keys() == 1
    opened.app.leave_module()
    assert keys() == 0
    opened.app.enter_module()
    assert keys() == 1


def test_wrong_folder_of_wheels_is_told_with_the_next_click(opened: Opened) -> None:
    opened.ui.tryItButton.click()
    opened.ui.wheelsEdit.currentPath = "/no/such/folder"
    opened.ui.runButton.click()
    assert "open Advanced" in opened.ui.statusLabel.text
    assert not opened.controller.is_busy
    opened.ui.wheelsEdit.currentPath = ""
    assert not slicer.app.settings().value("SegWithU/Wheels"), "an emptied field is remembered too"


def test_leftovers_of_a_crash_are_swept_at_the_next_start(opened: Opened) -> None:
    from SegWithUSlicerLib.run.private_folder import remove_leftovers
    from SegWithUSlicerLib.run.session import temporary_root

    left = temporary_root() / "segwithu-999999999-abc"
    left.mkdir(parents=True)
    (left / "channel_0.nrrd").write_bytes(b"patient")
    (left / ".lock").write_text("process 999999999 on here\n", encoding="utf-8")
    assert remove_leftovers(temporary_root()) == [left]
    assert not left.exists()


def test_a_model_that_draws_nothing_is_warned_of_where_it_is_chosen(opened: Opened) -> None:
    inputs = opened.panel.inputs
    known = inputs.models
    inputs.show_models([replace(known[0], warnings=("Draws nothing.",)), *known[1:]])
    assert opened.ui.modelLabel.text.startswith("Draws nothing.")
    inputs.show_models(known)
    assert "Draws nothing." not in opened.ui.modelLabel.text
