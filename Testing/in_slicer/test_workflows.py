"""The runner of the workflows (`Testing/real`): what fails is reported, and the next one begins afresh."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import slicer
from opened_module import Opened


@pytest.fixture
def script(opened: Opened) -> Any:
    """The script, imported in Slicer."""
    return importlib.import_module("run_workflows")


def test_a_workflow_that_fails_or_waits_too_long_does_not_stop_the_next(
    script: Any, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(user: Any) -> None:
        """Break, and leave a node."""
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "left")
        user.check("two and two", 2 + 2 == 5, "4")
        user.click("noSuchButton")

    def endless(user: Any) -> None:
        """Wait."""
        user.wait("the end of days", lambda: False)

    def surprising(_user: Any) -> None:
        """Raise where only the application looks."""
        sys.excepthook(ValueError, ValueError("in a slot"), None)

    def fine(user: Any) -> None:
        """Look."""
        user.check("an empty scene", slicer.mrmlScene.GetFirstNodeByName("left") is None)

    workflows = (broken, endless, surprising, fine)
    monkeypatch.setattr(script, "WORKFLOWS", workflows)
    names = [one.__name__ for one in workflows]
    user = script.User(tmp_path, 0.5)
    before = script.read_settings()
    slicer.app.settings().setValue("SegWithU/Reviewer", "of the user")
    report = script.run(tmp_path, user, names)
    assert slicer.app.settings().value("SegWithU/Reviewer") == "of the user"
    script.write_settings(before)
    opened.app.take_errors()
    assert [result.status for result in report.results] == ["failed", "timed out", "failed", "passed"]
    assert "noSuchButton" in report.results[0].message and "two and two" in report.results[0].message
    assert report.exit_code == 1
    assert len(report.results[0].seen.pictures) == 3
    assert "in a slot" in (tmp_path / "report.html").read_text(encoding="utf-8")
    told = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (told["tests"], told["failures"], told["exit_code"]) == (4, 3, 1)
    assert not (tmp_path / "hang.txt").exists()


def test_without_the_engine_the_report_says_what_to_do(
    script: Any, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "_is_installed", lambda name: name not in ("openvino", "safetensors", "torch"))
    report = script.run(tmp_path, script.User(tmp_path, 5), [one.__name__ for one in script.TEN])
    assert {result.status for result in report.results} == {"skipped"}
    assert report.exit_code == 2
    assert "openvino, safetensors" in report.problem


def test_options_stand_among_those_of_slicer(script: Any) -> None:
    chosen = script.options(["--testing", "--output", "here", "--only", "crash", "edit", "--timeout", "9"])
    assert (chosen.output, chosen.only, chosen.timeout) == (Path("here"), ["crash", "edit"], 9)
    with pytest.raises(SystemExit):
        script.options([])
