"""The audit trail of a review: one append-only file per reviewer in the case folder, on disk before the next click."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ..util.errors import InputError, OutputError, UsageError
from ..util.input_files import read_bounded
from ..util.process_lock import LockedError, ProcessLock
from .log_format import MAXIMUM_BYTES, WANTED, Action, Event, Opened, ParsedLog, read_lines, to_line
from .reviewer import clean_reviewer_name, log_path, safe_reviewer_name

__all__ = ["AuditLog", "LogInUseError", "safe_reviewer_name"]

Clock = Callable[[], datetime]
_APPENDING = os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


def now_utc() -> datetime:
    """Return the time by the clock on the wall."""
    return datetime.now(UTC)


class AuditLog:
    """A reviewer's log of one case, open for writing.

    Attributes:
        path: its file.
        reviewer: the name in its lines.
        notes: what the reviewer should know about how it was found, one sentence each.
        trouble: why the last lines are not on disk; None when they are.
    """

    def __init__(self, path: Path, reviewer: str, clock: Clock) -> None:
        """Start an empty log that is not on disk; `open` is the way to one."""
        self.path, self.reviewer = path, reviewer
        self.notes: list[str] = []
        self.trouble: OutputError | None = None
        self._clock = clock
        self._events: list[Event] = []
        self._lines: list[bytes] = []
        self._stored = self._size = 0  # lines and bytes on disk
        self._first: list[Callable[[], None]] = []  # what has to be done on disk before anything is written
        self._lock: ProcessLock | None = None
        self._writes = True

    @classmethod
    def open(
        cls, folder: Path, reviewer: str, header: Opened, clock: Clock = now_utc, scene_copy: str = ""
    ) -> "AuditLog":
        """Go on with a reviewer's log, or begin one.

        Where the folder cannot be written to, the review continues in memory: see `trouble`.

        Args:
            folder: of the case.
            reviewer: name of the person.
            header: what is reviewed, logged as the first line of this session. A log about other regions is kept under
                another name and a new one started.
            clock: returns the time, with its time zone.
            scene_copy: `text` of the same log as a scene holds it. What the file lacks of it is added to the file; a
                copy that does not fit is kept in another file.

        Raises:
            UsageError: there is no name, or another reviewer's file has this name.
            LogInUseError: the same reviewer has the case open elsewhere.
            InputError: the log cannot be read, or a line in the middle is damaged.
        """
        log = cls(log_path(folder, reviewer), clean_reviewer_name(reviewer), clock)
        with contextlib.suppress(OSError):  # a folder that cannot be written to shows at the first write
            log._lock = take_log_lock(log._neighbour("lock"))
        try:
            log._read(scene_copy.encode(errors="replace"), header.regions_sha256)
            log.append(header)
        except BaseException:
            log.abandon()
            raise
        return log

    @classmethod
    def in_memory(cls, path: Path, reviewer: str, lines: ParsedLog) -> "AuditLog":
        """Return a log that never writes: lines to look at, or to try others on."""
        log = cls(path, reviewer, now_utc)
        log._events, log._lines, log._writes = list(lines.events), list(lines.whole), False
        return log

    @property
    def events(self) -> tuple[Event, ...]:
        """All events of the log, from its first line on."""
        return tuple(self._events)

    @property
    def lines(self) -> tuple[bytes, ...]:
        """All lines, each with its end; those that are not on disk yet are among them."""
        return tuple(self._lines)

    @property
    def text(self) -> str:
        """The whole log, for the copy in the scene; lines that are not on disk yet are among it."""
        return b"".join(self._lines).decode()

    @property
    def pending(self) -> int:
        """How many lines are not on disk yet."""
        return len(self._lines) - self._stored

    def append(self, action: Action) -> Event:
        """Add a line; it is on disk when this returns, or kept in memory for the next writing: see `trouble`."""
        when = self._clock().astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event = Event(when, self.reviewer, action)
        self._lines.append(to_line(event))
        self._events.append(event)
        if self._writes:
            with contextlib.suppress(OutputError):
                self.flush()
        return event

    @property
    def is_current(self) -> bool:
        """Whether nobody else has changed the file since it was read or written here."""
        try:
            return self.path.stat().st_size in (0, self._size)
        except OSError:  # removed: the next line writes all of it again; or a disk that is gone: writing reports it
            return True

    def flush(self) -> None:
        """Bring to disk what is not there yet.

        Raises:
            OutputError: that failed.
        """
        try:
            self._lock = self._lock or take_log_lock(self._neighbour("lock"))
            while self._first:
                self._first[0]()
                self._first.pop(0)
            self._write()
            self.trouble = None
        except OSError as error:
            self.trouble = OutputError(
                f"Cannot write {self.path}: {error.strerror or error} (lines not stored yet: {self.pending}): free "
                "some space or make the folder writable, and it is tried again."
            )
            raise self.trouble from error
        except OutputError as error:
            self.trouble = error
            raise

    def close(self) -> None:
        """Let others write the log.

        Raises:
            OutputError: there are lines that could not be stored.
        """
        try:
            if self.pending:
                self.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let others write the log without bringing anything more to disk."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _neighbour(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    def _read(self, copy: bytes, wanted: str) -> None:
        """Read the file, and a scene's copy of it; what does not fit is kept in another file."""
        if self.path.is_symlink():  # a folder from elsewhere must not have another file of ours written to
            raise InputError(f"{self.path} is a link: put the file itself there, or {WANTED}.")
        content = read_bounded(self.path, MAXIMUM_BYTES, WANTED) if os.path.lexists(self.path) else b""
        lines = stored = read_lines(content, str(self.path))
        for event in stored.events:
            if event.reviewer != self.reviewer:
                whose = f"'{event.reviewer}', whose name gives the same file name as '{self.reviewer}'"
                raise UsageError(f"{self.path} is the review of {whose}: enter another name.", "reviewer-name")
        if stored.cut:
            kept = self._keep("damaged", stored.cut + b"\n")
            self._first.append(partial(os.truncate, self.path, stored.size))
            self.notes.append(f"A crash cut the last line of {self.path.name}: its {len(stored.cut)} bytes are kept in "
                              f"{kept}, see whether your last verdict is missing.")  # fmt: skip
        if stored.events and stored.regions_sha256 != wanted:
            kept = self._keep("of-regions", b"".join(stored.whole), once=True)
            self._first.append(lambda: self.path.unlink(missing_ok=True))
            self.notes.append(f"{self.path.name} was about other regions of this case: it is kept as {kept}.")
            lines = stored = ParsedLog()
        if copy and (longer := self._longer(lines, copy, wanted)) is None:
            kept = self._keep("from-scene", copy, once=True)
            self.notes.append(f"The scene holds another review than {self.path.name}: its copy is kept as {kept}.")
        elif copy and longer is not None:
            lines = longer
        self._events, self._lines = list(lines.events), list(lines.whole)
        on_disk = stored.whole[:-1] if stored.unended else stored.whole
        self._stored, self._size = len(on_disk), sum(map(len, on_disk))

    def _longer(self, lines: ParsedLog, copy: bytes, wanted: str) -> ParsedLog | None:
        """Return the lines to continue, of the file and a scene's copy; None if the copy does not fit."""
        try:
            copied = read_lines(copy, "the scene's copy")
        except InputError:  # must not stand in the way of a sound file
            return None
        fits = copied.regions_sha256 == wanted and all(event.reviewer == self.reviewer for event in copied.events)
        return lines.longer(copied) if fits else None

    def _keep(self, kind: str, content: bytes, once: bool = False) -> str:
        """Have content kept in another file before anything is written; returns that file's name.

        Args:
            once: in a file of its own, named by its hash.
        """
        path = self._neighbour(f"{kind}-{hashlib.sha256(content).hexdigest()[:8]}" if once else kind)
        if not (once and path.exists()):
            self._first.append(partial(_append, path, content))
        return path.name

    def _write(self) -> None:
        """Write the lines that are not on disk, or leave the file as it was.

        Raises:
            OutputError: the file would be larger than readers take, or holds something else than was written.
        """
        handle = os.open(self.path, os.O_RDWR | _APPENDING, 0o666)
        try:
            there = self._checked_size(handle)
            data = b"".join(self._lines[self._stored :])
            if self._size + len(data) > MAXIMUM_BYTES:  # nobody could open the review again
                message = f"{self.path} is full: the last lines are in memory only; begin again under another name."
                raise OutputError(message, "full-log")
            _add(handle, data[there - self._size :], there)
        finally:
            os.close(handle)
        if not self._size:
            _sync_folder(self.path.parent)
        self._stored, self._size = len(self._lines), self._size + len(data)

    def _checked_size(self, handle: int) -> int:
        """Size of the file, which holds what we wrote and at most a beginning of what we could not write whole.

        Raises:
            OutputError: it holds something else.
        """
        size = os.fstat(handle).st_size
        if size == 0:  # new, or removed by somebody: all is in memory and is written again
            self._stored = self._size = 0
        elif size != self._size:
            os.lseek(handle, self._size, os.SEEK_SET)
            beyond = os.read(handle, size) if size > self._size else b""
            if not beyond or not b"".join(self._lines[self._stored :]).startswith(beyond):
                message = f"{self.path} was changed by another program: rename it, and this review is written again."
                raise OutputError(message, "changed-log")
        return size


def _append(path: Path, data: bytes) -> None:
    """Add to a file, on disk when this returns; a failure leaves it as it was."""
    handle = os.open(path, os.O_WRONLY | _APPENDING, 0o666)
    try:
        _add(handle, data, os.fstat(handle).st_size)
    finally:
        os.close(handle)


def _add(handle: int, data: bytes, size: int) -> None:
    """Add to an open file of `size` bytes, on disk when this returns; a failure leaves it as it was."""
    try:
        _write_all(handle, data)
        os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):  # part of a line that stays is found and ended by the next writing
            os.ftruncate(handle, size)
        raise


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _sync_folder(folder: Path) -> None:
    """Make sure that a new file's name is on disk too; Windows does that by itself and cannot open folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LogInUseError(OutputError):
    """Another window or process writes this log.

    Attributes:
        who: "process 12 on host".
    """

    def __init__(self, message: str, who: str) -> None:
        super().__init__(message)
        self.who = who


def take_log_lock(path: Path) -> ProcessLock:
    """Take the right to write a log, whose lock file is `path`; one that a dead process left is taken over.

    Raises:
        LogInUseError: a living process writes the log.
        OSError: the place cannot be written to.
    """
    try:
        return ProcessLock.take(path)
    except LockedError as error:
        log = path.name.removesuffix(".lock")
        message = f"{log} is being written by {error.who}: close that window, or take another reviewer name."
        raise LogInUseError(message, error.who) from error
