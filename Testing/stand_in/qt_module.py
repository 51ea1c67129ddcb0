"""The module `qt`: PySide6 with PythonQt's properties as attributes and connections by C++ signatures."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets


def accepted_arguments(slot: Any) -> int | None:
    """Count the arguments that a slot takes at most; None for any number."""
    code = getattr(getattr(slot, "__func__", slot), "__code__", None)
    if code is None or code.co_flags & 0x04:
        return None
    return int(code.co_argcount) - isinstance(slot, types.MethodType)


def plain(value: Any) -> Any:
    """Give numbers of numpy and whole floats as Python's integers, as PythonQt takes them for both."""
    if isinstance(value, np.generic):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PythonQtObject:
    """First base of every class in `qt`."""

    def __getattribute__(self, name: str) -> Any:
        get = super().__getattribute__
        if name[0] == "_":
            return get(name)
        if name in ("connect", "disconnect", "findChildren"):
            return types.MethodType(getattr(PythonQtObject, name), self)
        if name == "name":
            return QtCore.QObject.objectName(self)
        meta = QtCore.QObject.metaObject(self)
        index = meta.indexOfProperty(name)
        if index >= 0 and not (name == "singleShot" and isinstance(self, QtCore.QTimer)):
            return meta.property(index).read(self)
        found = get(name)
        if not isinstance(found, types.BuiltinMethodType):
            return found

        return _caller(found)

    def __setattr__(self, name: str, value: Any) -> None:
        meta = QtCore.QObject.metaObject(self)
        index = meta.indexOfProperty(name)
        if index < 0:
            super().__setattr__(name, value)
            return
        kind = str(meta.property(index).typeName())
        value = plain(value) if kind == "int" else "" if kind == "QString" and value is None else value
        if not meta.property(index).write(self, value.item() if isinstance(value, np.generic) else value):
            raise ValueError(f"property '{name}' of {type(self).__name__} does not take {value!r}")

    def connect(self, signal: str, receiver: Any) -> bool:
        """Connect by C++ signature, with as many arguments as the receiver takes; ValueError for an unknown signal."""
        name, sent = signal[:-1].split("(", 1)
        emitter = _emitter(self, signal)
        most = accepted_arguments(receiver)
        count = min(len(sent.split(",")) if sent else 0, 99 if most is None else most)

        def call(*arguments: Any) -> None:
            receiver(*arguments[:count])

        emitter.connect(call)
        self.__dict__.setdefault("_connections", []).append((name, receiver, call))
        return True

    def disconnect(self, signal: str, receiver: Any) -> bool:
        """Undo the connections with a receiver."""
        known = self.__dict__.setdefault("_connections", [])
        gone = [one for one in known if one[:2] == (signal.split("(")[0], receiver)]
        for one in gone:
            _emitter(self, signal).disconnect(one[2])
            known.remove(one)
        return bool(gone)

    def findChildren(self, kind: Any = QtCore.QObject, name: str = "") -> tuple[Any, ...]:
        """Find all descendants of a class."""
        native = getattr(kind, "_native", kind)
        found = QtCore.QObject.findChildren(self, QtCore.QObject)
        return tuple(one for one in found if isinstance(one, native) and name in ("", one.objectName()))


def _emitter(sender: Any, signal: str) -> Any:
    name, sent = signal[:-1].split("(", 1)
    bound = QtCore.QObject.__getattribute__(sender, name) if hasattr(type(sender), name) else None
    if not hasattr(bound, "emit"):
        raise ValueError(f"{type(sender).__name__} has no signal {signal}")
    try:
        return bound[sent] if sent else bound
    except (IndexError, KeyError, TypeError):  # the only signal of this name
        return bound


def _caller(method: Any) -> Any:
    def call(*arguments: Any) -> Any:
        arguments = tuple(one._native if isinstance(one, MadeByCpp) else one for one in arguments)
        try:
            got = method(*arguments)
        except TypeError:
            got = method(*map(plain, arguments))
        is_cpp = isinstance(got, QtCore.QObject) and not isinstance(got, PythonQtObject)
        return MadeByCpp(got) if is_cpp else got

    return call


class MadeByCpp:
    """An object that C++ made, seen as PythonQt shows it."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def __getattr__(self, name: str) -> Any:
        meta = self._native.metaObject()
        index = meta.indexOfProperty(name)
        return meta.property(index).read(self._native) if index >= 0 else _caller(getattr(self._native, name))

    def connect(self, signal: str, receiver: Any) -> bool:
        """Connect by C++ signature."""
        return PythonQtObject.connect(self._native, signal, receiver)

    def disconnect(self, signal: str, receiver: Any) -> bool:
        """Undo the connections with a receiver."""
        return PythonQtObject.disconnect(self._native, signal, receiver)


def _class(native: type) -> type:
    return type(native.__name__, (PythonQtObject, native), {"__module__": "qt", "_native": native})


def build() -> Any:
    """Build the module."""
    qt = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        for name in (name for name in dir(source) if name[0] == "Q"):
            found = getattr(source, name)
            is_object = isinstance(found, type) and issubclass(found, QtCore.QObject)
            setattr(qt, name, _class(found) if is_object and not name.endswith("Application") else found)
    return qt


QT = build()
