"""The rules for starting and ending processes on the three systems."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from SegWithUSlicerLib.run import launch
from SegWithUSlicerLib.run.launch import (
    core_parent,
    end_reason,
    process_options,
    worker_environment,
    worker_start,
)

SLICER = {
    "PATH": "/opt/Slicer/bin",
    "LD_LIBRARY_PATH": "/opt/Slicer/lib",
    "PYTHONHOME": "/opt/Slicer/lib/Python",
    "PYTHONPATH": "/opt/Slicer/lib/Slicer-5.12/qt-scripted-modules:/opt/Slicer/bin/Python",
    "PYTHONSTARTUP": "/home/someone/.pythonrc",
}


def test_environment_keeps_slicers_python_and_drops_its_modules() -> None:
    environment = worker_environment(SLICER, Path("/home/Ünï x/SegWithUSlicer"))
    assert environment["PYTHONPATH"] == "/home/Ünï x/SegWithUSlicer"
    for kept in ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME"):
        assert environment[kept] == SLICER[kept]
    assert "PYTHONSTARTUP" not in environment
    assert environment["PYTHONUTF8"] == environment["PYTHONNOUSERSITE"] == environment["PYTHONSAFEPATH"] == "1"
    assert "PYTHONUTF8" not in SLICER, "the parent's own environment is not touched"


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("linux", {"start_new_session": True}),
        ("darwin", {"start_new_session": True}),
        ("win32", {"creationflags": 0x08000200}),
    ],
)
def test_process_is_set_apart(system: str, options: dict[str, Any]) -> None:
    assert process_options(system) == options


def test_start_on_this_computer_points_to_the_core() -> None:
    start = worker_start()
    assert start.command == [sys.executable, "-m", "SegWithUCore.worker", "--idle-minutes", "10"]
    assert (core_parent() / "SegWithUCore" / "worker" / "__main__.py").is_file()
    assert start.environment["PYTHONPATH"] == str(core_parent())


@pytest.mark.parametrize(
    ("code", "system", "words"),
    [
        (-signal.SIGKILL, "linux", "SIGKILL: ended by the system, most often because memory ran out"),
        (-signal.SIGSEGV, "darwin", "signal SIGSEGV"),
        (128 + signal.SIGABRT, "linux", "signal SIGABRT"),
        (3, "linux", "exit code 3"),
        (250, "linux", "exit code 250"),
        (0xC0000005, "win32", "access violation"),
        (-1073741819, "win32", "access violation"),
        (0xC0000135, "win32", "0xc0000135"),
        (1, "win32", "exit code 1"),
        (None, "linux", "cannot be reached"),
    ],
)
def test_reason_of_an_end_is_told_in_words(code: int | None, system: str, words: str) -> None:
    assert words in end_reason(code, system)


def test_windows_ends_the_tree_of_the_worker_and_of_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMROOT", "D:/Win")
    calls: list[list[str]] = []
    process = SimpleNamespace(pid=100, poll=lambda: None, wait=lambda _timeout: 1)
    assert launch._end_on_windows(process, 200, run=lambda command, **_: calls.append(command))  # type: ignore[arg-type]
    assert [call[-1] for call in calls] == ["200", "100"]
    assert all(call[1:4] == ["/T", "/F", "/PID"] for call in calls)
    assert calls[0][0] == str(Path("D:/Win/System32/taskkill.exe"))


def test_windows_does_not_kill_a_number_that_is_free_again() -> None:
    calls: list[list[str]] = []
    process = SimpleNamespace(pid=100, poll=lambda: 1, wait=lambda _timeout: 1)
    launch._end_on_windows(process, 200, run=lambda command, **_: calls.append(command))  # type: ignore[arg-type]
    assert [call[-1] for call in calls] == ["200"]
