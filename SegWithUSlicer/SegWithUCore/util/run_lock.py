"""One run a folder, or one for each part of its cases: the lock that a run holds, shows its life with, and may lose.

The lock saves double work and mixed messages, never a result: a case folder is whole or absent whoever makes it.
"""

import math
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from .errors import OutputError, UsageError
from .process_lock import LockedError, ProcessLock, remove_stale
from .processes import ABANDONED_AFTER_S

SILENT_AFTER_S = 15 * 60
"""A living run shows itself several times a minute; one of another computer that was silent for so long may be dead."""
SIGN_OF_LIFE_S = 10.0
CLAIM_PATTERN = ".*.claim"
"""Locks of single cases, which versions up to 0.3 made."""
_LOCK_PATTERN = ".run*.lock"
_LOCK_NAME = re.compile(r"\.run(?:-(?P<number>[0-9]+)-of-(?P<count>[0-9]+))?\.lock")
_MOST_PARTS = 100_000
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Part:
    """One of several equal shares of the sorted cases, number 1 to `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read "I/N", or "slurm" for the place of this task in its SLURM array.

        Raises:
            UsageError: it is neither, or there is no such array.
        """
        if text == "slurm":
            return cls._of_slurm()
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count <= _MOST_PARTS:
            raise UsageError(f"--part {text!r} is no share: give I/N with I from 1 to N, such as 3/8, or 'slurm'.")
        return cls(number, count)

    @classmethod
    def _of_slurm(cls) -> "Part":
        names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP")
        found = [os.environ.get(name, "") for name in names]
        if not all(text.isdigit() for text in found[:2]):
            raise UsageError(
                "--part slurm needs the variables SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT: submit the script "
                "with sbatch --array=1-N, or give --part I/N."
            )
        task, count = int(found[0]), int(found[1])
        first, step = (int(text) if text.isdigit() else 1 for text in found[2:])
        number = (task - first) // max(1, step) + 1
        if not 1 <= number <= count <= _MOST_PARTS:
            raise UsageError(
                f"--part slurm: task {task} of an array with {count} tasks from {first} on is no share: submit a "
                "contiguous array such as --array=1-8, or give --part I/N."
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def share(self, ordered: Sequence[_Item]) -> list[_Item]:
        """Return every `count`-th of the items, from the `number`-th on."""
        return list(ordered[self.number - 1 :: self.count])


class RunLockedError(OutputError):
    """Another run works in the folder, and lives as far as one can tell."""

    def __init__(self, folder: Path, error: LockedError) -> None:
        ways = ["wait until it ends", "share the cases with --part I/N in all runs", "choose another output folder"]
        if error.on_this_computer:
            ways.insert(1, "end it and go on with --resume")
        else:
            ways.insert(1, "if it is dead, go on with --resume once it was silent for 15 min, or at once with "
                           "--resume --take-over")  # fmt: skip
        super().__init__(
            f"{folder} is being worked on by {error.who}, whose last sign of life was {_age(error.silent_s)} ago: "
            f"{'; '.join(ways[:-1])}; or {ways[-1]}."
        )


class LockLostError(OutputError):
    """Another run took the folder over while this one worked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"Another run has taken {folder} over, or its lock was removed: this run stops before its next case; what "
            "it made is whole."
        )


class RunLock:
    """The right to work in a folder, held from `take` to `release`; a thread shows that the run lives."""

    def __init__(self, folder: Path, lock: ProcessLock, made_folder: bool) -> None:
        """For `take` only."""
        self._folder, self._lock, self._made_folder = folder.resolve(), lock, made_folder
        self._ended = threading.Event()
        threading.Thread(target=self._show_life, name="run lock", daemon=True).start()

    @classmethod
    def take(cls, folder: Path, part: Part | None = None, resume: bool = False, take_over: bool = False) -> "RunLock":
        """Lock a folder, which is made if it does not exist, or a part of its cases.

        The lock of a dead run of this computer is taken over; that of a run of another computer after a day, with
        `resume` after `SILENT_AFTER_S`, with `take_over` at once.

        Raises:
            RunLockedError: another run works there, or on parts of another size.
            OutputError: the place cannot be written to.
        """
        patience_s = -math.inf if take_over else SILENT_AFTER_S if resume else ABANDONED_AFTER_S
        path = folder / (".run.lock" if part is None else f".run-{part.number}-of-{part.count}.lock")
        try:
            made_folder = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            lock = ProcessLock.take(path, patience_s)
            try:
                _check_others(path, part, patience_s)
            except BaseException:
                lock.release()
                raise
        except LockedError as error:
            raise RunLockedError(folder, error) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"Cannot write {path}: {reason}; free some space or choose another place.") from error
        return cls(folder, lock, made_folder)

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """As `release`."""
        self.release()

    def identity(self) -> tuple[str, str]:
        """Return path and content of the lock file, by which other computers know that they see the same folder."""
        return str(self._lock.path.resolve()), self._lock.path.read_text(encoding="utf-8")

    def check(self) -> None:
        """Look whether the lock is still held; called before each case.

        Raises:
            LockLostError: another run took it over.
        """
        if not self._lock.is_held:
            raise LockLostError(self._folder)

    def release(self) -> None:
        """Let other runs work here; a folder that this run made and left empty is removed."""
        self._ended.set()
        self._lock.release()
        if self._made_folder and self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _show_life(self) -> None:
        while not self._ended.wait(SIGN_OF_LIFE_S):
            if self._lock.is_held:
                self._lock.keep_alive()


def _check_others(own: Path, part: Part | None, patience_s: float) -> None:
    """Remove the locks of dead runs that would do the same cases.

    Raises:
        LockedError: such a run lives.
    """
    for path in own.parent.glob(_LOCK_PATTERN):
        found = _LOCK_NAME.fullmatch(path.name)
        if path == own or not found:
            continue
        if part is None or found["count"] is None or int(found["count"]) != part.count:
            remove_stale(path, patience_s)
    for path in own.parent.glob(CLAIM_PATTERN):
        remove_stale(path, patience_s)


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
