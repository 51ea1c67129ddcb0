"""Which widget shows which type of field, as in Slicer: exact widget classes, none for lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .parameter_types import Choice, WithinRange, node_class_of, split_annotated
from .qt_module import QT


@dataclass
class GuiConnector:
    """Reads, writes and observes one widget."""

    widget: Any
    signal: str
    read: Callable[[], Any]
    write: Callable[[Any], None]
    _slot: Callable[..., None] | None = None

    def on_changed(self, callback: Callable[[], None] | None) -> None:
        """Call back when the user changes the widget; None ends that."""
        if self._slot is not None:
            self.widget.disconnect(self.signal, self._slot)
            self._slot = None
        if callback is not None:
            self._slot = lambda *_: callback()
            if not self.widget.connect(self.signal, self._slot):
                raise RuntimeError(f"{self.widget.className()} has no signal {self.signal}")


def _property(widget: Any, name: str, signal: str) -> GuiConnector:
    return GuiConnector(widget, signal, lambda: getattr(widget, name), lambda value: setattr(widget, name, value))


def _bounds(notes: list[Any]) -> tuple[float | None, float | None]:
    within = next((note for note in notes if isinstance(note, WithinRange)), None)
    return (within.minimum, within.maximum) if within else (None, None)


def _number(widget: Any, notes: list[Any], signal: str, needs_bounds: bool) -> GuiConnector:
    low, high = _bounds(notes)
    if needs_bounds and (low is None or high is None):
        raise RuntimeError(f"{widget.className()} needs a bounded number: Annotated[..., WithinRange(a, b)]")
    whole = signal == "valueChanged(int)"
    widget.minimum = low if low is not None else (-(2**31) if whole else -1e300)
    widget.maximum = high if high is not None else (2**31 - 1 if whole else 1e300)
    return _property(widget, "value", signal)


def _items(widget: Any, labelled: list[tuple[str, Any]]) -> GuiConnector:
    widget.clear()
    for label, _ in labelled:
        widget.addItem(label)
    values = [value for _, value in labelled]

    def write(value: Any) -> None:
        widget.currentIndex = values.index(value)

    return GuiConnector(widget, "currentIndexChanged(int)", lambda: values[widget.currentIndex], write)


def _combo(widget: Any, bare: Any, notes: list[Any]) -> GuiConnector | None:
    choice = next((note for note in notes if isinstance(note, Choice)), None)
    if bare in (str, int, float, bool):
        if choice is None:
            raise RuntimeError("a QComboBox shows a plain field only with the Choice annotation")
        return _items(widget, [(str(value), value) for value in choice.choices])
    return None


def _node(widget: Any, kind: type) -> GuiConnector:
    widget.nodeTypes = [kind.__name__]
    return GuiConnector(widget, "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode)


def _by_class(widget: Any, bare: Any, notes: list[Any]) -> GuiConnector | None:
    name = type(widget).__name__
    if bare is bool and name in ("QCheckBox", "ctkCheckBox"):
        return _property(widget, "checked", "stateChanged(int)" if name == "QCheckBox" else "toggled(bool)")
    if bare is bool and name in ("QPushButton", "ctkCheckablePushButton"):
        widget.checkable = True
        return _property(widget, "checked", "toggled(bool)")
    if bare is int and name in ("QSlider", "QSpinBox"):
        return _number(widget, notes, "valueChanged(int)", name == "QSlider")
    if bare is float and name in ("QDoubleSpinBox", "ctkSliderWidget", "qMRMLSliderWidget", "ctkDoubleSpinBox"):
        return _number(widget, notes, "valueChanged(double)", "Slider" in name)
    if bare is str and name == "QLineEdit":
        return _property(widget, "text", "textChanged(QString)")
    return None


def connect_widget(widget: Any, annotation: Any) -> GuiConnector:
    """The connector for a widget and a field's type; RuntimeError when Slicer has none."""
    bare, notes = split_annotated(annotation)
    made: GuiConnector | None = None
    if type(widget) in (QT.QComboBox,) or type(widget).__name__ == "ctkComboBox":
        made = _combo(widget, bare, notes)
    elif type(widget).__name__ == "qMRMLNodeComboBox":
        kind = node_class_of(annotation)
        made = _node(widget, kind) if kind else None
    else:
        made = _by_class(widget, bare, notes)
    if made is None:
        raise RuntimeError(f"no GUI connector from {annotation!r} to {type(widget).__name__}")
    return made
