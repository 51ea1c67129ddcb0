"""Keys that a test presses: they go the way of real ones, through ShortcutOverride and Qt's shortcut map."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtTest, QtWidgets


def _give_focus(window: QtWidgets.QWidget, widget: Any) -> None:
    """Shortcuts look at the active window, and at the focus only within it."""
    top = QtWidgets.QWidget.window(widget)
    QtWidgets.QWidget.show(top)
    QtWidgets.QWidget.activateWindow(top)
    QtWidgets.QWidget.setFocus(widget)
    QtWidgets.QApplication.processEvents()
    if widget is not window and QtWidgets.QApplication.focusWidget() is not widget:
        name = QtCore.QObject.objectName(widget) or type(widget).__name__
        raise AssertionError(f"{name} cannot have the keyboard focus: it is hidden, disabled or takes no focus")


def press_key(window: QtWidgets.QWidget, key: str, widget: Any = None) -> None:
    """Press and release one key in a widget.

    Args:
        window: the main window, used when no widget is given and none has the focus.
        key: as in QKeySequence: "N", "Space", "Ctrl+Alt+1".
        widget: gets the focus first, as if the user had clicked it.

    Raises:
        AssertionError: the key has no such name, or the widget cannot have the focus.
    """
    sequence = QtGui.QKeySequence(key)
    if sequence.count() != 1 or sequence[0].key() == QtCore.Qt.Key.Key_unknown:
        raise AssertionError(f"no key is called {key!r}")
    target = widget if widget is not None else QtWidgets.QApplication.focusWidget() or window
    _give_focus(window, target)
    QtTest.QTest.keyClick(target, sequence[0].key(), sequence[0].keyboardModifiers())
