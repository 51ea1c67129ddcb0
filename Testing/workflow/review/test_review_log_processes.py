"""The audit trail and processes that are killed, or write at the same time: nothing that was stored is lost."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import HELPERS
from review_cases import HEADER
from review_logs import log_of, told

from SegWithUCore.review.log import AuditLog, LogInUseError
from SegWithUCore.review.log_format import Commented, read_log


def _numbers(process: "subprocess.Popen[str]") -> list[int]:
    """What the writer said that it had stored; a line cut by its end is not."""
    assert process.stdout is not None
    out = process.stdout.read()  # not communicate(), which forgets what readline() has read ahead
    process.wait(timeout=300)
    return [int(line) for line in out.split("\n")[:-1]]


def _writer(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, str(HELPERS / "review_writer.py"), str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX knows them")
def test_killed_twenty_times_and_nothing_stored_is_lost(tmp_path: Path) -> None:
    dice, stored, kills = random.Random(5), 0, 0
    for _ in range(20):
        process = _writer(tmp_path, "Anna")
        assert process.stdout is not None
        started = dice.random() < 0.6  # else it is killed while it starts, opens the log or takes over the lock
        first = process.stdout.readline() if started else ""
        time.sleep(dice.random() * (0.05 if started else 0.5))
        process.send_signal(signal.SIGKILL)
        said = [*([int(first)] if first else []), *_numbers(process)]
        kills += process.returncode == -signal.SIGKILL
        if not (tmp_path / "review.Anna.jsonl").exists():
            continue
        lines = read_log(tmp_path / "review.Anna.jsonl")
        comments = [event.action.comment.split()[1] for event in lines.events if isinstance(event.action, Commented)]
        assert len(comments) >= stored + len(said), "a line that was said to be stored is gone"
        assert len(comments) <= stored + len(said) + 1, "no more than the line at hand is unsaid"
        assert comments[stored : stored + len(said)] == [str(number) for number in said]
        stored = len(comments)
    assert kills == 20
    log = AuditLog.open(tmp_path, "Anna", HEADER)
    assert len(told(log)) == stored > 20
    log.close()


def test_same_reviewer_twice_at_once_is_told_and_two_reviewers_are_not(tmp_path: Path) -> None:
    log = AuditLog.open(tmp_path, "Anna", HEADER)
    with pytest.raises(LogInUseError, match=rf"process {os.getpid()} on {socket.gethostname()}.*close that window, or"):
        AuditLog.open(tmp_path, "Anna", HEADER)
    process = _writer(tmp_path, "Anna", "1")
    assert "is being written" in process.communicate(timeout=300)[1]
    assert process.returncode == 1
    process = _writer(tmp_path, "Bela", "3")
    assert _numbers(process) == [1, 2, 3]
    log.append(Commented(1, "still mine"))
    log.close()
    other = AuditLog.open(tmp_path, "Bela", HEADER)
    assert "Anna" not in other.text
    other.close()
    assert told(log_of(tmp_path)) == [Commented(1, "still mine")]


@pytest.mark.skipif(sys.platform == "win32", reason="there the open file tells")
def test_of_many_processes_that_find_a_stale_lock_one_writes(tmp_path: Path) -> None:
    log_of(tmp_path).close()
    (tmp_path / "review.Anna.jsonl.lock").write_text("process 12 on elsewhere\n")
    before = len(read_log(tmp_path / "review.Anna.jsonl").events)
    processes = [_writer(tmp_path, "Anna", "200") for _ in range(4)]
    said = [_numbers(process) for process in processes]
    winners = [numbers for numbers in said if numbers]
    events = read_log(tmp_path / "review.Anna.jsonl").events
    assert winners
    assert len(events) == before + sum(len(numbers) + 1 for numbers in winners)
    numbers = [int(e.action.comment.split()[1]) for e in events if isinstance(e.action, Commented)]
    assert numbers == sorted(numbers), "lines of two writers never mix"
