"""Files and folders that are written whole or not at all.

A reader never sees a half-written result: everything is made under a temporary name in the same
folder and renamed when complete, so that a full disk or a killed process leaves nothing behind
that could be taken for a result.
"""

import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError
from .processes import is_alive, process_scope, process_started

TEMPORARY_PREFIX = ".segwithu-"
ABANDONED_AFTER_S = 24 * 3600
"""Age at which a temporary entry counts as left over where its process cannot be asked (another computer or container,
Windows, names of earlier versions)."""
REMOVAL_ATTEMPTS = 5
_LONGEST_NAME = 80
"""Characters of a file's name that its temporary name ends with: file systems take 255 bytes."""
_OWNER = re.compile(
    re.escape(TEMPORARY_PREFIX) + r"(?P<scope>p[0-9a-f]{16})-(?P<pid>[1-9][0-9]{0,19})-t(?P<started>[0-9]*)-"
)


_unfinished: set[Path] = set()
"""What this process is making, under temporary names."""


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
            return


def temporary_prefix() -> str:
    """Return the prefix of this process's temporary names, which says which process it is (`processes`)."""
    pid = os.getpid()
    return f"{TEMPORARY_PREFIX}{process_scope()}-{pid}-t{process_started(pid)}-"


def sweep_leftovers(folder: Path) -> list[Path]:
    """Remove what killed processes left half-written in `folder`; returns what was removed."""
    removed = []
    for path in folder.glob(f"{TEMPORARY_PREFIX}*") if folder.is_dir() else []:
        if _abandoned(path):
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
def atomic_folder(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a private folder that becomes `target` when the block ends without an error.

    What killed processes left beside `target` is swept first.

    Args:
        target: the folder to be made; its parents are created.
        overwrite: replace an existing `target`; the old one is removed only after the new one is whole.

    Raises:
        OutputError: `target` exists (without `overwrite`), or the place cannot be written to.
    """
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already: choose another output folder or pass --overwrite.")
    with _os_errors_named(target):
        _prepare_parent(target)
        work = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=target.parent))
    _unfinished.add(work)
    try:
        with _os_errors_named(target):
            yield work
            work.chmod(0o777 & ~_umask())
            _replace_folder(work, target)
    except OutputError as error:
        if str(work) not in str(error):
            raise
        raise OutputError(str(error).replace(str(work), str(target))) from error  # users know the folder by its name
    finally:
        shutil.rmtree(work, ignore_errors=True)
        _unfinished.discard(work)


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path with the suffixes of `target`; it replaces `target` when the block ends well.

    What killed processes left beside `target` is swept first.

    Raises:
        OutputError: the place cannot be written to, or the disk is full.
    """
    with _os_errors_named(target):
        _prepare_parent(target)
        work = target.parent / f"{temporary_prefix()}{secrets.token_hex(4)}-{target.name[-_LONGEST_NAME:]}"
    _unfinished.add(work)
    try:
        with _os_errors_named(target):
            yield work
            work.replace(target)
    finally:
        _removed(work)
        _unfinished.discard(work)


def _prepare_parent(target: Path) -> None:
    if "\0" in str(target):
        raise OutputError(f"{str(target)!r} is no path: it holds a NUL character; choose another place.")
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_leftovers(target.parent)


def _replace_folder(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=target.parent))
    try:
        target.rename(old / "old")
        work.rename(target)
    finally:
        if not target.exists():  # an error, or Ctrl-C between the two
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
