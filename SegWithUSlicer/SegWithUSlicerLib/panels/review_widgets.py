"""Widgets of the review section: table of regions, texts, keys."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import qt
import slicer

from SegWithUCore.case.structures_table import short_name
from SegWithUCore.regions.region import Kind, Region
from SegWithUCore.review.verdicts import GIVEN, Verdict

from ..guarded import guarded
from ..i18n import _
from ..review.verdict_texts import numbered_text, translated_verdict, verdict_text
from ..scene.readout import volume_text
from .widgets import GuiConnections, put_cell, set_up_table, updates_disabled

_VERDICT, _STRUCTURE, _ERROR = 1, 2, 3


class ReviewTable:
    """Shows regions in the given order.

    Args:
        table: the QTableWidget.
        on_chosen: called with the id of the region that the user chose by mouse or keyboard.
        on_sorted: called when the user has clicked on a header: `arranged` sorts by its column.
    """

    def __init__(self, table: Any, on_chosen: Callable[[int], None], on_sorted: Callable[[], None]) -> None:
        self._table = table
        self._on_chosen = on_chosen
        self._gui = GuiConnections()
        self._ids: list[int] = []
        self._rows: dict[int, int] = {}
        set_up_table(table, ["#", "", _("Structure"), _("Error"), _("Kind")], stretches_last=False)
        table.horizontalHeader().setSortIndicatorShown(True)
        table.horizontalHeader().setSectionResizeMode(_STRUCTURE, qt.QHeaderView.Stretch)  # the kind stays in sight
        self.forget_sorting()
        table.horizontalHeaderItem(_VERDICT).setToolTip(_("The sign of your verdict."))
        tip = _("The volume in the region that is expected to be wrong; without a model, that of the region.")
        table.horizontalHeaderItem(_ERROR).setToolTip(tip)
        self._gui.connect_signal(table.horizontalHeader(), "sectionClicked(int)", lambda _column: on_sorted())
        self._gui.connect_signal(table, "currentCellChanged(int,int,int,int)", self._moved)
        self._gui.connect_signal(table, "cellActivated(int,int)", self._activated)

    def arranged(self, regions: Sequence[Region], verdict_of: Callable[[int], Verdict | None]) -> list[Region]:
        """Sort regions by the column whose header the user has clicked, if any."""
        header = self._table.horizontalHeader()
        column, falls = header.sortIndicatorSection(), header.sortIndicatorOrder() == qt.Qt.DescendingOrder
        if column < 0:
            return list(regions)

        def cells(region: Region) -> tuple[Any, ...]:
            return region.rank, _sign(verdict_of(region.id)), region.structure, _size_mm3(region), KINDS[region.kind]

        return sorted(regions, key=lambda region: cells(region)[column], reverse=falls)

    def forget_sorting(self) -> None:
        """Go back to the given order."""
        self._table.horizontalHeader().setSortIndicator(-1, qt.Qt.AscendingOrder)

    def fill(self, regions: Sequence[Region], verdict_of: Callable[[int], Verdict | None]) -> None:
        """Show these regions, in this order."""
        self._ids = [region.id for region in regions]
        self._rows = {identifier: row for row, identifier in enumerate(self._ids)}
        table, is_alone = self._table, any(region.expected_wrong_mm3 is None for region in regions)
        table.horizontalHeaderItem(_ERROR).setText(_("Volume") if is_alone else _("Error"))
        with self._gui.updating(), updates_disabled(table):
            table.clearContents()
            table.setRowCount(len(regions))
            for row, region in enumerate(regions):
                # No cell is left, and there may be thousands.
                for column, text in enumerate(_texts(region, verdict_of(region.id))):
                    item = qt.QTableWidgetItem(text)
                    if column == _STRUCTURE:
                        item.setToolTip(region.structure)
                    table.setItem(row, column, item)
            table.resizeColumnsToContents()

    def select(self, region_id: int | None) -> None:
        """Mark a region's row, if it is listed, and scroll to it; `on_chosen` is not called."""
        with self._gui.updating():
            self._table.setCurrentCell(-1 if region_id is None else self._rows.get(region_id, -1), 0)

    def update(self, region_id: int, verdict: Verdict | None) -> None:
        """Show another verdict, if the region is listed."""
        if region_id in self._rows:
            put_cell(self._table, self._rows[region_id], _VERDICT, _sign(verdict), verdict_text(verdict))

    def focus(self) -> None:
        """Give the list the keyboard."""
        self._table.setFocus()

    def _moved(self, row: int, _column: int, row_before: int, _column_before: int) -> None:
        if row != row_before:
            self._activated(row, 0)

    def _activated(self, row: int, _column: int) -> None:
        if 0 <= row < len(self._ids):
            self._on_chosen(self._ids[row])


def _texts(region: Region, verdict: Verdict | None) -> tuple[str, ...]:
    size = volume_text(_size_mm3(region))
    return str(region.rank), _sign(verdict), short_name(region.structure), size, KINDS[region.kind]


def _size_mm3(region: Region) -> float:
    """Return the expected wrong volume or, without a model, that of the region."""
    return region.volume_mm3 if region.expected_wrong_mm3 is None else region.expected_wrong_mm3


def found_by(region: Region, comment: str, words: str) -> bool:
    """Check whether all these words occur in the structure, the kind or the comment of a region."""
    text = f"{region.structure} {short_name(region.structure)} {KINDS[region.kind]} {comment}".lower()
    return all(word in text for word in words.lower().split())


ORDERS = {
    "structure": _("Structure by structure"),
    "expected wrong volume": _("Largest expected error first"),
    "peak": _("Highest error probability first"),
    "position": _("From head to foot"),
}
"""The names of `review.region.ORDERS`."""

KINDS = {
    Kind.BOUNDARY: _("boundary"),
    Kind.MISSED: _("missed part"),
    Kind.EXTRA: _("extra part"),
    Kind.CONFUSION: _("confusion"),
    Kind.BLIND: _("blind sample"),
    Kind.ADDED: _("added place"),
    Kind.ISLAND: _("apart"),
    Kind.HOLE: _("hole"),
    Kind.JUMP: _("jump"),
    Kind.SIDE: _("wrong side"),
}


def _sign(verdict: Verdict | None) -> str:
    return "-" if verdict is None else verdict.kind.sign


def add_verdict_buttons(ui: Any, judge: Callable[[Verdict], None], judge_structure: Callable[[Verdict], None]) -> None:
    """Add a button for each verdict to the section, in two columns, and those for a whole structure."""
    tip = _("Your verdict on the structure as a whole: {verdict}.")
    of_structures = []
    for place, verdict in enumerate(GIVEN):
        first, *others = verdict.text.removesuffix("ed").split()  # accept of accepted, secondReader of second reader
        name = first + "".join(word.capitalize() for word in others)
        kind, text = verdict.kind, translated_verdict(verdict.value)
        title, act = f"{text[:1].upper()}{text[1:]}", partial(judge, verdict)
        button = _added(ui, f"{name}Button", title, translated_verdict(kind.tip), act)
        ui.verdictFrame.layout().addWidget(button, place // 2, place % 2)
        if kind.structure:
            title, act = translated_verdict(kind.structure), partial(judge_structure, verdict)
            of_structures.append(_added(ui, f"{name}StructureButton", title, tip.format(verdict=text), act))
    for place, button in enumerate(of_structures):
        ui.structureFrame.layout().insertWidget(place, button)


def _added(ui: Any, name: str, text: str, tip: str, act: Callable[[], None]) -> Any:
    button = qt.QPushButton(text)
    button.objectName, button.toolTip = name, tip
    button.connect("clicked(bool)", guarded(act))
    setattr(ui, name, button)
    return button


NEXT, PREVIOUS, FINISH, ADD_PLACE, SCROLL = "N", "Shift+N", "Ctrl+Alt+F", "Ctrl+Alt+A", "Ctrl+Alt+W"
UNDO, EDIT, COMMENT, NEXT_CASE = "Ctrl+Alt+Z", "Ctrl+Alt+E", "Ctrl+Alt+C", "Ctrl+Alt+N"
"""Free in Slicer and in Segment Editor (slicer.md 10.11). Where Ctrl+Alt types letters (AltGr), typing comes first."""


def keys_text() -> str:
    """Return the line about the keys."""
    return _(
        "Keys: {next} next undecided, {previous} previous; {verdicts}; {finish} finish the structure; "
        "{place} add a place, {scroll} scroll the contour, {undo} undo, {edit} edit, {comment} comment; "
        "{case} next open case. They rest while you type."
    ).format(
        next=key_text(NEXT),
        previous=key_text(PREVIOUS),
        verdicts=numbered_text(key_text(GIVEN[0].key)),
        finish=key_text(FINISH),
        place=key_text(ADD_PLACE),
        scroll=key_text(SCROLL),
        undo=key_text(UNDO),
        edit=key_text(EDIT),
        comment=key_text(COMMENT),
        case=key_text(NEXT_CASE),
    )


def key_text(key: str) -> str:
    """Return a key as the platform writes it: on macOS Ctrl is the command key."""
    return str(qt.QKeySequence(key).toString(qt.QKeySequence.NativeText))


def actions_of(panel: Any) -> dict[str, Callable[[], None]]:
    """Return the action of each key in the section "Selective review"."""
    return {
        NEXT: panel.next,
        PREVIOUS: panel.previous,
        **{verdict.key: partial(panel.judge, verdict) for verdict in GIVEN},
        FINISH: panel.finish,
        ADD_PLACE: panel.add_place,
        SCROLL: lambda: panel.contour.begin(False),
        UNDO: panel.undo,
        EDIT: panel.edit.toggle,
        COMMENT: panel.write_comment,
        NEXT_CASE: lambda: panel.on_next_case(),
    }


class ReviewKeys:
    """Keyboard shortcuts of a section; installed while it is visible.

    Args:
        actions: what each key does.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = actions
        self._shortcuts: list[tuple[Any, Callable[[], None]]] = []

    @property
    def is_installed(self) -> bool:
        """Whether the keys are there."""
        return bool(self._shortcuts)

    def install(self) -> None:
        """Begin to listen."""
        window = slicer.util.mainWindow()
        if self._shortcuts or window is None:
            return
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.autoRepeat = False
            pressed = guarded(action)
            shortcut.connect("activated()", pressed)
            self._shortcuts.append((shortcut, pressed))
        slicer.app.connect("focusChanged(QWidget*,QWidget*)", self._focus_moved)
        self._focus_moved(None, qt.QApplication.focusWidget())

    def remove(self) -> None:
        """Stop listening."""
        if not self._shortcuts:
            return
        slicer.app.disconnect("focusChanged(QWidget*,QWidget*)", self._focus_moved)
        for shortcut, action in self._shortcuts:
            shortcut.disconnect("activated()", action)
            shortcut.enabled = False
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    @guarded
    def _focus_moved(self, _old: Any, new: Any) -> None:
        """Disable the keys while typing: an enabled shortcut takes the key even if it does nothing."""
        for shortcut, _action in self._shortcuts:
            shortcut.enabled = not takes_text(new)


def takes_text(widget: Any) -> bool:
    """Check whether what is typed goes into this widget."""
    if widget is None:
        return False
    if widget.inherits("QLineEdit") or widget.inherits("QTextEdit") or widget.inherits("QPlainTextEdit"):
        return not widget.isReadOnly()
    return bool(widget.inherits("QAbstractSpinBox") or (widget.inherits("QComboBox") and widget.isEditable()))
