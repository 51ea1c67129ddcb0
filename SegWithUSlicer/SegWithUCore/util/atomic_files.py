"""Files and folders that are written whole or not at all, each by one writer at a time.

A reader never sees a half-written result: everything is made under a temporary name in the same
folder and renamed when complete, so that a full disk or a killed process leaves nothing behind
that could be taken for a result.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from .errors import OutputError, os_errors_named
from .process_lock import LockedError, ProcessLock, holder, remove_stale

TEMPORARY_PREFIX = ".segwithu-"
# Age at which a temporary folder that has no lock counts as left over.
ABANDONED_AFTER_S = 24 * 3600
REMOVAL_ATTEMPTS = 5
_LOCK_FILE, _MARKER = "lock", "no-lock"
_LOCK = re.compile(re.escape(TEMPORARY_PREFIX) + "lock-[0-9a-f]{16}")
_Filled = TypeVar("_Filled")

# What this process is making, under temporary names, and its locks on targets.
_unfinished: set[Path] = set()
# Folders that this process made for targets, the innermost first; one that holds something stays.
_made: list[Path] = []
# Threads of this process by the locks on targets that they hold.
_writers: dict[Path, int] = {}


def remove_unfinished() -> None:
    """Remove what this process is making, from another thread, because it ends in the middle of it."""
    for _ in range(REMOVAL_ATTEMPTS):  # it may still write meanwhile
        left = [path for path in tuple(_unfinished) if os.path.lexists(path)]
        for path in left:
            _remove(path)
        if not left:
            break
    _remove_empty(tuple(_made))


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders; one that holds a result, or what others made, stays."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def temporary_prefix() -> str:
    """Return the prefix of this process's temporary names."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-"


@contextlib.contextmanager
def temporary_folder(place: Path) -> Iterator[Path]:
    """Yield a private folder in `place` that goes with the block, and with the process, however that ends.

    A lock in it shows others that its process lives: the next writer in `place` removes what a killed one left.
    """
    folder, lock = _private_folder(place, _locked)
    try:
        yield folder
    finally:
        if lock is not None:
            _remove_content(folder)
            lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(folder)


def _remove_content(folder: Path) -> None:
    """Remove all but the lock, which goes last: who is killed meanwhile leaves what the next writer removes."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name != _LOCK_FILE:
                _remove(path)


def _private_folder(place: Path, fill: Callable[[Path], _Filled]) -> tuple[Path, _Filled]:
    """Make a folder under a temporary name; others may remove it until `fill` has put something into it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=place))
        try:
            return folder, fill(folder)
        except BaseException as error:
            _unfinished.discard(folder)
            shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, FileNotFoundError | LockedError):  # a writer that looks whether we live
                raise


def _locked(folder: Path) -> ProcessLock | None:
    _unfinished.add(folder)
    lock = ProcessLock.take_if_possible(folder / _LOCK_FILE)
    if lock is None:
        _marked(folder)
    return lock


def _marked(folder: Path) -> None:
    """Keep a folder without a lock from being empty, and so from being swept within a day."""
    (folder / _MARKER).touch()


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed processes left half-written in `folder`; returns what was removed."""
    removed = []
    for path in folder.glob(f"{TEMPORARY_PREFIX}*") if folder.is_dir() else []:
        if _LOCK.fullmatch(path.name):
            remove_stale(path)
        else:
            with contextlib.suppress(OSError, LockedError):
                _sweep(path)
            if not os.path.lexists(path):
                removed.append(path)
    return removed


def _sweep(path: Path) -> None:
    """Remove a folder that its maker cannot need: it is empty, its lock is not held, or it has none and is a day old.

    Its maker may be about to put its lock into an empty folder; it makes another one where this one is gone.

    Raises:
        LockedError, OSError: it is in use.
    """
    is_folder, lock = path.is_dir() and not path.is_symlink(), path / _LOCK_FILE
    if is_folder and lock.exists():
        is_named = holder(lock) is not None  # else its maker was killed, or is just writing its name into it
        taken = ProcessLock.take(lock, wait_s=0)
        if is_named:
            _remove_content(path)
        taken.release()
    if is_folder and not any(path.iterdir()):
        path.rmdir()  # fails if anything has come into it
    elif time.time() - path.lstat().st_mtime > ABANDONED_AFTER_S:
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a file or folder; on a disk that became read-only, or of another user, it stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def one_writer(target: Path, overwrite: bool = False) -> Iterator[ProcessLock | None]:
    """Let no other process or thread write `target` while the block runs; this thread may nest it.

    Long work begins with it, so that the second of two writers is refused before it works in vain.

    Args:
        overwrite: whether an existing `target` is to be replaced.

    Yields:
        The lock; None where it is nested, or the file system has no locks.

    Raises:
        OutputError: `target` exists (without `overwrite`), another writer has it, or the place cannot be written to.
    """
    _check_absent(target, overwrite)
    made = [folder for folder in target.parents if not folder.exists()]
    with os_errors_named(target):
        _make_parent(target)
        name = hashlib.sha256(target.name.encode(errors="surrogatepass")).hexdigest()[:16]
        path = target.parent.resolve() / f"{TEMPORARY_PREFIX}lock-{name}"
    if _writers.get(path) == threading.get_ident():
        yield None
        return
    lock = _target_lock(target, path)
    _unfinished.add(path)
    _made[:0] = made
    _writers[path] = threading.get_ident()
    try:
        remove_leftovers(target.parent)
        _check_absent(target, overwrite)  # the writer that had the lock before may have made it
        yield lock
    finally:
        del _writers[path]
        if lock is not None:
            lock.release()
        _unfinished.discard(path)
        _remove_empty(made)
        for folder in made:
            _made.remove(folder)


def exists_error(target: Path) -> OutputError:
    """Make the error of a target that is there and is not to be replaced."""
    return OutputError(f"{target} exists already: choose another output folder or pass --overwrite.", "exists-already")


def _check_absent(target: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise exists_error(target)


def _target_lock(target: Path, path: Path) -> ProcessLock | None:
    """Lock a target; None where that cannot be: there the moment of renaming is the only check."""
    try:
        return ProcessLock.take_if_possible(path)
    except LockedError as error:
        raise OutputError(f"{target} is being written by {error.who}: wait until it ends.", "folder-in-use") from error
    except OSError:  # the writing says why
        return None


@contextlib.contextmanager
def atomic_folder(target: Path, overwrite: bool = False, lock: bool = True) -> Iterator[Path]:
    """Yield a private folder that becomes `target` when the block ends without an error.

    What killed processes left next to `target` is removed first.

    Args:
        target: the folder to be made; its parents are created.
        overwrite: replace an existing `target`; the old one is removed only after the new one is whole.
        lock: refuse a second writer; False where the lock of a run does.

    Raises:
        OutputError: `target` exists (without `overwrite`) or came into being meanwhile, another writer has it, or the
            place cannot be written to.
    """
    with one_writer(target, overwrite) if lock else contextlib.nullcontext():
        _check_absent(target, overwrite)
        with _renamed_into(target) as work:
            work.mkdir()
            yield work
            if overwrite and os.path.lexists(target):
                _replace_folder(work, target)
            else:
                move_to_new(work, target)


@contextlib.contextmanager
def atomic_file(target: Path, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path with the name of `target`; it replaces `target` when the block ends well.

    What killed processes left next to `target` is removed first.

    Raises:
        OutputError: the place cannot be written to, the disk is full, or `target` exists (without `overwrite`).
    """
    with _renamed_into(target) as work:
        yield work
        if overwrite:
            work.replace(target)
        else:
            _link_to_new(work, target)


def write_text(target: Path, text: str) -> None:
    """Write a text whole or not at all, as UTF-8; half characters, which names of files may hold, are escaped."""
    with atomic_file(target) as work:
        work.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


@contextlib.contextmanager
def _renamed_into(target: Path) -> Iterator[Path]:
    """Yield a temporary path that the block renames to `target`, and by which users do not know it."""
    with os_errors_named(target):
        _make_parent(target)
        remove_leftovers(target.parent)
        with temporary_folder(target.parent) as private:
            try:
                yield private / target.name
            except OutputError as error:
                if str(private) not in str(error):
                    raise
                raise OutputError(str(error).replace(f"{private}{os.sep}", f"{target.parent}{os.sep}")) from error


def _make_parent(target: Path) -> None:
    if "\0" in str(target):
        raise OutputError(f"{str(target)!r} is not a path: it holds a NUL character; choose another place.")
    target.parent.mkdir(parents=True, exist_ok=True)


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
    return OutputError(f"{target} was made by another process meanwhile: choose another output.", "exists-already")


def _replace_folder(work: Path, target: Path) -> None:
    old, _ = _private_folder(target.parent, _marked)  # not of `_unfinished`: it must stay
    try:
        target.rename(old / "old")
        move_to_new(work, target)
    finally:
        if not os.path.lexists(target):  # an error, or Ctrl-C between the two
            (old / "old").rename(target)
        shutil.rmtree(old, ignore_errors=True)
