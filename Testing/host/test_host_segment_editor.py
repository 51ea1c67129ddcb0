"""The segment editor stand-in: real nodes and logic, Slicer's order of things, and findings for misuse."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from mrml_headless import observers_on
from PySide6 import QtCore
from SlicerHost import strict
from SlicerHost.api_table import ApiTable
from SlicerHost.host import SlicerHost as Host
from SlicerHost.signals import stand_in_signals

SHAPE = (10, 20, 30)
KIND = "segment editor"
MODULE = """
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

class Editing(ScriptedLoadableModule):
    pass

class EditingWidget(ScriptedLoadableModuleWidget):
    careful = False

    def setup(self):
        super().setup()
        self.editor = slicer.qMRMLSegmentEditorWidget()
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag("Editing")
        self.editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNode(node))
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(self.editor)

    def exit(self):
        if self.careful:
            self.editor.setActiveEffect(None)
            self.editor.removeViewObservations()
            self.editor.uninstallKeyboardShortcuts()
"""


class Editing:
    """An editor in the host's main window with a volume and a segmentation of two empty segments."""

    def __init__(self, host):
        self.host = host
        self.editor = slicer.qMRMLSegmentEditorWidget()
        host._window._panel.setWidget(self.editor)
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag("SegWithU")
        self.node = slicer.mrmlScene.AddNode(node)
        self.editor.setMRMLSegmentEditorNode(self.node)
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.volume = slicer.util.addVolumeFromArray(np.full(SHAPE, 7, np.int16), name="CT")
        self.segmentation = add_segmentation(self.volume)
        self.editor.setSegmentationNode(self.segmentation)
        self.editor.setSourceVolumeNode(self.volume)
        self.editor.setCurrentSegmentID("liver")

    def voxels(self, segment_id):
        return int(slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segment_id, self.volume).sum())

    def state(self, segment_id):
        segment = self.segmentation.GetSegmentation().GetSegment(segment_id)
        return slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)


def add_segmentation(volume, name="S"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for segment_id in ("liver", "spleen"):
        node.GetSegmentation().AddEmptySegment(segment_id, segment_id.title())
    return node


def block(low=3, high=6):
    mask = np.zeros(SHAPE, bool)
    mask[2:4, low:high, 4:9] = True
    return mask


@pytest.fixture
def editing(slicer_host):
    made = Editing(slicer_host)
    yield made
    made.editor.setActiveEffect(None)


def test_every_member_of_the_real_class_can_be_reached(slicer_host):
    own = ApiTable().classes["qMRMLSegmentEditorWidget"]
    editor = slicer.qMRMLSegmentEditorWidget()
    names = {member["signature"].split("(")[0] for key in ("public_slots", "invokable") for member in own[key]}
    assert [name for name in sorted(names) if not callable(getattr(editor, name, None))] == []
    meta = QtCore.QObject.metaObject(editor)
    assert [name for name in own["properties"] if meta.indexOfProperty(name) < 0] == []
    assert {m["signature"] for m in own["signals"]} <= set(stand_in_signals(type(editor)))


def test_painting_changes_the_voxels_and_starts_a_segment_that_was_not_started(editing):
    logic, events = slicer.vtkSlicerSegmentationsModuleLogic, []
    editing.segmentation.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: events.append(1))
    assert (editing.voxels("liver"), editing.state("liver")) == (0, logic.NotStarted)
    editing.editor.setActiveEffectByName("Paint")
    editing.host.paint(editing.editor, block())
    assert (editing.voxels("liver"), editing.state("liver")) == (30, logic.InProgress)
    assert (editing.voxels("spleen"), len(events) > 0) == (0, True)
    editing.host.paint(editing.editor, block(3, 4), erase=True)
    assert editing.voxels("liver") == 20


def test_painting_does_not_reopen_a_completed_segment(editing):
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(editing.segmentation.GetSegmentation().GetSegment("liver"), logic.Completed)
    editing.editor.setActiveEffectByName("Paint")
    editing.host.paint(editing.editor, block())
    assert (editing.voxels("liver"), editing.state("liver")) == (30, logic.Completed)


def test_undo_and_redo_go_back_and_forth_and_a_new_state_tag_clears_redo(editing):
    logic, editor = slicer.vtkSlicerSegmentationsModuleLogic, editing.editor
    editor.setMaximumNumberOfUndoStates(10)
    editor.setActiveEffectByName("Paint")
    editing.host.paint(editor, block())
    editor.undo()
    assert (editing.voxels("liver"), editing.state("liver")) == (0, logic.NotStarted)
    editor.redo()
    assert (editing.voxels("liver"), editor.maximumNumberOfUndoStates) == (30, 10)
    editor.undo()
    logic.SetSegmentStatus(editing.segmentation.GetSegmentation().GetSegment("spleen"), logic.Flagged)
    editor.redo()
    assert editing.voxels("liver") == 0


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda e: e.setActiveEffect(None), "no effect is active"),
        (lambda e: e.removeViewObservations(), "does not observe the views"),
        (lambda e: e.setSourceVolumeNode(None), "no source volume"),
        (lambda e: e.setCurrentSegmentID(""), "no segment is selected"),
    ],
)
def test_nothing_is_painted_where_a_user_could_not_paint(editing, prepare, why):
    editing.editor.setActiveEffectByName("Paint")
    prepare(editing.editor)
    with pytest.raises(AssertionError, match=why):
        editing.host.paint(editing.editor, block())
    assert editing.voxels("liver") == 0


def test_a_read_only_editor_ends_its_effect(editing):
    editing.editor.setActiveEffectByName("Paint")
    editing.editor.readOnly = True
    assert (editing.editor.activeEffect(), editing.node.GetActiveEffectName()) == (None, "")


def test_an_effect_takes_the_views_and_gives_them_back(editing):
    interactor = slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor()
    before = observers_on(interactor)
    editing.editor.setActiveEffectByName("Erase")
    assert (editing.editor.activeEffect().name, observers_on(interactor) > before) == ("Erase", True)
    editing.editor.setActiveEffect(None)
    assert observers_on(interactor) == before


def test_only_a_choice_of_the_user_announces_the_segment(editing):
    told = []
    editing.editor.connect("currentSegmentIDChanged(QString)", told.append)
    editing.editor.setCurrentSegmentID("spleen")
    assert (told, editing.editor.currentSegmentID()) == ([], "spleen")
    table = editing.editor.findChild("qMRMLSegmentsTableView", "SegmentsTableView")
    table.tableWidget().selectRow(0)
    assert (told, editing.node.GetSelectedSegmentID()) == (["liver"], "liver")


def test_a_removed_segment_is_deselected_and_ends_the_effect(editing):
    editing.editor.setActiveEffectByName("Paint")
    editing.segmentation.GetSegmentation().RemoveSegment("liver")
    assert (editing.editor.currentSegmentID(), editing.editor.activeEffect()) == ("", None)


def test_the_first_segmentation_is_chosen_without_being_asked(slicer_host):
    editor = slicer.qMRMLSegmentEditorWidget()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.setMRMLSegmentEditorNode(node)
    editor.setMRMLScene(slicer.mrmlScene)
    assert editor.segmentationNode() is None
    volume = slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16))
    segmentation = add_segmentation(volume)
    assert (node.GetSegmentationNode(), editor.segmentationNodeID()) == (segmentation, segmentation.GetID())
    editor.setMRMLScene(None)


def test_a_removed_segmentation_is_noticed(editing):
    told = []
    editing.editor.connect("segmentationNodeChanged(vtkMRMLSegmentationNode*)", told.append)
    editing.editor.setActiveEffect(None)
    slicer.mrmlScene.RemoveNode(editing.segmentation)
    assert (told, editing.editor.segmentationNode(), editing.node.GetSegmentationNode()) == ([None], None, None)


def test_a_new_source_volume_becomes_the_background_unless_that_is_turned_off(editing):
    composite = editing.host.slice_views["Red"].composite
    assert composite.GetBackgroundVolumeID() == editing.volume.GetID()
    other = slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16), name="PET")
    editing.editor.autoShowSourceVolumeNode = False
    editing.editor.setSourceVolumeNode(other)
    assert composite.GetBackgroundVolumeID() == editing.volume.GetID()
    editing.editor.showSourceVolumeInSliceViewers(True)
    assert composite.GetBackgroundVolumeID() == other.GetID()


def test_parts_are_hidden_and_a_visibility_is_false_until_the_panel_is_shown(slicer_host):
    editor = slicer.qMRMLSegmentEditorWidget()
    assert editor.switchToSegmentationsButtonVisible is False
    slicer_host._window._panel.setWidget(editor)
    slicer_host.process_events()
    assert editor.switchToSegmentationsButtonVisible is True
    editor.switchToSegmentationsButtonVisible = False
    editor.setSegmentationNodeSelectorVisible(False)
    assert (editor.switchToSegmentationsButtonVisible, editor.segmentationNodeSelectorVisible) == (False, False)
    editor.setEffectNameOrder(["Paint", "Erase"])
    editor.unorderedEffectsVisible = False
    assert [editor.effectByIndex(place) and editor.effectByIndex(place).name for place in range(4)] == [
        None,
        "Paint",
        "Erase",
        None,
    ]


@pytest.mark.parametrize(
    ("misuse", "what"),
    [
        (lambda e, s: e.setSegmentationNode(s), "need to set segment editor node first"),
        (lambda e, s: e.setSegmentationNodeID(s.GetID()), "MRML scene is not set"),
        (lambda e, s: e.currentSegmentID(), "invalid segment editor parameter set node"),
        (lambda e, s: e.setActiveEffectByName("Paintt"), "no effect is called Paintt"),
        (lambda e, s: e.showSourceVolumeInSliceViewers(), "crashes Slicer"),
    ],
)
def test_misuse_that_slicer_logs_or_crashes_on_is_found(slicer_host, misuse, what):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    misuse(slicer.qMRMLSegmentEditorWidget(), segmentation)
    (found,) = strict.take(KIND)
    assert what in found.what


def test_an_effect_without_a_scene_and_an_unknown_segment_are_found(editing):
    editing.editor.setCurrentSegmentID("kidney")
    assert "no segment kidney" in strict.take(KIND)[0].what
    lonely = slicer.qMRMLSegmentEditorWidget()
    lonely.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    lonely.setActiveEffectByName("Paint")
    assert (lonely.activeEffect(), "no MRML scene" in strict.take(KIND)[0].what) == (None, True)


@pytest.mark.parametrize("careful", [True, False])
def test_a_module_that_leaves_its_effect_or_keys_behind_is_found(tmp_path, careful):
    (tmp_path / "Editing.py").write_text(MODULE)
    with Host(tmp_path / "Editing.py") as host:
        host.widget.careful = careful
        volume = slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16))
        add_segmentation(volume)
        host.widget.editor.installKeyboardShortcuts()
        host.widget.editor.setActiveEffectByName("Paint")
        host.leave_module()
        found = [finding.what for finding in strict.take(KIND)]
        host.widget.editor.setActiveEffect(None)
        host.widget.editor.uninstallKeyboardShortcuts()
    words = [] if careful else ["active effect Paint", "observes the views", "keyboard shortcuts"]
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_an_effect_that_outlives_its_scene_is_found(editing):
    editing.editor.setActiveEffectByName("Paint")
    editing.host.close_scene()
    assert "still active while the scene closes" in strict.take(KIND)[0].what
