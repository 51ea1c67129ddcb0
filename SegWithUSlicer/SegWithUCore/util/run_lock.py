"""One run per folder, or one for each part of its cases.

The lock saves double work and mixed messages, never a result: a case folder is always whole or absent.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .errors import OutputError, UsageError, os_errors_named
from .process_lock import LockedError, ProcessLock

_MOST_PARTS = 100_000
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Part:
    """One of several equal shares of the sorted cases, number 1 to `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read "I/N".

        Raises:
            UsageError: it is anything else.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count <= _MOST_PARTS:
            message = f"--part {text!r} is not a part: give I/N, such as 3/8, with I from 1 to N."
            raise UsageError(message, "wrong-usage")
        return cls(number, count)

    def share(self, ordered: Sequence[_Item]) -> list[_Item]:
        """Return every `count`-th of the items, from the `number`-th on."""
        return list(ordered[self.number - 1 :: self.count])


@contextlib.contextmanager
def run_lock(folder: Path, part: Part | None = None) -> Iterator[ProcessLock | None]:
    """Hold the right to work in a folder, or on a part of its cases, while the block runs.

    The folder is made if it does not exist, and removed again if nothing came into it.

    Yields:
        The lock; None where the file system has no locks.

    Raises:
        OutputError: another run works there, or the place cannot be written to.
    """
    path = folder / (".run.lock" if part is None else f".run-{part.number}-of-{part.count}.lock")
    made = not folder.exists()
    try:
        with os_errors_named(path):
            folder.mkdir(parents=True, exist_ok=True)
            lock = ProcessLock.take_if_possible(path)
    except LockedError as error:
        ways = "wait, resume later with --resume, share the cases with --part I/N, or choose another output folder"
        raise OutputError(f"{folder} is in use by {error.who}: {ways}.", "folder-in-use") from error
    try:
        yield lock
    finally:
        if lock is not None:
            lock.release()
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
