"""The keys that the segment editor takes while its shortcuts are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..qt_module import QT

_PREVIOUS, _NEXT = ("Q", "/", ",", ">"), ("W", "*", ".", "<")


def _toggle(editor: Any, place: int) -> None:
    """The effect at a place of the grid, or no effect where that one is active already."""
    chosen = editor.effectByIndex(place)
    editor.setActiveEffect(None if chosen is editor.activeEffect() else chosen)


def _keys(editor: Any) -> dict[str, Callable[[], None]]:
    keys: dict[str, Callable[[], None]] = {}
    for place in range(1, 11):
        keys[str(place % 10)] = lambda place=place: _toggle(editor, place)
        keys[f"Shift+{place % 10}"] = lambda place=place: _toggle(editor, place + 10)
    keys["Esc"] = lambda: editor.setActiveEffect(None)
    keys["Space"] = lambda: editor.setActiveEffect(editor._last_active)
    keys.update(dict.fromkeys(("Z", "Ctrl+Z"), editor.undo))
    keys.update(dict.fromkeys(("Y", "Ctrl+Shift+Z"), editor.redo))
    keys.update(dict.fromkeys(_PREVIOUS, editor.selectPreviousSegment))
    keys.update(dict.fromkeys(_NEXT, editor.selectNextSegment))
    keys["I"] = editor.toggleSourceVolumeIntensityMaskEnabled
    return keys


def install(editor: Any, parent: Any) -> list[Any]:
    """Shortcuts of the parent's window, each working while the editor is not read-only."""
    made = []
    for key, action in _keys(editor).items():
        shortcut = QT.QShortcut(QT.QKeySequence(key), parent)
        shortcut.activated.connect(lambda action=action: None if editor.readOnly else action())
        made.append(shortcut)
    return made
