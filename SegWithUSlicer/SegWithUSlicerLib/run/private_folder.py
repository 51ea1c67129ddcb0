"""Private temporary folders for patient data: removed in every outcome, after a crash at the next start."""

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import weakref
from pathlib import Path

from SegWithUCore.util.process_lock import ProcessLock, remove_stale

PREFIX = "segwithu-"
_NAME = re.compile(rf"{PREFIX}\d+-[A-Za-z0-9_]+")
_ATTEMPTS = 10
_PAUSE_S = 0.1
_LOCK_FILE = ".lock"
"""In each folder: its process holds it, so that folders without a living process are known."""
_UNLOCKED_S = 24 * 3600
"""Age of a folder without a lock that counts as left over."""
_live: dict[Path, ProcessLock | None] = {}


class PrivateFolder:
    """A folder that only this user can enter; its name has the owning process and nothing about a patient.

    It is removed by `remove`, when the object is forgotten, and when Python ends.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))  # mkdtemp makes it 0700
        _live[self.path] = None
        with contextlib.suppress(OSError):  # a file system without locks
            _live[self.path] = ProcessLock.take(self.path / _LOCK_FILE)
        self._finalizer = weakref.finalize(self, _remove, self.path)

    def remove(self) -> bool:
        """Remove the folder; False when something still holds a file in it (the next start removes it)."""
        self._finalizer.detach()
        return _remove(self.path)


def remove_leftovers(root: Path) -> list[Path]:
    """Remove the folders of processes that ended without removing them; returns what was removed.

    Folders of living processes and of other users are left alone, and links are not followed.
    """
    removed = []
    for path in sorted(root.glob(f"{PREFIX}*")) if root.is_dir() else []:
        if _NAME.fullmatch(path.name) is None or path in _live:
            continue
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # another Slicer removes it at the same time
        if not stat.S_ISDIR(status.st_mode) or (sys.platform != "win32" and status.st_uid != os.getuid()):
            continue
        lock = path / _LOCK_FILE
        is_left_over = remove_stale(lock) if lock.exists() else time.time() - status.st_mtime > _UNLOCKED_S
        if is_left_over and _remove(path):
            removed.append(path)
    return removed


def _remove(path: Path) -> bool:
    """Remove a folder of ours; on Windows a worker that was just ended may hold its files for a moment."""
    lock = _live.pop(path, None)
    if lock is not None:
        lock.release()
    for attempt in range(_ATTEMPTS):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return True
        _make_writable(path)
        if attempt:
            time.sleep(_PAUSE_S)
    return False


def _make_writable(path: Path) -> None:
    """Make a folder's content writable: read-only files and folders cannot be removed."""
    for folder, _folders, files in os.walk(path):
        for entry in (Path(folder), *(Path(folder) / name for name in files)):
            if not entry.is_symlink():
                entry.chmod(stat.S_IRWXU)
