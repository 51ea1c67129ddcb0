"""A worker without an engine, for the tests of Slicer's side: it says what a test wants to hear.

Run as a script: reads requests, answers "echo", and for the others hangs, dies or prints as their names say.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(99)
"""


def say(**event: Any) -> None:
    """Send one event."""
    sys.stdout.buffer.write(json.dumps(event, ensure_ascii=False).encode("utf-8") + b"\n")
    sys.stdout.buffer.flush()


def hang() -> None:
    """Compute for ever."""
    while True:
        time.sleep(0.05)


def answer(request: dict[str, Any]) -> None:
    """Do what a request says."""
    identity, kind = request["id"], request["request"]
    if kind == "echo":
        say(event="result", id=identity, text=request.get("text"), pid=os.getpid())
        return
    if kind == "leave":
        say(event="result", id=identity)
        say(event="leaving", reason="idle")
        sys.exit(0)
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
    say(event="progress", id=identity, stage="segmenting", fraction=0.5, detail="", seconds_left=None)
    if kind == "fail":
        print("last words: außer Kontrolle", file=sys.stderr, flush=True)
        os._exit(3)
    if kind == "late":
        say(event="result", id=identity)
    hang()


def main() -> None:
    """Begin as the real worker does."""
    if sys.argv[1:] == ["broken"]:
        print("No module named SegWithUCore", file=sys.stderr)
        sys.exit(1)
    say(event="started", pid=os.getpid(), protocol=1, versions={"torch": "2.9"})
    for line in sys.stdin.buffer:
        answer(json.loads(line))


if __name__ == "__main__":
    main()
