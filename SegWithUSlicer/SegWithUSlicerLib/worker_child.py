"""One life of the worker: its process, its pipes and the threads that read them."""

import json
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SegWithUCore.errors import InputError
from SegWithUCore.strict_json import parse_json
from SegWithUCore.worker.protocol import remove_half_written

from .run.launch import end_process_tree
from .worker_start import WorkerStart

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
