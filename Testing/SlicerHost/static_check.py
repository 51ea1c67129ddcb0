"""Static check of a .py/.ui pair: classes, properties, signals, slots, self.ui names, MRML widgets without a scene."""

from __future__ import annotations

import argparse
import ast
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

from .api_table import COMMITTED, ApiTable, Members
from .signals import normalized

_SET_SCENE = "setMRMLScene(vtkMRMLScene*)"


class UiFile:
    """Names and classes of a .ui file and what is wrong in it."""

    def __init__(self, path: Path, api: ApiTable) -> None:
        self.path, self._api = path, api
        self._root = ElementTree.parse(path).getroot()
        self.classes = {w.get("name", ""): w.get("class", "") for w in self._root.iter("widget")}
        for element in self._root.iter():
            if element.tag in ("action", "layout"):
                self.classes[element.get("name", "")] = (
                    "QAction" if element.tag == "action" else element.get("class", "")
                )
        top = self._root.find("widget")
        self.top = top.get("name", "") if top is not None else ""

    def members(self, name: str) -> Members | None:
        """Members of the class of a named object, or None when class or name is unknown."""
        cls = self.classes.get(name, "")
        return self._api.members("QFrame" if cls == "Line" else cls) if self._api.knows(cls) else None

    def findings(self) -> Iterator[str]:
        """Everything wrong in the file."""
        yield from self._classes_and_properties()
        yield from self._connections()
        yield from self._scenes()

    def _classes_and_properties(self) -> Iterator[str]:
        for widget in self._root.iter("widget"):
            name, cls = widget.get("name", ""), widget.get("class", "")
            members = self.members(name)
            if members is None:
                yield f"{self.path}: unknown widget class {cls} ({name})"
                continue
            for prop in widget.findall("property"):
                if prop.get("stdset") != "0" and prop.get("name") not in members.properties:
                    yield f"{self.path}: {name} ({cls}) has no property {prop.get('name')}"

    def _parts(self) -> Iterator[tuple[str, str, str, str]]:
        for connection in self._root.iter("connection"):
            sender, signal, receiver, slot = (
                connection.findtext(key, "") for key in ("sender", "signal", "receiver", "slot")
            )
            yield sender, signal, receiver, slot

    def _connections(self) -> Iterator[str]:
        for sender, signal, receiver, slot in self._parts():
            for name in (sender, receiver):
                if name not in self.classes:
                    yield f"{self.path}: a connection names {name}, which is not in the file"
            of_sender, of_receiver = self.members(sender), self.members(receiver)
            if of_sender is not None and signal not in of_sender.signals:
                yield f"{self.path}: {sender} ({self.classes[sender]}) has no signal {signal}"
            if of_receiver is not None and slot not in of_receiver.slots | of_receiver.signals:
                yield f"{self.path}: {receiver} ({self.classes[receiver]}) has no slot {slot}"

    def _scenes(self) -> Iterator[str]:
        served = {receiver for _, _, receiver, slot in self._parts() if slot == _SET_SCENE}
        for name, cls in self.classes.items():
            members = self.members(name)
            if name in served or name == self.top or members is None or not cls.startswith("qMRML"):
                continue
            if _SET_SCENE in members.slots:
                yield f"{self.path}: {name} ({cls}) never gets the MRML scene"


def _ui_name(node: ast.AST) -> str:
    """NAME of an expression self.ui.NAME or ui.NAME, else an empty string."""
    if not isinstance(node, ast.Attribute):
        return ""
    owner = node.value
    is_ui = (isinstance(owner, ast.Attribute) and owner.attr in ("ui", "_ui")) or (
        isinstance(owner, ast.Name) and owner.id == "ui"
    )
    return node.attr if is_ui else ""


class _Code(ast.NodeVisitor):
    """Walks one Python file."""

    def __init__(self, path: Path, ui: UiFile) -> None:
        self.path, self._ui = path, ui
        self.found: list[str] = []

    def _say(self, node: ast.AST, text: str) -> None:
        self.found.append(f"{self.path}:{getattr(node, 'lineno', 0)}: {text}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """self.ui.NAME must be in the file; self.ui.NAME.member must exist, and be a property when it is written."""
        name = _ui_name(node)
        if name and name not in self._ui.classes:
            self._say(node, f"ui.{name} is not in {self._ui.path.name}")
        owner = _ui_name(node.value)
        members = self._ui.members(owner) if owner else None
        if members is not None:
            self._check_member(node, owner, members)
        self.generic_visit(node)

    def _check_member(self, node: ast.Attribute, owner: str, members: Members) -> None:
        cls, member = self._ui.classes[owner], node.attr
        if isinstance(node.ctx, ast.Store):
            if member not in members.properties and member != "name":
                self._say(node, f"ui.{owner} ({cls}) has no property {member}")
            return
        if member in members.reachable or member in ("connect", "disconnect", "name", "className", "delete"):
            return
        hint = " (a plain C++ method: use the property)" if member in members.public else ""
        self._say(node, f"ui.{owner} ({cls}) has no member {member} that Python can reach{hint}")

    def visit_Call(self, node: ast.Call) -> None:
        """ui.NAME.connect("signal(args)", ...) must name a signal of the class."""
        function = node.func
        is_connect = isinstance(function, ast.Attribute) and function.attr in ("connect", "disconnect")
        if is_connect and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            assert isinstance(function, ast.Attribute)
            owner = _ui_name(function.value)
            members = self._ui.members(owner) if owner else None
            signal = normalized(node.args[0].value)
            if members is not None and signal not in members.signals:
                self._say(node, f"ui.{owner} ({self._ui.classes[owner]}) has no signal {signal}")
        self.generic_visit(node)


def check(code: Iterable[Path], ui_path: Path, table: Path = COMMITTED) -> list[str]:
    """Findings of a .ui file and of the Python files that use it through self.ui."""
    ui = UiFile(ui_path, ApiTable(table))
    found = list(ui.findings())
    for path in code:
        walker = _Code(path, ui)
        walker.visit(ast.parse(path.read_text(encoding="utf-8")))
        found += walker.found
    return found


def main() -> int:
    """python -m SlicerHost.static_check UI_FILE PYTHON_FILE... ; exit 1 on findings."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("ui", type=Path)
    parser.add_argument("code", type=Path, nargs="+")
    parser.add_argument("--table", type=Path, default=COMMITTED)
    options = parser.parse_args()
    found = check(options.code, options.ui, options.table)
    print("\n".join(found) or "no findings")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
