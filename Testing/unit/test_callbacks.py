"""Everything that Qt, VTK or Slicer may call is guarded: what raises there is told, and leaves nothing busy."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT

LIB = ROOT / "SegWithUSlicer" / "SegWithUSlicerLib"
MODULE = ROOT / "SegWithUSlicer" / "SegWithUSlicer.py"
SOURCES = [MODULE, *sorted(LIB.rglob("*.py"))]
OBSERVING = {"AddObserver": 1, "addObserver": 2, "singleShot": 1}
"""Methods that take a callback, and at which place."""
BY_SLICER = {"enter", "exit", "cleanup", "onReload"}
"""Methods of the module's widget that Slicer calls by name; `setup` only makes the panel."""


def _is_guard(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "guarded"


def _guarded_names(tree: ast.Module) -> set[str]:
    """Functions with the decorator, and names of what came out of it."""
    names = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(_is_guard(one) for one in node.decorator_list)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _is_guard(node.value.func):
            names |= {getattr(target, "attr", getattr(target, "id", "")) for target in node.targets}
    return names


def _callbacks(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, arguments = node.func.attr, node.args
        if name == "connect" and len(arguments) > 1:
            first = arguments[0]
            is_signal = isinstance(first, ast.Constant) or (isinstance(first, ast.Name) and first.id == "signal")
            if is_signal:
                yield arguments[1]
        elif name in OBSERVING and len(arguments) > OBSERVING[name]:
            yield arguments[OBSERVING[name]]


def unguarded(tree: ast.Module) -> list[str]:
    """The callbacks of a file that are not guarded, with their lines."""
    guarded = _guarded_names(tree)
    wrong = []
    for callback in _callbacks(tree):
        name = getattr(callback, "attr", getattr(callback, "id", ""))
        if not (isinstance(callback, ast.Call) and _is_guard(callback.func)) and name not in guarded:
            wrong.append(f"line {callback.lineno}: {ast.unparse(callback)}")
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_callback_of_qt_and_mrml_is_guarded(path: Path) -> None:
    assert unguarded(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_every_method_that_slicer_calls_is_guarded() -> None:
    tree = ast.parse(MODULE.read_text(encoding="utf-8"))
    widget = next(node for node in tree.body if getattr(node, "name", "") == "SegWithUSlicerWidget")
    assert isinstance(widget, ast.ClassDef)
    called = {node.name for node in widget.body if isinstance(node, ast.FunctionDef)}
    called = {name for name in called if name in BY_SLICER or (name.startswith("on") and name[2].isupper())}
    assert called >= BY_SLICER
    assert called - _guarded_names(tree) == set()


@pytest.mark.parametrize(
    "line",
    [
        'button.connect("clicked(bool)", self.start)',
        'button.connect("clicked(bool)", lambda: None)',
        "sender.connect(signal, call)",
        'node.AddObserver("ModifiedEvent", follow)',
        "self.addObserver(scene, scene.EndCloseEvent, self.closed)",
        "qt.QTimer.singleShot(0, draw)",
    ],
)
def test_the_reader_of_callbacks_is_not_blind(line: str) -> None:
    assert len(unguarded(ast.parse(line))) == 1


def test_the_reader_knows_what_is_guarded() -> None:
    code = """
class Panel:
    @guarded
    def start(self): ...
    def __init__(self):
        called = guarded(draw)
        a.connect("clicked(bool)", self.start)
        a.connect("clicked(bool)", called)
        a.connect("clicked(bool)", guarded(lambda: None))
        self._gui.connect(ui.modelBox, self.chosen)
"""
    assert unguarded(ast.parse(code)) == []
