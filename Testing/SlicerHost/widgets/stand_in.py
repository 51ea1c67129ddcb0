"""How a stand-in class is declared: its name is the real class's, its public members are members of the real class."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore

CTK_CLASSES: dict[str, type] = {}
SLICER_CLASSES: dict[str, type] = {}


def stand_in(cls: type) -> type:
    """Register the class under its name, in `ctk` or in `slicer`."""
    cls._stands_in_for = cls.__name__  # type: ignore[attr-defined]
    (CTK_CLASSES if cls.__name__.startswith("ctk") else SLICER_CLASSES)[cls.__name__] = cls
    return cls


def stored(kind: Any, name: str, default: Any) -> QtCore.Property:
    """A property that is only remembered: it changes looks that the stand-in does not draw."""
    attribute = f"_stored_{name}"

    def read(self: Any) -> Any:
        return self.__dict__.get(attribute, default)

    def write(self: Any, value: Any) -> None:
        self.__dict__[attribute] = value

    return QtCore.Property(kind, read, write)
