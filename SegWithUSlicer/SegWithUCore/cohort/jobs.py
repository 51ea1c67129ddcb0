"""The jobs of a call: which cases its arguments name, what their folders are called; and `failed.csv`."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..inference.segment import Job
from ..io.inputs import FolderOfCases, GivenCase, cases_in, channel_inputs, find_input
from ..util.csv_files import harmless_cell, read_csv, write_csv
from ..util.errors import InputError, OutputError, UsageError
from ..util.input_files import is_plain, plain_name
from ..util.process_lock import LockedError, ProcessLock

MAXIMUM_NAME_BYTES = 200
"""File systems take 255 bytes a name; temporary names need some of them."""
FAILED_FILE = "failed.csv"
COLUMNS = ["case", "input", "reason"]
_LONGEST_REASON = 4000
LOCK_WAIT_S = 5.0


@dataclass(frozen=True)
class Failure:
    """A case that cannot even be begun: its name, what was given for it, and why."""

    name: str
    given: Path
    error: Exception


def jobs_of(
    paths: Sequence[Path],
    output: Path,
    model_channels: Sequence[str],
    note: Callable[[str], None],
    *,
    tables: Mapping[Path, Sequence[GivenCase]],
    each: bool = False,
    name: str | None = None,
    channels: Sequence[str] = (),
    series: Sequence[str] = (),
    **settings: Any,
) -> tuple[list[Job], list[Failure]]:
    """Make the job of each case, and say which cannot be begun.

    Args:
        paths: images, folders and tables that are given as cases.
        output: folder that receives one folder a case.
        model_channels: names of the model's channels, in its order.
        note: gets kinds of folders, and what is left out of them.
        tables: the cases of those paths that are tables.
        each: whether the paths are folders of cases.
        name: of the folder of a single case.
        channels, series: "NAME=FILE" and "[NAME=]UID" of a single case, as `channel_inputs` reads them.
        settings: of every job.

    Raises:
        UsageError: options need a single case, or a name is none of a case folder (with `each` one case fails).
    """
    failures: list[Failure] = []
    is_single = bool(name or channels or series)
    if is_single and (each or len(paths) > 1):
        raise UsageError("--name, --channel and --series go with a single case.", "single-case")
    cases: list[GivenCase] = []
    for path in _inside(paths, output, note, failures) if each else paths:
        try:
            cases += tables[path] if path in tables else _found(path, note)
        except Exception as error:  # noqa: BLE001 - whatever one place holds, the others go on
            failures.append(Failure(plain_name(path.name), path, error))
    if is_single and cases and (len(cases) > 1 or (cases[0].numbered and (channels or series))):
        raise UsageError(
            f"--name, --channel and --series do not go with {paths[0]}, which says so itself.", "own-channels"
        )
    jobs, names = [], [case.name if name is None else name for case in cases]
    taken = Counter(each_name.casefold() for each_name in names)
    for case, own in zip(cases, names, strict=True):
        problem = _name_problem(own, taken[own.casefold()] > 1)
        if problem and not each:
            raise UsageError(f"{problem}: choose another with --name.", "case-name")
        try:
            if problem:
                raise InputError(f"{case.source}: {problem}: segment it alone with --name.", "name-of-no-case")
            inputs = channel_inputs(case, channels, series, model_channels)
        except InputError as error:
            failures.append(Failure(own, case.source, error))
            continue
        files, uids = [given.path for given in inputs], [given.series for given in inputs]
        jobs.append(Job(own, files, output / own, series=uids, **settings))
    return jobs, failures


def _found(path: Path, note: Callable[[str], None]) -> Sequence[GivenCase]:
    given = find_input(path)
    if given.kind:
        note(f"{path}: {given.kind}.")
    return given.cases


def _inside(
    folders: Sequence[Path],
    output: Path,
    note: Callable[[str], None],
    failures: list[Failure],
) -> list[Path]:
    """List what lies in folders of cases; not the output folder."""
    paths: list[Path] = []
    for path in folders:
        try:
            found = cases_in(path) if path.is_dir() else FolderOfCases([path])
        except Exception as error:  # noqa: BLE001 - as in `jobs_of`
            failures.append(Failure(plain_name(path.name), path, error))
            continue
        paths += found.paths
        if found.left_out:
            note(f"{path}: left out: {found.left_out}.")
    return [path for path in paths if os.path.realpath(path) != os.path.realpath(output)]


def _name_problem(name: str, is_double: bool) -> str:
    """Say why no case folder can have a name; empty if one can."""
    if not name or Path(name).name != name or name.startswith(".") or not is_plain(Path(name)):
        return f"'{name}' cannot be the name of a case folder"
    if len(os.fsencode(name)) > MAXIMUM_NAME_BYTES:
        return f"'{name[:20]}...' is too long for the name of a case folder"
    return f"Two cases would both be named '{name}'" if is_double else ""


def check_output(folder: Path) -> None:
    """Find out before the work whether results can be written.

    Raises:
        OutputError: the place is no folder or not writable.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OutputError(f"{existing} is not a folder that can be written to: give another --output.", "no-output")
    if not is_plain(folder):
        raise OutputError(f"{folder} has a name that is not UTF-8: give another folder for --output.", "output-name")


class FailedCases:
    """`failed.csv` beside the case folders: which cases could not be made, and why.

    The failures of this run are merged into the file; rows of cases that it did not touch stay as they are.

    Attributes:
        path: the file.
    """

    def __init__(self, output: Path) -> None:
        """Look at the file, if there is one.

        Raises:
            OutputError: it is no list of failed cases.
        """
        self.path = output / FAILED_FILE
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
        except InputError:
            header, rows = [], []
        if header != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise OutputError(f"{self.path} is not a list of failed cases: rename it.", "foreign-failed-csv")
        return rows
