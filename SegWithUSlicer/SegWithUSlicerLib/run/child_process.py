"""A child process that speaks JSON lines, and the base of what owns one (`command`, `worker`).

No Qt: the timer is passed in.
"""

import contextlib
import json
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import parse_json
from SegWithUCore.worker.protocol import remove_half_written

from .launch import WorkerStart, end_process_tree

Event = Mapping[str, Any]
StartTimer = Callable[[int, Callable[[], None]], Callable[[], None]]
"""Calls a function repeatedly on the main thread, with an interval in milliseconds; the returned function stops it."""
ENDED = "ended"
"""Our own event: the process ended by itself, with exit code "code"."""
TREE_ENDED = "tree_ended"
"""Our own event: the process tree was ended by `end`."""
EXIT_WAIT_S = 2.0
QUIT_WAIT_S = 0.5
POLL_INTERVAL_MS = 50
LOG_LINES = 200
"""Of stderr, which are kept."""


class ChildProcess:
    """A child process with a reader thread per pipe, started at once.

    The threads hand over bytes and text only; `next_event` parses them on the main thread. A thread that makes
    containers can be the one that collects garbage, and Qt objects that are destroyed outside of the main thread crash
    the application (seen four times in about 60 runs of the tests).

    Args:
        start: command line, environment and options.
        arrived: receives this object once for each event, so that those of an abandoned child are recognised.
        log: receives lines of stderr.

    Attributes:
        pid: process ID that it reported; the process that we started may be a launcher. None before.
        versions: of its packages, as reported at its start.
        leaving: it reported that it ends because it was idle.

    Raises:
        WorkerStartError: the system refuses to start it.
    """

    def __init__(self, start: WorkerStart, arrived: "queue.SimpleQueue[ChildProcess]", log: deque[str]) -> None:
        self.pid: int | None = None
        self.versions: Mapping[str, Any] = {}
        self.leaving = False
        self._arrived = arrived
        self._events: deque[bytes | str] = deque()
        self._log = log
        self._process: subprocess.Popen[bytes] = start.popen()
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        threading.Thread(target=self._read_events, daemon=True).start()

    def send(self, request: Mapping[str, Any]) -> None:
        """Write one request; a child that just died is noticed by the reader of its events."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(request, ensure_ascii=False) + "\n").encode("utf-8"))
            self._process.stdin.flush()
        except OSError as error:
            self._log.append(f"the request could not be sent: {error}")

    def ask_to_quit(self) -> None:
        """Close its stdin, so that it ends by itself, and wait a moment for that."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError as error:
            self._log.append(f"the process was gone already: {error}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(QUIT_WAIT_S)

    def end(self, output: Path | None) -> threading.Thread:
        """Begin to end the whole process tree; the event TREE_ENDED follows, within two seconds.

        Args:
            output: the folder into which it may have been writing.
        """

        def work() -> None:
            try:
                if not end_process_tree(self._process, self.pid):
                    self._log.append(f"process {self.pid or self._process.pid} does not end")
                self.remove_half_written(output)
            except Exception as error:  # noqa: BLE001 - the caller waits for the end
                self._log.append(f"ending process {self.pid or self._process.pid} failed: {error}")
            finally:
                self._hand_over(TREE_ENDED)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def remove_half_written(self, output: Path | None) -> None:
        """Remove what it was about to write into `output`, once it has ended."""
        if output is None:
            return
        try:
            remove_half_written(output, self.pid or self._process.pid)
        except OSError as error:
            self._log.append(f"half-written output stays: {error.strerror}")

    def next_event(self) -> Event | None:
        """Return the next event that was handed over; None for a line that is no event, which goes to the log."""
        found = self._events.popleft()
        if isinstance(found, str):
            return {"event": found, "code": self._process.returncode}
        try:
            return parse_json(found, "an event of the process")
        except InputError:
            self._log.append(found.decode("utf-8", "replace").rstrip())
            return None

    def _hand_over(self, event: bytes | str) -> None:
        self._events.append(event)
        self._arrived.put(self)

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as lines:
                for line in lines:
                    self._hand_over(line)
        except Exception as error:  # noqa: BLE001 - a reader that stops silently would leave the run waiting
            self._log.append(f"its events cannot be read: {error}")
        self._log_reader.join(EXIT_WAIT_S)  # so that its last lines are there when its end is reported
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_WAIT_S)
        self._hand_over(ENDED)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._log.append(line.decode("utf-8", "replace").rstrip())


class PolledProcess:
    """Base of what owns a child process: starts it, and hands out its events on the main thread.

    Threads only read pipes and fill a queue; `poll`, called by a timer on the main thread, hands out what arrived, so
    that callbacks may touch nodes. Subclasses define the reaction to an event.

    Args:
        start_timer: see StartTimer; None if the caller polls by itself.
    """

    def __init__(self, start_timer: StartTimer | None) -> None:
        self._start_timer = start_timer
        self._stop_timer: Callable[[], None] | None = None
        self._child: ChildProcess | None = None
        self._arrived: queue.SimpleQueue[ChildProcess] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=LOG_LINES)

    @property
    def pid(self) -> int | None:
        """Process ID that the child reported, None before it did."""
        return self._child.pid if self._child else None

    @property
    def versions(self) -> Mapping[str, Any]:
        """Package versions that the child reported at its start; empty if there is none."""
        return self._child.versions if self._child else {}

    def log(self) -> list[str]:
        """Return the last lines of stderr, for "Copy diagnostics"."""
        return list(self._log)

    def poll(self) -> None:
        """Hand out what has arrived; main thread only."""
        while True:
            try:
                child = self._arrived.get_nowait()
            except queue.Empty:
                break
            event = child.next_event()
            if event is not None:
                self._dispatch(child, event)
        self._after_poll()

    def _dispatch(self, child: ChildProcess, event: Event) -> None:
        kind = event.get("event")
        if kind == TREE_ENDED:
            self._on_tree_ended(child)
        elif child is not self._child:
            return  # a late event of an abandoned child
        elif kind == ENDED:
            self._on_ended(child, event.get("code"))
        elif kind == "started":
            child.pid, child.versions = int(event["pid"]), event.get("versions") or {}
            self._on_started()
        elif kind == "leaving":
            child.leaving = True
        else:
            self._on_event(event)

    def _start_child(self, start: WorkerStart) -> None:
        """Start the child and the timer.

        Raises:
            WorkerStartError: the system refuses to start it.
        """
        self._child = ChildProcess(start, self._arrived, self._log)
        self._keep_polling()

    def _keep_polling(self) -> None:
        if self._start_timer is not None and self._stop_timer is None:
            self._stop_timer = self._start_timer(POLL_INTERVAL_MS, self.poll)

    def _stop_polling(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None

    def _on_started(self) -> None:
        """React to the child's first event."""

    def _on_event(self, event: Event) -> None:
        """React to any other event of the child."""

    def _on_ended(self, child: ChildProcess, code: int | None) -> None:
        """React to a child that ended by itself."""

    def _on_tree_ended(self, child: ChildProcess) -> None:
        """React to the end of a child that was ended; it need not be the current one."""

    def _after_poll(self) -> None:
        """Continue after all events were handed out."""
