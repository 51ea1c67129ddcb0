"""Argument conversions that PythonQt makes and PySide6 refuses: floats for ints, numpy numbers, ints for enums."""

from __future__ import annotations

import enum
import numbers
import re
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

_SIGNATURE_TYPE = re.compile(r"PySide6\.(QtCore|QtGui|QtWidgets)\.([A-Za-z_][\w.]*)")
_MODULES = {"QtCore": QtCore, "QtGui": QtGui, "QtWidgets": QtWidgets}


def plain_number(value: Any) -> Any:
    """A numpy scalar as a Python number; everything else unchanged."""
    if isinstance(value, bool | int | float | str | enum.Enum):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    return value


def _enums_named_in(message: str) -> list[type[enum.Enum]]:
    found = []
    for module, path in _SIGNATURE_TYPE.findall(message):
        target: Any = _MODULES[module]
        for part in path.split("."):
            target = getattr(target, part, None)
        if isinstance(target, type) and issubclass(target, enum.Enum) and target not in found:
            found.append(target)
    return found


def _candidates(args: tuple[Any, ...], message: str) -> list[tuple[Any, ...]]:
    plain = tuple(plain_number(arg) for arg in args)
    truncated = tuple(int(arg) if isinstance(arg, float) else arg for arg in plain)
    tried = [plain, truncated]
    for kind in _enums_named_in(message):
        converted = []
        for arg in plain:
            try:
                converted.append(kind(arg) if isinstance(arg, int) and not isinstance(arg, bool) else arg)
            except ValueError:
                converted.append(arg)
        tried.append(tuple(converted))
    return tried


def forgiving(method: Callable[..., Any]) -> Callable[..., Any]:
    """The C++ method, retried with PythonQt's conversions when PySide6 says "wrong argument types"."""

    owner = getattr(method, "__self__", None)

    def call(*args: Any) -> Any:
        if isinstance(owner, QtCore.QObject) and not shiboken6.isValid(owner):
            raise RuntimeError(f"{type(owner).__name__}.{call.__name__} called on a destroyed object")
        try:
            return method(*args)
        except (TypeError, ValueError) as error:
            if not any(isinstance(arg, numbers.Number) for arg in args):
                raise
            for candidate in _candidates(args, str(error)):
                try:
                    return method(*candidate)
                except (TypeError, ValueError):
                    continue
            raise

    call.__name__ = getattr(method, "__name__", "method")
    call.__self__ = owner  # type: ignore[attr-defined]
    return call
