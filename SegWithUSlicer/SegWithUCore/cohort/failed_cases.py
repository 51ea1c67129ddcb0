"""`failed.csv` beside the case folders of a cohort: which cases could not be made, and why."""

import contextlib
import os
from pathlib import Path

from ..util.csv_files import harmless_cell, read_csv, write_csv
from ..util.errors import InputError, OutputError
from ..util.process_lock import LockedError, ProcessLock

FAILED_FILE = "failed.csv"
COLUMNS = ["case", "input", "reason"]
_LONGEST_REASON = 4000
LOCK_WAIT_S = 5.0


class FailedCases:
    """The failures of this run, merged into the file; rows of cases that it did not touch stay as they are.

    Attributes:
        path: the file.
        notes: what was found in its place and set aside, one sentence each.
    """

    def __init__(self, output: Path) -> None:
        """Look at the file, if there is one; what is no list of failed cases is kept under another name.

        Raises:
            OutputError: it cannot be set aside.
        """
        self.path = output / FAILED_FILE
        self.notes: list[str] = []
        self._settled: set[str] = set()
        self._failed: list[list[str]] = []
        self._rows()

    def settled(self, case: str) -> None:
        """Take a case that is in its folder off the list."""
        self._settled.add(harmless_cell(case))

    def failed(self, case: str, given: Path, reason: str) -> None:
        """Add a case that failed; it is in the file when this returns.

        Args:
            given: what was given for the case.
            reason: one sentence.
        """
        self.settled(case)
        self._failed.append([harmless_cell(case), str(given), reason[:_LONGEST_REASON]])
        self.write()

    def write(self) -> None:
        """Bring the file up to date; it is removed where nothing failed.

        Raises:
            OutputError: the place cannot be written to.
        """
        if not self._failed and not os.path.lexists(self.path):
            return
        lock = None
        with contextlib.suppress(LockedError, OSError):  # two parts of a cohort must not lose each other's rows
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = ProcessLock.take(self.path.with_name(f".{FAILED_FILE}.lock"), LOCK_WAIT_S)
        try:
            rows = [row for row in self._rows() if row[0] not in self._settled] + self._failed
            if rows:
                write_csv(self.path, COLUMNS, rows)
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot remove {self.path}: {error.strerror}; check its permissions.") from error
        finally:
            if lock is not None:
                lock.release()

    def _rows(self) -> list[list[str]]:
        if not os.path.lexists(self.path):
            return []
        try:
            header, *rows = read_csv(self.path) or [[]]
            if header == COLUMNS and all(len(row) == len(COLUMNS) for row in rows):
                return rows
            why = "holds something else than failed cases"
        except InputError as error:
            why = f"could not be read ({str(error).rstrip('.')})"
        self._set_aside(why)
        return []

    def _set_aside(self, why: str) -> None:
        """Keep an unreadable file under another name: a cohort must not stop for it, and nothing of it is lost."""
        number = 1
        while os.path.lexists(aside := self.path.with_name(f"{FAILED_FILE}.unread-{number}")):
            number += 1
        try:
            self.path.rename(aside)
        except FileNotFoundError:  # another process did so a moment ago
            return
        except OSError as error:
            raise OutputError(
                f"{self.path} {why} and cannot be set aside ({error.strerror}): rename it or choose another --output."
            ) from error
        self.notes.append(f"{self.path} {why}: it is kept as {aside.name}, and a new list begins.")
