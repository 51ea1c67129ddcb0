"""Files and folders that are written whole or not at all.

A reader never sees a half-written result: everything is made under a temporary name in the same
folder and renamed when complete, so that a full disk or a killed process leaves nothing behind
that could be taken for a result.
"""

import contextlib
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError

TEMPORARY_PREFIX = ".segwithu-"
ABANDONED_AFTER_S = 24 * 3600
"""Age at which a temporary entry counts as left over where its process cannot be asked (other host, Windows)."""


def _temporary_name() -> str:
    """A prefix that tells which process on which host is writing."""
    host = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname()) or "host"
    return f"{TEMPORARY_PREFIX}{host}-{os.getpid()}-"


def sweep_leftovers(folder: Path) -> list[Path]:
    """Remove what killed processes left half-written in `folder`; returns what was removed."""
    removed = []
    for path in folder.glob(f"{TEMPORARY_PREFIX}*") if folder.is_dir() else []:
        if _abandoned(path):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _abandoned(path: Path) -> bool:
    parts = path.name.removeprefix(TEMPORARY_PREFIX).split("-")
    own_host = _temporary_name().removeprefix(TEMPORARY_PREFIX).split("-")[0]
    if sys.platform != "win32" and len(parts) >= 3 and parts[0] == own_host and parts[1].isdigit():
        try:
            os.kill(int(parts[1]), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_AFTER_S
    except OSError:
        return False


@contextlib.contextmanager
def whole_folder(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a private folder that becomes `target` when the block ends without an error.

    Args:
        target: the folder to be made; its parents are created.
        overwrite: replace an existing `target`; the old one is removed only after the new one is whole.

    Raises:
        OutputError: `target` exists (without `overwrite`), or the place cannot be written to.
    """
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already: choose another output folder or pass --overwrite.")
    with _os_errors_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=_temporary_name(), dir=target.parent))
    try:
        with _os_errors_named(target):
            yield work
            work.chmod(0o777 & ~_umask())
            _replace_folder(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path with the suffixes of `target`; it replaces `target` when the block ends well.

    Raises:
        OutputError: the place cannot be written to, or the disk is full.
    """
    with _os_errors_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        work = target.parent / f"{_temporary_name()}{target.name}"
    try:
        with _os_errors_named(target):
            yield work
            work.replace(target)
    finally:
        work.unlink(missing_ok=True)


def _replace_folder(work: Path, target: Path) -> None:
    if not target.exists():
        work.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=_temporary_name(), dir=target.parent))
    target.rename(old / "old")
    try:
        work.rename(target)
    except OSError:
        (old / "old").rename(target)
        raise
    finally:
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
