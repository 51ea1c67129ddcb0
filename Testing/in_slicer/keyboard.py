"""Keys that a test presses: X11 sends them to Slicer's window, so that they go the way of real ones through Qt."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer

SHIFT, CONTROL, ALT = 1, 4, 8
MODIFIERS = {"Shift": SHIFT, "Ctrl": CONTROL, "Alt": ALT}
PRESS, RELEASE = 2, 3
MASKS = {PRESS: 1, RELEASE: 2}


class KeyEvent(ctypes.Structure):
    """XKeyEvent, as long as the union XEvent."""

    _fields_ = (
        *(("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int)),
        *(("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("root", ctypes.c_ulong)),
        *(("subwindow", ctypes.c_ulong), ("time", ctypes.c_ulong)),
        *((name, ctypes.c_int) for name in ("x", "y", "x_root", "y_root")),
        *(("state", ctypes.c_uint), ("keycode", ctypes.c_uint), ("same_screen", ctypes.c_int)),
        ("rest", ctypes.c_long * 24),
    )


class Keyboard:
    """A connection with the X server; `press` skips the test where there is none (Windows, macOS)."""

    def __init__(self) -> None:
        self._x: Any = None

    def _connect(self) -> None:
        if sys.platform != "linux":
            import pytest  # not at the top: another Slicer that a test starts need not have it

            pytest.skip("keys are sent by X11")
        self._x = x = ctypes.CDLL("libX11.so.6")
        x.XOpenDisplay.restype, x.XOpenDisplay.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        x.XStringToKeysym.restype, x.XStringToKeysym.argtypes = ctypes.c_ulong, [ctypes.c_char_p]
        x.XKeysymToKeycode.restype, x.XKeysymToKeycode.argtypes = ctypes.c_ubyte, [ctypes.c_void_p, ctypes.c_ulong]
        x.XDefaultRootWindow.restype, x.XDefaultRootWindow.argtypes = ctypes.c_ulong, [ctypes.c_void_p]
        x.XSync.argtypes = [ctypes.c_void_p, ctypes.c_int]
        x.XSendEvent.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        self._display = x.XOpenDisplay(None)
        assert self._display, "the X server cannot be reached"

    def press(self, key: str, widget: Any = None) -> None:
        """Press and release a key ("N", "Ctrl+Alt+1") in a widget; without one, where the keyboard focus is."""
        slicer.util.mainWindow().activateWindow()
        if widget is not None:
            widget.setFocus()
            slicer.app.processEvents()
            assert qt.QApplication.focusWidget() is not None, f"{widget.objectName} cannot have the keyboard focus"
        *held, name = key.split("+")
        with self.holding(*held):
            state = sum(MODIFIERS[one] for one in held)
            for kind in (PRESS, RELEASE):
                self._send(kind, name.lower() if len(name) == 1 else name, state)

    @contextmanager
    def holding(self, *modifiers: str) -> Iterator[None]:
        """Hold "Ctrl", "Shift" or "Alt" in this block: Qt knows them from the latest event of a key."""
        if modifiers:
            self._send(PRESS, "Shift_L", sum(MODIFIERS[one] for one in modifiers))
        yield
        if modifiers:
            self._send(RELEASE, "Shift_L", 0)

    def _send(self, kind: int, name: str, state: int) -> None:
        if self._x is None:
            self._connect()
        code = self._x.XKeysymToKeycode(self._display, self._x.XStringToKeysym(name.encode()))
        assert code, f"no key is called {name!r}"
        target, root = int(slicer.util.mainWindow().winId()), self._x.XDefaultRootWindow(self._display)
        event = KeyEvent(
            type=kind, display=self._display, window=target, root=root, state=state, keycode=code, same_screen=1
        )
        self._x.XSendEvent(self._display, target, 1, MASKS[kind], ctypes.byref(event))
        self._x.XSync(self._display, 0)
        for _turn in range(3):
            slicer.app.processEvents()
            time.sleep(0.002)
