"""qt.QUiLoader: makes our classes for a .ui file and honours the file's own connections, and only those."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools

from . import pythonqt
from .pythonqt import PythonQtObject
from .qt_module import QT
from .strict import record
from .widgets.stand_in import CTK_CLASSES, SLICER_CLASSES


def widget_class(name: str) -> Any:
    """The class for a <widget class="...">, or None."""
    return CTK_CLASSES.get(name) or SLICER_CLASSES.get(name) or getattr(QT, name, None)


class _ClassMaker(QtUiTools.QUiLoader):
    """PySide6's loader with our classes; made objects are kept alive by the list."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        """One widget; "Line" is the designer's name for a frame."""
        if class_name == "Line":
            return super().createWidget(class_name, parent, name)
        cls = widget_class(class_name)
        if cls is None:
            record("ui", name, f"no class {class_name}")
            cls = QT.QWidget
        return self._keep(cls(parent) if parent is not None else cls(), name)

    def createLayout(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        """One layout."""
        return (
            self._keep(getattr(QT, class_name)(), name)
            if parent is None
            else super().createLayout(class_name, parent, name)
        )

    def _keep(self, made: Any, name: str) -> Any:
        QtCore.QObject.setObjectName(made, name)
        self.made.append(made)
        return made


def _take_connections(text: str) -> tuple[bytes, list[tuple[str, str, str, str]]]:
    """The file without its <connections> and what they were: sender, signal, receiver, slot."""
    root = ElementTree.fromstring(text)
    found = []
    for block in root.findall("connections"):
        for connection in block.findall("connection"):
            parts = [connection.findtext(key, "") for key in ("sender", "signal", "receiver", "slot")]
            found.append((parts[0], parts[1], parts[2], parts[3]))
        root.remove(block)
    return ElementTree.tostring(root, encoding="utf-8"), found


def _unknown_properties(root: Any, text: str) -> None:
    """A property that the class lacks becomes a silent dynamic property in Qt: say so, unless stdset="0" wants that."""
    for element in ElementTree.fromstring(text).iter("widget"):
        widget = _named(root, element.get("name", ""))
        if not isinstance(widget, PythonQtObject):
            continue
        for prop in element.findall("property"):
            name = prop.get("name", "")
            if prop.get("stdset") != "0" and QtCore.QObject.metaObject(widget).indexOfProperty(name) < 0:
                record("ui", f"{element.get('name')} ({element.get('class')})", f"no property {name}")


def _named(root: Any, name: str) -> Any:
    return root if QtCore.QObject.objectName(root) == name else QtCore.QObject.findChild(root, QtCore.QObject, name)


class QUiLoader:
    """What slicer.util.loadUI uses of Qt's class: load(file, parent)."""

    def load(self, file: QtCore.QIODevice, parent: Any = None) -> Any:
        """Make the widget tree of an opened .ui file and its connections."""
        text = bytes(file.readAll().data()).decode("utf-8")
        stripped, connections = _take_connections(text)
        buffer = QtCore.QBuffer()
        buffer.setData(QtCore.QByteArray(stripped))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        maker = _ClassMaker()
        with pythonqt.children_not_named():
            root = QtUiTools.QUiLoader.load(maker, buffer, parent)
        if root is None:
            return None
        root.__dict__["_made_by_loader"] = maker.made
        _unknown_properties(root, text)
        for sender, signal, receiver, slot in connections:
            source, target = _named(root, sender), _named(root, receiver)
            if source is None or target is None:
                record("ui", sender if source is None else receiver, "named in a connection but not in the file")
            elif isinstance(source, PythonQtObject):
                source.connect(signal, target, slot)
        return root


QT.QUiLoader = QUiLoader
