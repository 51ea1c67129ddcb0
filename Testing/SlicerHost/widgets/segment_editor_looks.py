"""What of the segment editor is shown, and its selectors' filters."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qt_module import QT
from .segment_editor_state import SegmentEditorState
from .stand_in import stored


def _shown(part: str, setter: str) -> QtCore.Property:
    """Whether a part is on the screen now: as in Slicer, False until the panel itself is shown."""
    return QtCore.Property(
        bool,
        lambda self: QtWidgets.QWidget.isVisible(getattr(self._parts, part)),
        lambda self, visible: getattr(self, setter)(visible),
    )


class SegmentEditorLooks(SegmentEditorState):
    """Setters and properties of the parts."""

    def _show(self, visible: bool, *parts: str) -> None:
        for part in parts:
            getattr(self._parts, part).setVisible(bool(visible))

    def setSegmentationNodeSelectorVisible(self, visible: bool) -> None:
        """Selector of the segmentation."""
        self._show(visible, "segmentation", "segmentation_label")

    def setSourceVolumeNodeSelectorVisible(self, visible: bool) -> None:
        """Selector of the source volume, and the geometry button."""
        self._show(visible, "source", "source_label")
        self._show(visible and self.specifyGeometryButtonVisible, "geometry")

    setMasterVolumeNodeSelectorVisible = setSourceVolumeNodeSelectorVisible

    def setSpecifyGeometryButtonVisible(self, visible: bool) -> None:
        """Button beside the source volume."""
        self.__dict__["_stored_specifyGeometryButtonVisible"] = bool(visible)
        self._show(visible and QtWidgets.QWidget.isVisible(self._parts.source), "geometry")

    def setSwitchToSegmentationsButtonVisible(self, visible: bool) -> None:
        """Button to the Segmentations module."""
        self._show(visible, "segmentations")

    def setAddRemoveSegmentButtonsVisible(self, visible: bool) -> None:
        """Buttons that add and remove segments."""
        self._show(visible, "add", "remove")

    def setShow3DButtonVisible(self, visible: bool) -> None:
        """Button that shows closed surfaces."""
        self._show(visible, "show_3d")

    def setUndoEnabled(self, enabled: bool) -> None:
        """Show the undo buttons; turning them on forgets what is remembered."""
        if enabled:
            self._logic.ClearUndoState()
        self._show(enabled, "undo_box")

    def setMaskingSectionVisible(self, visible: bool) -> None:
        """The masking box; it shows while an effect is active."""
        self.__dict__["_stored_maskingSectionVisible"] = bool(visible)
        self._show(visible and self._active is not None, "masking")

    def setAutoShowSourceVolumeNode(self, auto: bool) -> None:
        """Whether a newly chosen source volume is shown in the slice views."""
        self.__dict__["_stored_autoShowSourceVolumeNode"] = bool(auto)

    setAutoShowMasterVolumeNode = setAutoShowSourceVolumeNode

    def setEffectColumnCount(self, columns: int) -> None:
        """Columns of the button grid."""
        self._columns = int(columns)
        self.updateEffectList()

    def _set_unordered(self, visible: bool) -> None:
        self.__dict__["_stored_unorderedEffectsVisible"] = bool(visible)
        self.updateEffectList()

    def setJumpToSelectedSegmentEnabled(self, enable: bool) -> None:
        """Whether a click on a segment moves the slices to it; remembered."""
        self._parts.table.jumpToSelectedSegmentEnabled = bool(enable)

    def sourceVolumeNodeSelectorAddAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """List only volumes with this attribute."""
        self._parts.source.addAttribute(node_type, name, value)

    def sourceVolumeNodeSelectorRemoveAttribute(self, node_type: str, name: str) -> None:
        """Undo it."""
        self._parts.source.removeAttribute(node_type, name)

    masterVolumeNodeSelectorAddAttribute = sourceVolumeNodeSelectorAddAttribute
    masterVolumeNodeSelectorRemoveAttribute = sourceVolumeNodeSelectorRemoveAttribute

    def _terminology(self) -> str:
        key = self.defaultTerminologyEntrySettingsKey
        return str(QT.QSettings().value(key, "")) if key else self.__dict__.get("_terminology_entry", "")

    def _set_terminology(self, entry: str) -> None:
        self.__dict__["_terminology_entry"] = entry
        self._logic.SetDefaultTerminologyEntry(entry)
        if self.defaultTerminologyEntrySettingsKey:
            QT.QSettings().setValue(self.defaultTerminologyEntrySettingsKey, entry)

    segmentationNodeSelectorVisible = _shown("segmentation", "setSegmentationNodeSelectorVisible")
    sourceVolumeNodeSelectorVisible = _shown("source", "setSourceVolumeNodeSelectorVisible")
    masterVolumeNodeSelectorVisible = _shown("source", "setSourceVolumeNodeSelectorVisible")
    switchToSegmentationsButtonVisible = _shown("segmentations", "setSwitchToSegmentationsButtonVisible")
    addRemoveSegmentButtonsVisible = _shown("add", "setAddRemoveSegmentButtonsVisible")
    show3DButtonVisible = _shown("show_3d", "setShow3DButtonVisible")
    undoEnabled = _shown("undo_box", "setUndoEnabled")
    specifyGeometryButtonVisible = QtCore.Property(
        bool,
        lambda self: self.__dict__.get("_stored_specifyGeometryButtonVisible", True),
        lambda self, v: self.setSpecifyGeometryButtonVisible(v),
    )
    maskingSectionVisible = QtCore.Property(
        bool,
        lambda self: self.__dict__.get("_stored_maskingSectionVisible", True),
        lambda self, v: self.setMaskingSectionVisible(v),
    )
    autoShowSourceVolumeNode = stored(bool, "autoShowSourceVolumeNode", True)
    autoShowMasterVolumeNode = stored(bool, "autoShowSourceVolumeNode", True)
    unorderedEffectsVisible = QtCore.Property(
        bool,
        lambda self: self.__dict__.get("_stored_unorderedEffectsVisible", True),
        lambda self, v: self._set_unordered(v),
    )
    effectColumnCount = QtCore.Property(int, lambda self: self._columns, lambda self, v: self.setEffectColumnCount(v))
    effectButtonStyle = stored(
        QtCore.Qt.ToolButtonStyle, "effectButtonStyle", QtCore.Qt.ToolButtonStyle.ToolButtonIconOnly
    )
    maximumNumberOfUndoStates = QtCore.Property(
        int,
        lambda self: self._logic.GetMaximumNumberOfUndoStates(),
        lambda self, v: self._logic.SetMaximumNumberOfUndoStates(v),
    )
    readOnly = QtCore.Property(bool, lambda self: self._locked, lambda self, v: self.setReadOnly(v))
    jumpToSelectedSegmentEnabled = QtCore.Property(
        bool,
        lambda self: self._parts.table.jumpToSelectedSegmentEnabled,
        lambda self, v: self.setJumpToSelectedSegmentEnabled(v),
    )
    defaultTerminologyEntrySettingsKey = stored(
        str, "defaultTerminologyEntrySettingsKey", "Segmentations/DefaultTerminologyEntry"
    )
    defaultTerminologyEntry = QtCore.Property(
        str, lambda self: self._terminology(), lambda self, v: self._set_terminology(v)
    )
