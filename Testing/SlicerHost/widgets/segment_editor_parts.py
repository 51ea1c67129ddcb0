"""The child widgets of the segment editor, under the object names that they have in Slicer."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qt_module import QT
from .collapsible import ctkCollapsibleGroupBox
from .node_combo_box import qMRMLNodeComboBox
from .segments_table import qMRMLSegmentsTableView

NULL_EFFECT = "NULL"


def _named(widget: Any, name: str) -> Any:
    widget.setObjectName(name)
    return widget


def _tool_button(name: str, text: str) -> Any:
    button = _named(QT.QToolButton(), name)
    button.setText(text)
    return button


class EditorParts:
    """Everything that is seen of the editor; it knows no MRML."""

    def __init__(self, owner: Any) -> None:
        rows = QtWidgets.QVBoxLayout(owner)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addLayout(self._selectors())
        rows.addLayout(self._actions())
        self.table = _named(qMRMLSegmentsTableView(), "SegmentsTableView")
        rows.addWidget(self.table)
        rows.addWidget(self._effects())
        rows.addWidget(self._undo())
        self.options = _named(QT.QGroupBox(), "OptionsGroupBox")
        self.masking = _named(ctkCollapsibleGroupBox(), "MaskingGroupBox")
        self.masking.setTitle("Masking")
        for box in (self.options, self.masking):
            rows.addWidget(box)
            box.hide()

    def _selectors(self) -> QtWidgets.QFormLayout:
        self.segmentation = _named(qMRMLNodeComboBox(), "SegmentationNodeComboBox")
        self.segmentation.nodeTypes = ["vtkMRMLSegmentationNode"]
        self.segmentation_label = QT.QLabel("Segmentation:")
        self.source = _named(qMRMLNodeComboBox(), "SourceVolumeNodeComboBox")
        self.source.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.source.noneEnabled = True
        self.source.noneDisplay = "Select source volume to enable editing"
        self.source_label = QT.QLabel("Source volume:")
        self.geometry = _tool_button("SpecifyGeometryButton", "Specify geometry")
        source_row = QtWidgets.QHBoxLayout()
        source_row.addWidget(self.source)
        source_row.addWidget(self.geometry)
        form = QtWidgets.QFormLayout()
        form.addRow(self.segmentation_label, self.segmentation)
        form.addRow(self.source_label, source_row)
        return form

    def _actions(self) -> QtWidgets.QHBoxLayout:
        self.add = _named(QT.QPushButton("Add"), "AddSegmentButton")
        self.remove = _named(QT.QPushButton("Remove"), "RemoveSegmentButton")
        self.show_3d = _named(QT.QPushButton("Show 3D"), "Show3DButton")
        self.show_3d.setCheckable(True)
        self.segmentations = _tool_button("SwitchToSegmentationsButton", "Segmentations")
        row = QtWidgets.QHBoxLayout()
        for button in (self.add, self.remove, self.show_3d, self.segmentations):
            row.addWidget(button)
        return row

    def _effects(self) -> Any:
        self.effects = _named(QT.QFrame(), "EffectsGroupBox")
        self.effect_grid = QtWidgets.QGridLayout(self.effects)
        self.effect_buttons: dict[str, Any] = {}
        return self.effects

    def _undo(self) -> Any:
        self.undo_box = _named(QT.QFrame(), "UndoRedoGroupBox")
        self.undo, self.redo = _tool_button("UndoButton", "Undo"), _tool_button("RedoButton", "Redo")
        row = QtWidgets.QHBoxLayout(self.undo_box)
        row.addWidget(self.undo)
        row.addWidget(self.redo)
        row.addStretch()
        return self.undo_box

    def add_effect_button(self, name: str, text: str, clicked: Any) -> None:
        """A checkable button; clicked() is called without arguments."""
        button = _tool_button(name, text)
        button.setCheckable(True)
        button.clicked.connect(lambda *_: clicked())
        self.effect_buttons[name] = button

    def arrange_effects(self, names: list[str], columns: int) -> None:
        """Show these effects, the empty one first, in a grid of so many columns."""
        while self.effect_grid.count():
            self.effect_grid.takeAt(0)
        for button in self.effect_buttons.values():
            button.hide()
        self.shown_effects = [NULL_EFFECT, *names]
        for place, name in enumerate(self.shown_effects):
            self.effect_grid.addWidget(self.effect_buttons[name], place // columns, place % columns)
            self.effect_buttons[name].show()

    def check_effect(self, name: str) -> None:
        """Mark the button of the active effect."""
        for key, button in self.effect_buttons.items():
            button.setChecked(key == (name or NULL_EFFECT))

    def without_signals(self) -> Any:
        """Block the two node selectors; keep what is returned for as long as they shall be silent."""
        return [QtCore.QSignalBlocker(box) for box in (self.segmentation, self.source)]
