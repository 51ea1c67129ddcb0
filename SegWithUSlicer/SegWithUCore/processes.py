"""Which process a name on disk means: numbers and host names are used again, by restarts and by containers."""

import contextlib
import functools
import hashlib
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import BinaryIO


def process_scope() -> str:
    """Where process numbers mean the same: this boot of this computer and, on Linux, this container (PID namespace).

    Processes with one scope can ask whether the other lives; all others, also those of another container with the
    same host name, can only be judged by their last sign of life. Letters and digits, 17 of them.
    """
    return _scope(os.getpid())


@functools.lru_cache(maxsize=1)
def _scope(_pid: int) -> str:
    """Kept for a process, and asked anew by its children, which may have entered another namespace."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            parts += [boot, str(Path("/proc/self/ns/pid").readlink())]
        except (OSError, ValueError):  # without them nobody can tell whether another process shares our numbers
            parts.append(secrets.token_hex(8))
    return "p" + hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:16]


def process_started(pid: int) -> str:
    """When a process of this scope began, in ticks since the computer did, so that a number used again is noticed.

    "" where the system does not tell: not Linux, a process of others that is hidden, or `/proc` of another namespace.
    """
    own = pid == os.getpid()
    try:
        if not own and str(Path("/proc/self").readlink()) != str(os.getpid()):
            return ""
        place = Path("/proc/self/stat" if own else f"/proc/{pid}/stat")
        return place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def process_lives(pid: int, started: str) -> bool:
    """Whether a process of this scope lives that began at `started`; not for Windows, where asking may end it."""
    try:
        with contextlib.suppress(PermissionError):  # it lives, and is another user's
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has a number beyond a C long
        return False
    return process_started(pid) in ("", started)


def take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of stdin and stdout: from now on prints go to stderr, and stdin is empty.

    Windows also needs stdin out of the way: a thread that waits on it blocks the loading of some DLLs (numpy, scipy).

    Returns:
        What was stdin, to read from, and what was stdout, to write to.
    """
    sys.stdout.flush()
    reader, writer = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a log is of use while things happen
    return os.fdopen(reader, "rb"), os.fdopen(writer, "wb")
