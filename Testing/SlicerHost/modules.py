"""Modules: the objects in slicer.modules, the module manager, and the life of one scripted module."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtGui

from .qt_module import QT
from .widgets.mrml_widgets import qSlicerScriptedLoadableModuleWidget
from .widgets.segment_editor import report_left_open
from .widgets.stand_in import stand_in, stored


class Modules:
    """slicer.modules: an attribute per loaded module, AttributeError for any other name."""


class _Module(QT.QObject):
    def __init__(self, name: str, path: str, logic: Any = None) -> None:
        super().__init__()
        self._module_name, self._module_path, self._logic = name, path, logic

    name = QtCore.Property(str, lambda self: self._module_name)
    path = QtCore.Property(str, lambda self: self._module_path)
    isInstalled = QtCore.Property(bool, lambda self: False)


@stand_in
class qSlicerLoadableModule(_Module):
    """A C++ module: only its logic is here."""

    def logic(self) -> Any:
        """The real logic."""
        return self._logic


@stand_in
class qSlicerScriptedLoadableModule(_Module):
    """The `parent` of a scripted module's class."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, path)
        self._life: ScriptedModule | None = None

    def widgetRepresentation(self) -> Any:
        """The panel's frame, made at the first call."""
        return self._life.representation() if self._life else None

    def logic(self) -> Any:
        """The C++ logic of a scripted module is empty."""
        return None

    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    dependencies = stored("QStringList", "dependencies", [])
    contributors = stored("QStringList", "contributors", [])
    helpText = stored(str, "helpText", "")
    acknowledgementText = stored(str, "acknowledgementText", "")
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes", [])
    hidden = stored(bool, "hidden", False)
    index = stored(int, "index", -1)
    icon = stored(QtGui.QIcon, "icon", QtGui.QIcon())


@stand_in
class qSlicerModuleManager(QT.QObject):
    """All modules by name."""

    moduleLoaded = QtCore.Signal(str)
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    _signals: ClassVar[dict[str, str]] = {
        "moduleLoaded(QString)": "moduleLoaded",
        "moduleAboutToBeUnloaded(QString)": "moduleAboutToBeUnloaded",
    }

    def __init__(self) -> None:
        super().__init__()
        self._by_name: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        """The module, or None."""
        return self._by_name.get(name)

    def _add(self, module: Any) -> None:
        self._by_name[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        self.moduleLoaded.emit(module.name)


class ScriptedModule:
    """Import, instantiation, panel, enter and exit of one module, in the application's order."""

    def __init__(self, path: Path, panel_parent: Any) -> None:
        self.path = path.resolve()
        self.name = self.path.stem
        self.entered = False
        self.widget: Any = None
        self._panel_parent = panel_parent
        self._frame: Any = None
        self.module = qSlicerScriptedLoadableModule(self.name, str(self.path))
        self.module._life = self
        self._added_path = str(self.path.parent) not in sys.path
        if self._added_path:
            sys.path.insert(0, str(self.path.parent))
        self._before = set(sys.modules)
        self._import()
        self.instance = getattr(sys.modules[self.name], self.name)(self.module)
        slicer.app.moduleManager()._add(self.module)
        setattr(slicer.modules, f"{self.name}Instance", self.instance)

    def _import(self) -> None:
        spec = importlib.util.spec_from_file_location(self.name, self.path)
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot import {self.path}")
        made = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = made
        spec.loader.exec_module(made)

    def representation(self) -> Any:
        """The frame with the panel; the first call makes the panel and runs setup()."""
        if self._frame is None:
            self._frame = qSlicerScriptedLoadableModuleWidget()
            self._frame._controller = self
            self._frame.setLayout(QT.QVBoxLayout())
            self._frame.setObjectName(f"{self.name}ModuleWidget")
            self._frame.setMRMLScene(slicer.mrmlScene)
            self._panel_parent.setWidget(self._frame)
            self._make_widget()
        return self._frame

    def _make_widget(self) -> None:
        self.widget = getattr(sys.modules[self.name], f"{self.name}Widget")(self._frame)
        setattr(slicer.modules, f"{self.name}Widget", self.widget)
        self.widget.setup()

    def reload(self) -> None:
        """A new panel from the module as it is now in sys.modules."""
        self._make_widget()
        if self.entered:
            self._call("enter")

    def _call(self, name: str) -> None:
        method = getattr(self.widget, name, None)
        if method is not None:
            method()

    def enter(self) -> None:
        """Become the current module."""
        self.representation()
        if not self.entered:
            self.entered = True
            self._call("enter")

    def leave(self) -> None:
        """Stop being the current module."""
        if self.entered:
            self.entered = False
            self._call("exit")
            report_left_open()

    def unload(self) -> None:
        """exit(), cleanup(), and everything imported from the module's folder forgotten."""
        self.leave()
        slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(self.name)
        if self._frame is not None:
            self._frame._controller = None
        self.widget = None
        folder = str(self.path.parent)
        for name in set(sys.modules) - self._before:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if origin.startswith(folder) and not name.startswith("SegWithUCore"):
                del sys.modules[name]
        if self._added_path and folder in sys.path:
            sys.path.remove(folder)
