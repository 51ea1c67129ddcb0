"""The command as another process that waits at a chosen place until the test lets it go on: two processes meet."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segwithu_command import PATIENCE_S, Outcome, finished

_HELD = """
import importlib, sys
from SegWithUCore.cli.__main__ import main
place, name = sys.argv[1].rsplit(".", 1)
owner = importlib.import_module(place)
goes_on = getattr(owner, name)
def held(*arguments, **options):
    print("held", file=sys.stderr, flush=True)
    sys.stdin.readline()
    return goes_on(*arguments, **options)
setattr(owner, name, held)
sys.exit(main(sys.argv[2:]))
"""


class HeldCommand:
    """A running command that has come to the place where it waits."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def go_on(self) -> Outcome:
        """Let it go on to its end; returns what it left."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return finished(self.process, PATIENCE_S)

    def end(self, number: int) -> Outcome:
        """End it by a signal while it waits."""
        self.process.send_signal(number)
        return finished(self.process, PATIENCE_S)


@contextmanager
def held_command(place: str, *arguments: str | Path) -> Iterator[HeldCommand]:
    """Start `segwithu ARGUMENTS...`, which waits where it calls the function at `place` ("package.module.name")."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HELD, place, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        while not said.endswith("held\n"):
            line = process.stderr.readline()
            assert line, f"it ended before it came to {place}: {said}"
            said += line
        yield HeldCommand(process)
    finally:
        process.kill()
        process.wait()
