"""Who writes: processes are not mistaken for others, also where containers share a host name and process numbers."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SegWithUCore.util.atomic_files import (
    ABANDONED_AFTER_S,
    TEMPORARY_PREFIX,
    atomic_file,
    atomic_folder,
    sweep_leftovers,
    temporary_prefix,
)
from SegWithUCore.util.errors import OutputError
from SegWithUCore.util.process_lock import LockedError, ProcessLock, remove_stale
from SegWithUCore.util.processes import is_alive, process_scope, process_started

ELSEWHERE = "p0123456789abcdef"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


def _dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_process_knows_itself_and_tells_a_number_that_was_used_again() -> None:
    assert is_alive(os.getpid(), process_started(os.getpid()))
    assert not is_alive(_dead_process(), "1")
    assert not is_alive(10**30, "1")
    if sys.platform == "linux":
        assert not is_alive(os.getpid(), "1")
        assert is_alive(os.getpid(), noted_at=time.time())
        assert not is_alive(os.getpid(), noted_at=time.time() - 10 * 365 * 86400)


@LINUX
def test_a_process_in_another_namespace_has_another_scope() -> None:
    code = "from SegWithUCore.util.processes import process_scope; print(process_scope())"
    call = ["unshare", "--pid", "--fork", sys.executable, "-c", code]
    told = subprocess.run(call, capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip("namespaces need rights")
    assert told.stdout.strip() != process_scope()
    assert len(told.stdout.strip()) == len(process_scope())


def test_living_files_of_another_container_stay_and_those_of_the_dead_go(tmp_path: Path) -> None:
    """The other container has our host name, and its process a number that is dead here."""
    dead, own = _dead_process(), process_scope()
    names = {
        "theirs": f"{TEMPORARY_PREFIX}{ELSEWHERE}-{dead}-t12-x",
        "ours": f"{TEMPORARY_PREFIX}{own}-{dead}-t12-x",
        "used again": f"{TEMPORARY_PREFIX}{own}-{os.getpid()}-t1-x",
        "living": f"{temporary_prefix()}x",
        "earlier version": f"{TEMPORARY_PREFIX}{socket.gethostname().replace('-', '')}-{dead}-x",
    }
    paths = {what: tmp_path / name for what, name in names.items()}
    for path in paths.values():
        path.mkdir()
    gone = {paths["ours"]} | ({paths["used again"]} if sys.platform == "linux" else set())
    assert set(sweep_leftovers(tmp_path)) == gone
    long_ago = time.time() - ABANDONED_AFTER_S - 60
    for path in paths.values():
        if path.exists():
            os.utime(path, (long_ago, long_ago))
    assert set(sweep_leftovers(tmp_path)) >= {paths["theirs"], paths["earlier version"]}
    assert paths["living"].exists()


@pytest.mark.parametrize(
    "middle", ["HOST-²", f"{process_scope()}-{10**19}-t1", f"{process_scope()}-²-t1", "", "-", "ä"]
)
def test_odd_temporary_names_never_raise(tmp_path: Path, middle: str) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}{middle}-x").write_text("")
    (tmp_path / f"{TEMPORARY_PREFIX}{middle}-link").symlink_to(tmp_path)
    sweep_leftovers(tmp_path)
    with atomic_file(tmp_path / "result") as work:
        work.write_text("whole")
    assert (tmp_path / "result").read_text() == "whole"


def test_every_writer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / f"{TEMPORARY_PREFIX}{process_scope()}-{_dead_process()}-t1-report"
    for writer in (atomic_file, atomic_folder):
        left.mkdir()
        (left / "half").write_text("half")
        with writer(tmp_path / writer.__name__) as work:
            (work / "file" if work.is_dir() else work).write_text("whole")
        assert not left.exists()


def test_long_names_and_impossible_ones(tmp_path: Path) -> None:
    long = tmp_path / f"{'n' * 240}.nii.gz"
    with atomic_file(long) as work:
        assert work.name.endswith(".nii.gz")
        work.write_text("whole")
    assert long.read_text() == "whole"
    for writer in (atomic_file, atomic_folder):
        with pytest.raises(OutputError, match="NUL"), writer(tmp_path / "a\0b"):
            pass


def _lock(path: Path, **owner: object) -> None:
    whole = {"pid": 1, "host": socket.gethostname(), "scope": process_scope(), "started": "1"}
    path.write_text(json.dumps(whole | owner))


def test_a_lock_of_another_container_with_our_host_name_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    _lock(path, pid=_dead_process(), scope=ELSEWHERE)
    with pytest.raises(LockedError) as caught:
        ProcessLock.take(path)
    assert not caught.value.on_this_computer
    with pytest.raises(LockedError):
        remove_stale(path)
    assert path.exists()
    os.utime(path, (1e9, 1e9))
    ProcessLock.take(path).release()


@pytest.mark.skipif(sys.platform == "win32", reason="there the open file tells")
@pytest.mark.parametrize(
    "owner",
    [{"pid": 10**30}, {"pid": True}, {"pid": 1.5}, {"host": ["a"], "pid": 10**30}, {"started": 3, "pid": 10**30}],
)
def test_a_lock_that_names_no_possible_process_is_taken_over(tmp_path: Path, owner: dict[str, object]) -> None:
    path = tmp_path / "a.lock"
    _lock(path, **owner)
    lock = ProcessLock.take(path)
    lock.release()
    assert not path.exists()


def test_a_pipe_in_place_of_a_lock_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.lock")
    with pytest.raises(OSError, match="no regular file"):
        ProcessLock.take(tmp_path / "a.lock")
    with pytest.raises(OSError, match="no regular file"):
        remove_stale(tmp_path / "a.lock")
    (tmp_path / "b.lock").write_text("[" * 4000)
    ProcessLock.take(tmp_path / "b.lock").release()
