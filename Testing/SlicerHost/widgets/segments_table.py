"""qMRMLSegmentsTableView: names and states of the segments of one segmentation, one of them selected."""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from ..qt_module import QT
from ..strict import record
from .mrml_widgets import qMRMLWidget
from .observing import Observers
from .stand_in import stand_in, stored

_ID_ROLE = QtCore.Qt.ItemDataRole.UserRole


@stand_in
class qMRMLSegmentsTableView(qMRMLWidget):
    """Table of segments; eye, opacity and layer columns are not drawn."""

    selectionChanged = QtCore.Signal(object, object)
    segmentAboutToBeModified = QtCore.Signal(str)
    _signals: ClassVar[dict[str, str]] = {
        "selectionChanged(QItemSelection,QItemSelection)": "selectionChanged",
        "segmentAboutToBeModified(QString)": "segmentAboutToBeModified",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._segmentation: Any = None
        self._observers = Observers(self)
        self._table = QT.QTableWidget(0, 2)
        self._table.setHorizontalHeaderLabels(["Name", "State"])
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        self._table.setEditTriggers(QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers)
        self._table.horizontalHeader().setStretchLastSection(True)
        row = QtWidgets.QVBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(lambda new, old: self.selectionChanged.emit(new, old))

    def tableWidget(self) -> Any:
        """The table."""
        return self._table

    def segmentationNode(self) -> Any:
        """The segmentation node."""
        return self._segmentation

    def setSegmentationNode(self, node: Any) -> None:
        """Show the segments of this node."""
        self._segmentation = node
        events = slicer.vtkSegmentation
        reactions = dict.fromkeys((events.SegmentAdded, events.SegmentRemoved, events.SegmentModified), _refill)
        self._observers.replace("segmentation", node, reactions)
        _refill(self)

    def segmentIDForRow(self, row: int) -> str:
        """The segment of a row, or an empty string."""
        item = self._table.item(row, 0)
        return item.data(_ID_ROLE) if item is not None else ""

    def rowForSegmentID(self, segment_id: str) -> int:
        """The row of a segment, or -1."""
        rows = [row for row in range(self._table.rowCount) if self.segmentIDForRow(row) == segment_id]
        return rows[0] if rows else -1

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        """The selected segments."""
        return tuple(self.segmentIDForRow(index.row()) for index in self._table.selectionModel().selectedRows())

    def setSelectedSegmentIDs(self, segment_ids: Any) -> None:
        """Select segments; an unknown one is a finding."""
        wanted = tuple(segment_ids)
        if wanted == self.selectedSegmentIDs():
            return
        for segment_id in wanted:
            if self.rowForSegmentID(segment_id) < 0:
                record("segment editor", "qMRMLSegmentsTableView", f"no segment {segment_id}")
                return
        if not wanted:
            self._table.clearSelection()
        for segment_id in wanted:
            self._table.selectRow(self.rowForSegmentID(segment_id))

    def clearSelection(self) -> None:
        """Select nothing."""
        self._table.clearSelection()

    segmentCount = QtCore.Property(int, lambda self: self._table.rowCount)
    readOnly = stored(bool, "readOnly", False)
    headerVisible = stored(bool, "headerVisible", True)
    visibilityColumnVisible = stored(bool, "visibilityColumnVisible", True)
    colorColumnVisible = stored(bool, "colorColumnVisible", True)
    opacityColumnVisible = stored(bool, "opacityColumnVisible", True)
    statusColumnVisible = stored(bool, "statusColumnVisible", True)
    layerColumnVisible = stored(bool, "layerColumnVisible", False)
    filterBarVisible = stored(bool, "filterBarVisible", False)
    textFilter = stored(str, "textFilter", "")
    jumpToSelectedSegmentEnabled = stored(bool, "jumpToSelectedSegmentEnabled", False)


def _refill(view: qMRMLSegmentsTableView) -> None:
    """Write the rows again; the selection stays where its segment still exists: a signal tells only what was lost."""
    segmentation = view._segmentation.GetSegmentation() if view._segmentation is not None else None
    ids = list(segmentation.GetSegmentIDs()) if segmentation is not None else []
    before = view.selectedSegmentIDs()
    kept = [segment_id for segment_id in before if segment_id in ids]
    model = QtWidgets.QTableWidget.selectionModel(view._table)
    was_blocked = QtCore.QObject.blockSignals(model, True)
    view._table.setRowCount(len(ids))
    for row, segment_id in enumerate(ids):
        segment = segmentation.GetSegment(segment_id)
        name = QT.QTableWidgetItem(segment.GetName())
        name.setData(_ID_ROLE, segment_id)
        name.setData(QtCore.Qt.ItemDataRole.DecorationRole, QtGui.QColor.fromRgbF(*segment.GetColor()))
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        state = logic.GetSegmentStatusAsHumanReadableString(logic.GetSegmentStatus(segment))
        view._table.setItem(row, 0, name)
        view._table.setItem(row, 1, QT.QTableWidgetItem(state))
    QtWidgets.QTableWidget.clearSelection(view._table)
    for segment_id in kept:
        view._table.selectRow(ids.index(segment_id))
    QtCore.QObject.blockSignals(model, was_blocked)
    if len(kept) < len(before):
        view.selectionChanged.emit(QtCore.QItemSelection(), QtCore.QItemSelection())
