"""Lock files: one process at a time, with the owner's identity, so that a lock left by a crash is taken over."""

import contextlib
import errno
import json
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from .processes import ABANDONED_AFTER_S, is_alive, process_scope, process_started

BETWEEN_MAKING_AND_FILLING_S = 0.2
"""A living process fills the lock file it has made within this time; an empty one is a crash's."""

MAXIMUM_BYTES = 4096
"""Of a lock file; ours have about 120."""

ATTEMPTS = 20
"""To make a lock file that others make and remove at the same time."""


class LockedError(Exception):
    """A living process holds the lock.

    Attributes:
        who: "process 12 on host", or "another process" if the lock names none.
        on_this_computer: whether its life could be asked for; that of processes of other computers and containers can
            only be guessed.
        silent_s: seconds since its last sign of life.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        owner = _parsed(content)
        self.who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
        self.on_this_computer = owner is None or _can_be_asked(owner)
        self.silent_s = _silent_s(path)
        super().__init__(f"{path} is held by {self.who}")


class ProcessLock:
    """A lock file that this process holds from `take` to `release`."""

    def __init__(self, path: Path, handle: int) -> None:
        """Keep path and handle; called by `take` only.

        Args:
            handle: of the lock file, kept open: Windows lets nobody remove the file of a living process.
        """
        self._path, self._handle = path, handle

    @classmethod
    def take(cls, path: Path, abandoned_after_s: float = ABANDONED_AFTER_S) -> "ProcessLock":
        """Make the lock file `path`; one that a dead process left is taken over.

        Args:
            abandoned_after_s: a process of another computer counts as dead when it gave no sign of life for so long.

        Raises:
            LockedError: a living process holds it.
            OSError: the folder cannot be written to.
        """
        for _attempt in range(ATTEMPTS):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                remove_stale(path, abandoned_after_s)
                continue
            try:
                os.write(handle, json.dumps(_owner(os.getpid())).encode())
                if not _is_ours(path):  # so slow to fill it that another process took it for a crash's
                    os.close(handle)
                    continue
            except BaseException:
                os.close(handle)
                path.unlink(missing_ok=True)
                raise
            return cls(path, handle)
        raise LockedError(path, b"")

    @property
    def path(self) -> Path:
        """The lock file."""
        return self._path

    @property
    def is_held(self) -> bool:
        """Whether the lock file is still this process's: nobody took it over, and nobody removed it."""
        try:
            return _is_ours(self._path)
        except OSError:  # a disk that is gone for the moment: the work itself finds out
            return True

    def keep_alive(self) -> None:
        """Show other computers, which cannot ask for our process, that it lives."""
        with contextlib.suppress(OSError):  # who removed the lock or the disk is found out by the work itself
            os.utime(self._path)

    def release(self) -> None:
        """Let others have it; removes the lock file if it is still ours."""
        os.close(self._handle)
        with contextlib.suppress(OSError):  # a disk that is gone: the lock is found stale when it is back
            if _is_ours(self._path):
                self._path.unlink()


def _is_ours(path: Path) -> bool:
    try:
        return _parsed(_content(path)) == _owner(os.getpid())
    except FileNotFoundError:
        return False


def _content(path: Path) -> bytes:
    """Read the beginning of a lock file.

    Raises:
        OSError: it cannot be read, or is a pipe or device, which would block or never end.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file, so no lock of ours")
    with path.open("rb") as file:
        return file.read(MAXIMUM_BYTES)


def remove_stale(path: Path, abandoned_after_s: float = ABANDONED_AFTER_S) -> None:
    """Remove the lock file of a dead process; nothing if there is none.

    Args:
        abandoned_after_s: as in `ProcessLock.take`.

    Raises:
        LockedError: its process lives.
        OSError: it cannot be read or removed.
    """
    try:
        seen = _content(path)
        if not seen:
            time.sleep(BETWEEN_MAKING_AND_FILLING_S)
            seen = _content(path)
        if _lives(path, seen, abandoned_after_s):
            raise LockedError(path, seen)
        aside = path.with_name(f"{path.name}.{os.getpid()}.stale")
        path.rename(aside)
    except FileNotFoundError:
        return  # released, or taken over by another process, a moment ago: look again
    except PermissionError as error:
        if sys.platform == "win32":  # open in a living process
            raise LockedError(path, b"") from error
        raise
    if (moved := _content(aside)) != seen:  # another process took over in between: give back what is its own
        aside.rename(path)
        raise LockedError(path, moved)
    aside.unlink()


def _silent_s(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0


def _lives(path: Path, content: bytes, abandoned_after_s: float) -> bool:
    owner = _parsed(content)
    if owner is None:
        return False
    if not _can_be_asked(owner):
        return time.time() - path.stat().st_mtime < abandoned_after_s
    if sys.platform == "win32":
        return False  # there the attempt to remove the file decides: a handle is open while the owner lives
    return is_alive(owner["pid"], owner["started"])


def _can_be_asked(owner: dict[str, Any]) -> bool:
    """Check whether the owner's process number is one of ours."""
    return owner["host"] == socket.gethostname() and owner["scope"] == process_scope()


def _parsed(content: bytes) -> dict[str, Any] | None:
    """Parse the owner that a lock file names. Returns None if it names none, as after a crash."""
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(owner, dict) or type(owner.get("pid")) is not int or owner["pid"] <= 0:
        return None
    return owner if all(isinstance(owner.get(key), str) for key in ("host", "scope", "started")) else None


def _owner(pid: int) -> dict[str, Any]:
    return {"pid": pid, "host": socket.gethostname(), "scope": process_scope(), "started": process_started(pid)}
