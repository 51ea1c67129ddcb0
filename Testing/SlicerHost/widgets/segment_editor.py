"""qMRMLSegmentEditorWidget: every property, slot and method that Python can reach in Slicer."""

from __future__ import annotations

from typing import Any

import shiboken6
import slicer

from .segment_editor_looks import SegmentEditorLooks
from .segment_editor_shortcuts import install
from .segment_editor_state import EDITORS, wrong_use
from .stand_in import stand_in


@stand_in
class qMRMLSegmentEditorWidget(SegmentEditorLooks):
    """The editor of segments; strokes are made by host.paint(), other effects change nothing."""

    def mrmlSegmentEditorNode(self) -> Any:
        """The node with the editor's selections, or None."""
        return self._node

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        """Follow this node from now on."""
        if node is self._node:
            return
        if node is not None and node.GetScene() is None:
            wrong_use("the segment editor node is in no scene")
        self._node = node
        self._observers.replace("node", node, {"ModifiedEvent": lambda editor: editor.updateWidgetFromMRML()})
        self._logic.SetSegmentEditorNode(node)
        self._initialize_node()

    def setSegmentationNode(self, node: Any) -> None:
        """Edit this segmentation; the active effect ends."""
        if self._node is None:
            if node is not None:
                wrong_use("setSegmentationNode: need to set segment editor node first")
            return
        if self._node.GetSegmentationNode() is not node:
            self.setActiveEffect(None)
            self._node.SetAndObserveSegmentationNode(node)

    def setSegmentationNodeID(self, node_id: str) -> None:
        """Edit this segmentation."""
        if self._scene is None:
            wrong_use("setSegmentationNodeID: MRML scene is not set")
            return
        self.setSegmentationNode(self._scene.GetNodeByID(node_id or ""))

    def segmentationNode(self) -> Any:
        """The segmentation node of the selector: None without a scene."""
        return self._parts.segmentation.currentNode()

    def setSourceVolumeNode(self, node: Any) -> None:
        """Edit on this volume."""
        if self._node is None or self.segmentationNode() is None:
            if node is not None:
                wrong_use("setSourceVolumeNode: need to set segment editor and segmentation nodes first")
            return
        if self._node.GetSourceVolumeNode() is not node:
            self._node.SetAndObserveSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, node_id: str) -> None:
        """Edit on this volume."""
        if self._scene is None:
            wrong_use("setSourceVolumeNodeID: MRML scene is not set")
            return
        self.setSourceVolumeNode(self._scene.GetNodeByID(node_id or ""))

    def sourceVolumeNode(self) -> Any:
        """The source volume, or None."""
        return self._node.GetSourceVolumeNode() if self._node is not None else None

    def sourceVolumeNodeID(self) -> str:
        """Its id, or an empty string."""
        node = self.sourceVolumeNode()
        return (node.GetID() or "") if node is not None else ""

    setMasterVolumeNode, setMasterVolumeNodeID = setSourceVolumeNode, setSourceVolumeNodeID
    masterVolumeNode, masterVolumeNodeID = sourceVolumeNode, sourceVolumeNodeID

    def currentSegmentID(self) -> str:
        """The selected segment, or an empty string."""
        if self._node is None:
            wrong_use("currentSegmentID: invalid segment editor parameter set node")
            return ""
        return self._node.GetSelectedSegmentID() or ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        """Select a segment; currentSegmentIDChanged is not emitted, in Slicer neither."""
        if self._node is not None:
            self._node.SetSelectedSegmentID(segment_id)

    def selectPreviousSegment(self) -> None:
        """The visible segment before, around the end."""
        self.selectSegmentAtOffset(-1)

    def selectNextSegment(self) -> None:
        """The visible segment after, around the end."""
        self.selectSegmentAtOffset(1)

    def selectSegmentAtOffset(self, offset: int) -> None:
        """Select among the visible segments."""
        self._logic.SelectSegmentAtOffset(int(offset), True)

    def activeEffect(self) -> Any:
        """The active effect, or None."""
        return self._active

    def setActiveEffect(self, effect: Any) -> None:
        """Activate an effect of this editor, or none."""
        if self._node is None:
            if effect is not None:
                wrong_use("setActiveEffect: invalid segment editor parameter set node")
            return
        if effect is not None and self._scene is None:
            wrong_use("setActiveEffect: the editor has no MRML scene, the effect will not start")
        self._node.SetActiveEffectName(effect.name if effect is not None else "")

    def setActiveEffectByName(self, name: str) -> None:
        """Activate an effect; an unknown name is a finding and activates none."""
        if name and name not in self._effects:
            wrong_use(f"setActiveEffectByName: no effect is called {name}")
        self.setActiveEffect(self._effects.get(name))

    def effectByName(self, name: str) -> Any:
        """The effect, or None."""
        return self._effects.get(name)

    def effectByIndex(self, index: int) -> Any:
        """The effect of a place of the button grid; the first place is the one without an effect."""
        shown = self._parts.shown_effects
        return self._effects.get(shown[index]) if 0 <= index < len(shown) else None

    def setEffectNameOrder(self, names: Any) -> None:
        """Order the buttons; unknown names are left out."""
        self._order = list(names)
        self.updateEffectList()

    def removeViewObservations(self) -> None:
        """Leave the views alone."""
        self._views.stop()

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        """Take the editor's keys in the parent's window, by default the main window."""
        self.uninstallKeyboardShortcuts()
        self._shortcuts = install(self, parent if parent is not None else slicer.util.mainWindow())

    def uninstallKeyboardShortcuts(self) -> None:
        """Give the keys back."""
        for shortcut in self._shortcuts:
            if shiboken6.isValid(shortcut):
                shortcut.setEnabled(False)
                shortcut.deleteLater()
        self._shortcuts = []

    def saveStateForUndo(self) -> None:
        """Remember the segmentation as it is."""
        self._logic.SaveStateForUndo()
        self._show_enabled()

    def undo(self) -> None:
        """Back to the state before; the states of the segments go back too."""
        self._logic.Undo()
        self._show_enabled()

    def redo(self) -> None:
        """Forward again."""
        self._logic.Redo()
        self._show_enabled()

    def setMaximumNumberOfUndoStates(self, number: int) -> None:
        """How many states are remembered."""
        self._logic.SetMaximumNumberOfUndoStates(int(number))

    def setReadOnly(self, read_only: bool) -> None:
        """No editing; the active effect ends."""
        self._locked = bool(read_only)
        if self._locked:
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()

    def toggleSourceVolumeIntensityMaskEnabled(self) -> None:
        """Edit only in an intensity range, or everywhere."""
        if self._node is None:
            wrong_use("toggleSourceVolumeIntensityMaskEnabled: invalid segment editor parameter set node")
        self._logic.ToggleSourceVolumeIntensityMask()

    toggleMasterVolumeIntensityMaskEnabled = toggleSourceVolumeIntensityMaskEnabled

    def updateVolume(self, volume: Any, success: bool = False) -> None:
        """For effects in C++ only: its arguments cannot be passed from Python."""
        wrong_use("updateVolume cannot be called from Python")

    def showSourceVolumeInSliceViewers(self, forceShowInBackground: bool = False, fitSlice: bool = False) -> None:
        """Show the source volume unless it is shown; without a segment editor node Slicer crashes here."""
        if self._node is None:
            wrong_use("showSourceVolumeInSliceViewers without a segment editor node crashes Slicer")
        elif self._node.GetSourceVolumeNode() is not None:
            self._views.show_source(self._node.GetSourceVolumeNode(), forceShowInBackground, fitSlice)

    showMasterVolumeInSliceViewers = showSourceVolumeInSliceViewers


def report_left_open() -> None:
    """After a module's exit(): what it has left running in the views and in the keyboard is a finding."""
    for editor in [editor for editor in EDITORS if shiboken6.isValid(editor) and editor._scene is slicer.mrmlScene]:
        if editor._active is not None:
            wrong_use(f"the module was left with the active effect {editor._active.name}")
        if editor._views.observed:
            wrong_use("the module was left while the editor observes the views")
        if editor._shortcuts:
            wrong_use("the module was left with the editor's keyboard shortcuts installed")
