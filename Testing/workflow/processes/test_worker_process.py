"""Slicer's side of the worker: order, cancel, crash, restart, quit; on a stand-in, and once on the real worker."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from left_hippocampus import CENTRE_RAS_MM, SIZE_MM
from repository import HELPERS, ROOT
from worker_parent import request_of

from SegWithUSlicerLib.run import child_process
from SegWithUSlicerLib.run.child_process import POLL_INTERVAL_MS
from SegWithUSlicerLib.run.launch import WorkerStart, WorkerStartError, core_parent, process_options, worker_environment
from SegWithUSlicerLib.run.worker import WorkerProcess, WorkerState

SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
PATIENCE_S = 300.0

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def stand_in(*arguments: str) -> WorkerStart:
    command = [sys.executable, str(HELPERS / "worker_launcher.py"), str(HELPERS / "worker_stand_in.py"), *arguments]
    return WorkerStart(command, dict(os.environ), process_options(sys.platform))


def real_worker() -> WorkerStart:
    command = [sys.executable, str(HELPERS / "worker_launcher.py"), "-m", "SegWithUCore.worker"]
    return WorkerStart(command, worker_environment(os.environ, core_parent()), process_options(sys.platform))


class Listener:
    """Keeps the events of one run."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events]

    @property
    def final(self) -> Mapping[str, Any] | None:
        return next((event for event in self.events if event["event"] != "progress"), None)


def wait_for(worker: WorkerProcess, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
    """Poll as Slicer's timer does until the condition holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_s, worker.log()
        time.sleep(0.01)
        worker.poll()


def running_with(text: str) -> list[int]:
    """Living processes whose environment holds `text`: all that a worker of this test ever started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / "environ").read_bytes():
                state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                if state != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A mark in the environment of every process of the test."""
    mark = f"SEGWITHU_TEST_MARK={tmp_path.name}-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(*mark.split("="))
    return mark


@pytest.fixture
def engine(marked: str) -> Iterator[WorkerProcess]:
    """Slicer's side with the real worker behind a launcher."""
    process = WorkerProcess(start=real_worker)
    yield process
    process.stop()
    assert not running_with(marked)


@pytest.fixture
def worker(marked: str) -> Iterator[WorkerProcess]:
    """Slicer's side with a stand-in worker behind a launcher; nothing may be left of it."""
    process = WorkerProcess(start=stand_in)
    yield process
    process.stop()
    assert not running_with(marked)


def test_requests_are_done_in_order_by_one_process(worker: WorkerProcess) -> None:
    first, second = Listener(), Listener()
    assert worker.state is WorkerState.STOPPED
    numbers = [worker.submit({"request": "echo", "text": t}, on) for t, on in (("Größe", first), ("測試", second))]
    assert worker.state is WorkerState.STARTING
    assert numbers == [1, 2]
    wait_for(worker, lambda: second.final)
    assert first.final is not None
    assert second.final is not None
    assert (first.final["text"], second.final["text"]) == ("Größe", "測試")
    assert first.final["pid"] == second.final["pid"] == worker.pid
    assert worker.state is WorkerState.READY
    assert worker.versions == {"torch": "2.9"}


def test_timer_runs_only_while_there_is_something_to_hear(marked: str) -> None:
    started: list[int] = []
    stopped: list[int] = []

    def start_timer(interval_ms: int, _callback: Callable[[], None]) -> Callable[[], None]:
        started.append(interval_ms)
        return lambda: stopped.append(interval_ms)

    worker = WorkerProcess(start_timer, stand_in)
    assert not started
    heard = Listener()
    worker.submit({"request": "leave"}, heard)
    assert (started, stopped) == ([POLL_INTERVAL_MS], [])
    wait_for(worker, lambda: stopped)
    assert heard.kinds == ["result"]
    assert worker.state is WorkerState.STOPPED
    assert not running_with(marked), "the idle worker left by itself"
    again = Listener()
    worker.submit({"request": "echo"}, again)
    wait_for(worker, lambda: again.final)
    assert again.kinds == ["result"], "and the next request starts a new one"
    worker.stop()
    assert len(started) == len(stopped) == 2


@pytest.mark.parametrize("kind", ["hang", "stubborn"])
def test_cancel_ends_the_whole_tree(worker: WorkerProcess, marked: str, kind: str) -> None:
    run, behind = Listener(), Listener()
    number = worker.submit({"request": kind}, run)
    worker.submit({"request": "echo"}, behind)
    wait_for(worker, lambda: run.events)
    assert len(running_with(marked)) == (3 if kind == "stubborn" else 2), "launcher, worker and its child"
    worker.cancel(number)
    wait_for(worker, lambda: run.final)
    assert run.kinds == ["progress", "cancelled"]
    wait_for(worker, lambda: behind.final)
    assert behind.kinds == ["result"], "what was asked after it is still done"
    assert len(running_with(marked)) == 2


def test_cancel_returns_before_the_tree_has_ended(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread is Slicer's window: it must not wait."""
    returned, in_time, real = threading.Event(), [], child_process.end_process_tree

    def end_later(*arguments: Any) -> bool:
        in_time.append(returned.wait(PATIENCE_S))
        return real(*arguments)

    monkeypatch.setattr(child_process, "end_process_tree", end_later)
    run = Listener()
    number = worker.submit({"request": "hang"}, run)
    wait_for(worker, lambda: run.events)
    worker.cancel(number)
    returned.set()
    wait_for(worker, lambda: run.final)
    assert in_time == [True]
    assert run.kinds == ["progress", "cancelled"]


@pytest.mark.skipif(sys.platform != "linux", reason="it asks Linux for the threads of a process")
def test_a_process_whose_first_thread_has_ended_counts_as_alive(tmp_path: Path) -> None:
    """Its others hold its locks: what it was writing could not be removed yet."""
    code = (
        "import ctypes, signal, sys, threading, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    begun = tmp_path / "begun"
    process = subprocess.Popen([sys.executable, "-c", code, str(begun)], start_new_session=True)
    try:
        state = Path(f"/proc/{process.pid}/stat")
        until = time.monotonic() + PATIENCE_S
        while not begun.exists() or state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert child_process.end_process_tree(process, None)
        assert process.poll() is not None
    finally:
        process.kill()
        process.wait()


def test_late_events_of_a_cancelled_run_are_dropped(worker: WorkerProcess) -> None:
    run = Listener()
    number = worker.submit({"request": "late"}, run)
    wait_for(worker, lambda: worker.state is WorkerState.BUSY)
    time.sleep(0.3)  # its result lies in the queue, unread
    worker.cancel(number)
    wait_for(worker, lambda: run.final)
    assert run.kinds == ["cancelled"]


def test_waiting_run_is_cancelled_without_touching_the_running_one(worker: WorkerProcess) -> None:
    running, waiting = Listener(), Listener()
    first = worker.submit({"request": "hang"}, running)
    second = worker.submit({"request": "echo"}, waiting)
    wait_for(worker, lambda: running.events)
    pid = worker.pid
    worker.cancel(second)
    wait_for(worker, lambda: waiting.final)
    assert waiting.kinds == ["cancelled"]
    assert (worker.pid, worker.state) == (pid, WorkerState.BUSY)
    worker.cancel(first)
    worker.cancel(first)
    wait_for(worker, lambda: running.final)
    assert running.kinds == ["progress", "cancelled"]


def test_failing_worker_is_reported_with_exit_code_and_last_words(worker: WorkerProcess) -> None:
    run, behind = Listener(), Listener()
    worker.submit({"request": "fail"}, run)
    worker.submit({"request": "echo"}, behind)
    wait_for(worker, lambda: behind.final)
    assert run.final is not None
    assert (run.final["event"], run.final["kind"]) == ("error", "crashed")
    assert "exit code 3" in run.final["text"]
    assert "last words: außer Kontrolle" in run.final["details"]
    assert behind.kinds == ["result"], "a new worker does what waited"


def test_worker_that_does_not_start_fails_all_that_waits(marked: str) -> None:
    worker = WorkerProcess(start=lambda: stand_in("broken"))
    runs = [Listener(), Listener()]
    for run in runs:
        worker.submit({"request": "echo"}, run)
    wait_for(worker, lambda: runs[1].final)
    for run in runs:
        assert run.final is not None
        assert (run.final["event"], run.final["kind"]) == ("error", "start")
        assert "exit code 1" in run.final["text"]
        assert "No module named SegWithUCore" in run.final["details"]
    assert worker.state is WorkerState.STOPPED
    assert not running_with(marked)


def test_missing_python_is_an_error_of_its_own() -> None:
    worker = WorkerProcess(start=lambda: WorkerStart(["/nowhere/python"], {}))
    run = Listener()
    worker.submit({"request": "echo"}, run)
    assert run.final is None, "events come out of poll only"
    worker.poll()
    assert run.final is not None
    assert run.final["kind"] == "start"
    assert "/nowhere/python" in run.final["text"]
    with pytest.raises(WorkerStartError):
        WorkerStart(["/nowhere/python"], {}).popen()


def test_stop_during_a_run_waits_until_nothing_is_left(worker: WorkerProcess, marked: str) -> None:
    run = Listener()
    worker.submit({"request": "hang"}, run)
    wait_for(worker, lambda: run.events)
    worker.stop()
    assert not running_with(marked)
    worker.poll()
    assert run.kinds == ["progress"]


def test_restart_gives_a_new_process_and_begins_the_run_anew(worker: WorkerProcess) -> None:
    run = Listener()
    worker.submit({"request": "hang"}, run)
    wait_for(worker, lambda: run.events)
    old = worker.pid
    worker.restart()
    wait_for(worker, lambda: len(run.events) == 2)
    assert worker.pid != old
    assert run.kinds == ["progress", "progress"]


def segment_request(target: Path, **fields: Any) -> dict[str, Any]:
    call = {"roi": [*CENTRE_RAS_MM, *SIZE_MM], "name": target.name, "files": [str(SAMPLE)], "target": str(target)}
    return request_of("segment", **{**call, "model": "hippocampus", "device": "cpu", **fields})


@pytest.mark.slow
def test_real_worker_is_killed_works_again_and_is_cancelled(
    engine: WorkerProcess, marked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"roi": None, "unlike_training": True}

    def computes(run: Listener) -> bool:
        return any(event.get("stage") == "segmenting" for event in run.events)

    killed = Listener()
    engine.submit(segment_request(tmp_path / "killed", **long), killed)
    wait_for(engine, lambda: computes(killed))
    assert engine.pid is not None
    half_written = tmp_path / f".segwithu-{engine.pid}-x"
    half_written.mkdir()
    os.kill(engine.pid, signal.SIGKILL)
    wait_for(engine, lambda: killed.final)
    assert killed.final is not None
    assert killed.final["kind"] == "crashed"
    assert "SIGKILL" in killed.final["text"]
    assert not any(tmp_path.iterdir()), "what it was writing is removed by Slicer's side"

    done, cancelled = Listener(), Listener()
    engine.submit(segment_request(tmp_path / "done"), done)
    number = engine.submit(segment_request(tmp_path / "cancelled", **long), cancelled)
    wait_for(engine, lambda: done.final)
    assert done.final is not None
    assert done.final["event"] == "result", done.final
    assert (tmp_path / "done" / "case.json").is_file()
    wait_for(engine, lambda: computes(cancelled))
    assert running_with(marked)
    engine.cancel(number)
    wait_for(engine, lambda: cancelled.final)
    assert not running_with(marked)
    assert [path.name for path in tmp_path.iterdir()] == ["done"]
