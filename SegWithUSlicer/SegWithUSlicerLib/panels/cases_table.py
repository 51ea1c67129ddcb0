"""The table of cases: filled and sorted as a whole when the list changes; single rows are updated in place."""

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

from SegWithUCore.review.flags import Rule
from SegWithUCore.review.worklist import WorklistEntry

from ..cases.case_list import CaseItem, CaseList, reviewer_progress
from ..guarded import guarded
from ..i18n import _
from ..scene.readout import typeset, volume_text
from .widgets import GuiConnections, fit_columns, fit_rows, put_cell, set_up_table, updates_disabled

_LEAST_ROWS, _MOST_ROWS = 3, 10
_WIDEST_PX = (135, 135, 110, 90, 60, 50, 190)
"""So wide that in a panel of usual width only the structure's name is cut off; tool tips have the whole texts."""
_STATUS, _NUMERIC = 1, (3, 4, 5)
"""Numeric columns are sorted from the largest at the first click."""
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
        self._items: list[CaseItem] = []
        self._listed: Sequence[CaseItem] = ()
        self._reviewer = ""
        self._opened: CaseItem | None = None
        self._sorting: tuple[int, bool] | None = None
        self._gui = GuiConnections()
        titles = [_("Case"), _("Status"), _("Flags"), _("Likely wrong"), _("Regions"), _("Min"), _("Worst structure")]
        set_up_table(table, titles)
        for column, tip in enumerate(COLUMN_TIPS):
            table.horizontalHeaderItem(column).setToolTip(tip)
        header = table.horizontalHeader()
        header.setSectionsClickable(True)
        header.connect("sectionClicked(int)", guarded(self._sort_by))
        self._gui.connect_signal(table, "cellClicked(int,int)", self._clicked)
        self._gui.connect_signal(table, "cellActivated(int,int)", self._activated)
        self._gui.connect_signal(table, "itemSelectionChanged()", on_selected)

    @property
    def shown(self) -> Sequence[CaseItem]:
        """The cases in the order in which they are shown."""
        return self._items

    @property
    def selected(self) -> list[CaseItem]:
        """The selected cases, from above."""
        rows = sorted({index.row() for index in self._table.selectionModel().selectedRows()})
        return [self._items[row] for row in rows if row < len(self._items)]

    def neighbour(self, step: int) -> CaseItem | None:
        """Return the case so many rows below the open one, or below the selected one if none is open."""
        at = self._current_row()
        wanted = at + step if at is not None else (0 if step > 0 else None)
        return self._items[wanted] if wanted is not None and 0 <= wanted < len(self._items) else None

    def next_open(self, reviewer: str) -> CaseItem | None:
        """Return the next case below that this reviewer has not finished; the search wraps around."""
        at = self._current_row()
        begin = 0 if at is None else at + 1
        order = [*self._items[begin:], *self._items[: max(0, begin - 1)]]
        return next((item for item in order if reviewer_progress(item.entry, reviewer).is_open), None)

    def _current_row(self) -> int | None:
        item = self._opened or next(iter(self.selected), None)
        rows = [row for row, shown in enumerate(self._items) if shown is item]
        return rows[0] if rows else None

    def fill(self, items: Sequence[CaseItem], reviewer: str, opened: CaseItem | None) -> None:
        """Show these cases, in this order or as the user has sorted them.

        Args:
            reviewer: whose status is shown.
            opened: the case that is open.
        """
        self._listed, self._reviewer, self._opened = items, reviewer, opened
        chosen = {id(item) for item in self.selected}
        self._items = self._sorted(items)
        table = self._table
        with self._gui.updating(), updates_disabled(table):
            table.setRowCount(len(self._items))
            for row, item in enumerate(self._items):
                self._put(row, item)
            self.fit_columns()
            fit_rows(table, len(self._items), _LEAST_ROWS, _MOST_ROWS)
            table.clearSelection()
            for row, item in enumerate(self._items):
                if id(item) in chosen:
                    self._select_row(row)
        self._on_selected()

    def reset_sorting(self) -> None:
        """Show the next cases in the order in which they are given."""
        self._sorting = None
        self._table.horizontalHeader().setSortIndicatorShown(False)

    def update(self, item: CaseItem) -> None:
        """Show what is true of a case now, if it is shown."""
        for row, shown in enumerate(self._items):
            if shown is item:
                self._put(row, item)

    def show_opened(self, item: CaseItem | None) -> None:
        """Mark the case that is open, select it and scroll to it; `on_open` is not called."""
        if item is self._opened:  # what the user has selected meanwhile stays selected
            return
        before, self._opened = self._opened, item
        for one in (before, item):
            if one is not None:
                self.update(one)
        rows = [row for row, shown in enumerate(self._items) if shown is item]
        if rows:
            with self._gui.updating():
                self._table.clearSelection()
                self._table.setCurrentCell(rows[0], 0)
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
        name = f"{_OPENED if item is self._opened else ''}{name_text(entry)}"
        if not item.is_read and not entry.reviews and entry.regions is None:
            return name, _("..."), "", "", "", "", ""
        if entry.trouble:
            return name, _("cannot be read"), "", "", "", "", ""
        flags = "; ".join(dict.fromkeys(RULES[flag.rule] for flag in entry.flags))
        status = status_text(entry, self._reviewer)
        if entry.regions is None:
            return name, status, flags, "", "", "", ""
        wrong = "" if entry.expected_wrong_mm3 is None else volume_text(entry.expected_wrong_mm3)
        return name, status, flags, wrong, str(entry.regions), f"{entry.minutes:.1f}", entry.worst_structure or ""

    def _sorted(self, items: Sequence[CaseItem]) -> list[CaseItem]:
        if self._sorting is None:
            return list(items)
        column, descending = self._sorting
        keyed = [(_key(item.entry, column, self._reviewer), item) for item in items]
        known = [(key, item) for key, item in keyed if key is not None]
        known.sort(key=lambda pair: pair[0], reverse=descending)
        return [item for _key_, item in known] + [item for key, item in keyed if key is None]

    def _sort_by(self, column: int) -> None:
        """Sort at the first click, reverse at the second, restore the worklist's order at the third."""
        first = column in _NUMERIC
        if self._sorting is None or self._sorting[0] != column:
            self._sorting = (column, first)
        elif self._sorting[1] is first:
            self._sorting = (column, not first)
        else:
            self._sorting = None
        header = self._table.horizontalHeader()
        header.setSortIndicatorShown(self._sorting is not None)
        if self._sorting is not None:
            way = qt.Qt.DescendingOrder if self._sorting[1] else qt.Qt.AscendingOrder
            header.setSortIndicator(column, way)
        self.fill(self._listed, self._reviewer, self._opened)

    def _select_row(self, row: int) -> None:
        flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
        self._table.selectionModel().select(self._table.model().index(row, 0), flags)

    def _clicked(self, row: int, column: int) -> None:
        # With a key held the user gathers cases, to export them.
        held = slicer.app.keyboardModifiers()
        if not held & qt.Qt.ControlModifier and not held & qt.Qt.ShiftModifier:
            self._activated(row, column)

    def _activated(self, row: int, _column: int) -> None:
        if 0 <= row < len(self._items) and self._items[row] is not self._opened:
            self._on_open(self._items[row])


def _key(entry: WorklistEntry, column: int, reviewer: str) -> Any:
    """Return the sort key of a column; None for unknown values, which come last."""
    if column == _STATUS:
        now = reviewer_progress(entry, reviewer)
        return None if not entry.regions else ((now.own or 0) + now.unseen) / entry.regions
    flags = ";".join(dict.fromkeys(RULES[flag.rule] for flag in entry.flags)).casefold()
    structure = entry.worst_structure.casefold() if entry.worst_structure else None
    known = entry.regions is not None
    numbers = (entry.expected_wrong_mm3, entry.regions, entry.minutes if known else None)
    return (name_text(entry).casefold(), None, flags or None, *numbers, structure)[column]


RULES = {
    Rule.WRONG_VOLUME: _("wrong volume"),
    Rule.WRONG_SHARE: _("wrong share"),
    Rule.INTERVAL: _("wide interval"),
    Rule.DICE: _("low Dice"),
    Rule.SOFT_DICE: _("low soft Dice"),
    Rule.FINGERPRINT: _("unlike training"),
    Rule.EMPTY: _("empty structure"),
    Rule.MODEL: _("weak model"),
    Rule.REVIEWER: _("reviewer"),
}
"""Short for a column; the reasons stand below the list."""

COLUMN_TIPS = (
    _("The name of the case."),
    _("How many regions you have decided, then how many others have. Enter your name in Selective review."),
    _("Which rules flag the case; the reasons stand below the list when it is selected."),
    _("How much of the worst structure is expected to be wrong."),
    _("Number of regions worth a look."),
    _("Minutes needed to review the regions that nobody has accepted or corrected."),
    _("The structure with the largest expected wrong volume."),
)


def name_text(entry: WorklistEntry) -> str:
    """Return the name of a case, with its folder's name if that differs, to tell copies apart."""
    folder = entry.name if entry.folder is None else entry.folder.name
    return entry.name if entry.name == folder else _("{case} ({folder})").format(case=entry.name, folder=folder)


def status_text(entry: WorklistEntry, reviewer: str) -> str:
    """Return how far a case is: the reviewer's own part first, then the others'."""
    if entry.regions is None:
        return _("not calibrated")
    if entry.regions == 0:
        return _("no region")
    now = reviewer_progress(entry, reviewer)
    unseen = {status.reviewer: status.unseen for status in entry.reviews}
    parts = {name: _part(decided, entry.regions, unseen[name]) for name, decided in now.others.items()}
    others = [_("{name}: {part}").format(name=name, part=part) for name, part in parts.items()]
    if not reviewer:
        return "; ".join(others) or _("not begun")
    own = _("not begun") if now.own is None else _part(now.own, entry.regions, now.unseen)
    return "; ".join([own, *others])


def _part(decided: int, regions: int, unseen: int) -> str:
    if unseen:
        return _("{n} of {all}, {unseen} not looked at").format(n=decided, all=regions, unseen=unseen)
    return _("done") if decided >= regions else _("{n} of {all}").format(n=decided, all=regions)


def cell_tips(item: CaseItem) -> dict[int, str]:
    """Return the tool tips of a case, by column: what does not fit into the cells."""
    entry = item.entry
    tips = {0: f"{entry.name}\n{item.folder}", 2: "\n".join(typeset(flag.sentence) for flag in entry.flags)}
    tips |= {3: entry.worst_structure or "", 6: entry.worst_structure or ""}
    lines = [status.text for status in entry.reviews] + list(entry.notes) + ([entry.trouble] if entry.trouble else [])
    return {column: tip for column, tip in {**tips, 1: "\n".join(lines)}.items() if tip}


def summary_text(found: CaseList, shown: int, reviewer: str) -> str:
    """Return the line about a list.

    Args:
        shown: how many of its cases pass the filter.
    """
    count, entries = len(found.items), [item.entry for item in found.items]
    flagged = sum(bool(entry.flags) for entry in entries)
    waiting = sum(reviewer_progress(entry, reviewer).is_open for entry in entries)
    many = _("{count} cases, {flagged} flagged, {waiting} open for {who}; {place}")
    one = _("One case, {flagged} flagged, {waiting} open for {who}; {place}")
    text = (one if count == 1 else many).format(
        count=count, flagged=flagged, waiting=waiting, who=reviewer or _("you"), place=found.title
    )
    return text if shown == count else _("{shown} of {summary}").format(shown=shown, summary=text)


def about_case(item: CaseItem) -> list[str]:
    """Return the lines about the selected case: why it is flagged, and what is unusual about it."""
    entry = item.entry
    if entry.trouble:
        return [entry.trouble]
    none = (
        _("No rule flags {case}.")
        if entry.triage.rules_active
        else _(
            "No rule is active for the model of {case}: its calibration cases gave no limit that tells bad cases "
            "from good ones. Only the checks of input and model, empty structures and reviewers can flag it, unless "
            "you set a limit."
        )
    )
    reasons = [flag.sentence for flag in entry.flags] or [none.format(case=entry.name)]
    return [typeset(sentence) for sentence in (*reasons, *entry.triage.sentences, *entry.notes)]
