"""The list of regions. It may have thousands of rows: it is filled once, then single cells change."""

from collections.abc import Callable, Sequence
from typing import Any

import qt

from SegWithUCore.regions.region import Region
from SegWithUCore.review.events import Verdict

from ..i18n import _
from ..scene.readout import volume_text
from .review_words import KINDS, verdict_text

_VERDICT = 4
_ROW_PX, _LEAST_ROWS, _MOST_ROWS = 24, 3, 9


class ReviewTable:
    """Shows regions in the order that it is given, by rank: an id would tell a blind place.

    Args:
        table: the QTableWidget.
        on_chosen: called with the id of the region that the user chose by mouse or keyboard.
    """

    def __init__(self, table: Any, on_chosen: Callable[[int], None]) -> None:
        self._table = table
        self._on_chosen = on_chosen
        self._busy = False
        self._ids: list[int] = []
        self._rows: dict[int, int] = {}
        titles = ["#", _("Structure"), _("Expected wrong"), _("Kind"), _("Verdict")]
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(titles)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(_ROW_PX)
        table.horizontalHeader().setStretchLastSection(True)
        table.connect("currentCellChanged(int,int,int,int)", self._moved)
        table.connect("cellActivated(int,int)", self._activated)

    def fill(self, regions: Sequence[Region], verdict_of: Callable[[int], Verdict | None]) -> None:
        """Show these regions, in this order."""
        self._ids = [region.id for region in regions]
        self._rows = {identifier: row for row, identifier in enumerate(self._ids)}
        table, self._busy = self._table, True
        table.setUpdatesEnabled(False)
        try:
            table.clearContents()
            table.setRowCount(len(regions))
            for row, region in enumerate(regions):
                for column, text in enumerate(_texts(region, verdict_of(region.id))):
                    table.setItem(row, column, qt.QTableWidgetItem(text))
            table.resizeColumnsToContents()
            rows = min(max(len(regions), _LEAST_ROWS), _MOST_ROWS)
            table.setFixedHeight(table.horizontalHeader().sizeHint.height() + _ROW_PX * rows + 2 * table.frameWidth)
        finally:
            table.setUpdatesEnabled(True)
            self._busy = False

    def select(self, region_id: int) -> None:
        """Mark a region's row and bring it into sight; `on_chosen` is not called."""
        self._busy = True
        try:
            self._table.setCurrentCell(self._rows[region_id], 0)
        finally:
            self._busy = False

    def update(self, region_id: int, verdict: Verdict | None) -> None:
        """Show another verdict."""
        self._table.item(self._rows[region_id], _VERDICT).setText(verdict_text(verdict))

    def focus(self) -> None:
        """Give the list the keyboard."""
        self._table.setFocus()

    def _moved(self, row: int, _column: int, row_before: int, _column_before: int) -> None:
        if row != row_before:
            self._activated(row, 0)

    def _activated(self, row: int, _column: int) -> None:
        if not self._busy and 0 <= row < len(self._ids):
            self._on_chosen(self._ids[row])


def _texts(region: Region, verdict: Verdict | None) -> tuple[str, ...]:
    wrong = volume_text(region.expected_wrong_mm3)
    return str(region.rank), region.structure, wrong, KINDS[region.kind], verdict_text(verdict)
