"""Connect widgets with the values that they show, in both directions, as a parameter node's `connectGui` does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from ..guarded import guarded

_KINDS = (
    ("QComboBox", "currentIndex", "currentIndexChanged(int)"),
    ("QAbstractButton", "checked", "toggled(bool)"),
    ("QSpinBox", "value", "valueChanged(int)"),
    ("QDoubleSpinBox", "value", "valueChanged(double)"),
    ("ctkSliderWidget", "value", "valueChanged(double)"),
)
"""Classes of widgets, the property that holds the value, and the signal that says that it changed."""


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


@contextmanager
def updates_disabled(widget: Any) -> Iterator[None]:
    """Draw a widget once, after the block."""
    widget.setUpdatesEnabled(False)
    try:
        yield
    finally:
        widget.setUpdatesEnabled(True)
