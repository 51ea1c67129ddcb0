"""Private temporary folders for patient data: removed in every outcome, and swept after a crash."""

import os
import re
import shutil
import stat
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

PREFIX = "segwithu-"
_NAME = re.compile(rf"{PREFIX}(\d+)-[A-Za-z0-9_]+")
_ATTEMPTS = 10
_PAUSE_S = 0.1
_live: set[Path] = set()


class PrivateFolder:
    """A folder that only this user can enter; its name says which process owns it and nothing about a patient.

    It is removed by `remove`, at the end of a `with` block, when the object is forgotten, and when Python ends.

        with PrivateFolder(temporary_root) as folder:
            write(folder / "image.nrrd")
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))  # mkdtemp makes it 0700
        _live.add(self.path)
        self._finalizer = weakref.finalize(self, _remove, self.path)

    def remove(self) -> bool:
        """Remove the folder; False when something still holds a file in it (the next sweep takes it)."""
        self._finalizer.detach()
        return _remove(self.path)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def sweep(root: Path) -> list[Path]:
    """Remove the folders of processes that ended without removing them; returns what was removed.

    Folders of living processes and of other users are left alone, and links are not followed.
    """
    return [path for path in _leftovers(root) if _remove(path)]


def _leftovers(root: Path) -> Iterator[Path]:
    for path in sorted(root.glob(f"{PREFIX}*")) if root.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match is None or path in _live:
            continue
        try:
            facts = path.lstat()
        except FileNotFoundError:
            continue  # another Slicer sweeps at the same time
        if not stat.S_ISDIR(facts.st_mode) or (sys.platform != "win32" and facts.st_uid != os.getuid()):
            continue
        if not _owner_lives(int(match.group(1)), facts.st_mtime):
            yield path


def _owner_lives(pid: int, changed: float) -> bool:
    """Whether the process that made a folder, last changed at `changed` (seconds since 1970), still lives."""
    if pid == os.getpid():
        return False  # an earlier process had our number: what is ours is in _live
    if sys.platform == "win32":
        return _lives_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    begun = _begun(pid)
    return begun is None or begun < changed + 2  # else the number went to a younger process


def _begun(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None where the system does not tell (macOS)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _lives_on_windows(pid: int) -> bool:
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


def _remove(path: Path) -> bool:
    """Remove a folder of ours; on Windows a worker that was just ended may hold its files for a moment."""
    for attempt in range(_ATTEMPTS):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            _live.discard(path)
            return True
        _make_writable(path)
        if attempt:
            time.sleep(_PAUSE_S)
    _live.discard(path)
    return False


def _make_writable(path: Path) -> None:
    """Files and folders that were made read-only cannot be removed."""
    for folder, _folders, files in os.walk(path):
        for entry in (Path(folder), *(Path(folder) / name for name in files)):
            if not entry.is_symlink():
                entry.chmod(stat.S_IRWXU)
