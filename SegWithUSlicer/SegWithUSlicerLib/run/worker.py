"""The worker as Slicer's own process sees it: started when needed, one request at a time, ended as a whole tree."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..guarded import details_of, reason_of, show_in_console
from ..i18n import _
from ..scene.readout import for_panel
from .child_process import ChildProcess, Event, PolledProcess, StartTimer
from .launch import WorkerStart, WorkerStartError, end_reason, worker_start

OnEvent = Callable[[Event], None]
CRASH_LINES = 12
FINAL_EVENTS = frozenset({"result", "error", "checked", "saved", "cancelled"})


class WorkerState(Enum):
    """State of the worker."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"


@dataclass(frozen=True)
class _Run:
    """A request on its way, and its listener."""

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
    """A worker whose process tree is being ended, and the cancelled run to be notified."""

    child: ChildProcess
    thread: threading.Thread
    cancelled: _Run | None


class WorkerProcess(PolledProcess):
    """Starts the worker when needed and sends it requests, from the main thread.

    Args:
        start_timer: see StartTimer; None if the caller polls by itself.
        start: returns how to start it, default `worker_start`; called at every start.

    Every request gets progress events and then exactly one of FINAL_EVENTS, always out of `poll`. Besides the
    worker's own kinds of error ("input", "output", "usage", "memory", "missing", "unexpected") there are "crashed"
    and "start".
    """

    def __init__(self, start_timer: StartTimer | None = None, start: Callable[[], WorkerStart] = worker_start) -> None:
        super().__init__(start_timer)
        self._start = start
        self.state = WorkerState.STOPPED
        """Where the worker is now."""
        self._waiting: deque[_Run] = deque()
        self._running: _Run | None = None
        self._unreported: deque[tuple[_Run, Event]] = deque()
        self._ending: list[_Ending] = []
        self._last_id = 0

    def submit(self, request: Mapping[str, Any], on_event: OnEvent) -> int:
        """Ask for something; starts the worker if needed. Requests are done in order.

        Args:
            request: with "request" and its fields (ARCHITECTURE.md, "Worker"); the id is added.
            on_event: called from `poll` with each event.

        Returns:
            The run's number, for `cancel`.
        """
        self._last_id += 1
        self._waiting.append(_Run(self._last_id, request, on_event))
        self._keep_polling()
        self._send_next()
        return self._last_id

    def cancel(self, run_id: int) -> None:
        """Cancel a run: its only further event is "cancelled", when no process works on it.

        Returns at once; the worker's process tree is gone within two seconds. Requests behind it are still done.
        """
        for run in [run for run in self._waiting if run.id == run_id]:
            self._waiting.remove(run)
            self._unreported.append((run, {"event": "cancelled"}))
        if self._running is not None and self._running.id == run_id:
            self._end_child(cancelled=True)

    def cancel_all(self) -> None:
        """Cancel all requests."""
        for run in [*self._waiting, *([self._running] if self._running else [])]:
            self.cancel(run.id)

    def will_answer(self, run_id: int | None) -> bool:
        """Check whether an event of this request is still to come; None: of any request."""
        runs = [*self._waiting, *(run for run, _event in self._unreported)]
        runs += [self._running] if self._running else []
        runs += [ending.cancelled for ending in self._ending if ending.cancelled is not None]
        return bool(runs) if run_id is None else any(run.id == run_id for run in runs)

    def restart(self) -> None:
        """End the worker; the next one sees what was installed meanwhile. The running request is repeated."""
        run = self._end_child()
        if run is not None:
            self._waiting.appendleft(run)

    def stop(self) -> None:
        """End everything now and wait for it (at most about two seconds): for quitting and reloading."""
        self._waiting.clear()
        self._unreported.clear()
        if self._child is not None and self._running is None:
            self._child.ask_to_quit()
        self._end_child()
        for ending in self._ending:
            ending.thread.join()
        self._ending.clear()
        self._stop_polling()

    def _after_poll(self) -> None:
        self._send_next()
        while self._unreported:
            run, event = self._unreported.popleft()
            run.on_event({**event, "id": run.id})
        if self._child is None and not (self._ending or self._waiting or self._unreported):
            self._stop_polling()

    def _on_started(self) -> None:
        self.state = WorkerState.READY

    def _on_event(self, event: Event) -> None:
        run = self._running
        if run is None or event.get("id") != run.id:
            return
        if event.get("event") in FINAL_EVENTS:
            self._running = None
            self.state = WorkerState.READY
        run.on_event({**event, "text": for_panel(str(event["text"]))} if event.get("text") else event)

    def _send_next(self) -> None:
        """Send the next request, or start the worker for it."""
        if not self._waiting or self._running is not None:
            return
        if self._child is None:
            self._start_worker()
        elif self.state is WorkerState.READY and not self._child.leaving:
            run = self._running = self._waiting.popleft()
            self.state = WorkerState.BUSY
            try:
                self._child.send({**run.request, "id": run.id})
            except Exception as error:  # noqa: BLE001 - what cannot be written as JSON would never be answered
                self._running = None
                self.state = WorkerState.READY
                self._unreported.append((run, _unexpected(error)))

    def _start_worker(self) -> None:
        try:
            self._start_child(self._start())
        except WorkerStartError as error:
            self._fail_waiting({"event": "error", "kind": "start", "text": str(error), "details": None})
        except Exception as error:  # noqa: BLE001 - tried again at every poll, it would fail for ever
            self._fail_waiting(_unexpected(error))
        else:
            self.state = WorkerState.STARTING

    def _on_ended(self, child: ChildProcess, code: int | None) -> None:
        """Report a crash, or accept the end after idle minutes; the next request starts a new worker."""
        reason = end_reason(code)
        self._log.append(f"worker {child.pid} ended: {'idle' if child.leaving else reason}")
        run, self._running = self._running, None
        self._child = None
        self.state = WorkerState.STOPPED
        child.remove_half_written(run.output if run else None)
        details = "\n".join(list(self._log)[-CRASH_LINES:])
        if child.leaving:
            self._waiting.extendleft([run] if run else [])  # it was sent while the worker was already on its way out
        elif run is not None:
            text = _("The segmentation process ended ({reason}): press Apply again.")
            text = text.format(reason=reason)
            self._unreported.append((run, {"event": "error", "kind": "crashed", "text": text, "details": details}))
        elif child.pid is None:
            text = _("The segmentation process did not start ({reason}): copy the diagnostics and report it.")
            text = text.format(reason=reason)
            self._fail_waiting({"event": "error", "kind": "start", "text": text, "details": details})

    def _fail_waiting(self, event: Event) -> None:
        self._unreported.extend((run, event) for run in self._waiting)
        self._waiting.clear()

    def _end_child(self, cancelled: bool = False) -> _Run | None:
        """Let a thread end the process tree, so that Slicer does not wait; returns what it was working on."""
        child, self._child = self._child, None
        run, self._running = self._running, None
        if child is not None:
            thread = child.end(run.output if run else None)
            self._ending.append(_Ending(child, thread, run if cancelled else None))
            self._keep_polling()
        self.state = WorkerState.STOPPED
        return run

    def _on_tree_ended(self, child: ChildProcess) -> None:
        for ending in [ending for ending in self._ending if ending.child is child]:
            self._ending.remove(ending)
            if ending.cancelled is not None:
                self._unreported.append((ending.cancelled, {"event": "cancelled"}))


def _unexpected(error: Exception) -> Event:
    show_in_console(error)
    text = _("The segmentation process cannot be used ({reason}): copy the diagnostics and report it.")
    text = text.format(reason=reason_of(error))
    return {"event": "error", "kind": "unexpected", "text": text, "details": details_of(error)}
