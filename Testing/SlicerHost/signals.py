"""String connections with PythonQt's rules: exact signatures, trimmed arguments, False for unknown signals."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

from .strict import record

Slot = Callable[..., Any]


def normalized(signature: str) -> str:
    """A signature as moc writes it: no spaces, no const, no references."""
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def native_signals(sender: QtCore.QObject) -> set[str]:
    """Signatures of the signals that Qt's own meta-object of the sender has."""
    try:
        return _signals_of(sender)
    except RuntimeError:  # PySide made the meta-object anew in between, and the wrapper of the old one is dead
        return _signals_of(sender)


def _signals_of(sender: QtCore.QObject) -> set[str]:
    meta = QtCore.QObject.metaObject(sender)
    methods = [meta.method(index) for index in range(meta.methodCount())]
    kind = QtCore.QMetaMethod.MethodType.Signal
    return {bytes(m.methodSignature().data()).decode() for m in methods if m.methodType() == kind}


def stand_in_signals(sender_class: type) -> dict[str, str]:
    """Signatures (as the real class writes them) to names of the Python signals that carry them."""
    table: dict[str, str] = {}
    for base in reversed(sender_class.__mro__):
        table.update(base.__dict__.get("_signals", {}))
    return table


def accepted_arguments(slot: Slot) -> int | None:
    """How many arguments PythonQt passes at most; None is all of them. It looks at no function behind a decorator."""
    function = getattr(slot, "__func__", slot)
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return None
    return code.co_argcount - (1 if inspect.ismethod(slot) else 0)


def trimmed(slot: Slot, signature: str) -> Slot:
    """A callable that takes what the signal sends and passes on what the slot takes."""
    inside = signature[signature.index("(") + 1 : -1]
    sent = len(inside.split(",")) if inside else 0
    accepted = accepted_arguments(slot)
    count = sent if accepted is None else min(sent, accepted)

    def call(*args: Any) -> None:
        slot(*args[:count])

    return call


def _is_private_python_signal(signature: str) -> bool:
    return "PyObject" in signature or signature.startswith("_")


def find_emitter(sender: QtCore.QObject, signature: str) -> Any:
    """The bound signal for a signature, or None (and a finding) when the real class has no such signal."""
    wanted = normalized(signature)
    ours = stand_in_signals(type(sender))
    if wanted in ours:
        return QtCore.QObject.__getattribute__(sender, ours[wanted])
    native = native_signals(sender)
    own_names = set(ours.values())
    base, arguments = wanted[:-1].split("(", 1)
    if wanted in native and base not in own_names and not _is_private_python_signal(wanted):
        emitter = QtCore.QObject.__getattribute__(sender, base)
        overloads = {s for s in native if s.split("(")[0] == base}
        if len(overloads) == 1:
            return emitter
        try:
            return emitter[arguments] if arguments else emitter[()]
        except (IndexError, KeyError, TypeError):
            return emitter
    print(f"QObject::connect() signal '{signature}' does not exist on {type(sender).__name__}")
    record("signal", type(sender).__name__, signature)
    return None


def resolve_slot(receiver: Any, slot: str | None) -> Slot | None:
    """The callable behind (callable) or (object, "slot(args)"); None and a finding when there is none."""
    if slot is None:
        if callable(receiver):
            return receiver
        record("slot", type(receiver).__name__, "the receiver is not callable")
        return None
    name = slot.split("(")[0]
    found = getattr(receiver, name, None)
    if callable(found):
        return found
    record("slot", type(receiver).__name__, slot)
    return None
