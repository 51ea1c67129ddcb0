"""A key that hides the overlay as long as it is held."""

from collections.abc import Callable
from typing import Any

import qt
import slicer

KEY = "P"
"""Free in Slicer: not used by slice views, Segment Editor or the main window."""


class BareImageKey:
    """Installed while the module is open.

    A shortcut tells only that a key went down, and leaves keys typed into text fields alone; its way up is seen by an
    event filter, which is there only while the key is held: one for good would slow down every event of Slicer.

    Args:
        on_held: called with True when the key goes down and with False when it comes up.
    """

    def __init__(self, on_held: Callable[[bool], None]) -> None:
        self._on_held = on_held
        self._shortcut: Any = None
        self._filter: Any = None

    @property
    def is_held(self) -> bool:
        """Whether the key is down now."""
        return self._filter is not None

    def install(self) -> None:
        """Begin to listen."""
        window = slicer.util.mainWindow()
        if self._shortcut is None and window is not None:
            self._shortcut = qt.QShortcut(qt.QKeySequence(KEY), window)
            self._shortcut.autoRepeat = False
            self._shortcut.connect("activated()", self.press)

    def remove(self) -> None:
        """Stop listening; a key that is held counts as let go."""
        self.let_go()
        if self._shortcut is not None:
            self._shortcut.disconnect("activated()", self.press)
            self._shortcut.enabled = False
            self._shortcut.setParent(None)
            self._shortcut.deleteLater()
            self._shortcut = None

    def press(self) -> None:
        """The key went down."""
        if self._filter is None:
            self._filter = _ReleaseFilter()
            self._filter.owner = self
            slicer.app.installEventFilter(self._filter)
            self._on_held(True)

    def let_go(self) -> None:
        """The key came up, or the application lost the keyboard."""
        if self._filter is not None:
            slicer.app.removeEventFilter(self._filter)
            self._filter.owner = None
            self._filter = None
            self._on_held(False)


class _ReleaseFilter(qt.QObject):
    """Waits for the end of a key press."""

    owner: BareImageKey | None = None

    def eventFilter(self, _watched: Any, event: Any) -> bool:  # noqa: N802 - Qt calls it
        kind = event.type()
        # A held key comes as many presses and releases; only the last release is none of a repetition.
        is_last = kind == qt.QEvent.KeyRelease and not getattr(event, "isAutoRepeat", lambda: False)()
        if self.owner is not None and (is_last or kind == qt.QEvent.ApplicationDeactivate):
            self.owner.let_go()
        return False
