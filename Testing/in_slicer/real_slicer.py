"""The running 3D Slicer as tests of the panel use it: window, views, scene, keys, dialogs, and exceptions in slots."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from dialogs import Dialogs
from keyboard import Keyboard
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

MODULE = "SegWithUSlicer"
SLICES = ("Red", "Green", "Yellow")
WINDOW_PX = (1000, 750)


@dataclass
class SliceView:
    """A slice view's nodes and widget."""

    widget: Any

    @property
    def node(self) -> Any:
        """Its place in the world."""
        return self.widget.mrmlSliceNode()

    @property
    def composite(self) -> Any:
        """Its layers."""
        return self.widget.sliceLogic().GetSliceCompositeNode()


class RealSlicer:
    """Slicer with the module; `folder` is for scenes and files of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dialogs = Dialogs()
        self.errors: list[str] = []
        """Exceptions in slots and observers, which the application only prints."""
        self._keyboard = Keyboard()
        self._timers: list[Any] = []

    @contextmanager
    def running(self) -> Iterator[RealSlicer]:
        """Watch for exceptions, answer dialogs, and know the timers of the panel in this block."""
        hook, timer = sys.excepthook, qt.QTimer

        def excepthook(kind: Any, error: Any, trace: Any) -> None:
            self.errors.append("".join(traceback.format_exception(kind, error, trace)))
            hook(kind, error, trace)

        def known_timer(*arguments: Any) -> Any:
            self._timers.append(timer(*arguments))
            return self._timers[-1]

        known_timer.singleShot = timer.singleShot  # type: ignore[attr-defined]
        sys.excepthook, qt.QTimer = excepthook, known_timer
        slicer.app.settings().setValue("SegWithU/Licences", "hippocampus CC-BY-SA-4.0")  # a test asks for it again
        try:
            with self.dialogs.instead_of_slicers():
                self.show()
                yield self
        finally:
            sys.excepthook, qt.QTimer = hook, timer
            self._timers.clear()

    def show(self) -> None:
        """Bring the module into sight, in a window large enough for four views."""
        window = slicer.util.mainWindow()
        window.showNormal()
        window.resize(*WINDOW_PX)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self.enter_module()

    @property
    def widget(self) -> Any:
        """The module's widget; another one after Reload."""
        return slicer.util.getModuleWidget(MODULE)

    def process_events(self) -> None:
        """One turn of the event loop."""
        slicer.app.processEvents()

    def wait(self, done: Callable[[], Any] | float, timeout: float = 10.0) -> None:
        """Run the event loop until done() holds (AssertionError after the timeout), or for a number of seconds."""
        until = time.monotonic() + (timeout if callable(done) else done)
        while time.monotonic() < until:
            slicer.app.processEvents()
            if callable(done) and done():
                return
            time.sleep(0.005)
        if callable(done):
            raise AssertionError(f"still not so after {timeout} s")

    def settle(self, at_most: float = 0.5) -> None:
        """Run the event loop until none of the panel's timers that fire once is due within that time."""
        until, quiet = time.monotonic() + at_most, 0
        while time.monotonic() < until and quiet < 3:
            self.wait(0.01)
            due = any(one.active and one.isSingleShot() and one.interval <= 1000 * at_most for one in self._timers)
            quiet = 0 if due else quiet + 1

    def leave_module(self) -> None:
        """Select another module (Data)."""
        slicer.util.selectModule("Data")
        self.process_events()

    def enter_module(self) -> None:
        """Select the module under test."""
        slicer.util.selectModule(MODULE)
        self.process_events()

    def close_scene(self) -> None:
        """File > Close scene."""
        slicer.mrmlScene.Clear(0)
        self.process_events()

    def save_scene(self, path: Path) -> Path:
        """Save the scene."""
        assert slicer.util.saveScene(str(path)), f"the scene was not saved to {path}"
        return path

    def load_scene(self, path: Path) -> None:
        """Load a scene in place of the present one."""
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(str(path))
        self.process_events()

    @property
    def slice_views(self) -> dict[str, SliceView]:
        """The slice views of the layout, by name."""
        return {name: SliceView(slicer.app.layoutManager().sliceWidget(name)) for name in SLICES}

    def render_slice(self, name: str = "Red") -> NDArray[np.uint8]:
        """Picture of a slice view, rows from the top, uint8 RGB."""
        return _pixels(slicer.app.layoutManager().sliceWidget(name).sliceView())

    def render_threed(self) -> NDArray[np.uint8]:
        """Picture of the 3D view, looking at what is shown."""
        view = slicer.app.layoutManager().threeDWidget(0).threeDView()
        view.resetFocalPoint()
        view.resetCamera()
        return _pixels(view)

    def press_key(self, key: str, widget: Any = None) -> None:
        """Press and release a key ("N", "Ctrl+Alt+1") in a widget; without one, where the keyboard focus is."""
        self._keyboard.press(key, widget)

    def click(self, widget: Any, x: int, y: int, *modifiers: str) -> None:
        """Click with the left button of the mouse into a widget, with keys ("Ctrl") held or without."""
        held = qt.Qt.ControlModifier if modifiers else qt.Qt.NoModifier
        where = qt.QPointF(widget.mapToGlobal(qt.QPoint(x, y)))
        with self._keyboard.holding(*modifiers):
            for kind, buttons in ((qt.QEvent.MouseButtonPress, qt.Qt.LeftButton), (qt.QEvent.MouseButtonRelease, 0)):
                event = qt.QMouseEvent(
                    kind, qt.QPointF(x, y), where, qt.Qt.LeftButton, qt.Qt.MouseButtons(buttons), held
                )
                slicer.app.sendEvent(widget, event)
        self.process_events()

    def paint(self, editor: Any, mask: NDArray[Any], erase: bool = False) -> None:
        """Paint voxels (z, y, x, of the source volume) with the active effect, by the call that ends a stroke of it."""
        effect = editor.activeEffect()
        assert effect is not None, "no effect is active"
        stroke = effect.defaultModifierLabelmap()
        low_i, high_i, low_j, high_j, low_k, high_k = stroke.GetExtent()
        shape = (high_k - low_k + 1, high_j - low_j + 1, high_i - low_i + 1)
        voxels = vtk_to_numpy(stroke.GetPointData().GetScalars()).reshape(shape)
        voxels[tuple((np.argwhere(mask) - (low_k, low_j, low_i)).T)] = 1
        stroke.Modified()
        effect.saveStateForUndo()
        mode = effect.ModificationModeRemove if erase else effect.ModificationModeAdd
        effect.modifySelectedSegmentByLabelmap(stroke, mode)
        self.process_events()

    def take_errors(self) -> list[str]:
        """Return the exceptions so far and forget them: a test that provokes some calls it."""
        found, self.errors[:] = list(self.errors), []
        return found


def _pixels(view: Any) -> NDArray[np.uint8]:
    slicer.app.processEvents()
    view.forceRender()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.renderWindow())
    grab.ReadFrontBufferOff()
    grab.Update()
    width, height, _depth = grab.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)
    return pixels[::-1, :, :3].copy()


def reviews_folder() -> Path:
    """Return where reviews of runs without a folder lie."""
    return Path(slicer.app.userSettings().fileName()).parent / "SegWithU" / "Reviews"
