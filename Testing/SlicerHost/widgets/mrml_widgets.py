"""qMRMLWidget, qSlicerWidget and the scripted module's own frame: they hold the scene and tell who is connected."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore

from ..qt_module import QT
from .stand_in import stand_in


class _SceneHolder(QT.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)
    _signals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        """Take the scene and emit the change; only what is connected to the signal gets it."""
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@stand_in
class qMRMLWidget(_SceneHolder):
    """Top level of a module's .ui file."""

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene


@stand_in
class qSlicerWidget(_SceneHolder):
    """A widget that knows the scene."""


@stand_in
class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The frame that the application makes around a scripted module's panel."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._controller: Any = None

    def self(self) -> Any:
        """The Python widget object of the module."""
        return self._controller.widget if self._controller else None

    def reload(self) -> None:
        """Make the Python widget object anew."""
        self._controller.reload()

    def enter(self) -> None:
        """The module becomes the current one."""
        self._controller.enter()

    def exit(self) -> None:
        """The module is left."""
        self._controller.leave()

    moduleName = QtCore.Property(str, lambda self: self._controller.name if self._controller else "")
    isEntered = QtCore.Property(bool, lambda self: bool(self._controller and self._controller.entered))
