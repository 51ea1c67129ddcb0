"""Files and folders that are written whole or not at all.

A reader never sees a half-written result: everything is made under a temporary name in the same
folder and renamed when complete, so that a full disk or a killed process leaves nothing behind
that could be taken for a result.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError

TEMPORARY_PREFIX = ".segwithu-"


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
        work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
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
        work = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}"
    try:
        with _os_errors_named(target):
            yield work
            os.replace(work, target)
    finally:
        work.unlink(missing_ok=True)


def _replace_folder(work: Path, target: Path) -> None:
    if not target.exists():
        os.rename(work, target)
        return
    old = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    os.rename(target, old / "old")
    try:
        os.rename(work, target)
    except OSError:
        os.rename(old / "old", target)
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
