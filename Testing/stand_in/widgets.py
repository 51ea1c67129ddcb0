"""The widgets of CTK and Slicer that the panel's .ui file names, and the loader of such files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtUiTools, QtWidgets

from .qt_module import QT


class ctkCollapsibleButton(QT.QAbstractButton):
    """A checkable header over contents; checked means open."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self._hidden: list[Any] = []
        self.toggled.connect(self._show)

    def _show(self, is_open: bool) -> None:
        if not is_open:
            direct = QtCore.Qt.FindChildOption.FindDirectChildrenOnly
            children = QtCore.QObject.findChildren(self, QtWidgets.QWidget, options=direct)
            self._hidden = [child for child in children if not QtWidgets.QWidget.isHidden(child)]
        for child in self._hidden:
            QtWidgets.QWidget.setVisible(child, is_open)
        self.contentsCollapsed.emit(not is_open)

    collapsed = QtCore.Property(
        bool,
        lambda self: not QtWidgets.QAbstractButton.isChecked(self),
        lambda self, value: self.setChecked(not value),
    )

    def paintEvent(self, event: Any) -> None:
        """Draw nothing."""


class ctkSliderWidget(QT.QWidget):
    """A float within a range."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._value, self._low, self._high, self._step, self._decimals = 0.0, 0.0, 99.0, 1.0, 2

    def _set(self, value: float) -> None:
        before, self._value = self._value, min(max(float(value), self._low), self._high)
        if self._value != before:
            self.valueChanged.emit(self._value)

    def _limit(self, name: str, value: float) -> None:
        setattr(self, name, float(value))
        self._set(self._value)

    value = QtCore.Property(float, lambda self: self._value, lambda self, value: self._set(value))
    minimum = QtCore.Property(float, lambda self: self._low, lambda self, value: self._limit("_low", value))
    maximum = QtCore.Property(float, lambda self: self._high, lambda self, value: self._limit("_high", value))
    singleStep = QtCore.Property(float, lambda self: self._step, lambda self, value: setattr(self, "_step", value))
    decimals = QtCore.Property(int, lambda self: self._decimals, lambda self, value: setattr(self, "_decimals", value))


class ctkPathLineEdit(QT.QWidget):
    """A path."""

    Dirs = 1
    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._path = ""

    def _set(self, path: str) -> None:
        before, self._path = self._path, path
        if path != before:
            self.currentPathChanged.emit(path)

    currentPath = QtCore.Property(str, lambda self: self._path, lambda self, path: self._set(path))


class qMRMLWidget(QT.QWidget):
    """The top of the panel: its scene goes to what is connected in the file."""

    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        """Take the scene."""
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(QT.QWidget):
    """A selector of one node of the scene."""

    currentNodeChanged = QtCore.Signal(object)
    nodeAboutToBeRemoved = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._current: Any = None
        self._types: list[str] = []
        self.hiddenNodeIDs: list[str] = []
        self.noneEnabled = False

    def setMRMLScene(self, scene: Any) -> None:
        """Take the scene."""
        if scene is self._scene:
            return
        self._scene = scene

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_scene: Any, _event: str, node: Any) -> None:
            if node is self._current:
                self.setCurrentNode(None)

        scene.AddObserver(scene.NodeRemovedEvent, removed)

    def currentNode(self) -> Any:
        """Return the selected node."""
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        """Select a node."""
        before, self._current = self._current, node
        if node is not before:
            self.currentNodeChanged.emit(node)

    def nodeCount(self) -> int:
        """Count the nodes on offer."""
        return len(self._offered())

    def nodeFromIndex(self, index: int) -> Any:
        """Return a node on offer."""
        return self._offered()[index]

    def _offered(self) -> list[Any]:
        found = [node for kind in self._types for node in slicer.util.getNodesByClass(kind)]
        return [node for node in found if node.GetID() not in self.hiddenNodeIDs and not node.GetHideFromEditors()]

    def sortFilterProxyModel(self) -> Any:
        """Return what holds `hiddenNodeIDs`."""
        return self

    def addAttribute(self, *_: Any) -> None:
        """List no fewer nodes."""

    nodeTypes = QtCore.Property(
        "QStringList", lambda self: self._types, lambda self, types: setattr(self, "_types", list(types))
    )


CLASSES = (ctkCollapsibleButton, ctkSliderWidget, ctkPathLineEdit, qMRMLWidget, qMRMLNodeComboBox)


class Loader(QtUiTools.QUiLoader):
    """Makes the widgets of a file from the classes here and in `qt`."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        """Make one widget."""
        cls = next((cls for cls in CLASSES if cls.__name__ == class_name), None) or getattr(QT, class_name)
        made = cls(parent)
        QtCore.QObject.setObjectName(made, name)
        self.made.append(made)
        return made


def load_ui(path: str) -> Any:
    """Load a panel from a .ui file; its connections give node selectors the scene, which is done here."""
    file = ElementTree.parse(path).getroot()
    file.remove(file.find("connections"))  # type: ignore[arg-type]
    buffer, loader = QtCore.QBuffer(), Loader()
    buffer.setData(ElementTree.tostring(file))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    root = loader.load(buffer)
    root._made = loader.made
    for widget in loader.made:
        if isinstance(widget, qMRMLNodeComboBox):
            root.mrmlSceneChanged.connect(widget.setMRMLScene)
    return root
