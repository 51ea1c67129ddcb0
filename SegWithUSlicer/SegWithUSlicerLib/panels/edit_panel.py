"""Slicer's segment editor inside the panel, set to the structure of the current region."""

from typing import Any

import slicer

from ..scene.case_nodes import CaseNodes
from ..scene.segmentation import segment_id
from ..scene.slice_views import preserved_layers

EDITOR_TAG = "SegWithU"
EFFECTS = ("Paint", "Draw", "Erase", "Scissors", "Islands", "Smoothing", "Margin")
"""What corrects a region; the rest works on whole structures, and is in Slicer's own module."""
_UNDO_STATES = 10


class EditPanel:
    """The section "Edit here". The editor is made when it is opened first.

    Args:
        ui: the widgets of the .ui file.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.editor: Any = None
        self._nodes: CaseNodes | None = None
        self._value: int | None = None
        self._may_run = False
        ui.editButton.connect("contentsCollapsed(bool)", self._collapsed)

    def show(self, nodes: CaseNodes | None) -> None:
        """Edit the segmentation of this run from now on, or none."""
        if nodes is None:
            self.pause()
            if self.editor is not None and self.editor.mrmlSegmentEditorNode() is not None:
                self.editor.setSegmentationNode(None)
            self.ui.editButton.collapsed = True
        self._nodes, self._value = nodes, None

    def choose(self, structure_value: int) -> None:
        """Select this structure: the current region is about it."""
        self._value = structure_value
        if self._may_run and not self.ui.editButton.collapsed:
            self._select()

    def resume(self) -> None:
        """Resume editing when the panel becomes visible."""
        self._may_run = True
        if not self.ui.editButton.collapsed:
            self._take_up()

    def pause(self) -> None:
        """Give views and keys back: the panel is hidden, or the scene goes away."""
        self._may_run = False
        self._let_go()

    def toggle(self) -> None:
        """Open the section, or close it."""
        self.ui.editButton.collapsed = not self.ui.editButton.collapsed

    def close(self) -> None:
        """Let go of the scene."""
        self.pause()
        self._nodes = None
        if self.editor is not None:
            self.editor.setMRMLScene(None)

    def _collapsed(self, collapsed: bool) -> None:
        if collapsed:
            self._let_go()
        elif self._may_run:
            self._take_up()

    def _take_up(self) -> None:
        nodes, segmentation = self._nodes, self._nodes.segmentation if self._nodes is not None else None
        if nodes is None or segmentation is None:
            return
        with preserved_layers():
            if self.editor is None:
                self._make()
            if self.editor.segmentationNode() is not segmentation:
                self.editor.setSegmentationNode(segmentation)
            if nodes.inputs and self.editor.sourceVolumeNode() is not nodes.inputs[0]:
                self.editor.setSourceVolumeNode(nodes.inputs[0])
        self._select()
        self.editor.installKeyboardShortcuts()

    def _select(self) -> None:
        """Select the structure's segment, unless the user has deleted it."""
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if self.editor is None or segmentation is None or self._value is None:
            return
        identifier = segment_id(self._value)
        is_there = segmentation.GetSegmentation().GetSegment(identifier) is not None
        if is_there and self.editor.currentSegmentID() != identifier:
            self.editor.setCurrentSegmentID(identifier)

    def _let_go(self) -> None:
        if self.editor is not None:
            self.editor.setActiveEffect(None)
            self.editor.removeViewObservations()
            self.editor.uninstallKeyboardShortcuts()

    def _make(self) -> None:
        editor = slicer.qMRMLSegmentEditorWidget()
        # Before the scene: otherwise the editor works on the first segmentation that it finds.
        editor.setMRMLSegmentEditorNode(_editor_node())
        # The image is shown already; the editor would take the foreground (a PET, the overlay) away.
        editor.autoShowSourceVolumeNode = False
        editor.setMRMLScene(slicer.mrmlScene)
        editor.setSegmentationNodeSelectorVisible(False)
        editor.setSourceVolumeNodeSelectorVisible(False)
        editor.setSwitchToSegmentationsButtonVisible(False)
        editor.setAddRemoveSegmentButtonsVisible(False)
        editor.setEffectNameOrder(list(EFFECTS))
        editor.unorderedEffectsVisible = False
        editor.setMaximumNumberOfUndoStates(_UNDO_STATES)
        self.ui.editButton.layout().addWidget(editor)
        self.editor = editor


def _editor_node() -> "slicer.vtkMRMLSegmentEditorNode":
    """Return an editor node of our own, so that Slicer's module keeps its settings."""
    node = slicer.vtkMRMLSegmentEditorNode()
    node.SetSingletonTag(EDITOR_TAG)
    node.SetSaveWithScene(False)
    return slicer.mrmlScene.AddNode(node)
