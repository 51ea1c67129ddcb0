"""`failed.csv` beside the case folders of a cohort: which cases could not be made, and why."""

import csv
import io
import time
from pathlib import Path

from ..errors import InputError
from ..process_lock import LockedError, ProcessLock
from ..review.worklist_files import spreadsheet_cell
from ..whole_files import whole_file
from .claims import claim_path

FAILED_FILE = "failed.csv"
COLUMNS = ("case", "input", "reason")
_ATTEMPTS, _BETWEEN_S = 100, 0.05


class FailedCases:
    """The failures of this process, merged into the file; rows of cases that it did not touch stay as they are."""

    def __init__(self, output: Path) -> None:
        """Look at the file, if there is one.

        Raises:
            InputError: it holds something else.
        """
        self.path = output / FAILED_FILE
        self._settled: set[str] = set()
        self._failed: list[tuple[str, str, str]] = []
        self._rows()

    def settled(self, case: str) -> None:
        """A case is in its folder: no row tells of it any more."""
        self._settled.add(spreadsheet_cell(case))

    def failed(self, case: str, given: Path, reason: str) -> None:
        """A case failed; it is in the file when this returns.

        Args:
            given: what was given for the case.
            reason: one sentence.
        """
        self.settled(case)
        self._failed.append((spreadsheet_cell(case), spreadsheet_cell(str(given)), spreadsheet_cell(reason)))
        self.write()

    def write(self) -> None:
        """Bring the file up to date; it is removed where nothing failed.

        Raises:
            OutputError: the place cannot be written to.
        """
        if not self._failed and not self.path.exists():
            return
        lock = self._lock()
        try:
            rows = [row for row in self._rows() if row[0] not in self._settled] + self._failed
            if rows:
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
                with whole_file(self.path) as work:
                    work.write_text(text.getvalue(), encoding="utf-8")
            else:
                self.path.unlink(missing_ok=True)
        finally:
            if lock is not None:
                lock.release()

    def _lock(self) -> ProcessLock | None:
        """So that two processes do not lose each other's rows; None where that cannot be had in time."""
        for _attempt in range(_ATTEMPTS):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return ProcessLock.take(claim_path(self.path))
            except LockedError:
                time.sleep(_BETWEEN_S)
            except OSError:
                break  # told by the writing
        return None

    def _rows(self) -> list[tuple[str, str, str]]:
        try:
            text = self.path.read_text(encoding="utf-8")
            header, *rows = [tuple(row) for row in csv.reader(io.StringIO(text))]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, csv.Error):
            header, rows = (), []
        if header != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise InputError(
                f"{self.path} is no list of failed cases of segment: rename it or choose another --output."
            )
        return [(case, given, reason) for case, given, reason in rows]
