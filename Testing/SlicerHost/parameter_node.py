"""slicer.parameterNodeWrapper: typed attributes over a vtkMRMLScriptedModuleNode, and their widgets."""

from __future__ import annotations

import types
import typing
import weakref
from dataclasses import dataclass
from typing import Any

import slicer

from . import parameter_types
from .gui_connectors import GuiConnector, connect_widget
from .parameter_types import Default, make_serializer, split_annotated

_PROPERTY = "SlicerParameterName"
_WIDGET_ATTRIBUTES = ("parameterNode", "allParameters")


@dataclass
class _Field:
    name: str
    annotation: Any
    serializer: Any
    default: Any
    validators: list[Any]

    def write(self, node: Any, value: Any) -> None:
        self.serializer.check(value)
        for validator in self.validators:
            validator.validate(value)
        with slicer.util.NodeModify(node):
            self.serializer.write(node, self.name, value)

    def read(self, node: Any) -> Any:
        if not self.serializer.is_in(node, self.name):
            self.write(node, self.default)
        return self.serializer.read(node, self.name)


def _make_field(cls: type, name: str, annotation: Any) -> _Field:
    _, notes = split_annotated(annotation)
    serializer = make_serializer(annotation)
    stated = [note.value for note in notes if isinstance(note, Default)]
    default = getattr(cls, name) if hasattr(cls, name) else stated[0] if stated else serializer.default
    validators = [note for note in notes if hasattr(note, "validate")]
    return _Field(name, annotation, serializer, default, validators)


class _Wrapper:
    """Methods that the decorator gives to the class."""

    allParameters: dict[str, _Field]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, GuiConnector], int]] = {}
        self._next_tag = 0
        self._updating_gui = False
        for field in self.allParameters.values():
            if not field.serializer.is_in(parameterNode, field.name):
                field.write(parameterNode, field.default)
        # Like Slicer's wrapper: values are cached and read again only at a ModifiedEvent of the node. A reference that
        # becomes valid later (while a scene is loading, nodes come after the parameter node) is not noticed.
        self._cache: dict[str, Any] = {}
        self._read_all()
        weak_self = weakref.ref(self)

        def modified(*_: Any) -> None:
            alive = weak_self()
            if alive is not None:
                alive._read_all()

        tag = parameterNode.AddObserver("ModifiedEvent", modified)
        weakref.finalize(self, parameterNode.RemoveObserver, tag)

    def _read_all(self) -> None:
        for field in self.allParameters.values():
            self._cache[field.name] = field.read(self.parameterNode)

    def _field(self, name: str) -> _Field:
        if name not in self.allParameters:
            raise ValueError(f"no parameter {name!r}; there are {sorted(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:
        """Value by name."""
        return self._cache[self._field(name).name]

    def setValue(self, name: str, value: Any) -> None:
        """Set by name."""
        field = self._field(name)
        with slicer.util.NodeModify(self.parameterNode):  # observers must find the new value in the cache
            field.write(self.parameterNode, value)
            self._cache[name] = field.read(self.parameterNode)

    def default(self, name: str) -> Default:
        """Default of a field."""
        return Default(self._field(name).default)

    def connectGui(self, gui: Any) -> int:
        """Connect every widget that has the property SlicerParameterName; the tag undoes it."""
        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren("QWidget") if is_widget else list(vars(gui).values())
        named = {widget.property(_PROPERTY): widget for widget in widgets if hasattr(widget, "property")}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Connect named fields to widgets."""
        fields = {name: self._field(name) for name in mapping}
        connectors = {name: connect_widget(mapping[name], field.annotation) for name, field in fields.items()}
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.on_changed(lambda name=name, connector=connector: self._from_gui(name, connector))
        observer = self.parameterNode.AddObserver("ModifiedEvent", lambda *_: self._to_gui())
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag: int) -> None:
        """Undo connectGui; an unknown tag is ignored, as in Slicer."""
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.on_changed(None)
        if observer is not None:
            self.parameterNode.RemoveObserver(observer)

    def _from_gui(self, name: str, connector: GuiConnector) -> None:
        if not self._updating_gui:
            self.setValue(name, connector.read())

    def _to_gui(self) -> None:
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            for connectors, _ in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._updating_gui = False

    def StartModify(self) -> int:
        """Hold back Modified events."""
        return int(self.parameterNode.StartModify())

    def EndModify(self, previous: int) -> int:
        """Let Modified events go again."""
        return int(self.parameterNode.EndModify(previous))

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        """Observe the node."""
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        """Stop observing the node."""
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        """Announce a change."""
        self.parameterNode.Modified()


def _property_of(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def _wrap(cls: type) -> type:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: _make_field(cls, name, annotation) for name, annotation in hints.items()}
    for name in fields:
        if name in _WIDGET_ATTRIBUTES or hasattr(_Wrapper, name):
            raise ValueError(f"{name!r} is a reserved name in a parameterNodeWrapper")
        setattr(cls, name, _property_of(name))
    for name, member in vars(_Wrapper).items():
        if name not in ("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__"):
            setattr(cls, name, member)
    cls.allParameters = fields  # type: ignore[attr-defined]
    cls._is_parameter_node_wrapper = True  # type: ignore[attr-defined]
    return cls


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator, used with or without parentheses."""
    return _wrap if cls is None else _wrap(cls)


def isParameterNodeWrapper(subject: Any) -> bool:
    """Whether a class or object was made by the decorator."""
    return bool(getattr(subject, "_is_parameter_node_wrapper", False))


def build_module() -> types.ModuleType:
    """The module `slicer.parameterNodeWrapper`."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    for name in ("Default", "WithinRange", "Choice"):
        setattr(module, name, getattr(parameter_types, name))
    module.parameterNodeWrapper = parameterNodeWrapper  # type: ignore[attr-defined]
    module.isParameterNodeWrapper = isParameterNodeWrapper  # type: ignore[attr-defined]
    module.SlicerParameterNamePropertyName = _PROPERTY  # type: ignore[attr-defined]
    return module
