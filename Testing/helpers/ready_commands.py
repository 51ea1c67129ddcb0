"""Processes of the command that start at once: a process that has torch imported already forks for each.

Run as a program it is that process: it reads JSON lines ({"arguments": [...], "log": FILE} or {"wait": PID}) and
answers with JSON lines. The forked processes are real ones; they can be killed like any other.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Run:
    """A run of the command in a process of its own.

    Attributes:
        pid: of the process.
        log: what it printed, stdout and stderr together.
    """

    pid: int
    log: Path
    owner: "ReadyCommands"

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def saw(self, words: str, within_s: float = 300.0) -> bool:
        """Wait until it has printed `words`; false where it ended without."""
        deadline = time.monotonic() + within_s
        while words not in self.text:
            if time.monotonic() > deadline:
                pytest.fail(f"'{words}' was not printed within {within_s} s: {self.text}")
            if self.ended:
                return words in self.text
            time.sleep(0.003)
        return True

    @property
    def ended(self) -> bool:
        """Whether it ended by itself; it is still there for `wait`."""
        state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return state[0] == "Z"

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; returns the exit code, or minus the signal that killed it."""
        return int(self.owner.ask({"wait": self.pid})["code"])


class ReadyCommands:
    """Starts runs of the command that need no time for imports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *arguments: str | Path, log: Path) -> Run:
        """Start `segwithu ARGUMENTS...`."""
        log.unlink(missing_ok=True)
        answer = self.ask({"arguments": [str(argument) for argument in arguments], "log": str(log)})
        return Run(int(answer["pid"]), log, self)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a line and read the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process that forks."""
        self._process.kill()  # it holds nothing, and the interpreter's own end would take seconds
        self._process.communicate()


def _forked(arguments: list[str], log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (handle, 1), (handle, 2)):
            os.dup2(old, new)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from SegWithUCore.cli.__main__ import main

        code = main(arguments)
    finally:
        os._exit(code)


def serve() -> None:
    """Answer until stdin closes."""
    import jsonschema  # noqa: F401 - this and what follows is imported so that forked processes need not (8 s each)
    import torch

    import SegWithUCore.cli.__main__
    import SegWithUCore.cli.segment
    import SegWithUCore.cohort.one_case
    import SegWithUCore.cohort.workers
    import SegWithUCore.inference.engines.torch_engine
    import SegWithUCore.models.bundle_network  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])}
        else:
            answer = {"pid": _forked(question["arguments"], question["log"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
