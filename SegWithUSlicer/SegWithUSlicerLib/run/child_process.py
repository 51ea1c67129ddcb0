"""A `segwithu` command in a child process, so that Slicer stays responsive: progress, result, cancel without a trace.

The child needs no torch for what is asked here (export, report). No Qt: the timer is passed in.
"""

import os
import queue
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..i18n import _
from ..worker_child import ENDED, TREE_ENDED, Event, WorkerChild
from ..worker_start import (
    WorkerStart,
    WorkerStartError,
    core_parent,
    process_options,
    python_executable,
    worker_environment,
)
from .launch import end_reason

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
