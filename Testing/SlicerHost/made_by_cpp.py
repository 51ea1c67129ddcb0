"""Objects that C++ makes and keeps, seen under PythonQt's rules: a thin cover over the PySide6 object."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore

from . import signals


class MadeByCpp:
    """Properties as attributes, methods as they are, connections by signature."""

    def __init__(self, native: QtCore.QObject) -> None:
        self._native = native
        self._made: list[tuple[str, Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        meta = self._native.metaObject()
        index = meta.indexOfProperty(name)
        return meta.property(index).read(self._native) if index >= 0 else getattr(self._native, name)

    def connect(self, signal: str, receiver: Any, slot: str | None = None) -> bool:
        """Connect by C++ signature; False and a finding when there is no such signal."""
        emitter = signals.find_emitter(self._native, signal)
        target = signals.resolve_slot(receiver, slot) if emitter is not None else None
        if emitter is None or target is None:
            return False
        call = signals.trimmed(target, signals.normalized(signal))
        emitter.connect(call)
        self._made.append((signals.normalized(signal), target, call))
        return True

    def disconnect(self, signal: str, receiver: Any = None, slot: str | None = None) -> bool:
        """Undo connections; False when there were none."""
        emitter = signals.find_emitter(self._native, signal)
        target = signals.resolve_slot(receiver, slot) if receiver is not None else None
        wanted = signals.normalized(signal)
        gone = [made for made in self._made if made[0] == wanted and (receiver is None or made[1] == target)]
        for made in gone:
            emitter.disconnect(made[2])
            self._made.remove(made)
        return bool(gone)


def selection_model_of(native_class: Any) -> Any:
    """A selectionModel() for views of this class; the same cover each time, so that connections can be undone."""

    def selection_model(view: Any) -> Any:
        native = native_class.selectionModel(view)
        known = view.__dict__.get("_selection_cover")
        if native is not None and (known is None or known._native is not native):
            view.__dict__["_selection_cover"] = known = MadeByCpp(native)
        return known if native is not None else None

    return selection_model
