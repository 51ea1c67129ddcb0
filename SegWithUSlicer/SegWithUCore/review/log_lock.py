"""One writer for a log."""

from pathlib import Path

from ..errors import OutputError
from ..process_lock import LockedError, ProcessLock


class LogInUseError(OutputError):
    """Another window or process writes this log."""


def take_log_lock(path: Path) -> ProcessLock:
    """Take the right to write a log, whose lock file is `path`; one that a dead process left is taken over.

    Raises:
        LogInUseError: a living process writes the log.
        OSError: the place cannot be written to.
    """
    try:
        return ProcessLock.take(path)
    except LockedError as error:
        raise LogInUseError(
            f"{path.name.removesuffix('.lock')} is being written by {error.who}, so this reviewer has the case open "
            f"already: close that window or take another reviewer name; if it is long gone, delete {path}."
        ) from error
