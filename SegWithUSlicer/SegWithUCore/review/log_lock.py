"""One writer for a log: a lock file that tells who writes, and that a crash does not leave behind for good."""

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..whole_files import ABANDONED_AFTER_S

BETWEEN_MAKING_AND_FILLING_S = 0.2
"""A living process fills the lock file it has made within this time; an empty one is a crash's."""

ATTEMPTS = 20
"""To make a lock file that others make and remove at the same time."""


class LogInUseError(OutputError):
    """Another window or process writes this log."""


class LogLock:
    """The right to write a log, held from `take` to `release`."""

    def __init__(self, path: Path, handle: int) -> None:
        """For `take` only.

        Args:
            handle: of the lock file, kept open: Windows lets nobody remove the file of a living process.
        """
        self._path, self._handle = path, handle

    @classmethod
    def take(cls, path: Path) -> "LogLock":
        """Make the lock file `path`; one that a dead process left is taken over.

        Raises:
            LogInUseError: a living process holds it.
            OSError: the place cannot be written to.
        """
        for _attempt in range(ATTEMPTS):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                _remove_if_stale(path)
                continue
            try:
                os.write(handle, json.dumps(_owner(os.getpid())).encode())
            except OSError:
                os.close(handle)
                path.unlink()
                raise
            return cls(path, handle)
        raise _in_use(path, b"")

    def keep_alive(self) -> None:
        """Show other computers, which cannot ask for our process, that it lives."""
        with contextlib.suppress(OSError):  # who removed the lock or the disk is found out by writing the log itself
            os.utime(self._path)

    def release(self) -> None:
        """Let others write; removes the lock file if it is still ours."""
        os.close(self._handle)
        with contextlib.suppress(OSError):  # a disk that is gone: the lock is found stale when it is back
            if _parsed(self._path.read_bytes()) == _owner(os.getpid()):
                self._path.unlink()


def _remove_if_stale(path: Path) -> None:
    """Remove the lock file of a dead process.

    Raises:
        LogInUseError: its process lives.
    """
    try:
        seen = path.read_bytes()
        if not seen:
            time.sleep(BETWEEN_MAKING_AND_FILLING_S)
            seen = path.read_bytes()
        if _lives(path, seen):
            raise _in_use(path, seen)
        aside = path.with_name(f"{path.name}.{os.getpid()}.stale")
        path.rename(aside)
    except FileNotFoundError:
        return  # released, or taken over by another process, a moment ago: look again
    except PermissionError as error:
        if sys.platform == "win32":  # open in a living process
            raise _in_use(path, b"") from error
        raise
    if (moved := aside.read_bytes()) != seen:  # another process took over in between: give back what is its own
        aside.rename(path)
        raise _in_use(path, moved)
    aside.unlink()


def _lives(path: Path, content: bytes) -> bool:
    owner = _parsed(content)
    if owner is None:
        return False
    if owner["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime < ABANDONED_AFTER_S
    if sys.platform == "win32":
        return False  # asking may end the process there; removing the file tells
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return owner["started"] == _started(owner["pid"])


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        owner = json.loads(content)
    except ValueError:
        return None
    complete = isinstance(owner, dict) and isinstance(owner.get("pid"), int) and {"host", "started"} <= owner.keys()
    return owner if complete and owner["pid"] > 0 else None


def _owner(pid: int) -> dict[str, Any]:
    return {"pid": pid, "host": socket.gethostname(), "started": _started(pid)}


def _started(pid: int) -> str:
    """When a process began, in ticks since the computer did, so that a number used again is not mistaken for it.

    "" where the system (not Linux) does not tell without help; then a process of that number counts as the owner.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _in_use(path: Path, content: bytes) -> LogInUseError:
    owner = _parsed(content)
    who = f" by process {owner['pid']} on {owner['host']}" if owner else ""
    return LogInUseError(
        f"{path.name.removesuffix('.lock')} is being written{who}, so this reviewer has the case open already: close "
        f"that window or take another reviewer name; if it is long gone, delete {path}."
    )
