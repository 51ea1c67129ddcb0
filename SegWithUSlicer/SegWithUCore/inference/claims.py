"""Claims: which case of a cohort is being made by which process, so that several share one output folder.

A claim is a lock file beside the case folders, there while the case is made. It only saves double work: a case folder
is whole or absent whoever writes it, so a claim taken over too early costs time and never a result. A second file
counts the processes that began the case and did not end it: a case that kills them must not kill every next one.
"""

import contextlib
import os
import time
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from ..atomic_files import ABANDONED_AFTER_S
from ..errors import OutputError
from ..process_lock import LockedError, ProcessLock
from ..progress import Progress

CLAIM_PATTERN = ".*.claim"
DEATHS_AT_MOST = 2
"""Processes that may die while they make a case: once may be chance."""
SILENT_AFTER_S = 15 * 60
"""A living process reports several times a minute; one of another computer that was silent for so long may be dead."""
_SIGN_OF_LIFE_S = 10.0


class ClaimedError(OutputError):
    """Another process makes this case.

    Attributes:
        worth_waiting: it is alive as far as one can tell.
        who: the process, in words.
    """

    def __init__(self, target: Path, error: LockedError) -> None:
        self.who = error.who
        self.worth_waiting = error.on_this_computer or error.silent_s < SILENT_AFTER_S
        super().__init__(
            f"{target} was claimed by {error.who}, of which nothing was heard for {error.silent_s / 60:.0f} min: if it "
            "is dead, run again with --take-over."
        )


class DeadlyCaseError(OutputError):
    """Processes died again and again while they made this case."""

    def __init__(self, target: Path, deaths: int) -> None:
        super().__init__(
            f"{target} was not made: {deaths} processes were killed while they made it, by the system when memory runs "
            "out, by hand or by a power cut; free some memory and try it again with --take-over."
        )


class Claim:
    """The right to make one case, held from `take` to `release`."""

    def __init__(self, lock: ProcessLock, begun: Path) -> None:
        """For `take` only."""
        self._lock, self._begun, self._told = lock, begun, time.monotonic()

    @classmethod
    def take(cls, target: Path, take_over: bool = False) -> "Claim":
        """Claim the case whose folder will be `target`; a claim that a dead process left is taken over.

        Args:
            take_over: also one of another computer's process that was silent for `SILENT_AFTER_S`; without, only
                after a day, as its temporary folders are. And also a case that processes died of.

        Raises:
            ClaimedError: another process makes it.
            DeadlyCaseError: `DEATHS_AT_MOST` processes died while they made it.
            OutputError: the place cannot be written to.
        """
        path = claim_path(target)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = ProcessLock.take(path, SILENT_AFTER_S if take_over else ABANDONED_AFTER_S)
            try:
                return cls(lock, _begin(target, take_over))
            except BaseException:
                lock.release()
                raise
        except LockedError as error:
            raise ClaimedError(target, error) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"Cannot write {path}: {reason}; free some space or choose another place.") from error

    def watched(self, progress: Progress) -> Progress:
        """Wrap a progress so that it also shows other computers that this process lives."""

        def report(stage: str, fraction: float, detail: str = "") -> None:
            if time.monotonic() - self._told > _SIGN_OF_LIFE_S:
                self._lock.keep_alive()
                self._told = time.monotonic()
            progress(stage, fraction, detail)

        return report

    def release(self) -> None:
        """Let others have the case: it was made, or it failed."""
        with contextlib.suppress(OSError):  # a disk that is gone: an end by itself is then counted as a death
            self._begun.unlink()
        self._lock.release()


def claim_path(target: Path) -> Path:
    """Return the lock file of a case folder."""
    return target.with_name(f".{target.name}.claim")


def begun_path(target: Path) -> Path:
    """Return the file with a line for each process that began to make a case and did not end it."""
    return target.with_name(f".{target.name}.begun")


def _begin(target: Path, take_over: bool) -> Path:
    path = begun_path(target)
    if take_over:
        path.unlink(missing_ok=True)
    deaths = len(path.read_bytes().splitlines()) if path.exists() else 0
    if deaths >= DEATHS_AT_MOST:
        raise DeadlyCaseError(target, deaths)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"process {os.getpid()} at {datetime.now(UTC).isoformat(timespec='seconds')}\n")
    return path


def sweep_claims(output: Path) -> None:
    """Remove the claims of dead processes."""
    for path in output.glob(CLAIM_PATTERN) if output.is_dir() else []:
        ProcessLock.sweep(path)


def is_claim(name: str) -> bool:
    """Whether a file of this name in an output folder is a claim."""
    return fnmatch(name, CLAIM_PATTERN)
