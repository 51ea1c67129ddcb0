"""Identify processes and check whether they are alive; process numbers and host names are used again."""

import contextlib
import functools
import hashlib
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import BinaryIO

ABANDONED_AFTER_S = 24 * 3600
"""Age at which the mark of a process counts as left over where the process cannot be asked (another computer or
container, Windows)."""
CLOCK_TOLERANCE_S = 2.0
"""Between the start of a process and the time stamp of the first file it made."""


def process_scope() -> str:
    """Return an ID of where process numbers mean the same: this boot and, on Linux, this container (PID namespace).

    Processes of one scope can check each other with `is_alive`. All others, also those of another container with the
    same host name, can only be judged by their last sign of life. 17 letters and digits.
    """
    return _scope(os.getpid())


@functools.lru_cache(maxsize=1)
def _scope(_pid: int) -> str:
    """Cache the ID per process number: children may have entered another namespace."""
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            parts += [boot, str(Path("/proc/self/ns/pid").readlink())]
        except (OSError, ValueError):  # without them it is unknown whether another process shares our numbers
            parts.append(secrets.token_hex(8))
    return "p" + hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:16]


def process_started(pid: int) -> str:
    """Return when a process of this scope began, in clock ticks since the computer did.

    It distinguishes a process from an earlier one with the same number. "" if unknown: not Linux, a hidden
    process of another user, or `/proc` of another namespace.
    """
    own = pid == os.getpid()
    try:
        if not own and str(Path("/proc/self").readlink()) != str(os.getpid()):
            return ""
        path = Path("/proc/self/stat" if own else f"/proc/{pid}/stat")
        return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_alive(pid: int, started: str | None = None, noted_at: float | None = None) -> bool:
    """Check whether a process of this scope is alive and is no younger one that got the same number.

    Args:
        pid: its number.
        started: its `process_started`, if that was noted with the number.
        noted_at: else when the number was noted, in seconds since 1970; a process that began later is another one.
    """
    if sys.platform == "win32":
        return _is_alive_on_windows(pid)
    try:
        with contextlib.suppress(PermissionError):  # alive, and another user's
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has a number beyond a C long
        return False
    if _is_zombie(pid):
        return False
    ticks = process_started(pid)
    if ticks == "":
        return True
    if started is not None:
        return ticks == started
    return noted_at is None or _since_1970(ticks) < noted_at + CLOCK_TOLERANCE_S


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only its number is left, as in containers where nobody asks for it."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "Z"
        )
    except (OSError, IndexError):
        return False


def _since_1970(ticks: str) -> float:
    since_boot = int(ticks) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def _is_alive_on_windows(pid: int) -> bool:
    """Ask for a handle: os.kill(pid, 0) would end the process on Windows."""
    import ctypes

    synchronize, access_denied, still_running = 0x00100000, 5, 0x102
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return ctypes.get_last_error() == access_denied  # type: ignore[attr-defined,unused-ignore]
    running = kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == still_running
    kernel.CloseHandle(ctypes.c_void_p(handle))
    return bool(running)


def take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take private copies of stdin and stdout: from now on prints go to stderr, and stdin is empty.

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
