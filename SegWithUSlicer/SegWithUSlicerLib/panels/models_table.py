"""The table of models: one row a version, one of them selected."""

from collections.abc import Callable, Sequence
from typing import Any

import qt

from SegWithUCore.models.model_row import ModelRow

from ..i18n import _
from ..models.rows import cells
from .gui_connections import GuiConnections, updates_disabled

_ROW_PX, _LEAST_ROWS, _MOST_ROWS = 24, 3, 8
_WIDEST_PX = (170, 120, 80, 80, 200)


class ModelsTable:
    """Shows models in a QTableWidget.

    Args:
        table: the QTableWidget.
        on_selected: called when another row was selected.
    """

    def __init__(self, table: Any, on_selected: Callable[[], None]) -> None:
        self._table, self._on_selected = table, on_selected
        self._rows: list[ModelRow] = []
        self._gui = GuiConnections()
        titles = [_("Model"), _("State"), _("Size"), _("Calibrated"), _("Licence")]
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(titles)
        table.setWordWrap(False)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(_ROW_PX)
        table.horizontalHeader().setStretchLastSection(True)
        self._gui.connect_signal(table, "itemSelectionChanged()", on_selected)

    @property
    def rows(self) -> Sequence[ModelRow]:
        """All rows."""
        return self._rows

    @property
    def selected(self) -> ModelRow | None:
        """The selected one."""
        rows = sorted({index.row() for index in self._table.selectionModel().selectedRows()})
        return self._rows[rows[0]] if len(rows) == 1 and rows[0] < len(self._rows) else None

    def fill(self, rows: Sequence[ModelRow]) -> None:
        """Show these models; the selected one stays selected."""
        before, table = self.selected, self._table
        self._rows = list(rows)
        with self._gui.updating(), updates_disabled(table):
            table.setRowCount(len(self._rows))
            for place, row in enumerate(self._rows):
                self._put(place, row)
            table.resizeColumnsToContents()
            for column, widest in enumerate(_WIDEST_PX):
                if table.columnWidth(column) > widest:
                    table.setColumnWidth(column, widest)
            bars = table.horizontalScrollBar().sizeHint.height() + 2 * table.frameWidth
            shown = min(max(len(self._rows), _LEAST_ROWS), _MOST_ROWS)
            table.setFixedHeight(table.horizontalHeader().sizeHint.height() + _ROW_PX * shown + bars)
            table.clearSelection()
            same = [place for place, row in enumerate(self._rows) if before is not None and row.key == before.key]
            exact = [place for place in same if before is not None and self._rows[place].folder == before.folder]
            if same:
                table.setCurrentCell((exact or same)[0], 0)
        self._on_selected()

    def select(self, key: str) -> None:
        """Select a model by `NAME@VERSION`."""
        for place, row in enumerate(self._rows):
            if row.key == key:
                self._table.setCurrentCell(place, 0)

    def _put(self, place: int, row: ModelRow) -> None:
        for column, text in enumerate(cells(row)):
            cell = self._table.item(place, column)
            if cell is None:
                cell = qt.QTableWidgetItem(text)
                self._table.setItem(place, column, cell)
            cell.setText(text)
            cell.setToolTip(row.note or row.task)
