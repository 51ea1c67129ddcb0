"""Menus whose actions and submenus follow PythonQt's rules too, although QMenu makes them in C++."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtGui, QtWidgets


def _text_and_icon(args: tuple[Any, ...]) -> tuple[str, Any, tuple[Any, ...]]:
    """(icon, text, ...) or (text, ...): text, icon or None, and what follows."""
    if args and isinstance(args[0], QtGui.QIcon):
        return args[1], args[0], args[2:]
    return args[0], None, args[1:]


def menu_members(qt: types.ModuleType) -> dict[str, Callable[..., Any]]:
    """Replacements for QMenu's makers of actions."""
    native = QtWidgets.QMenu

    def new_action(menu: Any, text: str, icon: Any) -> Any:
        action = qt.QAction(text, menu)
        if icon is not None:
            action.setIcon(icon)
        native.addAction(menu, action)
        return action

    def add_action(menu: Any, *args: Any) -> Any:
        """addAction(action) or addAction([icon,] text [, slot])."""
        if isinstance(args[0], QtGui.QAction):
            native.addAction(menu, args[0])
            return None
        text, icon, more = _text_and_icon(args)
        action = new_action(menu, text, icon)
        if more:
            action.connect("triggered()", more[0])
        return action

    def add_menu(menu: Any, *args: Any) -> Any:
        """addMenu(menu) or addMenu([icon,] title)."""
        if isinstance(args[0], QtWidgets.QMenu):
            return native.addMenu(menu, args[0])
        title, icon, _ = _text_and_icon(args)
        made = qt.QMenu(title, menu)
        if icon is not None:
            made.setIcon(icon)
        native.addMenu(menu, made)
        return made

    def add_separator(menu: Any) -> Any:
        action = new_action(menu, "", None)
        action.setSeparator(True)
        return action

    return {"addAction": add_action, "addMenu": add_menu, "addSeparator": add_separator}
