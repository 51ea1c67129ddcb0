"""The section "Cases": a list of segmented cases, opened one after the other, without torch.

The table of cases, in the order of the worklist; single rows are updated in place.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

from SegWithUCore.review import columns
from SegWithUCore.review.reviewer import clean_reviewer_name
from SegWithUCore.review.worklist import counts_text
from SegWithUCore.review.worklist_files import WORKLIST_JSON
from SegWithUCore.util.errors import SegWithUError

from ..cases.case_list import CaseItem, CaseList, matches
from ..cases.moved_images import MovedImages
from ..guarded import guarded
from ..i18n import _, translated
from ..review.store import review_folder_elsewhere
from ..run.session import Debounce, set_setting, setting, start_timer
from ..scene.readout import for_panel, typeset
from .case_opener import CaseOpener
from .command_panel import choose_folder
from .export_panel import ExportPanel
from .new_cases_panel import PLACE_SETTING, NewCasesPanel
from .review_panel import settings_folder
from .widgets import GuiConnections, connect_clicks, fit_columns, fit_rows, put_cell, set_up_table, updates_disabled

_LEAST_ROWS, _MOST_ROWS = 3, 10
_WIDEST_PX, _WIDEST_LAST_PX = 135, 190
"""In a panel of usual width only the last column is cut off; tool tips have the full texts."""
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
        self._columns = columns.columns_of(columns.Table.PANEL)
        set_up_table(table, [translated(column.title, columns) for column in self._columns])
        for place, column in enumerate(self._columns):
            table.horizontalHeaderItem(place).setToolTip(translated(column.tip, columns))
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
        return next(iter(self.shown[self._next_row :]), None)

    def next_open(self, reviewer: str) -> CaseItem | None:
        """Return the next case below that this reviewer has not finished; the search wraps around."""
        begin = self._next_row
        order = [*self.shown[begin:], *self.shown[: max(0, begin - 1)]]
        return next((item for item in order if item.entry.is_open_for(reviewer)), None)

    @property
    def _next_row(self) -> int:
        at = self._row_of(self.opened or next(iter(self.selected), None))
        return 0 if at is None else at + 1

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
            self._fit_columns()
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
        self._fit_columns()  # the mark of the open case needs room
        row = self._row_of(item)
        if row is not None:
            with self._gui.updating():
                self._table.clearSelection()
                self._table.setCurrentCell(row, 0)
            self._on_selected()

    def _fit_columns(self) -> None:
        kept = columns.columns_of(columns.Table.PANEL, [item.entry for item in self.shown])
        for place, column in enumerate(self._columns):
            self._table.setColumnHidden(place, column not in kept)
        fit_columns(self._table, [_WIDEST_PX] * (len(self._columns) - 1) + [_WIDEST_LAST_PX])

    def _put(self, row: int, item: CaseItem) -> None:
        for place, (text, tip) in enumerate(self._cells(item)):
            put_cell(self._table, row, place, text, tip)

    def _cells(self, item: CaseItem) -> list[tuple[str, str]]:
        """Return text and tool tip of each cell: the tip has what does not fit."""
        entry = item.entry
        texts = {column.name: translated(column.shown(entry, self._reviewer), columns) for column in self._columns}
        if not item.is_read and not entry.reviews and entry.regions is None:
            texts = {**dict.fromkeys(texts, ""), "reviewed": _("...")}
        mark, folder = _OPENED if item is self.opened else "", item.folder.name
        copied = _("{case} ({folder})").format(case=entry.name, folder=folder)  # to distinguish copies
        texts["case"] = f"{mark}{entry.name if entry.name == folder else copied}"
        reviews = [*(review.text for review in entry.reviews), *entry.notes, *filter(None, [entry.trouble])]
        tips = {"case": [entry.name, str(item.folder)], "reviewed": reviews, "light": about_case(item)}
        return [(text, "\n".join(map(for_panel, tips.get(name, [text])))) for name, text in texts.items()]

    def _clicked(self, row: int, column: int) -> None:
        # With a key held the user gathers cases, to export them.
        held = slicer.app.keyboardModifiers()
        if not held & qt.Qt.ControlModifier and not held & qt.Qt.ShiftModifier:
            self._activated(row, column)

    def _activated(self, row: int, _column: int) -> None:
        if 0 <= row < len(self.shown) and self.shown[row] is not self.opened:
            self._on_open(self.shown[row])


def about_case(item: CaseItem) -> list[str]:
    """Return the lines about the selected case: why it has its status, and what is unusual about it."""
    return [typeset(line) for line in item.entry.about]


READ_EVERY_MS, READ_FOR_S = 10, 0.04
"""Cases are read in pieces, so that a click is answered in between."""
FILTER_MS, ROW_MS = 200, 400


class CasesPanel:
    """Owns the list of cases, and opens cases from it.

    Args:
        ui: the widgets of the .ui file.
        panel: the whole panel, a `ModulePanel`.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self.ui, self._panel = ui, panel
        self.list: CaseList | None = None
        self.moved = MovedImages()
        self.opener = CaseOpener(ui, panel, self.moved)
        self.opener.on_opened = self._opened
        self.table = CasesTable(ui.casesTable, self.open_row, self._draw_case)
        self.exports = ExportPanel(ui, self.moved, lambda: (self.table.shown, self.table.selected), self._save_review)
        self.new = NewCasesPanel(ui, panel, self)
        self._stop_reading: Callable[[], None] | None = None
        self._fill_later = Debounce(FILTER_MS, self._fill)
        self._row_later = Debounce(ROW_MS, self._read_opened)
        panel.review.on_review_changed, panel.review.on_next_case = self._row_later.trigger, self.next_open
        self._connect()
        self._draw()

    # -- what the module panel calls --

    def follow(self) -> None:
        """Mark the case that is shown now, and show how far the review of the one before is."""
        self.opener.follow()
        if self.list is not None:
            before, item = self.table.opened, self._open_item()
            self.table.show_opened(item)
            if before is not None and before is not item:
                self._read_row(before.folder)
        self._draw_case()

    def draw(self) -> None:
        """Show again what is true, of list, case and export."""
        self._draw()
        self._draw_case()

    def close(self) -> None:
        """Release everything; a running export is cancelled."""
        self._end_reading()
        self._fill_later.stop()
        self._row_later.stop()
        self._panel.review.on_review_changed = self._panel.review.on_next_case = lambda: None
        self.exports.close()
        self.new.close()
        self.opener.check.stop()

    # -- clicks --

    def choose_worklist(self) -> None:
        """Let the user choose a `worklist.json`."""
        title, kind = _("Open a worklist"), _("Worklist ({name})").format(name="*.json")
        begin = str(Path(setting(PLACE_SETTING)) / WORKLIST_JSON) if setting(PLACE_SETTING) else ""
        chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, begin, kind)
        if chosen:
            set_setting(PLACE_SETTING, str(Path(str(chosen)).parent))
            self.open_list(Path(str(chosen)))

    def choose_folder(self) -> None:
        """Let the user choose a folder of cases."""
        chosen = choose_folder(_("Open a folder of cases"), PLACE_SETTING)
        if chosen is not None:
            self.open_list(chosen)

    def open_list(self, path: Path) -> None:
        """Show the cases of a `worklist.json`, or of a folder."""
        try:
            found = CaseList(path, review_folder_elsewhere(settings_folder()))
        except (SegWithUError, OSError) as error:
            self.ui.casesLabel.text = for_panel(str(error))
            return
        self.list = found
        self.opener.cancel_question()
        self.opener.message = ""
        self.ui.casesButton.collapsed = False
        self._fill()
        self._draw()
        self._keep_reading()

    def refresh(self) -> None:
        """Read all cases again."""
        if self.list is not None:
            self.list.read_all_again()
            self._keep_reading()

    def open_row(self, item: CaseItem | None) -> None:
        """Open a case of the list, if there is one."""
        if item is not None:
            self.opener.open(item.folder)

    def next(self) -> None:
        """Open the next case in the list."""
        self.open_row(self.table.next())

    def next_open(self) -> None:
        """Open the next case in which this reviewer has regions left to decide."""
        self.open_row(self.table.next_open(self.reviewer))

    # -- the list --

    def _keep_reading(self) -> None:
        if self._stop_reading is None and self.list is not None:
            self._stop_reading = start_timer(READ_EVERY_MS, self._read)

    def _read(self) -> None:
        assert self.list is not None
        for item in self.list.read_some(READ_FOR_S):
            self.table.update(item)
        if self.list.progress >= 1.0:  # now it is known which cases pass the filter, and their order
            self._end_reading()
            self._fill()
            self._draw_case()
        self._draw()

    def _end_reading(self) -> None:
        if self._stop_reading is not None:
            self._stop_reading()
            self._stop_reading = None

    def _read_opened(self) -> None:
        """Show how far the review of the open case is now."""
        self._read_row(self.opener.open_folder)

    def _read_row(self, folder: Path | None) -> None:
        item = self.list.read_again(folder) if self.list is not None else None
        if item is not None:
            self.table.update(item)
            self._draw()
            self._draw_case()

    def _opened(self) -> None:
        self.follow()
        self._read_opened()

    def _save_review(self) -> None:
        if self._panel.review.session is not None:
            self._panel.review.session.save()

    # -- what is shown --

    @property
    def reviewer(self) -> str:
        """The name in the reviewer's own logs; "" where none was entered."""
        name = self._panel.review.reviewer
        return clean_reviewer_name(name) if name.strip() else ""

    def _fill(self) -> None:
        if self.list is not None:
            shown = [item for item in self.list.items if self._is_wanted(item)]
            self.table.fill(shown, self.reviewer, self._open_item())
            self._draw()

    def _is_wanted(self, item: CaseItem) -> bool:
        ui, entry = self.ui, item.entry
        if ui.onlyFlaggedBox.checked and not entry.is_flagged:
            return False
        if ui.onlyOpenBox.checked and not entry.is_open_for(self.reviewer):
            return False
        return matches(entry, ui.caseFilterEdit.text)

    def _open_item(self) -> CaseItem | None:
        return self.list.find(self.opener.open_folder) if self.list is not None else None

    def _draw(self) -> None:
        """Update the line about the list and the buttons."""
        ui, found = self.ui, self.list
        ui.casesFrame.visible = found is not None
        ui.refreshCasesButton.enabled = found is not None
        ui.readingBar.visible = self._stop_reading is not None and found is not None and found.progress < 1.0
        if found is None:
            if not ui.casesLabel.text:
                ui.casesLabel.text = _(
                    "Review cases one after the other: open a folder of segmented cases, a colleague's export, or a "
                    "worklist. Nothing needs to be installed for it."
                )
            return
        ui.readingBar.value = round(100 * found.progress)
        text, shown = counts_text([item.entry for item in found.items], self.reviewer), len(self.table.shown)
        if shown != len(found.items):
            text = _("{shown} of {all}").format(shown=shown, all=text)
        ui.casesLabel.text = f"{text}; {found.title}"

    def _draw_case(self) -> None:
        """Update the line about the selected case and the buttons."""
        ui, selected = self.ui, self.table.selected
        lines = [self.opener.message] if self.opener.message else []
        lines += about_case(selected[0]) if len(selected) == 1 else []
        lines += [_("{count} cases are selected.").format(count=len(selected))] if len(selected) > 1 else []
        ui.caseLabel.text = "\n".join(map(for_panel, lines))
        ui.caseLabel.visible = bool(lines)
        ui.nextCaseButton.enabled = self.table.next() is not None
        ui.nextOpenCaseButton.enabled = self.table.next_open(self.reviewer) is not None
        self.exports.draw()
        self.new.draw()

    def _connect(self) -> None:
        ui = self.ui
        connect_clicks(
            ui,
            openWorklistButton=self.choose_worklist,
            openFolderButton=self.choose_folder,
            refreshCasesButton=self.refresh,
            nextCaseButton=self.next,
            nextOpenCaseButton=self.next_open,
        )
        ui.caseFilterEdit.connect("textChanged(QString)", guarded(lambda _text: self._fill_later.trigger()))
        ui.reviewerEdit.connect("textChanged(QString)", guarded(lambda _text: self._fill_later.trigger()))
        for box in (ui.onlyFlaggedBox, ui.onlyOpenBox):
            box.connect("toggled(bool)", guarded(lambda _checked: self._fill()))
