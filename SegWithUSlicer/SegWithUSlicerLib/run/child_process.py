"""A `segwithu` command in a child process, so that Slicer stays responsive: progress, result, cancel without a trace.

The child needs no torch for what is asked here (export, report). No Qt: the timer is passed in.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SegWithUCore.errors import InputError
from SegWithUCore.strict_json import parse_json
from SegWithUCore.worker.protocol import remove_half_written

from ..i18n import _
from .launch import (
    WorkerStart,
    WorkerStartError,
    core_parent,
    end_process_tree,
    end_reason,
    process_options,
    python_executable,
    worker_environment,
)

Event = Mapping[str, Any]
ENDED = "ended"
"""Our own event: the process ended by itself, "code" says how."""
TREE_ENDED = "tree_ended"
"""Our own event: the process tree was ended by `end`."""
EXIT_WAIT_S = 2.0
QUIT_WAIT_S = 0.5


class WorkerChild:
    """Started at once. Events go into a queue together with this object, so that late words are known as such.

    Args:
        start: what to start.
        arrived: receives (this object, event).
        log: receives lines of stderr.

    Attributes:
        pid: process id that the worker reported; the child that we started may be a launcher.
        versions: of its packages, as it said when it started.
        leaving: it said that it ends because it was idle.

    Raises:
        WorkerStartError: the system refuses to start it.
    """

    def __init__(
        self, start: WorkerStart, arrived: "queue.SimpleQueue[tuple[WorkerChild, Event]]", log: deque[str]
    ) -> None:
        self.pid: int | None = None
        self.versions: Mapping[str, Any] = {}
        self.leaving = False
        self._arrived = arrived
        self._log = log
        self._process: subprocess.Popen[bytes] = start.popen()
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        threading.Thread(target=self._read_events, daemon=True).start()

    def send(self, request: Mapping[str, Any]) -> None:
        """Write one request; a worker that just died is noticed by the reader of its events."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(request, ensure_ascii=False) + "\n").encode("utf-8"))
            self._process.stdin.flush()
        except OSError as error:
            self._log.append(f"the request could not be sent: {error}")

    def ask_to_quit(self) -> None:
        """Close its stdin, at which it ends by itself, and wait a moment for that."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError as error:
            self._log.append(f"the worker was gone already: {error}")
        until = time.monotonic() + QUIT_WAIT_S
        while self._process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)

    def end(self, output: Path | None) -> threading.Thread:
        """Begin to end the whole process tree; the event TREE_ENDED follows, within two seconds.

        Args:
            output: the folder into which it may have been writing.
        """

        def work() -> None:
            if not end_process_tree(self._process, self.pid):
                self._log.append(f"process {self.pid or self._process.pid} does not end")
            self.remove_half_written(output)
            self._arrived.put((self, {"event": TREE_ENDED}))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def remove_half_written(self, output: Path | None) -> None:
        """Remove what it was about to write into `output`, once it has ended."""
        if output is not None:
            remove_half_written(output, self.pid or self._process.pid)

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    event = parse_json(line, "an event of the worker")
                except InputError:
                    self._log.append(line.decode("utf-8", "replace").rstrip())
                    continue
                self._arrived.put((self, event))
        self._log_reader.join(EXIT_WAIT_S)  # so that the last words are there when the end is told
        try:
            code = self._process.wait(EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            code = None
        self._arrived.put((self, {"event": ENDED, "code": code}))

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._log.append(line.decode("utf-8", "replace").rstrip())


COMMAND_MODULE = "SegWithUCore.cli"
POLL_INTERVAL_MS = 50
LOG_LINES = 50
StartTimer = Callable[[int, Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended.

    Attributes:
        result: what it returned; None where it failed or was cancelled.
        errors: its sentences about what failed.
        cancelled: the user gave it up; no process is left then, and nothing half-written.
    """

    result: Mapping[str, Any] | None = None
    errors: Sequence[str] = ()
    cancelled: bool = False


@dataclass
class _Run:
    child: WorkerChild
    output: Path
    on_progress: Callable[[float, str], None]
    on_end: Callable[[CommandEnd], None]
    result: Mapping[str, Any] | None = None
    errors: list[str] = field(default_factory=list)
    is_cancelled: bool = False


class CommandProcess:
    """One command at a time. All callbacks arrive on the main thread, out of the timer.

    Args:
        start_timer: calls a function every so many milliseconds; what it returns stops that.
    """

    def __init__(self, start_timer: StartTimer) -> None:
        self._start_timer = start_timer
        self._stop_timer: Callable[[], None] | None = None
        self._arrived: queue.SimpleQueue[tuple[WorkerChild, Event]] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._run: _Run | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a command is running or being cancelled."""
        return self._run is not None

    @property
    def pid(self) -> int | None:
        """Process id that the command reported itself; None before it did."""
        return self._run.child.pid if self._run is not None else None

    def start(
        self,
        arguments: Sequence[str],
        output: Path,
        on_progress: Callable[[float, str], None],
        on_end: Callable[[CommandEnd], None],
    ) -> None:
        """Run `segwithu ARGUMENTS... --json`.

        Args:
            output: what it makes; half-written things beside it are removed after a cancelled command.
            on_progress: called with the share done, 0 to 1, and what is worked on.

        Raises:
            RuntimeError: a command is running.
        """
        if self._run is not None:
            raise RuntimeError("a command is running")
        try:
            child = WorkerChild(command_start(arguments), self._arrived, self._log)
        except WorkerStartError as error:
            on_end(CommandEnd(errors=[str(error)]))
            return
        self._run = _Run(child, output, on_progress, on_end)
        self._stop_timer = self._start_timer(POLL_INTERVAL_MS, self.poll)

    def cancel(self) -> None:
        """Give the command up: returns at once; its end is told when no process is left."""
        run = self._run
        if run is not None and not run.is_cancelled:
            run.is_cancelled = True
            run.child.end(run.output.parent)

    def stop(self) -> None:
        """End everything now and wait for it, without telling anybody: for quitting and reloading."""
        run, self._run = self._run, None
        self._end_timer()
        if run is not None:
            run.child.end(run.output.parent).join()

    def poll(self) -> None:
        """Hand out what has arrived; main thread only."""
        while True:
            try:
                child, event = self._arrived.get_nowait()
            except queue.Empty:
                return
            if self._run is not None and child is self._run.child:
                self._take(self._run, event)

    def _take(self, run: _Run, event: Event) -> None:
        kind = event.get("event")
        if kind == TREE_ENDED or (kind == ENDED and not run.is_cancelled):
            self._finish(run, event.get("code"))
        elif kind == "started":
            run.child.pid = int(event["pid"])
        elif kind == "progress" and not run.is_cancelled:
            run.on_progress(float(event.get("fraction") or 0.0), str(event.get("detail") or ""))
        elif kind == "error":
            run.errors.append(str(event.get("text") or ""))
        elif kind == "result":
            run.result = event

    def _finish(self, run: _Run, code: int | None) -> None:
        self._run = None
        self._end_timer()
        if run.result is None and not run.errors and not run.is_cancelled:
            run.child.remove_half_written(run.output.parent)
            last = next((line for line in reversed(self._log) if line.strip()), "")
            run.errors.append(_("The process ended ({reason}): {last}").format(reason=end_reason(code), last=last))
        # What was whole before the user's click came through is there, and is told as done.
        is_cancelled = run.is_cancelled and run.result is None
        run.on_end(CommandEnd(run.result, () if is_cancelled else run.errors, is_cancelled))

    def _end_timer(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None


def command_start(arguments: Sequence[str]) -> WorkerStart:
    """How to start a command on this computer, with Slicer's own Python.

    Raises:
        WorkerStartError: there is no Python to start.
    """
    return WorkerStart(
        [python_executable(), "-m", COMMAND_MODULE, *arguments, "--json"],
        worker_environment(os.environ, core_parent()),
        process_options(sys.platform),
    )
