"""The ten workflows for a real Slicer (`Testing/real`), gone through on the stand-in: what they ask for is there."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from opened_module import RUN_TIMEOUT_S, Opened
from PIL import Image
from repository import ROOT, TESTING

NAMES = [
    "click_to_overlay",
    "threshold",
    "review",
    "edit",
    "cases",
    "save_and_load",
    "cancel",
    "crash",
    "reload",
    "close_scene",
]
RADIUS = 3
REAL = TESTING / "real"
SCRIPTS = sorted(path.stem for path in REAL.glob("*.py"))


@pytest.fixture(scope="module")
def script(opened_once: Opened) -> Iterator[Any]:
    """The script, imported while the application runs."""
    sys.path.insert(0, str(REAL))
    yield importlib.import_module("run_workflows")
    sys.path.remove(str(REAL))
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def _user(script: Any, opened: Opened, folder: Path, limit_s: float = RUN_TIMEOUT_S) -> Any:
    def stroke(editor: Any) -> None:
        """A ball at the crosshair: the stand-in has no mouse in its views."""
        volume, to_voxels = editor.sourceVolumeNode(), vtk.vtkMatrix4x4()
        volume.GetRASToIJKMatrix(to_voxels)
        at = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCrosshairRAS()
        centre = np.array(to_voxels.MultiplyPoint([*at, 1.0])[:3])[::-1]
        places = np.indices(slicer.util.arrayFromVolume(volume).shape)
        distance = np.sqrt(((places - centre[:, None, None, None]) ** 2).sum(axis=0))
        opened.host.paint(editor, distance < RADIUS)

    return script.User(folder, limit_s, stroke)


@pytest.mark.slow
def test_all_workflows_pass_and_their_pictures_show_something(script: Any, opened: Opened, tmp_path: Path) -> None:
    opened.host._window.resize(540, 1400)
    report = script.run(tmp_path, _user(script, opened, tmp_path), NAMES)
    assert [one.__name__ for one in script.TEN] == NAMES
    assert {result.name: result.message for result in report.results if result.status != "passed"} == {}
    assert report.exit_code == 0
    told = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (told["tests"], told["failures"], told["skipped"], told["exit_code"]) == (10, 0, 0, 0)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for case in told["testcases"]:
        assert len(case["checks"]) >= 3, case["name"]
        assert case["description"]
        assert len(case["pictures"]) >= 3, case["name"]
        for name in case["pictures"]:
            assert f'src="{name}"' in page
            pixels = np.asarray(Image.open(tmp_path / name).convert("L"))
            assert min(pixels.shape) > 100, name
            assert len(np.unique(pixels)) > 8 or name == "close_scene-closed-red.png", f"{name} is empty"
    assert not list(opened.host.folder.rglob("review.Workflows*.jsonl"))


@pytest.mark.slow
def test_a_workflow_that_fails_or_waits_too_long_does_not_stop_the_next(
    script: Any, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(user: Any) -> None:
        """Break."""
        user.check("two and two", 2 + 2 == 5, "4")
        user.click("noSuchButton")

    def endless(user: Any) -> None:
        """Wait."""
        user.wait("the end of days", lambda: False)

    def surprising(user: Any) -> None:
        """Raise where only the application looks."""
        sys.excepthook(ValueError, ValueError("in a slot"), None)

    def fine(user: Any) -> None:
        """Look."""
        user.check("an empty scene", not user.runs)

    monkeypatch.setattr(script, "WORKFLOWS", (broken, endless, surprising, fine))
    with opened.host.expecting("exception"):
        report = script.run(tmp_path, _user(script, opened, tmp_path, 0.5), ["broken", "endless", "surprising", "fine"])
    assert [result.status for result in report.results] == ["failed", "timed out", "failed", "passed"]
    messages = [result.message for result in report.results]
    assert "no widget 'noSuchButton'" in messages[0]
    assert "not so: two and two" in messages[0]
    assert messages[1] == "after 0.5 s still waiting for the end of days"
    assert report.exit_code == 1
    assert len(report.results[0].seen.pictures) == 3
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "in a slot" in page
    assert "two and two <small>(4)</small>" in page


def test_each_workflow_begins_afresh_and_nothing_is_left_of_the_last(
    script: Any, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from real_user import SETTINGS, read_settings

    user = _user(script, opened, tmp_path)
    mine, other = (user._reviews / "key" / f"review.{name}.jsonl" for name in (user.reviewer, "Ana"))
    found: list[tuple[bool, int]] = []

    def litter(user: Any) -> None:
        """Leave a review, settings and a node."""
        nodes = len(slicer.util.getNodesByClass("vtkMRMLTextNode"))
        found.append((mine.exists(), nodes))
        mine.parent.mkdir(parents=True, exist_ok=True)
        for path in (mine, other):
            path.write_text("{}", encoding="utf-8")
        for name in SETTINGS:
            slicer.app.settings().setValue(name, "of a workflow")
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "left")

    slicer.app.settings().setValue(SETTINGS[0], "of the user")
    for name in SETTINGS[1:]:
        slicer.app.settings().remove(name)
    before = read_settings()
    monkeypatch.setattr(script, "engine_problem", lambda: "")
    monkeypatch.setattr(script, "WORKFLOWS", (litter, litter))
    try:
        script.run(tmp_path, user, ["litter"])
        assert found == [(False, 0), (False, 0)], "each begins without the review and the scene of the one before"
        assert (mine.exists(), other.exists()) == (False, True), "the reviews of others stay"
        assert read_settings() == before
    finally:
        other.unlink(missing_ok=True)
        slicer.app.settings().remove(SETTINGS[0])


def test_slicer_is_ended_only_while_a_workflow_runs(
    script: Any, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Watch:
        @staticmethod
        def dump_traceback_later(seconds: float, exit: bool, file: Any) -> None:
            told.append((seconds, exit, Path(file.name).name))

        @staticmethod
        def cancel_dump_traceback_later() -> None:
            told.append("cancelled")

    def fine(user: Any) -> None:
        """Look."""
        told.append("looked")

    monkeypatch.setattr(script, "faulthandler", Watch)
    monkeypatch.setattr(script, "engine_problem", lambda: "")
    monkeypatch.setattr(script, "WORKFLOWS", (fine, fine))
    script.run(tmp_path, _user(script, opened, tmp_path, 5.0), ["fine"], watch=True)
    watched = (5.0 + script.GRACE_S, True, "hang.txt")
    assert told == [watched, "looked", watched, "looked", "cancelled"]


def test_without_the_engine_the_report_says_what_to_do(
    script: Any, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "_is_installed", lambda name: name not in ("openvino", "safetensors"))
    report = script.run(tmp_path, _user(script, opened, tmp_path), NAMES)
    assert {result.status for result in report.results} == {"skipped"}
    assert report.exit_code == 2
    assert "openvino, safetensors missing" in report.problem
    assert "then run this script again" in report.problem
    assert "pip install" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_as_slicer_runs_the_script_it_ends_with_the_exit_code(
    script: Any, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(slicer.util, "exit", codes.append)
    path = TESTING / "real" / "run_workflows.py"
    for arguments in (["--output", str(tmp_path / "report"), "--only", "cancel"], ["--only", "cancel"]):
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        exec(
            compile(path.read_text(encoding="utf-8"), str(path), "exec"),
            {"__name__": "__main__", "__file__": str(path)},
        )
    assert codes == [0, 1], "the second has no folder for its report"
    told = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert [case["status"] for case in told["testcases"]] == ["passed"]
    assert not (tmp_path / "report" / "hang.txt").exists()


def test_every_widget_that_is_clicked_is_in_the_panel() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (TESTING / "real").glob("real_*.py"))
    asked = set(re.findall(r'\.(?:find|click)\("(\w+)"\)', sources))
    panel = (ROOT / "Resources" / "UI" / "SegWithUSlicer.ui").read_text(encoding="utf-8")
    assert len(asked) > 20
    assert sorted(asked - set(re.findall(r'<widget class="\w+" name="(\w+)"', panel))) == []


def test_only_slicer_and_the_standard_library_are_imported() -> None:
    own = {*SCRIPTS, "SegWithUCore", "SegWithUSlicer", "SegWithUSlicerLib"}
    for path in REAL.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            tops = {name.split(".")[0] for name in names}
            assert tops <= own | {"slicer", "vtk", "qt", "numpy"} | set(sys.stdlib_module_names), path


def test_options_stand_among_those_of_slicer(script: Any) -> None:
    chosen = script.options(["--testing", "--output", "here", "--only", "crash", "edit", "--timeout", "9"])
    assert (chosen.output, chosen.only, chosen.timeout) == (Path("here"), ["crash", "edit"], 9)
    assert script.options(["--output", "here"]).only[: len(NAMES)] == NAMES
    assert script.options(["--output", "here", "--all"]).only[-2:] == ["whole_brain", "judge"]
    with pytest.raises(SystemExit):
        script.options([])
