"""`slicer.parameterNodeWrapper`: texts, truth values, nodes and lists of nodes, kept in a parameter node."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from typing import Annotated, Any, get_origin, get_type_hints

from .widgets import qMRMLNodeComboBox


def _property(name: str, kind: Any, default: Any) -> property:
    origin = get_origin(kind)

    def read(self: Any) -> Any:
        node = self.parameterNode
        if origin is list:
            return [node.GetNthNodeReference(name, n) for n in range(node.GetNumberOfNodeReferences(name))]
        if isinstance(kind, type) and kind.__name__.startswith("vtkMRML"):
            return node.GetNodeReference(name)
        text = node.GetParameter(name)
        if origin is dict:
            return json.loads(text or "{}")
        return default if not text else text == "True" if kind is bool else text

    def write(self: Any, value: Any) -> None:
        node = self.parameterNode
        before = node.StartModify()
        if origin is list:
            node.RemoveNodeReferenceIDs(name)
            for one in value:
                node.AddNodeReferenceID(name, one.GetID() if one else None)
        elif isinstance(kind, type) and kind.__name__.startswith("vtkMRML"):
            node.SetNodeReferenceID(name, value.GetID() if value else None)
        else:
            node.SetParameter(name, json.dumps(value) if origin is dict else str(value))
        node.EndModify(before)

    return property(read, write)


def parameter_node_wrapper(cls: type) -> type:
    """Make a class of annotated parameters a view of a parameter node."""
    for name, kind in get_type_hints(cls, include_extras=True).items():
        kind = kind.__origin__ if get_origin(kind) is Annotated else kind  # type: ignore[attr-defined]
        setattr(cls, name, _property(name, kind, getattr(cls, name, None)))

    def init(self: Any, node: Any) -> None:
        self.parameterNode, self._gui = node, {}

    def connect_gui(self: Any, gui: Any) -> int:
        named = [widget for widget in vars(gui).values() if widget.property("SlicerParameterName")]
        updates = [_bind(self, widget, str(widget.property("SlicerParameterName"))) for widget in named]
        tag = self.AddObserver("ModifiedEvent", lambda *_: [update() for update in updates])
        return int(tag)

    members: dict[str, Callable[..., Any]] = {
        "__init__": init,
        "connectGui": connect_gui,
        "disconnectGui": lambda self, tag: self.RemoveObserver(tag),
        "AddObserver": lambda self, event, callback: self.parameterNode.AddObserver(event, callback),
        "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
    }
    for name, member in members.items():
        setattr(cls, name, member)
    return cls


def _bind(parameters: Any, widget: Any, name: str) -> Callable[[], None]:
    """Pass on what the user chooses; the function that is returned shows the parameter in the widget."""
    if isinstance(widget, qMRMLNodeComboBox):
        widget.currentNodeChanged.connect(lambda node: setattr(parameters, name, node))
        return lambda: widget.setCurrentNode(getattr(parameters, name))
    if widget.inherits("QComboBox"):
        widget.connect("currentTextChanged(QString)", lambda text: setattr(parameters, name, text))
        return lambda: setattr(widget, "currentText", getattr(parameters, name))
    widget.connect("toggled(bool)", lambda on: setattr(parameters, name, on))
    return lambda: setattr(widget, "checked", getattr(parameters, name))


def build() -> types.ModuleType:
    """Build the module."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    module.parameterNodeWrapper = parameter_node_wrapper  # type: ignore[attr-defined]
    module.Choice = lambda values: values  # type: ignore[attr-defined]
    return module
