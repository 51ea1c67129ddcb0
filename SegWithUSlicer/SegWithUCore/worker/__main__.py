"""Run the warm child process behind Slicer: `python -m SegWithUCore.worker` (ARCHITECTURE.md, "Worker").

Requests come as JSON lines on stdin and are done one after the other; events leave as JSON lines. torch is imported
at the first request that needs it, so that the process id is known at once. When stdin closes, the parent is gone:
the process ends at once, whatever it is computing, and takes its half-written output along.
"""

import argparse
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..util.errors import EngineMissingError, InputError, OutputError, SegWithUError, UsageError
from ..util.interruption import end_now
from ..util.memory import NotEnoughMemoryError, give_back_freed_memory, keep_freed_memory
from ..util.processor import usable_cores, use_threads
from ..util.progress import Progress, TimeLeft
from ..util.strict_json import parse_json
from ..version import __version__
from .check import check, installed_versions
from .protocol import PROTOCOL, Channel, Request, open_channel

if TYPE_CHECKING:
    from .jobs import JobRunner

# More events a second than a person can see would only keep the parent busy.
PROGRESS_INTERVAL_S = 0.1
ENDING = {signal.SIGTERM, signal.SIGINT}


class Worker:
    """Handles the requests of one parent process.

    Args:
        channel: where requests come from and events go to.
        idle_s: leave after so many seconds without a request; None stays.
    """

    def __init__(self, channel: Channel, idle_s: float | None = None) -> None:
        self._channel = channel
        self._idle_s = idle_s
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._jobs: JobRunner | None = None

    def run(self) -> int:
        """Work until asked to quit, idle for too long, or left by the parent."""
        versions = {"segwithu": __version__, "python": platform.python_version(), **installed_versions()}
        self._send({"event": "started", "pid": os.getpid(), "protocol": PROTOCOL, "versions": versions})
        threading.Thread(target=self._listen, name="requests", daemon=True).start()
        while True:
            try:
                line = self._lines.get(timeout=self._idle_s)
            except queue.Empty:
                self._send({"event": "leaving", "reason": "idle"})
                return 0
            if not self._answer(line):
                return 0

    def _listen(self) -> None:
        for line in self._channel.lines():
            self._lines.put(line)
        end_now(0)

    def _answer(self, line: bytes) -> bool:
        """Do one request; False ends the worker. Whatever goes wrong becomes one event, and the worker stays."""
        identity: Any = None
        try:
            data = parse_json(line, "A request", "send one object a line")
            identity = data.get("id") if isinstance(data, dict) else None
            request = Request.of(data)
            if request.request == "quit":
                return False
            self._send({**self._done(request, identity), "id": identity})
        except Exception as error:  # noqa: BLE001 - the last resort of a process that has to stay usable
            self._send({"event": "error", "id": identity, **failure(error)})
        finally:
            give_back_freed_memory()  # a warm worker waits for minutes, and the memory is Slicer's meanwhile
        return True

    def _done(self, request: Request, identity: Any) -> dict[str, Any]:
        if request.request == "check":
            return {"event": "checked", **check(request)}
        if request.request not in ("segment", "save"):
            raise UsageError(f"There is no request '{request.request}': parent and worker are of different versions.")
        report = self._reporter(identity)
        if self._jobs is None:
            report("starting the engine", 0.0)
            from .jobs import JobRunner

            self._jobs = JobRunner()
        return self._jobs.answer(request, report)

    def _reporter(self, identity: Any) -> Progress:
        left = TimeLeft()
        last_stage, last_time = "", 0.0

        def report(stage: str, fraction: float, detail: str = "") -> None:
            nonlocal last_stage, last_time
            now, seconds_left = time.monotonic(), left.seconds(fraction)
            if stage == last_stage and now - last_time < PROGRESS_INTERVAL_S and fraction < 1:
                return
            last_stage, last_time = stage, now
            event = {"event": "progress", "id": identity, "stage": stage, "fraction": round(fraction, 4)}
            self._send({**event, "detail": detail, "seconds_left": seconds_left})

        return report

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self._channel.send(event)
        except OSError:  # the parent has ended
            end_now(0)


_KINDS: dict[type[Exception], str] = {InputError: "input", OutputError: "output", UsageError: "usage"}


def failure(error: Exception) -> dict[str, Any]:
    """Return kind, sentence and details of an error; details only if it is a bug of ours."""
    details = None if isinstance(error, SegWithUError) else traceback.format_exc()
    more: dict[str, Any] = {}
    words = str(error).lower()
    # torch on the CPU and ITK only say it in words.
    out_of_memory = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or ("memory" in words and "alloc" in words))
    )
    if isinstance(error, NotEnoughMemoryError):  # of a file that Slicer made for the run: its name says nothing
        kind, text = "memory", error.message
    elif isinstance(error, EngineMissingError):
        kind = "missing"
        text = f"{error.problem}: press Apply to install what is missing, or choose another engine under Advanced."
    elif isinstance(error, SegWithUError):
        kind = next((kind for type_, kind in _KINDS.items() if isinstance(error, type_)), "unexpected")
        # A refusal that the user may overrule names no option of the command line.
        text, found = getattr(error, "refused_message", str(error)), getattr(error, "found", ())
        more = {"refused": bool(found), "warnings": [each.to_json() for each in found]}
    elif out_of_memory:
        kind = "memory"
        text = "There is not enough memory for this: close other programs, or give a smaller image or region."
    elif isinstance(error, ImportError):
        name = error.name or "A package"
        kind, text = "missing", f"{name} cannot be imported ({error}): install what the engine needs, then try again."
    else:
        kind, text = "unexpected", f"Unexpected {type(error).__name__}: {error} (copy the diagnostics and report it)."
    return {"kind": kind, "text": " ".join(text.split()), "details": details, **more}


def _leave_on_terminate() -> None:
    """End at once on SIGTERM and Ctrl-C: Python's handlers would wait for the end of the running torch operation."""
    if sys.platform == "win32":
        return  # there, a process is ended without a signal
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # inherited by all threads started from here on
    threading.Thread(target=lambda: end_now(128 + signal.sigwait(ENDING)), name="terminate", daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker on this process's stdin and stdout."""
    parser = argparse.ArgumentParser(prog="python -m SegWithUCore.worker", description="The engine behind Slicer.")
    parser.add_argument("--idle-minutes", type=float, metavar="N", help="leave after N minutes without a request")
    options = parser.parse_args(arguments)
    idle_s = None if options.idle_minutes is None else options.idle_minutes * 60
    cores = usable_cores()
    use_threads(cores - 1 if cores > 2 else cores)  # the user works meanwhile
    keep_freed_memory()
    worker = Worker(open_channel(), idle_s)
    _leave_on_terminate()
    code = worker.run()
    sys.stdout.flush()
    sys.stderr.flush()
    end_now(code)  # Python's own way out would wait for the thread that still reads


if __name__ == "__main__":
    sys.exit(main())
