"""The table of Slicer's and CTK's Qt classes, completed by Qt's own meta-objects; and a smaller copy of it."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

COMMITTED = Path(__file__).parent / "qt_api.json"
# the application class, the views and modules that code reaches without naming a class in a .ui file
ALWAYS = (
    "qSlicerApplication",
    "qSlicerLayoutManager",
    "qMRMLSliceWidget",
    "qMRMLSliceView",
    "qMRMLThreeDWidget",
    "qMRMLThreeDView",
    "qMRMLSliceControllerWidget",
    "qSlicerMainWindow",
    "qSlicerModuleSelectorToolBar",
    "qSlicerModuleManager",
    "qSlicerScriptedLoadableModule",
    "qSlicerLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
    "qSlicerCoreIOManager",
    "qMRMLSegmentEditorWidget",
    "qMRMLSegmentsTableView",
    "qMRMLMarkupsROIWidget",
    "qMRMLRangeWidget",
    "qMRMLSpinBox",
    "ctkDoubleSpinBox",
    "ctkCheckablePushButton",
    "ctkExpandButton",
    "ctkDoubleSlider",
    "qMRMLSortFilterProxyModel",
)


@dataclass
class Members:
    """What Python can reach on an object of a class."""

    properties: set[str] = field(default_factory=set)
    signals: set[str] = field(default_factory=set)
    slots: set[str] = field(default_factory=set)
    invokable: set[str] = field(default_factory=set)
    public: set[str] = field(default_factory=set)
    native: set[str] = field(default_factory=set)

    @property
    def reachable(self) -> set[str]:
        """Names that Python reaches: PythonQt wraps Qt's own classes whole, others only as far as moc knows them."""
        return self.properties | self.callable_names | {s.split("(")[0] for s in self.signals} | self.native

    @property
    def callable_names(self) -> set[str]:
        """Names of slots, invokable methods and static methods."""
        return {signature.split("(")[0] for signature in self.slots | self.invokable}


def _name_of(declaration: str) -> str:
    found = re.search(r"([A-Za-z_]\w*)\s*\(", declaration)
    return found.group(1) if found else ""


def _shorter(declaration: str, signature: str) -> set[str]:
    """Signatures that default arguments allow."""
    if "=" not in declaration or "(" not in signature:
        return {signature}
    head, arguments = signature[:-1].split("(", 1)
    parts = [part for part in arguments.split(",") if part]
    return {f"{head}({','.join(parts[:count])})" for count in range(len(parts) + 1)}


def native_class(name: str) -> Any:
    """Qt's own class, or None."""
    for module in (QtWidgets, QtGui, QtCore):
        if hasattr(module, name):
            return getattr(module, name)
    return None


class ApiTable:
    """Members by class name, ancestors included."""

    def __init__(self, path: Path = COMMITTED) -> None:
        self.classes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["classes"]

    def knows(self, name: str) -> bool:
        """Whether the class exists in Slicer, CTK or Qt."""
        return name in self.classes or native_class(name) is not None or name in ("Line", "Spacer")

    def members(self, name: str) -> Members:
        """All members of the class and its ancestors."""
        found = Members()
        for ancestor in [name, *self.classes.get(name, {}).get("ancestry", [])]:
            self._add_table(found, ancestor)
            self._add_native(found, ancestor)
        return found

    def _add_table(self, found: Members, name: str) -> None:
        entry = self.classes.get(name)
        if entry is None:
            return
        found.properties |= set(entry["properties"])
        found.public |= {_name_of(declaration) for declaration in entry.get("public_methods", [])}
        for key, target in (("signals", found.signals), ("public_slots", found.slots), ("invokable", found.invokable)):
            for member in entry[key]:
                signature = member["signature"] or f"{_name_of(member['decl'])}()"
                target |= _shorter(member["decl"], signature)

    @staticmethod
    def _add_native(found: Members, name: str) -> None:
        cls = native_class("QFrame" if name == "Line" else name)
        meta = getattr(cls, "staticMetaObject", None)
        if meta is None:
            return
        found.properties |= {meta.property(index).name() for index in range(meta.propertyCount())}
        found.native |= {member for member in dir(cls) if not member.startswith("_")}
        for index in range(meta.methodCount()):
            method = meta.method(index)
            signature = bytes(method.methodSignature().data()).decode()
            kind = QtCore.QMetaMethod.MethodType
            if method.methodType() == kind.Signal:
                found.signals.add(signature)
            elif method.methodType() == kind.Slot:
                found.slots.add(signature)


def used_classes(ui_files: list[Path], api: ApiTable) -> set[str]:
    """Slicer and CTK classes named in .ui files, those that always count, the stand-ins', and their ancestors."""
    from . import host  # noqa: F401  (registers every stand-in)
    from .widgets.stand_in import CTK_CLASSES, SLICER_CLASSES

    names = {*ALWAYS, *CTK_CLASSES, *SLICER_CLASSES}
    for path in ui_files:
        names |= set(re.findall(r'class="((?:ctk|qMRML|qSlicer)\w+)"', path.read_text(encoding="utf-8")))
    for name in list(names):
        names |= set(api.classes.get(name, {}).get("ancestry", []))
    return names & set(api.classes)


def trim(full: Path, ui_files: list[Path], target: Path = COMMITTED) -> int:
    """Write the part of the full table that is used; returns the number of classes."""
    api = ApiTable(full)
    names = used_classes(ui_files, api)
    classes = {}
    for name in sorted(names):
        entry = api.classes[name]
        classes[name] = {
            "ancestry": entry["ancestry"],
            "properties": {prop: {} for prop in entry["properties"]},
            **{
                key: [{"decl": m["decl"], "signature": m["signature"]} for m in entry[key]]
                for key in ("signals", "public_slots", "invokable")
            },
            "public_methods": entry["public_methods"],
        }
    text = json.dumps({"classes": classes}, indent=0, separators=(",", ":"), sort_keys=True)
    target.write_text(text + "\n", encoding="utf-8")
    return len(classes)


def main() -> None:
    """python -m SlicerHost.api_table FULL_TABLE UI_FILE..."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("full", type=Path)
    parser.add_argument("ui", type=Path, nargs="*")
    options = parser.parse_args()
    print(f"{trim(options.full, options.ui)} classes written to {COMMITTED}")


if __name__ == "__main__":
    main()
