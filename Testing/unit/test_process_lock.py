"""The one lock: between processes, between threads, and after a crash; and what a killed writer leaves."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from SegWithUCore.util import process_lock
from SegWithUCore.util.atomic_files import (
    ABANDONED_AFTER_S,
    TEMPORARY_PREFIX,
    atomic_file,
    atomic_folder,
    remove_leftovers,
)
from SegWithUCore.util.errors import OutputError
from SegWithUCore.util.process_lock import LockedError, ProcessLock, remove_stale

HOLD = """
import sys, pathlib
from SegWithUCore.util.process_lock import ProcessLock
lock = ProcessLock.take(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_of_another_process_holds_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    call = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(LockedError) as error:
            ProcessLock.take(path)
        assert error.value.who == f"process {other.pid} on {socket.gethostname()}"
        assert not remove_stale(path)
        other.kill()
        other.wait()
        assert path.exists()
        assert remove_stale(path)
    ProcessLock.take(path).release()
    assert not path.exists()


def test_threads_of_one_process_exclude_each_other_and_may_wait(tmp_path: Path) -> None:
    path, counted = tmp_path / "a.lock", [0, 0]

    def count() -> None:
        for _ in range(20):
            lock = ProcessLock.take(path, wait_s=60)
            counted[1] += 1
            assert counted[1] == 1, "two hold it"
            counted[0] += 1
            counted[1] -= 1
            lock.release()

    with ProcessLock.take(path).path.open("rb"), pytest.raises(LockedError):
        ProcessLock.take(path)
    path.unlink()  # as by a user: the next one has a file of its own
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [80, 0]
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"[" * 4000, b"process 1 on \xff\n", b"\0" * 100])
def test_a_file_that_nobody_holds_is_taken_whatever_it_holds(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.lock"
    path.write_bytes(content)
    lock = ProcessLock.take(path)
    assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    lock.release()
    assert not path.exists()


def test_what_is_no_regular_file_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.lock")
    (tmp_path / "b.lock").mkdir()
    (tmp_path / "c.lock").symlink_to("elsewhere")
    for name in ("a.lock", "b.lock", "c.lock"):
        with pytest.raises(OSError, match=r"regular|directory|symbolic"):
            ProcessLock.take(tmp_path / name)
        assert not remove_stale(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(process_lock.fcntl, "flock", unsupported)
    assert ProcessLock.take_if_possible(tmp_path / "a.lock") is None
    with atomic_folder(tmp_path / "target") as work:
        (work / "file").write_text("whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "file"]


KILLED = """
import os, sys, pathlib
from SegWithUCore.util.atomic_files import atomic_file, atomic_folder
place = pathlib.Path(sys.argv[1])
with atomic_folder(place / "case") as work, atomic_file(place / "file") as file:
    (work / "part").write_text("half")
    file.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_every_writer_sweeps_what_a_killed_one_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "living") as living:
        assert subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False).returncode == -9
        left = [path for path in tmp_path.glob(f"{TEMPORARY_PREFIX}*") if path != living.parent]
        assert len([path for path in left if path.is_dir()]) == 2
        with atomic_file(tmp_path / "another") as work:
            work.write_text("whole")
        assert living.is_dir()
        assert not any(path.exists() for path in left if path.is_dir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "living"]


EARLY = """
import os, sys, pathlib
from SegWithUCore.util import atomic_files, process_lock
from SegWithUCore.util.atomic_files import atomic_file
setattr(*{"before its lock": (process_lock, "_opened"), "before its name": (os, "write")}[sys.argv[2]],
        lambda *arguments: os.kill(os.getpid(), 9))
with atomic_file(pathlib.Path(sys.argv[1]) / "file"):
    pass
"""


@pytest.mark.parametrize("when", ["before its lock", "before its name"])
def test_a_folder_whose_maker_was_killed_before_it_was_locked_is_swept_at_once(when: str, tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", EARLY, tmp_path, when], check=False).returncode == -9
    assert len(left := list(tmp_path.iterdir())) == 1
    assert remove_leftovers(tmp_path) == left
    assert not any(tmp_path.iterdir())


def test_who_sweeps_disturbs_nobody_who_makes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, ended, made = tempfile.mkdtemp, threading.Event(), []

    def made_and_swept(**names: str) -> str:
        made.append(make(**names))
        if len(made) % 2:
            remove_leftovers(tmp_path)
        return made[-1]

    def sweep() -> None:
        while not ended.is_set():
            remove_leftovers(tmp_path)

    monkeypatch.setattr(tempfile, "mkdtemp", made_and_swept)
    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    try:
        for number in range(40):
            with atomic_folder(tmp_path / "target", overwrite=True, lock=False) as work:
                (work / "file").write_text(str(number))
            assert (tmp_path / "target" / "file").read_text() == str(number)
    finally:
        ended.set()
        sweeping.join()
    assert len(made) > 80
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_sweeper_that_looks_at_a_new_folder_for_long_makes_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looked_at = ProcessLock.take_if_possible, []

    def looked_at_once(path: Path) -> ProcessLock | None:
        looked_at.append(path)
        with contextlib.ExitStack() as stack:
            if len(looked_at) == 1:  # for longer than a lock is waited for
                stack.callback(ProcessLock.take(path).release)
            return real(path)

    monkeypatch.setattr(ProcessLock, "take_if_possible", looked_at_once)
    with atomic_folder(tmp_path / "target", lock=False) as work:
        (work / "file").touch()
    assert len(looked_at) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_nobody_sweeps_what_lives_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(process_lock.fcntl, "flock", unsupported)
    with atomic_file(tmp_path / "target") as work:
        assert remove_leftovers(tmp_path) == []
        work.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_has_no_lock_is_swept_after_a_day(tmp_path: Path) -> None:
    names = [f"{TEMPORARY_PREFIX}{name}" for name in ("elsewhere-1-x", "123-x", "", "-", "ä")]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("half")
    (tmp_path / f"{TEMPORARY_PREFIX}link").symlink_to(tmp_path)
    (tmp_path / f"{TEMPORARY_PREFIX}file").write_text("")
    assert remove_leftovers(tmp_path) == []
    long_ago = time.time() - ABANDONED_AFTER_S - 60
    for name in [*names, f"{TEMPORARY_PREFIX}file"]:
        os.utime(tmp_path / name, (long_ago, long_ago))
    assert len(remove_leftovers(tmp_path)) == len(names) + 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{TEMPORARY_PREFIX}link"]


def test_long_names_and_impossible_ones(tmp_path: Path) -> None:
    long = tmp_path / f"{'n' * 240}.nii.gz"
    with atomic_file(long) as work:
        assert work.name.endswith(".nii.gz")
        work.write_text("whole")
    assert long.read_text() == "whole"
    for writer in (atomic_file, atomic_folder):
        with pytest.raises(OutputError, match="NUL"), writer(tmp_path / "a\0b"):
            pass


KILLED_WHILE_REMOVING = """
import os, pathlib, sys
from SegWithUCore.util import atomic_files
place = pathlib.Path(sys.argv[1])
def killed(path):
    os.unlink(path)
    os._exit(9)
if sys.argv[2] == "own":
    atomic_files._remove = killed
    with atomic_files.temporary_folder(place) as folder:
        (folder / "a").touch(), (folder / "b").touch()
with atomic_files.temporary_folder(place) as folder:
    (folder / "a").touch(), (folder / "b").touch()
    if sys.argv[2] == "make":
        os._exit(9)
    atomic_files._remove = killed
    atomic_files.remove_leftovers(place)
"""


@pytest.mark.parametrize("deaths", [("own",), ("make", "other")], ids=["its own folder", "that of one who was killed"])
def test_who_is_killed_while_removing_leaves_what_the_next_one_removes(deaths: tuple[str, ...], tmp_path: Path) -> None:
    """It once removed the lock first: the rest of the folder then stayed for a day."""
    for death in deaths:
        assert (
            subprocess.run([sys.executable, "-c", KILLED_WHILE_REMOVING, tmp_path, death], check=False).returncode == 9
        )
    (left, *_) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert any(path.name in "ab" for path in left.iterdir())
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_cancelled_while_it_takes_a_lock_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("socket.gethostname", cancelled)
    with pytest.raises(KeyboardInterrupt):
        ProcessLock.take(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []
