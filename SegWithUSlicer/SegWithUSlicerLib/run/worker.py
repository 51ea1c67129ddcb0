"""The worker as Slicer's own process sees it: started when needed, asked one thing at a time, ended as a whole tree.

Threads only read pipes and fill a queue; `poll`, called by a timer on the main thread, hands out what came. So
callbacks may touch nodes. There is no Qt here: the timer is passed in.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..i18n import _
from .child_process import ENDED, TREE_ENDED, Event, WorkerChild
from .launch import WorkerStart, WorkerStartError, end_reason, worker_start

OnEvent = Callable[[Event], None]
StartTimer = Callable[[int, Callable[[], None]], Callable[[], None]]
"""Calls a function every so many milliseconds on the main thread; what it returns stops that."""

POLL_INTERVAL_MS = 50
LOG_LINES = 200
CRASH_LINES = 12
FINAL_EVENTS = frozenset({"result", "error", "checked", "warmed", "predicted", "fingerprinted", "cancelled"})


class WorkerState(Enum):
    """Where the worker is."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"


@dataclass(frozen=True)
class _Run:
    """A request on its way, and who wants to hear of it."""

    id: int
    request: Mapping[str, Any]
    on_event: OnEvent

    @property
    def output(self) -> Path | None:
        """The folder into which the worker writes for it."""
        target = self.request.get("target")
        return Path(str(target)).parent if target else None


@dataclass(frozen=True)
class _Ending:
    """A worker whose process tree is being ended, and the cancelled run that hears of it."""

    child: WorkerChild
    thread: threading.Thread
    cancelled: _Run | None


class WorkerProcess:
    """Talks to the worker from the main thread.

    Args:
        start_timer: see StartTimer; None where the caller polls by itself.
        start: how to start it, default `worker_start`; asked anew at every start.
        on_state: called when `state` changed.

    Every request gets progress events and then exactly one of FINAL_EVENTS, always out of `poll`. Besides the
    worker's own kinds of error ("input", "output", "usage", "memory", "missing", "unexpected") there are "crashed"
    and "start".
    """

    def __init__(
        self,
        start_timer: StartTimer | None = None,
        start: Callable[[], WorkerStart] = worker_start,
        on_state: Callable[[WorkerState], None] | None = None,
    ) -> None:
        self._start_timer = start_timer
        self._start = start
        self._on_state = on_state
        self._stop_timer: Callable[[], None] | None = None
        self._state = WorkerState.STOPPED
        self._child: WorkerChild | None = None
        self._arrived: queue.SimpleQueue[tuple[WorkerChild, Event]] = queue.SimpleQueue()
        self._waiting: deque[_Run] = deque()
        self._running: _Run | None = None
        self._untold: deque[tuple[_Run, Event]] = deque()
        self._ending: list[_Ending] = []
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._last_id = 0

    @property
    def state(self) -> WorkerState:
        """Where the worker is now."""
        return self._state

    @property
    def pid(self) -> int | None:
        """Process id that the worker reported itself, None before it did."""
        return self._child.pid if self._child else None

    @property
    def versions(self) -> Mapping[str, Any]:
        """What the worker said about its packages when it started; empty while there is none."""
        return self._child.versions if self._child else {}

    def log(self) -> list[str]:
        """The last lines that the worker and its libraries printed, for "Copy diagnostics"."""
        return list(self._log)

    def submit(self, request: Mapping[str, Any], on_event: OnEvent) -> int:
        """Ask for something; starts the worker where needed. Requests are done in order.

        Args:
            request: with "request" and its fields (ARCHITECTURE.md, "Worker"); the id is added.
            on_event: called from `poll` with each event.

        Returns:
            The run's number, for `cancel`.
        """
        self._last_id += 1
        self._waiting.append(_Run(self._last_id, request, on_event))
        self._keep_polling()
        self._go_on()
        return self._last_id

    def cancel(self, run_id: int) -> None:
        """Give a run up: none of its events comes any more but one, "cancelled", when no process works on it.

        Returns at once; the worker's process tree is gone within two seconds. Requests behind it are still done.
        """
        for run in [run for run in self._waiting if run.id == run_id]:
            self._waiting.remove(run)
            self._untold.append((run, {"event": "cancelled"}))
        if self._running is not None and self._running.id == run_id:
            run, self._running = self._running, None
            self._end_child(run.output, cancelled=run)

    def cancel_all(self) -> None:
        """Give up everything that was asked."""
        for run in [*self._waiting, *([self._running] if self._running else [])]:
            self.cancel(run.id)

    def restart(self) -> None:
        """End the worker; the next one sees what was installed meanwhile. What it was doing is begun anew."""
        run, self._running = self._running, None
        self._end_child(run.output if run else None)
        if run is not None:
            self._waiting.appendleft(run)

    def stop(self) -> None:
        """End everything now and wait for it (at most about two seconds): for quitting and reloading."""
        self._waiting.clear()
        self._untold.clear()
        if self._child is not None and self._running is None:
            self._child.ask_to_quit()
        run, self._running = self._running, None
        self._end_child(run.output if run else None)
        for ending in self._ending:
            ending.thread.join()
        self._ending.clear()
        self._stop_polling()

    def poll(self) -> None:
        """Hand out what has arrived; main thread only."""
        while True:
            try:
                child, event = self._arrived.get_nowait()
            except queue.Empty:
                break
            self._take(child, event)
        self._go_on()
        while self._untold:
            run, event = self._untold.popleft()
            run.on_event({**event, "id": run.id})
        if self._child is None and not (self._ending or self._waiting or self._untold):
            self._stop_polling()

    def _take(self, child: WorkerChild, event: Event) -> None:
        kind = event.get("event")
        if kind == TREE_ENDED:
            self._tree_ended(child)
        elif child is not self._child:
            return  # the late words of a worker that was given up
        elif kind == ENDED:
            self._ended_by_itself(child, event.get("code"))
        elif kind == "started":
            child.pid, child.versions = int(event["pid"]), event.get("versions") or {}
            self._set_state(WorkerState.READY)
        elif kind == "leaving":
            child.leaving = True
        else:
            self._pass_on(event)

    def _pass_on(self, event: Event) -> None:
        run = self._running
        if run is None or event.get("id") != run.id:
            return
        if event.get("event") in FINAL_EVENTS:
            self._running = None
            self._set_state(WorkerState.READY)
        run.on_event(event)

    def _go_on(self) -> None:
        """Send the next request, or start the worker for it."""
        if not self._waiting or self._running is not None:
            return
        if self._child is None:
            self._start_child()
        elif self._state is WorkerState.READY and not self._child.leaving:
            self._running = self._waiting.popleft()
            self._set_state(WorkerState.BUSY)
            self._child.send({**self._running.request, "id": self._running.id})

    def _start_child(self) -> None:
        try:
            self._child = WorkerChild(self._start(), self._arrived, self._log)
        except WorkerStartError as error:
            self._fail_waiting({"event": "error", "kind": "start", "text": str(error), "details": None})
        else:
            self._set_state(WorkerState.STARTING)

    def _ended_by_itself(self, child: WorkerChild, code: int | None) -> None:
        """After idle minutes, or by a crash whose reason is told; the next request starts a new one."""
        reason = end_reason(code)
        self._log.append(f"worker {child.pid} ended: {'idle' if child.leaving else reason}")
        run, self._running = self._running, None
        self._child = None
        self._set_state(WorkerState.STOPPED)
        child.remove_half_written(run.output if run else None)
        details = "\n".join(list(self._log)[-CRASH_LINES:])
        if child.leaving:
            self._waiting.extendleft([run] if run else [])  # it was sent while the worker was already on its way out
        elif run is not None:
            text = _("The segmentation process ended ({reason}): press the button again, it starts anew.")
            text = text.format(reason=reason)
            self._untold.append((run, {"event": "error", "kind": "crashed", "text": text, "details": details}))
        elif child.pid is None:
            text = _("The segmentation process did not start ({reason}): copy the diagnostics and report it.")
            text = text.format(reason=reason)
            self._fail_waiting({"event": "error", "kind": "start", "text": text, "details": details})

    def _fail_waiting(self, event: Event) -> None:
        self._untold.extend((run, event) for run in self._waiting)
        self._waiting.clear()

    def _end_child(self, output: Path | None, cancelled: _Run | None = None) -> None:
        """Let a thread end the process tree, so that Slicer does not wait."""
        child, self._child = self._child, None
        if child is not None:
            self._ending.append(_Ending(child, child.end(output), cancelled))
            self._keep_polling()
        self._set_state(WorkerState.STOPPED)

    def _tree_ended(self, child: WorkerChild) -> None:
        for ending in [ending for ending in self._ending if ending.child is child]:
            self._ending.remove(ending)
            if ending.cancelled is not None:
                self._untold.append((ending.cancelled, {"event": "cancelled"}))

    def _set_state(self, state: WorkerState) -> None:
        if state is not self._state:
            self._state = state
            if self._on_state is not None:
                self._on_state(state)

    def _keep_polling(self) -> None:
        if self._start_timer is not None and self._stop_timer is None:
            self._stop_timer = self._start_timer(POLL_INTERVAL_MS, self.poll)

    def _stop_polling(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer()
            self._stop_timer = None
