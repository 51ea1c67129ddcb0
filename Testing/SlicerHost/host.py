"""SlicerHost: one headless application with one module, made and taken down within a test."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
from numpy.typing import NDArray
from PySide6 import QtCore, QtWidgets
from shiboken6 import isValid

from . import packaging_stand_in, parameter_node, scripted_module, strict
from .application import qSlicerApplication, qSlicerMainWindow, qt_application
from .file_io import read_scene, write_scene
from .keys import press_key
from .launcher import Launcher
from .layout import ORIENTATIONS, qSlicerLayoutManager
from .modules import Modules, ScriptedModule, qSlicerLoadableModule
from .mrml_core import MrmlCore
from .painting import paint
from .popups import POPUPS, Popups
from .qt_module import QT, TIMERS
from .ui_loader import QUiLoader  # noqa: F401  (it gives `qt` its loader)
from .views import SliceView, ThreeDView
from .widgets import collapsible, ctk_simple, node_combo_box, sliders  # noqa: F401  (they register)
from .widgets.stand_in import CTK_CLASSES, SLICER_CLASSES

_STAND_IN_MODULES = (
    "qt",
    "ctk",
    "slicer.ScriptedLoadableModule",
    "slicer.i18n",
    "slicer.parameterNodeWrapper",
)
_PUBLISHED = ("app", "mrmlScene", "modules", "selfTests")


class SlicerHost:
    """Context manager: the application runs inside the with block; the module is opened by open_module()."""

    def __init__(
        self,
        module_path: str | Path | None = None,
        *,
        release: str = "5.12",
        testing: bool = False,
        developer_mode: bool = False,
        select: bool = True,
    ) -> None:
        self._module_path = Path(module_path) if module_path else None
        self._release, self._testing, self._developer, self._select = release, testing, developer_mode, select
        self.module: ScriptedModule | None = None
        self.popups: Popups = POPUPS
        self.packaging = packaging_stand_in.Packaging()
        self._saved_modules: dict[str, Any] = {}

    def __enter__(self) -> SlicerHost:
        qt_application()
        POPUPS.reset()
        strict.STRICT.clear()
        self.folder = Path(tempfile.mkdtemp(prefix="slicer-host-"))
        self._saved_names = {name: slicer.__dict__[name] for name in _PUBLISHED if name in slicer.__dict__}
        self._hook, sys.excepthook = sys.excepthook, self._exception
        self._launcher = Launcher(self.folder)
        self._launcher.start()
        self._throw_away_settings()
        self._publish_modules()
        self.core = MrmlCore(self.folder)
        self.scene = self.core.scene
        slicer.mrmlScene = self.scene
        slicer.modules = Modules()
        slicer.selfTests = {}
        self.app = qSlicerApplication(self.core, self.folder, self._release, self._testing)
        slicer.app = self.app
        self._make_views()
        self._register_core_modules()
        if self._module_path is not None:
            try:
                self.open_module(self._module_path)
            except BaseException:
                self.__exit__(*sys.exc_info())
                raise
        return self

    def _throw_away_settings(self) -> None:
        settings = QtCore.QSettings
        settings.setDefaultFormat(settings.Format.IniFormat)
        settings.setPath(settings.Format.IniFormat, settings.Scope.UserScope, str(self.folder / "settings"))
        QtCore.QCoreApplication.setOrganizationName("NA-MIC")
        QtCore.QCoreApplication.setApplicationName("Slicer")
        QtCore.QSettings().setValue("Developer/DeveloperMode", self._developer)

    def _publish_modules(self) -> None:
        self._saved_modules = {name: sys.modules.get(name) for name in _STAND_IN_MODULES}
        ctk = types.ModuleType("ctk")
        for name, cls in CTK_CLASSES.items():
            setattr(ctk, name, cls)
        for name, cls in SLICER_CLASSES.items():
            setattr(slicer, name, cls)
        made = {
            "qt": QT,
            "ctk": ctk,
            "slicer.ScriptedLoadableModule": scripted_module.build_module(),
            "slicer.i18n": scripted_module.build_i18n(),
            "slicer.parameterNodeWrapper": parameter_node.build_module(),
        }
        self._real_pip = (slicer.util.pip_install, slicer.util.pip_uninstall)
        slicer.util.pip_install = self.packaging.pip_install
        slicer.util.pip_uninstall = self.packaging.pip_uninstall
        for name, module in made.items():
            sys.modules[name] = module
            if name.startswith("slicer."):
                setattr(slicer, name.split(".")[1], module)

    def _make_views(self) -> None:
        self._window = qSlicerMainWindow()
        self.app._window = self._window
        self.slice_views = {name: SliceView(self.core, name, way) for name, way in ORIENTATIONS.items()}
        self.threed_view = ThreeDView(self.core)
        self.app._layout = qSlicerLayoutManager(self.scene, self.slice_views, self.threed_view)
        self.app._layout._put_into(self._window)
        self._window.show()

    def _register_core_modules(self) -> None:
        for name, logic in self.core.module_logics.items():
            self.app.moduleManager()._add(qSlicerLoadableModule(name, "", logic))

    def open_module(self, path: str | Path) -> Any:
        """Load the module's file, tell it that start-up is complete and (by default) select it; returns its widget."""
        self.module = ScriptedModule(Path(path), self._window._panel)
        self.app.startupCompleted.emit()
        if self._select:
            slicer.util.selectModule(self.module.name)
        self.process_events()
        return self.module.widget

    @property
    def widget(self) -> Any:
        """The module's Python widget object."""
        return self.module.representation() and self.module.widget if self.module else None

    def process_events(self) -> None:
        """One turn of the event loop."""
        qt_application().processEvents()

    def wait(self, done: Callable[[], Any] | float, timeout: float = 10.0) -> None:
        """Run the event loop until done() holds (AssertionError after the timeout), or for a number of seconds."""
        until = time.monotonic() + (timeout if callable(done) else done)
        while time.monotonic() < until:
            qt_application().processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
            if callable(done) and done():
                return
            time.sleep(0.005)
        if callable(done):
            raise AssertionError(f"still not so after {timeout} s")

    def settle(self, at_most: float = 0.5) -> None:
        """Run the event loop until nothing is put off any more, or for so many seconds.

        Put off is what a timer does once within that time. Timers that go on for ever, as those that ask a child
        process, do not count; they tick every 50 ms or more.
        """
        until = time.monotonic() + at_most
        quiet = 0
        while time.monotonic() < until and quiet < 3:
            self.wait(0.01)
            quiet = 0 if any(_is_soon(timer, 1000 * at_most) for timer in list(TIMERS)) else quiet + 1

    def leave_module(self) -> None:
        """Select another module (Data)."""
        slicer.util.selectModule("Data")

    def enter_module(self) -> None:
        """Select the module under test."""
        if self.module is not None:
            slicer.util.selectModule(self.module.name)

    def close_scene(self) -> None:
        """File > Close scene."""
        self.scene.Clear(0)
        self.process_events()

    def save_scene(self, path: str | Path) -> Path:
        """Save as .mrb or .mrml; AssertionError when that fails."""
        if not write_scene(self.scene, Path(path)):
            raise AssertionError(f"the scene was not saved to {path}")
        return Path(path)

    def load_scene(self, path: str | Path, clear: bool = True) -> None:
        """Load .mrb or .mrml, by default in place of the present scene."""
        if not read_scene(self.scene, Path(path), clear):
            raise AssertionError(f"the scene was not loaded from {path}")
        self.process_events()

    def render_slice(self, name: str = "Red", size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """RGB picture (rows from the top) of a slice view with all its layers, outlines, markups and legend."""
        view = self.slice_views[name]
        if size:
            view.resize(size)
        return view.render()

    def render_threed(self, size: tuple[int, int] | None = None, keep_camera: bool = False) -> NDArray[np.uint8]:
        """RGB picture of the 3D view; the camera is reset to what is shown unless it shall be kept."""
        if size:
            self.threed_view.resize(size)
        return self.threed_view.render(keep_camera)

    def press_key(self, key: str, widget: Any = None) -> None:
        """Press and release a key ("N", "Ctrl+Alt+1") in a widget; without one, where the keyboard focus is."""
        press_key(self._window, key, widget)
        self.process_events()

    def paint(self, editor: Any, mask: NDArray[Any], erase: bool = False) -> None:
        """The user paints voxels (z, y, x, of the source volume) of the editor's current segment, or erases them."""
        paint(editor, mask, erase)
        self.process_events()

    def screenshot(self, path: str | Path, width: int = 520) -> Path:
        """PNG of the whole module panel, as long as it is."""
        frame = self.module.representation() if self.module else self._window
        native = QtWidgets.QWidget
        self._window.resize(width + 40, 2400)
        self.wait(0.05)
        height = native.sizeHint(frame).height()
        self._window.resize(width + 40, max(native.minimumSizeHint(frame).height(), height) + 120)
        self.wait(0.05)
        if not native.grab(frame).save(str(path)):
            raise AssertionError(f"no picture at {path}")
        return Path(path)

    def quit(self) -> None:
        """The user quits: aboutToQuit, as the application emits it."""
        self.app.aboutToQuit.emit()
        self.process_events()

    def _exception(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """An exception in a slot or an observer: the application only prints it; here it is a finding too."""
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(text)
        strict.record("exception", kind.__name__, text)

    @contextmanager
    def expecting(self, kind: str) -> Iterator[list[strict.Finding]]:
        """Findings of this kind are expected in the block; AssertionError when there is none."""
        found: list[strict.Finding] = []
        yield found
        found.extend(strict.take(kind))
        if not found:
            raise AssertionError(f"no finding of kind {kind}")

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            self._take_down()
        finally:
            sys.excepthook = self._hook
            self._launcher.end()
            slicer.util.pip_install, slicer.util.pip_uninstall = self._real_pip
            self._restore_modules()
            shutil.rmtree(self.folder, ignore_errors=True)
        if kind is None and strict.STRICT:
            raise AssertionError("the module did what Slicer would not accept:\n" + "\n".join(map(str, strict.STRICT)))

    def _take_down(self) -> None:
        if self.module is not None:
            self.module.unload()
        for holder in self._window.findChildren("QWidget"):
            if hasattr(holder, "setMRMLScene"):
                holder.setMRMLScene(None)
        self._window.close()
        self.process_events()
        for view in (*self.slice_views.values(), self.threed_view):
            view.close()
        self.core.close()
        self._window.deleteLater()
        qt_application().sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        self.process_events()

    def _restore_modules(self) -> None:
        for name, module in self._saved_modules.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        for name in _PUBLISHED:
            slicer.__dict__.pop(name, None)
        slicer.__dict__.update(self._saved_names)


def _is_soon(timer: QtCore.QTimer, within_ms: float) -> bool:
    native = QtCore.QTimer
    if not isValid(timer) or not native.isActive(timer):
        return False
    return native.interval(timer) <= (within_ms if native.isSingleShot(timer) else 49)
