"""Widgets and values stay in step, and what the panel changes is not taken for the user's choice."""

from collections.abc import Callable
from typing import Any

import pytest

from SegWithUSlicerLib.panels.widgets import GuiConnections, updates_disabled

PROPERTIES = {"QComboBox": "currentIndex", "QCheckBox": "checked", "ctkSliderWidget": "value"}


class Widget:
    """As much of a Qt widget as is used: a value whose changes are signalled."""

    def __init__(self, kind: str, value: Any) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_slots", [])
        object.__setattr__(self, PROPERTIES[kind], value)

    def inherits(self, name: str) -> bool:
        return name == self._kind or (name, self._kind) == ("QAbstractButton", "QCheckBox")

    def connect(self, signal: str, slot: Callable[..., None]) -> None:
        assert "(" in signal
        self._slots.append(slot)

    def setUpdatesEnabled(self, enabled: bool) -> None:
        object.__setattr__(self, "updates", enabled)

    def __setattr__(self, name: str, value: Any) -> None:
        changed = getattr(self, name) != value
        object.__setattr__(self, name, value)
        for slot in self._slots if changed else []:
            slot(value)


def test_the_user_changes_the_value_and_the_panel_shows_it() -> None:
    values = {"opacity": 0.5, "near": False}
    slider, box = Widget("ctkSliderWidget", 0.0), Widget("QCheckBox", True)
    gui = GuiConnections()
    gui.connect(slider, lambda value: values.update(opacity=value), lambda: values["opacity"])
    gui.connect(box, lambda value: values.update(near=value), lambda: values["near"])
    slider.value = 0.7
    assert values == {"opacity": 0.7, "near": False}
    values["opacity"] = 0.2
    gui.refresh()
    assert (slider.value, box.checked, values) == (0.2, False, {"opacity": 0.2, "near": False})


def test_no_slot_is_called_while_the_panel_updates_also_after_an_error() -> None:
    calls: list[Any] = []
    box = Widget("QComboBox", 0)
    gui = GuiConnections()
    gui.connect(box, calls.append)
    gui.connect_signal(box, "activated(int)", calls.append)
    with pytest.raises(ValueError, match="broken"), gui.updating():
        with gui.updating():
            box.currentIndex = 1
        box.currentIndex = 2
        raise ValueError("broken")
    assert calls == []
    box.currentIndex = 3
    assert calls == [3, 3]


def test_a_combo_box_without_a_choice_is_passed_over() -> None:
    calls: list[int] = []
    box = Widget("QComboBox", 0)
    GuiConnections().connect(box, calls.append)
    box.currentIndex = -1
    assert calls == []


def test_a_widget_is_drawn_again_after_an_error() -> None:
    box = Widget("QCheckBox", False)
    with pytest.raises(ValueError, match="broken"), updates_disabled(box):
        assert box.updates is False
        raise ValueError("broken")
    assert box.updates is True
