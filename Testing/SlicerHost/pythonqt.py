"""PythonQt's attribute rules as a mixin for PySide6 classes (see the table in research/slicer.md, 4b)."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

from PySide6 import QtCore

from . import signals
from .coercion import forgiving, plain_number

_BOOKKEEPING = "_pythonqt_connections"
_reading: set[tuple[int, str]] = set()

# a slot or static method of the same name hides the property (QTimer.singleShot)
HIDDEN_PROPERTIES = {("QTimer", "singleShot")}


class PythonQtMeta(type(QtCore.QObject)):
    """isinstance(w, qt.QWidget) holds for every widget, also for those that C++ made."""

    def __instancecheck__(cls, instance: Any) -> bool:
        native = cls.__dict__.get("_native_class")
        return isinstance(instance, native) if native else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        native = cls.__dict__.get("_native_class")
        return issubclass(subclass, native) if native else super().__subclasscheck__(subclass)


def _python_member(owner: type, name: str) -> Any:
    """What a Python class (not PySide6 itself) defines under this name; properties of the meta-object excluded."""
    for base in owner.__mro__:
        if base.__module__.startswith("PySide6"):
            return None
        member = base.__dict__.get(name)
        if member is not None:
            return None if isinstance(member, QtCore.Property) else member
    return None


def _property_index(target: QtCore.QObject, name: str) -> int:
    for base in type(target).__mro__:
        if (base.__name__, name) in HIDDEN_PROPERTIES:
            return -1
    return QtCore.QObject.metaObject(target).indexOfProperty(name)


def _read_property(target: QtCore.QObject, index: int, name: str) -> Any:
    """Read through the meta-object; a virtual of the same name asks again while C++ reads it: then give the method."""
    key = (id(target), name)
    if key in _reading:
        return QtCore.QObject.__getattribute__(target, name)
    _reading.add(key)
    try:
        return QtCore.QObject.metaObject(target).property(index).read(target)
    finally:
        _reading.discard(key)


def _write_property(target: QtCore.QObject, index: int, name: str, value: Any) -> None:
    meta = QtCore.QObject.metaObject(target).property(index)
    if not meta.isWritable():
        raise AttributeError(f"property '{name}' of {type(target).__name__} is not writable")
    value = plain_number(value)
    kind = str(meta.typeName())
    if kind == "int" and isinstance(value, float):
        value = int(value)
    if kind == "QString":
        value = "" if value is None else value if isinstance(value, str) else str(value)
    if kind == "QStringList" and isinstance(value, tuple):
        value = list(value)
    if not meta.write(target, value):
        raise ValueError(f"property '{name}' of {type(target).__name__} does not take {value!r}")


_children_are_named = [True]


@contextlib.contextmanager
def children_not_named() -> Iterator[None]:
    """Pass over the attributes that PySide6's loader gives the root, one a child; PythonQt's gives none.

    If the root refused them, PySide6 would drop the errors, and never free them on Python 3.13, nor what they hold.
    """
    _children_are_named[0] = False
    try:
        yield
    finally:
        _children_are_named[0] = True


class PythonQtObject:
    """First base of every class in `qt` and of every stand-in widget."""

    def __getattribute__(self, name: str) -> Any:
        get = super().__getattribute__
        if name[0] == "_":
            return get(name)
        if name in ("connect", "disconnect"):
            return types.MethodType(getattr(PythonQtObject, name), self)
        if name == "name" and _property_index(self, name) < 0:
            return QtCore.QObject.objectName(self)
        if _python_member(type(self), name) is not None:
            return get(name)
        index = _property_index(self, name)
        if index >= 0:
            return _read_property(self, index, name)
        if name == "exec_":
            name = "exec"
        found = get(name)
        return forgiving(found) if isinstance(found, types.BuiltinMethodType) else found

    def __setattr__(self, name: str, value: Any) -> None:
        owner = type(self)
        if name == "name" and _property_index(self, name) < 0:
            QtCore.QObject.setObjectName(self, value)
            return
        if name[0] == "_" and not owner.__dict__.get("_native_class"):
            super().__setattr__(name, value)
            return
        index = _property_index(self, name)
        if index >= 0:
            _write_property(self, index, name, value)
        elif "_native_class" in owner.__dict__ or "_stands_in_for" in owner.__dict__:
            if not _children_are_named[0]:
                return
            raise AttributeError(
                f"'{name}' does not exist on {owner.__name__} and creating new attributes on C++ objects is not allowed"
            )
        else:
            super().__setattr__(name, value)

    def connect(self, signal: str, receiver: Any, slot: str | None = None) -> bool:
        """Connect by C++ signature; False, a printed line and a finding when the signal does not exist."""
        emitter = signals.find_emitter(self, signal)
        target = signals.resolve_slot(receiver, slot) if emitter is not None else None
        if emitter is None or target is None:
            return False
        call = signals.trimmed(target, signals.normalized(signal))
        emitter.connect(call)
        self.__dict__.setdefault(_BOOKKEEPING, []).append((signals.normalized(signal), target, call))
        return True

    def disconnect(self, signal: str, receiver: Any = None, slot: str | None = None) -> bool:
        """Undo connections made by signature: all of the signal, or those to one receiver; False without any."""
        emitter = signals.find_emitter(self, signal)
        if emitter is None:
            return False
        target = signals.resolve_slot(receiver, slot) if receiver is not None else None
        entries = self.__dict__.setdefault(_BOOKKEEPING, [])
        wanted = signals.normalized(signal)
        gone = [e for e in entries if e[0] == wanted and (receiver is None or e[1] == target)]
        for entry in gone:
            emitter.disconnect(entry[2])
            entries.remove(entry)
        return bool(gone)

    def className(self) -> str:
        """Name of the C++ class."""
        return type(self).__name__

    def delete(self) -> None:
        """PythonQt's way to end the C++ object; here at the next turn of the event loop."""
        QtCore.QObject.deleteLater(self)

    def findChildren(self, kind: Any = QtCore.QObject, name: str = "") -> tuple[Any, ...]:
        """All descendants of a class (or class name), optionally with an object name, as a tuple."""
        every = QtCore.QObject.findChildren(self, QtCore.QObject)
        if isinstance(kind, str):
            chosen = [child for child in every if child.inherits(kind) or type(child).__name__ == kind]
        else:
            chosen = [child for child in every if isinstance(child, kind)]
        return tuple(child for child in chosen if not name or QtCore.QObject.objectName(child) == name)

    def findChild(self, kind: Any = QtCore.QObject, name: str = "") -> Any:
        """The first of findChildren, or None."""
        found = self.findChildren(kind, name)
        return found[0] if found else None
