"""What the worker processes of one parent share: memory, graphics cards, and who is who.

Workers of one parent (this program with its local cluster, or one job of a batch system) have one computer, or one
job's part of it, between them. They meet in a private folder of the computer's temporary folder; what a dead worker
left there is taken over or ignored.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..util.memory import available_bytes, in_words
from ..util.process_lock import LockedError, ProcessLock
from ..util.processes import is_alive, process_scope, process_started
from ..util.progress import Progress

LOOK_AGAIN_S = 0.1
_MOST_SEATS = 4096


class Siblings:
    """The workers of this process's parent."""

    def __init__(self, folder: Path | None = None) -> None:
        """Meet the others.

        Args:
            folder: where; by default one that all children of the parent find.
        """
        self._folder = meeting_folder(os.getppid()) if folder is None else folder
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._seat: ProcessLock | None = None

    def seat(self) -> int:
        """Take the first free number from 0 on, for the life of this process."""
        for number in range(_MOST_SEATS):
            with contextlib.suppress(LockedError):
                self._seat = ProcessLock.take(self._folder / f"seat-{number}.lock")
                return number
        return 0

    @contextlib.contextmanager
    def room(self, needed: float | None, progress: Progress) -> Iterator[None]:
        """Wait until a case that needs so many bytes more than the idle workers hold fits beside the others' cases.

        A case that nobody is beside begins in any case: whether it fits at all, its own check decides.

        Args:
            needed: None if nothing is known.
            progress: told that it waits.
        """
        if needed is None:
            yield
            return
        own = self._folder / f"room-{os.getpid()}-{process_started(os.getpid())}-{int(needed)}"
        while not self._reserve(own, needed):
            progress("waiting for memory", 0.0, f"needs {in_words(needed)}")
            time.sleep(LOOK_AGAIN_S)
        try:
            yield
        finally:
            own.unlink(missing_ok=True)

    @contextlib.contextmanager
    def turn(self, device: int, progress: Progress) -> Iterator[None]:
        """Wait until no other worker computes a case on graphics card number `device`."""
        while True:
            try:
                lock = ProcessLock.take(self._folder / f"device-{device}.lock")
                break
            except LockedError:
                progress("waiting for the graphics card", 0.0)
                time.sleep(LOOK_AGAIN_S)
        try:
            yield
        finally:
            lock.release()

    def _reserve(self, own: Path, needed: float) -> bool:
        """Reserve memory if there is enough besides what living siblings have reserved."""
        with self._locked():
            others = self._reserved()
            budget = self._folder / "budget"
            if not others:
                budget.write_text(str(available_bytes() or 0), encoding="ascii")
            total = float(budget.read_text(encoding="ascii") or 0)
            if others and total and sum(others) + needed > total:
                return False
            own.touch()
            return True

    def _reserved(self) -> list[float]:
        found = []
        for path in self._folder.glob("room-*-*-*"):
            _, pid, started, needed = path.name.split("-")
            if is_alive(int(pid), started or None):
                found.append(float(needed))
            else:
                path.unlink(missing_ok=True)
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        while True:
            with contextlib.suppress(LockedError):
                lock = ProcessLock.take(self._folder / "room.lock")
                break
            time.sleep(0.005)
        try:
            yield
        finally:
            lock.release()


def meeting_folder(parent: int) -> Path:
    """Return where the children of a process meet; folders of dead parents are removed."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    top = Path(tempfile.gettempdir()) / f"segwithu-workers-{user}"
    top.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and (top.is_symlink() or top.lstat().st_uid != os.getuid()):  # another user's trap
        return Path(tempfile.mkdtemp(prefix="segwithu-workers-"))
    for old in top.iterdir():
        with contextlib.suppress(ValueError):
            scope, pid, started = old.name.split("-")
            if scope == process_scope() and not is_alive(int(pid), started or None):
                shutil.rmtree(old, ignore_errors=True)
    return top / f"{process_scope()}-{parent}-{process_started(parent)}"
