"""What several sections share: connections of widgets with values, tables, and a line with details on demand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from ..guarded import guarded
from ..scene.readout import typeset

_KINDS = (
    ("QComboBox", "currentIndex", "currentIndexChanged(int)"),
    ("QAbstractButton", "checked", "toggled(bool)"),
    ("QSpinBox", "value", "valueChanged(int)"),
    ("QDoubleSpinBox", "value", "valueChanged(double)"),
    ("ctkSliderWidget", "value", "valueChanged(double)"),
)
"""Classes of widgets, the property that holds the value, and the signal of its changes."""


class GuiConnections:
    """The connections of one panel: changes by the user are passed on, changes by the panel itself are not.

    Example:
        gui = GuiConnections()
        gui.connect(ui.opacitySlider, overlay.set_opacity, lambda: overlay.opacity)
        gui.refresh()  # the slider shows the opacity, and set_opacity is not called
        with gui.updating():  # nor is any slot called here
            ui.mapBox.clear()
    """

    def __init__(self) -> None:
        self._bound: list[tuple[Any, str, Callable[[], Any]]] = []
        self._is_updating = False

    def connect(self, widget: Any, write: Callable[[Any], None], read: Callable[[], Any] | None = None) -> None:
        """Connect a widget with a value.

        Args:
            widget: of one of the known kinds.
            write: called with the value that the user has chosen; a combo box without a choice is passed over.
            read: returns the value to show at `refresh`; None if the panel sets the widget by itself.
        """
        kind, name, signal = next(entry for entry in _KINDS if widget.inherits(entry[0]))

        @wraps(write)
        def changed(value: Any) -> None:
            if kind != "QComboBox" or value >= 0:
                write(value)

        self.connect_signal(widget, signal, changed)
        if read is not None:
            self._bound.append((widget, name, read))

    def connect_signal(self, sender: Any, signal: str, slot: Callable[..., None]) -> None:
        """Connect any signal with a slot that takes all its arguments."""

        @wraps(slot)
        def call(*arguments: Any) -> None:
            if not self._is_updating:
                slot(*arguments)

        sender.connect(signal, guarded(call))

    def refresh(self) -> None:
        """Show the values as they are now, in the order of their connections."""
        with self.updating():
            for widget, name, read in self._bound:
                setattr(widget, name, read())

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Change widgets in this block without calling any slot; blocks may be nested."""
        was_updating, self._is_updating = self._is_updating, True
        try:
            yield
        finally:
            self._is_updating = was_updating


def connect_clicks(ui: Any, **actions: Callable[..., Any]) -> None:
    """Connect buttons, by object name, with what a click does."""
    for name, action in actions.items():
        getattr(ui, name).connect("clicked(bool)", guarded(action))


ROW_PX = 24


def set_up_table(table: Any, titles: Sequence[str], stretches_last: bool = True) -> None:
    """Give a QTableWidget its columns, and rows of one height."""
    table.setColumnCount(len(titles))
    table.setHorizontalHeaderLabels(list(titles))
    table.setWordWrap(False)
    table.verticalHeader().setVisible(False)
    table.verticalHeader().setDefaultSectionSize(ROW_PX)
    table.horizontalHeader().setStretchLastSection(stretches_last)


def put_cell(table: Any, row: int, column: int, text: str, tip: str = "") -> Any:
    """Show a text in a cell; returns its item."""
    import qt  # not at the top: connections are used without Qt in tests

    cell = table.item(row, column)
    if cell is None:
        cell = qt.QTableWidgetItem(text)
        table.setItem(row, column, cell)
    else:
        cell.setText(text)
    if tip or cell.toolTip():
        cell.setToolTip(tip)
    return cell


def fit_columns(table: Any, widest_px: Sequence[int]) -> None:
    """Make columns as wide as their texts, but no wider than these."""
    table.resizeColumnsToContents()
    for column, widest in enumerate(widest_px):
        if table.columnWidth(column) > widest:
            table.setColumnWidth(column, widest)


def fit_rows(table: Any, rows: int, least: int, most: int) -> None:
    """Make a table high enough for its rows, between these bounds, with room for a horizontal scroll bar."""
    bars = table.horizontalScrollBar().sizeHint.height() + 2 * table.frameWidth
    table.setFixedHeight(table.horizontalHeader().sizeHint.height() + ROW_PX * min(max(rows, least), most) + bars)


def scroll_area_of(widget: Any) -> Any:
    """Return the area in which a panel is scrolled, with the panel at its height of now; None without one.

    Qt keeps the last three heights by width that a layout has asked for. In a long session those of a module's widget
    were never forgotten (seen: 1,800 pixels for 1,100), but for other widths that are asked for.
    """
    while widget is not None and not widget.inherits("QScrollArea"):
        widget = widget.parent()
    layout = None if widget is None else widget.widget().layout()
    if layout is not None:
        for item in map(layout.itemAt, range(layout.count())):
            for width in range(1, 7):
                item.heightForWidth(width)
        layout.invalidate()
        layout.activate()
    return widget


@contextmanager
def updates_disabled(widget: Any) -> Iterator[None]:
    """Draw a widget once, after the block."""
    widget.setUpdatesEnabled(False)
    try:
        yield
    finally:
        widget.setUpdatesEnabled(True)


class OneLine:
    """A line with details in its tool tip, and below it after a click on "Details".

    Args:
        line: the label that is always read.
        button: a checkable button.
        details: the label for the details.
    """

    def __init__(self, line: Any, button: Any, details: Any) -> None:
        self._line, self._button, self._details = line, button, details
        button.connect("toggled(bool)", guarded(lambda _checked: self._draw()))

    def show(self, text: str, details: Sequence[str]) -> None:
        """Show a line, or nothing for "".

        Args:
            details: messages that the line summarises; none if it is complete.
        """
        details = [typeset(message) for message in details]
        self._line.text, self._line.visible = text, bool(text)
        self._line.toolTip = "\n".join(details)
        self._button.visible = bool(text) and bool(details)
        if not details:
            self._button.checked = False
        self._details.text = "\n".join(f"\N{BULLET} {message}" for message in details)
        self._draw()

    def _draw(self) -> None:
        self._details.visible = self._button.visible and self._button.checked
