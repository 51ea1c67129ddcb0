"""Which process a name on disk means: numbers and host names are used again, by restarts and by containers."""

import contextlib
import functools
import hashlib
import os
import secrets
import socket
import sys
from pathlib import Path


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
