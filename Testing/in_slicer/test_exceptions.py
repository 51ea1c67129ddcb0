"""An exception in any callback, of a run, a review, an edit, a case switch or an export, is told and survived."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from listed_cases import CASES, Listing
from opened_module import Opened, sample_crop, segment_crop
from reviewing import Reviewing

UNEXPECTED = "unexpected"


class Thrower:
    """Stands between Qt and all callbacks: notes their names, and throws at the first call of one."""

    def __init__(self, boundary: Any) -> None:
        self.names: list[str] = []
        self.at = ""
        self.has_thrown = False
        self._boundary, self._call = boundary, boundary._called

    def __call__(self, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        inner = inspect.unwrap(callback)
        inner = inner.func if isinstance(inner, partial) else inner
        name = f"{inner.__qualname__}:{inner.__code__.co_firstlineno}"
        if name not in self.names:
            self.names.append(name)
        if name == self.at and not self.has_thrown:
            self.has_thrown = True
            return self._call(_throw, ())
        return self._call(callback, arguments)


def _throw() -> None:
    raise RuntimeError("thrown by a test")


@contextmanager
def _thrower() -> Iterator[Thrower]:
    boundary = sys.modules["SegWithUSlicerLib.guarded"]
    found = Thrower(boundary)
    boundary._called = found  # type: ignore[attr-defined]
    try:
        yield found
    finally:
        boundary._called = found._call  # type: ignore[attr-defined]


def _throw_in_each(opened: Opened, scenario: Callable[[], None], after: Callable[[], None]) -> list[str]:
    """Throw in each callback of a scenario, one after the other; returns their names."""
    with _thrower() as thrower:
        scenario()
        after()
        names = list(thrower.names)
        for name in names:
            thrower.at, thrower.has_thrown = name, False
            opened.ui.logText.setPlainText("")
            scenario()
            opened.wait(lambda: not opened.controller.is_busy, 60)
            if not thrower.has_thrown:
                continue  # a timer that did not fire this time
            thrower.at = ""
            assert [one for one in opened.app.take_errors() if "thrown by a test" not in one] == []
            assert opened.ui.runButton.text == "Apply", name
            # A run that was begun afterwards takes the sentence away; the log keeps it.
            said = opened.ui.statusLabel.text
            assert UNEXPECTED in said or said.startswith("Done"), name
            assert "thrown by a test" in opened.ui.logText.toPlainText(), name
            assert opened.ui.logButton.collapsed is False
            assert opened.panel.inputs.ui.modelBox.enabled, name
            after()
    opened.ui.copyButton.click()
    import qt

    assert "RuntimeError: thrown by a test" in qt.QApplication.clipboard().text()
    return names


def test_in_every_callback_of_a_run(opened: Opened) -> None:
    volume = sample_crop()

    def scenario() -> None:
        opened.panel.inputs.choose(volume, None, "hippocampus")
        opened.app.wait(0.6)
        opened.ui.runButton.click()
        opened.wait(lambda: not opened.controller.is_busy, 60)

    names = _throw_in_each(opened, scenario, lambda: None)
    assert any("run_or_cancel" in name for name in names)
    assert any(".poll:" in name for name in names)
    segment_crop(opened, volume)
    assert len(opened.private_folders()) == 1, "but that of the result in the scene"


@pytest.mark.parametrize("step", ["_loaded", "_status_came"])
def test_in_what_the_panel_does_with_a_result(opened: Opened, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_arguments: Any) -> None:
        raise MemoryError

    name = {"_loaded": "on_loaded", "_status_came": "on_status"}[step]
    monkeypatch.setattr(opened.controller, name, fail)
    opened.panel.inputs.choose(sample_crop(), None, "hippocampus")
    opened.ui.runButton.click()
    opened.wait(lambda: not opened.controller.is_busy, 60)
    opened.panel._draw()
    assert "MemoryError" in opened.ui.statusLabel.text
    assert opened.app.take_errors()
    monkeypatch.undo()
    segment_crop(opened)
    opened.app.close_scene()
    assert opened.private_folders() == []


def test_in_loading_as_where_the_colour_nodes_are_gone(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are after `slicer.mrmlScene.Clear(1)`, which self tests of other modules call."""

    def fail(*_arguments: Any) -> None:
        raise RuntimeError("no colour node")

    monkeypatch.setattr(opened.controller, "_tools", replace(opened.controller._tools, load=fail))
    opened.panel.inputs.choose(sample_crop(), None, "hippocampus")
    opened.ui.logButton.collapsed = True
    opened.ui.runButton.click()
    said = opened.finish()
    assert "no colour node" in said
    assert "Copy diagnostics" in said
    assert opened.ui.runButton.text == "Apply"
    assert opened.ui.logButton.collapsed is False
    assert opened.app.take_errors()
    monkeypatch.undo()
    segment_crop(opened)


def test_in_every_callback_of_a_review_and_an_edit(reviewing: Reviewing) -> None:
    opened, ui = reviewing.opened, reviewing.ui

    def scenario() -> None:
        reviewing.name("Ana")
        ui.startReviewButton.click()
        for button in (ui.acceptButton, ui.nextButton, ui.rejectButton, ui.undoButton, ui.previousButton):
            button.click()
        reviewing.press("Ctrl+Alt+2")
        reviewing.press("Ctrl+Alt+E")
        editor = reviewing.panel.edit.editor
        # Without a node of its own, where the callback that makes it threw, the editor's buttons are disabled.
        is_ready = editor is not None and editor.mrmlSegmentEditorNode() is not None
        if reviewing.session is not None and is_ready and not ui.editButton.collapsed:
            editor.setActiveEffectByName("Paint")
            if editor.segmentationNode() is not None and editor.currentSegmentID():
                reviewing.app.paint(editor, reviewing.voxels())
        reviewing.app.settle(0.8)
        ui.editButton.collapsed = True
        ui.endReviewButton.click()

    def after() -> None:
        reviewing.panel.end()
        assert reviewing.session is None
        assert not reviewing.panel.keys.is_installed
        reviewing.start()
        before = reviewing.state.verdict_of(reviewing.session.current.id)
        assert reviewing.session.current is not None, before
        reviewing.panel.end()

    names = _throw_in_each(opened, scenario, after)
    for wanted in ("ReviewPanel.start", "ReviewPanel.undo", "EditPanel._collapsed", "_check_for_edits"):
        assert any(f"{wanted}:" in name for name in names), (wanted, names)


def test_in_every_callback_of_a_case_switch(listing: Listing) -> None:
    opened = listing.opened

    def scenario() -> None:
        listing.list_folder()
        if listing.shown:
            for name in CASES[::2]:
                listing.click(name)

    def after() -> None:
        listing.app.dialogs.reset()
        listing.list_folder()
        listing.click(CASES[1])
        assert listing.open_case == CASES[1]

    names = _throw_in_each(opened, scenario, after)
    for wanted in ("CasesTable._clicked", "CasesPanel.choose_folder"):
        assert any(f"{wanted}:" in name for name in names), (wanted, names)


def test_in_every_callback_of_an_export(listing: Listing, tmp_path: Path) -> None:
    opened, ui, parents = listing.opened, listing.ui, count()
    shutil.rmtree(listing.cases / CASES[0])
    shutil.rmtree(listing.cases / CASES[1])
    listing.list_folder()

    def scenario() -> None:
        parent = tmp_path / f"out{next(parents)}"
        parent.mkdir()
        listing.app.dialogs.answer(str(parent))
        ui.startExportButton.click()
        listing.app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=120)

    def after() -> None:
        listing.app.dialogs.reset()
        assert ui.startExportButton.text.startswith("Export")

    names = _throw_in_each(opened, scenario, after)
    for wanted in ("ExportPanel.export_or_cancel", "poll"):
        assert any(f"{wanted}:" in name for name in names), (wanted, names)
