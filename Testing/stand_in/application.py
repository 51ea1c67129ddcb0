"""The application around one scripted module: scene and three slice views of slicer-core, `slicer.app`, the module."""

from __future__ import annotations

import importlib.util
import sys
import time
import types
import unittest
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import slicer
import slicer.util
from mrml_headless import HeadlessScene, SliceView, close_all, load_volume
from PySide6 import QtCore, QtWidgets

from . import parameters
from .qt_module import QT
from .widgets import ctkPathLineEdit, load_ui, qMRMLNodeComboBox

VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class App(QT.QObject):
    """`slicer.app`."""

    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    focusChanged = QtCore.Signal(object, object)
    applicationVersion, revision, os = "5.12.4", "34180", "linux"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.temporaryPath = str(folder)
        self._settings = str(folder / "Slicer.ini")

    def settings(self) -> Any:
        """Settings in the folder."""
        return QT.QSettings(self._settings, QtCore.QSettings.Format.IniFormat)

    userSettings = settings

    def processEvents(self) -> None:
        """One turn of the event loop."""
        QtWidgets.QApplication.processEvents()

    def pauseRender(self) -> None:
        """Nothing draws here."""

    resumeRender = pauseRender

    def keyboardModifiers(self) -> Any:
        """Keys that are held."""
        return QtWidgets.QApplication.keyboardModifiers()


class ModuleParent(QT.QObject):
    """What a module's class describes itself to."""

    title = helpText = acknowledgementText = ""
    icon: Any = None


class ScriptedLoadableModule:
    """Base of a module."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    """Base of a module's widget."""

    moduleName = "SegWithUSlicer"

    def __init__(self, parent: Any = None) -> None:
        self.parent, self.layout = parent, parent.layout()

    def setup(self) -> None:
        """A module calls this first."""


class ScriptedLoadableModuleLogic:
    """Base of a module's logic."""

    def __init__(self) -> None:
        self.name = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        """The parameter node of the scene, made if there is none."""
        found = slicer.mrmlScene.GetSingletonNode(self.name, "vtkMRMLScriptedModuleNode")
        if found is None:
            found = slicer.vtkMRMLScriptedModuleNode()
            found.SetSingletonTag(self.name)
            found.SetName(self.name)
            found = slicer.mrmlScene.AddNode(found)
        return found


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    return module


class StandIn:
    """The opened module, and what a test does with it."""

    def __init__(self, widget: Any, views: dict[str, SliceView], answers: list[str]) -> None:
        self.widget, self.views, self._answers = widget, views, answers

    @property
    def ui(self) -> Any:
        """The widgets of the panel."""
        return self.widget.ui

    def answer(self, path: str) -> None:
        """Answer the next choice of files or folders."""
        self._answers.append(path)

    def wait(self, done: Callable[[], Any], timeout: float = 240.0) -> None:
        """Run the event loop until something holds."""
        until = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < until, f"still not so after {timeout} s"
            slicer.app.processEvents()
            time.sleep(0.005)


@contextmanager
def opened_module(path: Path, folder: Path) -> Iterator[StandIn]:
    """Open a module; exceptions in slots and observers fail the test at the end.

    Args:
        path: of the module's file.
        folder: for settings and temporary files.
    """
    QtWidgets.QApplication.instance() or QtWidgets.QApplication(sys.argv[:1])
    answers: list[str] = []
    wrong: list[BaseException] = []
    window = QT.QMainWindow()
    window.setObjectName("qSlicerMainWindow")
    files = type("QFileDialog", (), {"choose": staticmethod(lambda *_: answers.pop(0))})
    files.getExistingDirectory = files.getOpenFileName = files.choose  # type: ignore[attr-defined]
    bases = {base.__name__: base for base in (ScriptedLoadableModule, ScriptedLoadableModuleWidget)}
    bases |= {
        "ScriptedLoadableModuleLogic": ScriptedLoadableModuleLogic,
        "ScriptedLoadableModuleTest": unittest.TestCase,
    }
    made = {
        "qt": QT,
        "ctk": _module("ctk", ctkPathLineEdit=ctkPathLineEdit),
        "slicer.ScriptedLoadableModule": _module("slicer.ScriptedLoadableModule", **bases),
        "slicer.i18n": _module("slicer.i18n", tr=lambda text: text, translate=lambda _context, text: text),
        "slicer.parameterNodeWrapper": parameters.build(),
    }
    headless = HeadlessScene(folder / "slicer")
    views = {name: SliceView(headless, name, way) for name, way in VIEWS.items()}
    util = {
        "loadUI": load_ui,
        "loadVolume": lambda path, properties=None: load_volume(
            slicer.mrmlScene, Path(path), (properties or {}).get("name", Path(path).name.split(".")[0])
        ),
        "setSliceViewerLayers": lambda fit=False, set_layers=slicer.util.setSliceViewerLayers, **layers: set_layers(
            **layers
        ),
        "mainWindow": lambda: window,
        "selectedModule": lambda: path.stem,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(sys.modules, made))
        stack.enter_context(mock.patch.object(sys, "path", [str(path.parent), *sys.path]))
        stack.enter_context(mock.patch.object(sys, "excepthook", lambda _kind, error, _trace: wrong.append(error)))
        stack.enter_context(mock.patch.object(QT, "QFileDialog", files))
        stack.enter_context(mock.patch.object(slicer, "app", App(folder), create=True))
        stack.enter_context(mock.patch.object(slicer, "qMRMLNodeComboBox", qMRMLNodeComboBox, create=True))
        for name, function in util.items():
            stack.enter_context(mock.patch.object(slicer.util, name, function))
        before = set(sys.modules)
        widget = _open(path, window)
        slicer.app.startupCompleted.emit()
        window.show()
        widget.enter()
        try:
            yield StandIn(widget, views, answers)
        finally:
            widget.exit()
            widget.cleanup()
            window.close()
            close_all()
            for name in set(sys.modules) - before:
                if name.split(".")[0] in (path.stem, "SegWithUSlicerLib"):
                    del sys.modules[name]
    assert wrong == []


def _open(path: Path, window: Any) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    parent = ModuleParent()
    getattr(module, path.stem)(parent)
    frame = QT.QWidget()
    frame.setLayout(QT.QVBoxLayout())
    window.setCentralWidget(frame)
    widget = getattr(module, f"{path.stem}Widget")(frame)
    widget.described = parent
    widget.setup()
    return widget
