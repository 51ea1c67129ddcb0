"""How a typed field of a parameter node is checked and stored: str, int, float, bool, node, lists."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import slicer


@dataclass(frozen=True)
class Default:
    """Annotation: value of a fresh parameter node."""

    value: Any


@dataclass(frozen=True)
class WithinRange:
    """Annotation: minimum <= value <= maximum."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        """ValueError outside."""
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value!r} is not between {self.minimum} and {self.maximum}")


class Choice:
    """Annotation: one of these values."""

    def __init__(self, choices: Iterable[Any]) -> None:
        self.choices = list(choices)

    def validate(self, value: Any) -> None:
        """ValueError for another value."""
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


class Serializer(Protocol):
    """Reads and writes values of one type under a name in a vtkMRMLScriptedModuleNode."""

    default: Any

    def is_in(self, node: Any, name: str) -> bool: ...
    def check(self, value: Any) -> None: ...
    def write(self, node: Any, name: str, value: Any) -> None: ...
    def read(self, node: Any, name: str) -> Any: ...
    def remove(self, node: Any, name: str) -> None: ...


class _Plain:
    """A value that is one string in the node."""

    def __init__(self, kinds: tuple[type, ...], default: Any, to: Callable[[Any], str], back: Callable[[str], Any]):
        self.default, self._kinds, self._to, self._back = default, kinds, to, back

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def check(self, value: Any) -> None:
        if not isinstance(value, self._kinds):
            raise TypeError(f"{value!r} is not {' or '.join(kind.__name__ for kind in self._kinds)}")

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self._to(value))

    def read(self, node: Any, name: str) -> Any:
        return self._back(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class _Node:
    """A MRML node or None, as a node reference."""

    default = None

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def check(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"{value!r} is not a {self.kind.__name__}")

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")  # shows that the field was written, even with None
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _List:
    """list[...] of any of the above: a length and one entry per element."""

    def __init__(self, element: Any) -> None:
        self._element = element

    @property
    def default(self) -> list[Any]:
        return []

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}_len"))

    def _length(self, node: Any, name: str) -> int:
        return int(node.GetParameter(f"{name}_len")) if self.is_in(node, name) else 0

    def check(self, value: Any) -> None:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{value!r} is not a list")
        for element in value:
            self._element.check(element)

    def write(self, node: Any, name: str, value: Any) -> None:
        old = self._length(node, name)
        for index, element in enumerate(value):
            self._element.write(node, f"{name}_{index}", element)
        for index in range(len(value), old):
            self._element.remove(node, f"{name}_{index}")
        node.SetParameter(f"{name}_len", str(len(value)))

    def read(self, node: Any, name: str) -> tuple[Any, ...]:
        # In Slicer a list that is changed in place writes itself back; here it cannot be changed in place.
        return tuple(self._element.read(node, f"{name}_{index}") for index in range(self._length(node, name)))

    def remove(self, node: Any, name: str) -> None:
        for index in range(self._length(node, name)):
            self._element.remove(node, f"{name}_{index}")
        node.UnsetParameter(f"{name}_len")


def split_annotated(annotation: Any) -> tuple[Any, list[Any]]:
    """The bare type and the annotations of Annotated[...]."""
    if typing.get_origin(annotation) is typing.Annotated:
        bare, *notes = typing.get_args(annotation)
        return bare, notes
    return annotation, []


_PLAIN: dict[Any, Callable[[], _Plain]] = {
    str: lambda: _Plain((str,), "", str, str),
    bool: lambda: _Plain((bool,), False, str, lambda text: text == "True"),
    int: lambda: _Plain((int,), 0, str, int),
    float: lambda: _Plain((int, float), 0.0, str, float),
}


def make_serializer(annotation: Any) -> Any:
    """The serializer for a field's type; TypeError for a type that this stand-in does not hold."""
    bare, _ = split_annotated(annotation)
    if bare in _PLAIN:
        return _PLAIN[bare]()
    if isinstance(bare, type) and issubclass(bare, slicer.vtkMRMLNode):
        return _Node(bare)
    if typing.get_origin(bare) is list:
        return _List(make_serializer(typing.get_args(bare)[0]))
    raise TypeError(f"a parameter node field cannot be of type {annotation!r} here")


def node_class_of(annotation: Any) -> type | None:
    """The MRML class of a node field, or None."""
    made = make_serializer(annotation)
    return made.kind if isinstance(made, _Node) else None
