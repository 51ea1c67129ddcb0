"""Lock files: the one lock of this program, held by one writer at a time and released by the system when it ends.

The lock is the operating system's (`flock`, on Windows a locked byte), so that a crash, a kill or a power cut leaves no
lock behind: the next writer takes over a lock file that is not held. The file
names its holder for messages only. Two threads of a process exclude each other as two processes do, and so do
containers and, where the file system passes locks on (NFS 4, SMB), computers. Standard library only: Slicer's window
loads this before anything is installed.
"""

import contextlib
import errno
import os
import re
import socket
import stat
import sys
import time
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# A lock file has about 30.
MAXIMUM_BYTES = 400
# A process that removes leftovers holds the lock of a dead process for a moment.
WAIT_S = 0.2
# Time limit for a process to write its name into its lock file.
BEING_MADE_S = 60.0
_BETWEEN_S = 0.01
# On Windows, where others cannot read a locked byte: far behind the name of the holder.
_LOCKED_BYTE = 2**30
_OPENING = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class LockedError(Exception):
    """Another writer holds the lock.

    Attributes:
        path: the lock file.
        who: "process 12 on host", or "another process" where the file does not say.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.who = path, holder(path) or "another process"
        super().__init__(f"{path} is held by {self.who}")


class ProcessLock:
    """A lock file that the caller holds from `take` to `release`.

        lock = ProcessLock.take(folder / ".run.lock")
        ...
        lock.release()

    Attributes:
        path: the lock file.
        left_by: the holder before, who ended without releasing it; None where there was none.
    """

    def __init__(self, path: Path, handle: int, left_by: str | None = None) -> None:
        """Keep path and handle; called by `take` only."""
        self.path, self._handle, self.left_by = path, handle, left_by

    @classmethod
    def take(cls, path: Path, wait_s: float = WAIT_S) -> "ProcessLock":
        """Take the lock whose file is `path`.

        Args:
            wait_s: wait so long for its holder to release it.

        Raises:
            LockedError: another writer holds it.
            OSError: the place cannot be written to, or its file system has no locks.
        """
        end = time.monotonic() + wait_s
        while True:
            handle = _opened(path)
            is_ours = False
            try:
                if _is_locked_now(handle):
                    is_ours = _is_at(handle, path)
                    if is_ours:  # else the holder before us removed it: the next one makes a new file
                        left_by = holder(path)
                        with contextlib.suppress(OSError):  # a full disk: the name is for messages only
                            os.ftruncate(handle, 0)
                            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                        return cls(path, handle, left_by)
                    end = max(end, time.monotonic() + WAIT_S)
            except BaseException:
                if is_ours:  # a cancelled program leaves no lock file
                    with contextlib.suppress(OSError):
                        path.unlink()
                os.close(handle)
                raise
            os.close(handle)
            if time.monotonic() >= end:
                raise LockedError(path)
            time.sleep(_BETWEEN_S)

    @classmethod
    def take_if_possible(cls, path: Path) -> "ProcessLock | None":
        """Take a lock; None where the file system has no locks.

        Raises:
            LockedError: another writer holds it.
            OSError: the place cannot be written to.
        """
        try:
            return cls.take(path)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
                raise
            path.unlink(missing_ok=True)
            return None

    def release(self) -> None:
        """Let others have it; removes the lock file."""
        if sys.platform == "win32":  # an open file cannot be removed there, and one that another opened stays
            os.close(self._handle)
            with contextlib.suppress(OSError):
                self.path.unlink()
            return
        with contextlib.suppress(OSError):  # a disk that is gone
            if _is_at(self._handle, self.path):
                self.path.unlink()
        os.close(self._handle)


def remove_stale(path: Path) -> bool:
    """Remove an unheld lock file and return whether it is gone; keep one that is being created."""
    try:
        if holder(path) is None and time.time() - path.lstat().st_mtime < BEING_MADE_S:
            return False
        ProcessLock.take(path, wait_s=0).release()
    except (LockedError, OSError):
        return False
    return True


def _opened(path: Path) -> int:
    """Open or make a lock file.

    Raises:
        OSError: it cannot be written to, or is a pipe or device.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | _OPENING, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file, so it is not a lock of this program")
    return handle


def _is_locked_now(handle: int) -> bool:
    """Lock an open file, unless it is locked.

    Raises:
        OSError: its file system has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def holder(path: Path) -> str | None:
    """Read the holder of a lock; None if the file is incomplete."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _OPENING)) as file:
            found = re.fullmatch(rb"process [0-9]+ on [\x21-\x7e]+\n", file.read(MAXIMUM_BYTES))
    except OSError:
        return None
    return found[0].decode().strip() if found else None
