"""How the worker ends, whoever ends it, and how it keeps its protocol clean."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import PACKAGES
from worker_parent import (
    ON_LINUX,
    PATIENCE_S,
    Parent,
    is_computing,
    module,
    processes_of_group,
    segment_request,
    state_of,
)

from SegWithUCore.util.errors import code_of


def _until_gone(group: int) -> None:
    """Wait until nothing of a process group lives: what reads images for a worker ends right after it."""
    gone_by = time.monotonic() + PATIENCE_S
    while processes_of_group(group):
        assert time.monotonic() < gone_by
        time.sleep(0.02)


@pytest.mark.slow
@ON_LINUX
def test_closed_stdin_ends_a_computing_worker_and_leaves_nothing(start: Callable[..., Parent], tmp_path: Path) -> None:
    parent = start()
    assert parent.event()["event"] == "started"
    parent.send(segment_request(tmp_path / "case", roi=None, unlike_training=True))
    parent.until(is_computing)
    assert any(tmp_path.iterdir()), "no lock on the case: nothing to clean up"
    assert parent.close() == 0
    assert all(told["fraction"] < 0.5 for told in parent.rest()), "it went on for long"
    assert not any(tmp_path.iterdir())
    _until_gone(parent.process.pid)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_crashed_parent_leaves_no_worker(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "call = [sys.executable, '-m', 'SegWithUCore.worker']\n"
        "p = subprocess.Popen(call, stdin=subprocess.PIPE, start_new_session=True)\n"
        "time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = json.loads(parent.stdout.readline())["pid"]
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == b"", "the pipe ends when the worker has ended"
    _until_gone(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_at_once(start: Callable[..., Parent], number: int) -> None:
    parent = start(bare=True)
    parent.event()
    parent.process.send_signal(number)
    assert parent.process.wait(PATIENCE_S) == 128 + number


def test_idle_worker_leaves_by_itself_and_says_so(start: Callable[..., Parent]) -> None:
    parent = start(bare=True, options=("--idle-minutes", "0.005"))
    assert [parent.event()["event"] for _ in range(2)] == ["started", "leaving"]
    assert parent.process.wait(PATIENCE_S) == 0


def test_quit_ends_it_after_what_was_asked_before(start: Callable[..., Parent]) -> None:
    parent = start(bare=True)
    parent.send({"request": "nonsense", "id": 1})
    parent.send({"request": "quit"})
    assert [parent.event()["event"] for _ in range(2)] == ["started", "error"]
    assert parent.process.wait(PATIENCE_S) == 0


def test_protocol_survives_libraries_that_print(start: Callable[..., Parent], tmp_path: Path) -> None:
    loud = "import os\nprint('from Python')\nos.write(1, b'from C\\n')\nimport sys\nassert sys.stdin.read() == ''\n"
    module(tmp_path, "jsonschema", loud)
    parent = start(tmp_path, bare=True)
    assert parent.event()["event"] == "started"
    assert state_of(parent, "jsonschema")["state"] == "ok"
    parent.close()
    parent.end()
    assert {"from Python\n", "from C\n"} <= set(parent.stderr)


@pytest.mark.slow
@ON_LINUX
def test_two_workers_make_one_case_once(start: Callable[..., Parent], tmp_path: Path) -> None:
    """The second one is not told that the first one's case is its own."""
    first, second = start(), start()
    for parent in (first, second):
        assert parent.event()["event"] == "started"
    first.send(segment_request(tmp_path / "case", "first"))
    first.until(is_computing)
    os.kill(first.process.pid, signal.SIGSTOP)
    answer = second.ask(segment_request(tmp_path / "case", "second", file=tmp_path / "another.nii.gz"))
    assert (answer["event"], answer["id"], code_of(answer["text"])) == ("error", "second", "folder-in-use")
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.until(lambda event: event["event"] != "progress")[-1]["event"] == "result"
    answer = second.ask(segment_request(tmp_path / "case", "third"))
    assert (answer["event"], code_of(answer["text"])) == ("error", "exists-already")
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
