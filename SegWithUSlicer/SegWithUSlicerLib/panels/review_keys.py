"""The keys of a review: there only while one is shown, and never while somebody types."""

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer

from SegWithUCore.review.events import Verdict

from ..i18n import _

NEXT, PREVIOUS = "N", "Shift+N"
VERDICT_KEYS = ("Ctrl+Alt+1", "Ctrl+Alt+2", "Ctrl+Alt+3", "Ctrl+Alt+4")
UNDO, EDIT, COMMENT, NEXT_CASE = "Ctrl+Alt+Z", "Ctrl+Alt+E", "Ctrl+Alt+C", "Ctrl+Alt+N"
"""Free in Slicer and in Segment Editor (slicer.md 10.11). Where Ctrl+Alt types letters (AltGr), typing comes first."""


def keys_text() -> str:
    """What the panel says about the keys."""
    return _(
        "Keys: {next} next undecided, {previous} previous; {first} accepted, 2 corrected, 3 rejected, 4 second reader; "
        "{undo} undo, {edit} edit, {comment} comment; {case} next open case. They rest while you type."
    ).format(next=NEXT, previous=PREVIOUS, first=VERDICT_KEYS[0], undo=UNDO, edit=EDIT, comment=COMMENT, case=NEXT_CASE)


def actions_of(panel: Any) -> dict[str, Callable[[], None]]:
    """What each key does in the section "Selective review"."""
    judging = {key: _calling(panel.judge, verdict) for key, verdict in zip(VERDICT_KEYS, Verdict, strict=True)}
    return {
        NEXT: panel.next,
        PREVIOUS: panel.previous,
        **judging,
        UNDO: panel.undo,
        EDIT: panel.edit.toggle,
        COMMENT: panel.verdicts.write_comment,
        NEXT_CASE: lambda: panel.on_next_case(),
    }


class ReviewKeys:
    """Installed while a review is in sight.

    Args:
        actions: what each key does.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = actions
        self._shortcuts: list[tuple[Any, Callable[[], None]]] = []

    @property
    def is_installed(self) -> bool:
        """Whether the keys are there."""
        return bool(self._shortcuts)

    def install(self) -> None:
        """Begin to listen."""
        window = slicer.util.mainWindow()
        if self._shortcuts or window is None:
            return
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.autoRepeat = False
            shortcut.connect("activated()", action)
            self._shortcuts.append((shortcut, action))
        slicer.app.connect("focusChanged(QWidget*,QWidget*)", self._focus_moved)
        self._focus_moved(None, qt.QApplication.focusWidget())

    def remove(self) -> None:
        """Stop listening."""
        if not self._shortcuts:
            return
        slicer.app.disconnect("focusChanged(QWidget*,QWidget*)", self._focus_moved)
        for shortcut, action in self._shortcuts:
            shortcut.disconnect("activated()", action)
            shortcut.enabled = False
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    def _focus_moved(self, _old: Any, new: Any) -> None:
        """Off while typing: a shortcut that is on takes the key even where it does nothing."""
        for shortcut, _action in self._shortcuts:
            shortcut.enabled = not takes_text(new)


def takes_text(widget: Any) -> bool:
    """Whether what is typed goes into this widget."""
    if widget is None:
        return False
    if widget.inherits("QLineEdit") or widget.inherits("QTextEdit") or widget.inherits("QPlainTextEdit"):
        return not widget.isReadOnly()
    return bool(widget.inherits("QAbstractSpinBox") or (widget.inherits("QComboBox") and widget.isEditable()))


def _calling(function: Callable[[Any], None], argument: Any) -> Callable[[], None]:
    return lambda: function(argument)
