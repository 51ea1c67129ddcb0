"""Builds the module `qt`: every Q class of QtCore, QtGui and QtWidgets under PythonQt's rules."""

from __future__ import annotations

import types
import weakref
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import popups
from .coercion import forgiving
from .made_by_cpp import selection_model_of
from .menus import menu_members
from .pythonqt import PythonQtMeta, PythonQtObject

_AS_THEY_ARE = ("QCoreApplication", "QGuiApplication", "QApplication")
_ITEMS = ("QTableWidgetItem", "QTreeWidgetItem", "QListWidgetItem")
_FILE_DIALOGS: dict[str, Any] = {
    "getOpenFileName": "",
    "getSaveFileName": "",
    "getExistingDirectory": "",
    "getOpenFileNames": (),
}
_INPUT_DIALOGS = ("getText", "getItem", "getInt", "getDouble")
_QUESTIONS = ("question", "information", "warning", "critical")
TIMERS: weakref.WeakSet[QtCore.QTimer] = weakref.WeakSet()
"""All timers that were made through `qt`."""


def _dialog_members(cls: type) -> dict[str, Any]:
    """Replacements for the calls that would wait for a user."""
    members: dict[str, Any] = {}
    if issubclass(cls, QtWidgets.QMessageBox):
        members["exec"] = members["exec_"] = popups.run_message_box
        cancel = QtWidgets.QMessageBox.StandardButton.Cancel
        members.update({name: popups.static_dialog(f"QMessageBox.{name}", cancel) for name in _QUESTIONS})
    elif issubclass(cls, QtWidgets.QDialog):
        members["exec"] = members["exec_"] = popups.run_dialog
    if cls is QtWidgets.QFileDialog:
        members.update({name: popups.static_dialog(f"QFileDialog.{name}", no) for name, no in _FILE_DIALOGS.items()})
    if cls is QtWidgets.QInputDialog:
        members.update({name: popups.static_dialog(f"QInputDialog.{name}", "") for name in _INPUT_DIALOGS})
    return members


def _own_parts(widget: Any, qt: types.ModuleType) -> None:
    """Headers and scroll bars made in Python, so that PythonQt's rules hold on them too."""
    orientation = QtCore.Qt.Orientation
    if isinstance(widget, QtWidgets.QTableView):
        for put, way in (("setHorizontalHeader", orientation.Horizontal), ("setVerticalHeader", orientation.Vertical)):
            header = qt.QHeaderView(way, widget)
            header.setSectionsClickable(True)
            header.setHighlightSections(True)
            getattr(widget, put)(header)
    if isinstance(widget, QtWidgets.QTreeView):
        header = qt.QHeaderView(orientation.Horizontal, widget)
        header.setSectionsMovable(True)
        header.setStretchLastSection(True)
        header.setDefaultAlignment(QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter)
        widget.setHeader(header)
    if isinstance(widget, QtWidgets.QAbstractScrollArea) and not isinstance(widget, QtWidgets.QHeaderView):
        widget.setVerticalScrollBar(qt.QScrollBar(orientation.Vertical, widget))
        widget.setHorizontalScrollBar(qt.QScrollBar(orientation.Horizontal, widget))


def _constructor(native: type, qt: types.ModuleType) -> Any:
    def init(self: Any, *args: Any) -> None:
        native.__init__(self, *args)  # type: ignore[misc]
        if issubclass(native, QtWidgets.QAbstractScrollArea):
            _own_parts(self, qt)
        elif issubclass(native, QtCore.QTimer):
            TIMERS.add(self)

    return init


def _object_class(native: type, qt: types.ModuleType) -> type:
    members: dict[str, Any] = {"__module__": "qt", "_native_class": native, "__init__": _constructor(native, qt)}
    members.update(_dialog_members(native))
    if issubclass(native, QtWidgets.QAbstractItemView):
        members["selectionModel"] = selection_model_of(native)
    if native is QtWidgets.QMenu:
        members.update(menu_members(qt))
    return PythonQtMeta(native.__name__, (PythonQtObject, native), members)


def _item_class(native: type) -> type:
    """Table, tree and list items: methods are called, ints are taken for enums and flags."""

    def read(self: Any, name: str) -> Any:
        found = native.__getattribute__(self, name)
        return forgiving(found) if isinstance(found, types.BuiltinMethodType) else found

    return type(native.__name__, (native,), {"__module__": "qt", "__getattribute__": read})


def build_qt_module() -> types.ModuleType:
    """A new module `qt`; its loader is added by ui_loader."""
    qt = types.ModuleType("qt", "Qt as PythonQt shows it (stand-in on PySide6)")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            found = getattr(source, name)
            if name[0] != "Q":
                continue
            if isinstance(found, type) and issubclass(found, QtCore.QObject) and name not in _AS_THEY_ARE:
                found = _object_class(found, qt)
            elif name in _ITEMS:
                found = _item_class(found)
            setattr(qt, name, found)
    return qt


QT: Any = build_qt_module()
