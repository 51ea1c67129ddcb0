"""Claims: which case of a cohort is being made by which process, so that several share one output folder.

A claim is a lock file beside the case folders, there while the case is made. It only saves double work: a case folder
is whole or absent whoever writes it, so a claim taken over too early costs time and never a result.
"""

import time
from fnmatch import fnmatch
from pathlib import Path

from ..errors import OutputError
from ..process_lock import LockedError, ProcessLock
from ..progress import Progress
from ..whole_files import ABANDONED_AFTER_S

CLAIM_PATTERN = ".*.claim"
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


class Claim:
    """The right to make one case, held from `take` to `release`."""

    def __init__(self, lock: ProcessLock) -> None:
        """For `take` only."""
        self._lock, self._told = lock, time.monotonic()

    @classmethod
    def take(cls, target: Path, take_over: bool = False) -> "Claim":
        """Claim the case whose folder will be `target`; a claim that a dead process left is taken over.

        Args:
            take_over: also one of another computer's process that was silent for `SILENT_AFTER_S`; without, only
                after a day, as its temporary folders are.

        Raises:
            ClaimedError: another process makes it.
            OutputError: the place cannot be written to.
        """
        path = claim_path(target)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls(ProcessLock.take(path, SILENT_AFTER_S if take_over else ABANDONED_AFTER_S))
        except LockedError as error:
            raise ClaimedError(target, error) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"Cannot write {path}: {reason}; free some space or choose another place.") from error

    def watched(self, progress: Progress) -> Progress:
        """The same progress, which also shows other computers that this process lives."""

        def report(stage: str, fraction: float, detail: str = "") -> None:
            if time.monotonic() - self._told > _SIGN_OF_LIFE_S:
                self._lock.keep_alive()
                self._told = time.monotonic()
            progress(stage, fraction, detail)

        return report

    def release(self) -> None:
        """Let others have the case."""
        self._lock.release()


def claim_path(target: Path) -> Path:
    """The lock file of a case folder."""
    return target.with_name(f".{target.name}.claim")


def sweep_claims(output: Path) -> None:
    """Remove the claims of dead processes."""
    for path in output.glob(CLAIM_PATTERN) if output.is_dir() else []:
        ProcessLock.sweep(path)


def is_claim(name: str) -> bool:
    """Whether a file of this name in an output folder is a claim."""
    return fnmatch(name, CLAIM_PATTERN)
