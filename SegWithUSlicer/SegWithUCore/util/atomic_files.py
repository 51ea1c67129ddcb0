"""Files and folders that are written whole or not at all, each by one process at a time.

A reader never sees a half-written result: everything is made under a temporary name in the same
folder and renamed when complete, so that a full disk or a killed process leaves nothing behind
that could be taken for a result.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import OutputError
from .process_lock import LockedError, ProcessLock, remove_stale
from .processes import ABANDONED_AFTER_S, is_alive, process_scope, process_started

TEMPORARY_PREFIX = ".segwithu-"
LOCK_PATIENCE_S = 24 * 3600
"""After which the lock on a target no longer counts where its process cannot be asked: it is older than most work, and
the moment of renaming checks again."""
REMOVAL_ATTEMPTS = 5
_LONGEST_NAME = 80
"""Characters of a file's name that its temporary name ends with: file systems take 255 bytes."""
_OWNER = re.compile(
    re.escape(TEMPORARY_PREFIX) + r"(?P<scope>p[0-9a-f]{16})-(?P<pid>[1-9][0-9]{0,19})-t(?P<started>[0-9]*)-"
)
_LOCK = re.compile(re.escape(TEMPORARY_PREFIX) + "lock-[0-9a-f]{16}")

_unfinished: set[Path] = set()
"""What this process is making, under temporary names, and its locks on targets."""
_made_parents: list[Path] = []
"""Folders that were made for targets which are not there yet, the innermost first."""


def remove_unfinished() -> None:
    """Remove what this process is making, from another thread, because it ends in the middle of it."""
    for _ in range(REMOVAL_ATTEMPTS):  # it may go on writing meanwhile
        left = [path for path in tuple(_unfinished) if os.path.lexists(path)]
        for path in left:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                _removed(path)
        if not left:
            break
    _remove_empty(_made_parents)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that hold nothing; one that holds a target, or what others made, stays."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def temporary_prefix() -> str:
    """Return the prefix of this process's temporary names, which says which process it is (`processes`)."""
    pid = os.getpid()
    return f"{TEMPORARY_PREFIX}{process_scope()}-{pid}-t{process_started(pid)}-"


def sweep_leftovers(folder: Path) -> list[Path]:
    """Remove what killed processes left half-written in `folder`; returns what was removed."""
    removed = []
    for path in folder.glob(f"{TEMPORARY_PREFIX}*") if folder.is_dir() else []:
        if _LOCK.fullmatch(path.name):
            with contextlib.suppress(LockedError, OSError):
                remove_stale(path, LOCK_PATIENCE_S)
        elif _abandoned(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                _removed(path)
            if not os.path.lexists(path):
                removed.append(path)
    return removed


def _abandoned(path: Path) -> bool:
    owner = _OWNER.match(path.name)
    if sys.platform != "win32" and owner is not None and owner["scope"] == process_scope():
        return not is_alive(int(owner["pid"]), owner["started"])
    try:
        return time.time() - path.lstat().st_mtime > ABANDONED_AFTER_S
    except OSError:
        return False


def _removed(path: Path) -> None:
    with contextlib.suppress(OSError):  # a disk that became read-only, or somebody else's file: it stays
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def one_writer(target: Path, overwrite: bool = False) -> Iterator[None]:
    """Let no other process write `target` while the block runs; this one may say so again within the block.

    Long work begins with it, so that the second of two processes is refused before it works in vain.

    Args:
        overwrite: whether an existing `target` is to be replaced.

    Raises:
        OutputError: `target` exists (without `overwrite`), another process is writing it, or the place cannot be
            written to.
    """
    _check_absent(target, overwrite)
    with _os_errors_named(target):
        made = [folder for folder in target.parents if not folder.exists()]
        _prepare_parent(target)
        name = hashlib.sha256(target.name.encode(errors="surrogatepass")).hexdigest()[:16]
        path = target.parent.resolve() / f"{TEMPORARY_PREFIX}lock-{name}"
    lock = None if path in _unfinished else _lock(target, path)
    if lock is None:
        yield
        return
    _unfinished.add(path)
    _made_parents[:0] = made
    try:
        _check_absent(target, overwrite)  # the process that had the lock before may have made it
        yield
    finally:
        lock.release()
        _unfinished.discard(path)
        _remove_empty(made)
        del _made_parents[: len(made)]


def _check_absent(target: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise OutputError(
            f"{target} exists already: choose another output folder or pass --overwrite.", "target-exists"
        )


def _lock(target: Path, path: Path) -> ProcessLock | None:
    """Lock a target; None where the file system has no locks: there the moment of renaming is the only check."""
    try:
        return ProcessLock.take(path, LOCK_PATIENCE_S)
    except LockedError as error:
        way_out = "" if error.on_this_computer else f", remove {path} if that process is dead,"
        raise OutputError(
            f"{target} is being written by {error.who}: wait until it ends{way_out} or choose another output.",
            "target-in-use",
        ) from error
    except OSError:
        return None


@contextlib.contextmanager
def atomic_folder(target: Path, overwrite: bool = False, lock: bool = True) -> Iterator[Path]:
    """Yield a private folder that becomes `target` when the block ends without an error.

    What killed processes left beside `target` is swept first.

    Args:
        target: the folder to be made; its parents are created.
        overwrite: replace an existing `target`; the old one is removed only after the new one is whole.
        lock: refuse a second writer; False where a `RunLock` does, which another computer may take over at once.

    Raises:
        OutputError: `target` exists (without `overwrite`) or came into being meanwhile, another process is writing it,
            or the place cannot be written to.
    """
    if lock:
        with one_writer(target, overwrite), atomic_folder(target, overwrite, lock=False) as work:
            yield work
        return
    _check_absent(target, overwrite)
    with _os_errors_named(target):
        _prepare_parent(target)
        work = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=target.parent))
    _unfinished.add(work)
    try:
        with _os_errors_named(target):
            yield work
            work.chmod(0o777 & ~_umask())
            if overwrite and os.path.lexists(target):
                _replace_folder(work, target)
            else:
                move_to_new(work, target)
    except OutputError as error:
        if str(work) not in str(error):
            raise
        raise OutputError(str(error).replace(str(work), str(target))) from error  # users know the folder by its name
    finally:
        shutil.rmtree(work, ignore_errors=True)
        _unfinished.discard(work)


@contextlib.contextmanager
def atomic_file(target: Path, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path with the suffixes of `target`; it replaces `target` when the block ends well.

    What killed processes left beside `target` is swept first.

    Raises:
        OutputError: the place cannot be written to, the disk is full, or `target` exists (without `overwrite`).
    """
    with _os_errors_named(target):
        _prepare_parent(target)
        work = target.parent / f"{temporary_prefix()}{secrets.token_hex(4)}-{target.name[-_LONGEST_NAME:]}"
    _unfinished.add(work)
    try:
        with _os_errors_named(target):
            yield work
            if overwrite:
                work.replace(target)
            else:
                _link_to_new(work, target)
    finally:
        _removed(work)
        _unfinished.discard(work)


def _prepare_parent(target: Path) -> None:
    if "\0" in str(target):
        raise OutputError(f"{str(target)!r} is no path: it holds a NUL character; choose another place.")
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_leftovers(target.parent)


def move_to_new(work: Path, target: Path) -> None:
    """Give a finished folder its name, which nothing may have.

    Raises:
        OutputError: something has.
    """
    try:
        if os.path.lexists(target):  # renaming would replace an empty folder; it fails by itself for all else
            raise FileExistsError
        work.rename(target)
    except OSError as error:
        if not os.path.lexists(target):
            raise
        raise _made_meanwhile(target) from error


def _link_to_new(work: Path, target: Path) -> None:
    """Give a finished file its name, as `move_to_new`."""
    try:
        try:
            os.link(work, target)  # fails where something is there, which renaming replaces
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            work.replace(target)
    except FileExistsError as error:
        raise _made_meanwhile(target) from error


def _made_meanwhile(target: Path) -> OutputError:
    return OutputError(
        f"{target} was made by another process meanwhile, and stays: choose another output.", "made-meanwhile"
    )


def _replace_folder(work: Path, target: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=target.parent))
    try:
        target.rename(old / "old")
        move_to_new(work, target)
    finally:
        if not os.path.lexists(target):  # an error, or Ctrl-C between the two
            (old / "old").rename(target)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _os_errors_named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot write {target}: {reason}; free some space or choose another place.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
