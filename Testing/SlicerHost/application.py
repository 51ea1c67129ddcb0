"""slicer.app and the main window with its module selector."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtWidgets

from .file_io import qSlicerCoreIOManager
from .modules import qSlicerModuleManager
from .qt_module import QT
from .widgets.stand_in import stand_in, stored

RELEASES = {"5.12": (5, 12, "5.12.4", "34180"), "5.10": (5, 10, "5.10.0", "34045")}


def qt_application() -> QtWidgets.QApplication:
    """The one QApplication of the process."""
    existing = QtWidgets.QApplication.instance()
    return existing if isinstance(existing, QtWidgets.QApplication) else QtWidgets.QApplication(sys.argv[:1])


@stand_in
class qSlicerModuleSelectorToolBar(QT.QToolBar):
    """Selects modules: the old one is left, the new one is entered."""

    moduleSelected = QtCore.Signal(str)
    _signals: ClassVar[dict[str, str]] = {"moduleSelected(QString)": "moduleSelected"}

    def __init__(self) -> None:
        super().__init__()
        self._current = ""

    def selectModule(self, name: str) -> None:
        """Leave the current module, enter the named one."""
        if name == self._current:
            return
        manager = slicer.app.moduleManager()
        if manager.module(name) is None:
            return
        for module_name, step in ((self._current, "leave"), (name, "enter")):
            life = getattr(manager.module(module_name), "_life", None)
            if life is not None:
                getattr(life, step)()
        self._current = name
        self.moduleSelected.emit(name)

    selectedModule = QtCore.Property(str, lambda self: self._current, lambda self, v: self.selectModule(v))


@stand_in
class qSlicerMainWindow(QT.QMainWindow):
    """A window with the module panel in a scroll area."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.resize(540, 1000)
        self._selector = qSlicerModuleSelectorToolBar()
        self.addToolBar(self._selector)
        self._panel = QT.QScrollArea()
        self._panel.setWidgetResizable(True)
        self.setCentralWidget(self._panel)
        self.setStatusBar(QT.QStatusBar())

    def moduleSelector(self) -> Any:
        """The module selector."""
        return self._selector


@stand_in
class qSlicerApplication(QT.QObject):
    """What modules and slicer.util read from slicer.app."""

    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    mrmlSceneChanged = QtCore.Signal(object)
    renderPaused = QtCore.Signal(bool)
    focusChanged = QtCore.Signal(object, object)
    _signals: ClassVar[dict[str, str]] = {
        "startupCompleted()": "startupCompleted",
        "aboutToQuit()": "aboutToQuit",
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "renderPaused(bool)": "renderPaused",
        "focusChanged(QWidget*,QWidget*)": "focusChanged",
    }

    def __init__(self, core: Any, folder: Path, release: str, testing: bool) -> None:
        super().__init__()
        self._core, self._folder, self._testing = core, folder, testing
        self._major, self._minor, self._version, self._build_revision = RELEASES[release]
        self._manager = qSlicerModuleManager()
        self._files = qSlicerCoreIOManager()
        self._layout: Any = None
        self._window: Any = None
        self._pauses = 0
        self.__dict__["_stored_temporaryPath"] = str(folder)
        self.__dict__["_stored_cachePath"] = str(folder / "cache")
        qt_application().focusChanged.connect(self._focus_moved)

    def _focus_moved(self, old: Any, new: Any) -> None:
        self.focusChanged.emit(old, new)

    def applicationLogic(self) -> Any:
        """The real vtkSlicerApplicationLogic."""
        return self._core.application_logic

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._core.scene

    def moduleManager(self) -> Any:
        """The module manager."""
        return self._manager

    def coreIOManager(self) -> Any:
        """Loads and saves."""
        return self._files

    def ioManager(self) -> Any:
        """Loads and saves."""
        return self._files

    def layoutManager(self) -> Any:
        """The layout manager."""
        return self._layout

    def topLevelWidgets(self) -> list[Any]:
        """The main window."""
        return [self._window] if self._window is not None else []

    def settings(self) -> Any:
        """Settings in a throw-away file."""
        return QT.QSettings()

    def userSettings(self) -> Any:
        """Settings in a throw-away file."""
        return QT.QSettings()

    def testingEnabled(self) -> bool:
        """Whether the application was started with --testing."""
        return self._testing

    def processEvents(self, *args: Any) -> None:
        """One turn of the event loop."""
        qt_application().processEvents(*args)

    def setOverrideCursor(self, cursor: Any) -> None:
        """Wait cursor on."""
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        """Wait cursor off."""
        QtWidgets.QApplication.restoreOverrideCursor()

    def clipboard(self) -> Any:
        """The clipboard."""
        return QtWidgets.QApplication.clipboard()

    def keyboardModifiers(self) -> Any:
        """Modifier keys held now."""
        return QtWidgets.QApplication.keyboardModifiers()

    def focusWidget(self) -> Any:
        """The widget with the keyboard."""
        return QtWidgets.QApplication.focusWidget()

    def installEventFilter(self, target: Any) -> None:
        """See every event of the application."""
        qt_application().installEventFilter(target)

    def removeEventFilter(self, target: Any) -> None:
        """Undo installEventFilter."""
        qt_application().removeEventFilter(target)

    def pauseRender(self) -> None:
        """Hold back rendering."""
        self._pauses += 1
        self.renderPaused.emit(True)

    def resumeRender(self) -> None:
        """Let rendering go on."""
        self._pauses -= 1
        self.renderPaused.emit(self._pauses > 0)

    def restart(self) -> None:
        """Remembered; nothing restarts."""
        self.__dict__["_restart_asked"] = time.time()

    temporaryPath = stored(str, "temporaryPath", "")
    cachePath = stored(str, "cachePath", "")
    slicerHome = QtCore.Property(str, lambda self: str(self._folder / "home"))
    slicerSharePath = QtCore.Property(str, lambda self: "share/Slicer")
    extensionsInstallPath = QtCore.Property(str, lambda self: str(self._folder / "extensions"))
    isInstalled = QtCore.Property(bool, lambda self: True)
    applicationName = QtCore.Property(str, lambda self: "Slicer")
    applicationVersion = QtCore.Property(str, lambda self: self._version)
    majorVersion = QtCore.Property(int, lambda self: self._major)
    minorVersion = QtCore.Property(int, lambda self: self._minor)
    revision = QtCore.Property(str, lambda self: self._build_revision)
    repositoryRevision = QtCore.Property(str, lambda self: self._build_revision)
    os = QtCore.Property(str, lambda self: {"linux": "linux", "darwin": "macosx", "win32": "win"}[sys.platform])
    arch = QtCore.Property(str, lambda self: "amd64")
    platform = QtCore.Property(str, lambda self: f"{self.os}-{self.arch}")
