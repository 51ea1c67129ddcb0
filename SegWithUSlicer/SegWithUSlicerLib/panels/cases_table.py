"""The table of cases, in the order of the worklist; single rows are updated in place."""

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

from SegWithUCore.review.light import Level
from SegWithUCore.review.worklist import WorklistEntry

from ..cases.case_list import CaseItem, CaseList, reviewer_progress
from ..i18n import _
from ..scene.readout import typeset
from .widgets import GuiConnections, fit_columns, fit_rows, put_cell, set_up_table, updates_disabled

_LEAST_ROWS, _MOST_ROWS = 3, 10
_WIDEST_PX = (135, 135, 130, 95, 60, 50, 190)
"""In a panel of usual width only the structure's name is cut off; tool tips have the full texts."""
_OPENED = "▶ "


class CasesTable:
    """Shows cases in a QTableWidget.

    Args:
        table: the QTableWidget.
        on_open: called with a case that the user wants to open.
        on_selected: called when other rows were selected.
    """

    def __init__(self, table: Any, on_open: Callable[[CaseItem], None], on_selected: Callable[[], None]) -> None:
        self._table, self._on_open, self._on_selected = table, on_open, on_selected
        self.shown: Sequence[CaseItem] = ()
        """The cases in the order in which they are shown."""
        self._reviewer = ""
        self.opened: CaseItem | None = None
        """The case that is marked as open."""
        self._gui = GuiConnections()
        titles = [
            _("Case"),
            _("Status"),
            _("What to do"),
            _("Likely wrong"),
            _("Regions"),
            _("Min"),
            _("Worst structure"),
        ]
        set_up_table(table, titles)
        self._gui.connect_signal(table, "cellClicked(int,int)", self._clicked)
        self._gui.connect_signal(table, "cellActivated(int,int)", self._activated)
        self._gui.connect_signal(table, "itemSelectionChanged()", on_selected)

    @property
    def selected(self) -> list[CaseItem]:
        """The selected cases, from above."""
        rows = sorted({index.row() for index in self._table.selectionModel().selectedRows()})
        return [self.shown[row] for row in rows if row < len(self.shown)]

    def next(self) -> CaseItem | None:
        """Return the case below the open one, or below the selected one if none is open."""
        at = self._row_of(self.opened or next(iter(self.selected), None))
        wanted = 0 if at is None else at + 1
        return self.shown[wanted] if wanted < len(self.shown) else None

    def next_open(self, reviewer: str) -> CaseItem | None:
        """Return the next case below that this reviewer has not finished; the search wraps around."""
        at = self._row_of(self.opened or next(iter(self.selected), None))
        begin = 0 if at is None else at + 1
        order = [*self.shown[begin:], *self.shown[: max(0, begin - 1)]]
        return next((item for item in order if reviewer_progress(item.entry, reviewer).is_open), None)

    def _row_of(self, item: CaseItem | None) -> int | None:
        return next((row for row, shown in enumerate(self.shown) if shown is item), None)

    def fill(self, items: Sequence[CaseItem], reviewer: str, opened: CaseItem | None) -> None:
        """Show these cases, in this order.

        Args:
            reviewer: whose status is shown.
            opened: the case that is open.
        """
        chosen = {id(item) for item in self.selected}
        self.shown, self._reviewer, self.opened = items, reviewer, opened
        table = self._table
        with self._gui.updating(), updates_disabled(table):
            table.setRowCount(len(items))
            for row, item in enumerate(items):
                self._put(row, item)
            self.fit_columns()
            fit_rows(table, len(items), _LEAST_ROWS, _MOST_ROWS)
            table.clearSelection()
            flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
            for row, item in enumerate(items):
                if id(item) in chosen:
                    table.selectionModel().select(table.model().index(row, 0), flags)
        self._on_selected()

    def update(self, item: CaseItem | None) -> None:
        """Show what is true of a case now, if it is shown."""
        row = self._row_of(item)
        if item is not None and row is not None:
            self._put(row, item)

    def show_opened(self, item: CaseItem | None) -> None:
        """Mark the case that is open, select it and scroll to it; `on_open` is not called."""
        if item is self.opened:  # what the user has selected meanwhile stays selected
            return
        before, self.opened = self.opened, item
        self.update(before)
        self.update(item)
        row = self._row_of(item)
        if row is not None:
            with self._gui.updating():
                self._table.clearSelection()
                self._table.setCurrentCell(row, 0)
            self._on_selected()

    def fit_columns(self) -> None:
        """Make columns as wide as they need to be."""
        fit_columns(self._table, _WIDEST_PX)

    def _put(self, row: int, item: CaseItem) -> None:
        tips = cell_tips(item)
        for column, text in enumerate(self._texts(item)):
            put_cell(self._table, row, column, text, tips.get(column, ""))

    def _texts(self, item: CaseItem) -> tuple[str, ...]:
        entry = item.entry
        name = f"{_OPENED if item is self.opened else ''}{name_text(entry)}"
        if not item.is_read and not entry.reviews and entry.regions is None:
            return name, _("..."), "", "", "", "", ""
        if entry.trouble:
            return name, _("cannot be read"), "", "", "", "", ""
        light = "" if entry.light is None else LEVELS[entry.light.level]
        status = status_text(entry, self._reviewer)
        if entry.regions is None:
            return name, status, light, entry.share_text, "", "", ""
        return (
            name,
            status,
            light,
            entry.share_text,
            str(entry.regions),
            f"{entry.minutes:.1f}",
            entry.worst_structure or "",
        )

    def _clicked(self, row: int, column: int) -> None:
        # With a key held the user gathers cases, to export them.
        held = slicer.app.keyboardModifiers()
        if not held & qt.Qt.ControlModifier and not held & qt.Qt.ShiftModifier:
            self._activated(row, column)

    def _activated(self, row: int, _column: int) -> None:
        if 0 <= row < len(self.shown) and self.shown[row] is not self.opened:
            self._on_open(self.shown[row])


LEVELS = {
    Level.DO_NOT_USE: _("do not use"),
    Level.LOOK: _("look at it"),
    Level.NO_SIGN: _("no sign of trouble"),
}


def name_text(entry: WorklistEntry) -> str:
    """Return the name of a case, with its folder's name if that differs, to distinguish copies."""
    folder = entry.folder.name
    return entry.name if entry.name == folder else _("{case} ({folder})").format(case=entry.name, folder=folder)


def status_text(entry: WorklistEntry, reviewer: str) -> str:
    """Return how far a case is: the reviewer's own part first, then the others'."""
    if not entry.regions:
        return _("not calibrated") if entry.regions is None else _("no region")
    now = reviewer_progress(entry, reviewer)
    unseen = {status.reviewer: status.unseen for status in entry.reviews}
    others = [f"{name}: {_part(decided, entry.regions, unseen[name])}" for name, decided in now.others.items()]
    own = _("not started") if now.own is None else _part(now.own, entry.regions, now.unseen)
    return "; ".join([own, *others]) if reviewer or not others else "; ".join(others)


def _part(decided: int, regions: int, unseen: int) -> str:
    if unseen:
        return _("{n} of {all}, {unseen} not looked at").format(n=decided, all=regions, unseen=unseen)
    return _("done") if decided >= regions else _("{n} of {all}").format(n=decided, all=regions)


def cell_tips(item: CaseItem) -> dict[int, str]:
    """Return the tool tips of a case, by column: what does not fit into the cells."""
    entry = item.entry
    lines = [status.text for status in entry.reviews] + list(entry.notes) + ([entry.trouble] if entry.trouble else [])
    tips = {0: f"{entry.name}\n{item.folder}", 1: "\n".join(lines), 6: entry.worst_structure or ""}
    return {**tips, 2: "\n".join(about_case(item))}


def summary_text(found: CaseList, shown: int, reviewer: str) -> str:
    """Return the line about a list.

    Args:
        shown: how many of its cases pass the filter.
    """
    count, entries = len(found.items), [item.entry for item in found.items]
    lights = [entry.light.level for entry in entries if entry.light is not None]
    return _("{count} cases: {lights}; {waiting} open for {who}; {place}").format(
        count=count if shown == count else _("{shown} of {count}").format(shown=shown, count=count),
        lights=", ".join(f"{lights.count(level)} {text}" for level, text in LEVELS.items()),
        waiting=sum(reviewer_progress(entry, reviewer).is_open for entry in entries),
        who=reviewer or _("you"),
        place=found.title,
    )


def about_case(item: CaseItem) -> list[str]:
    """Return the lines about the selected case: why it has its light, and what is unusual about it."""
    entry = item.entry
    if entry.trouble:
        return [entry.trouble]
    first = [] if entry.light is None else [entry.light.text]
    further = [flag.message for flag in entry.flags if entry.light is None or flag.message != entry.light.reason]
    return [typeset(message) for message in (*first, *further, *entry.notes)]
