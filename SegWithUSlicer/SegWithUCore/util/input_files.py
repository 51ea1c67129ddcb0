"""Files that come from outside: regular files of a known size, never a pipe or device that blocks or does not end."""

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

from .errors import InputError, unreadable_named
from .folder_entries import EntryKind, check_link, entry_kind

# Python's surrogate for a byte of a file name that is not UTF-8, usual on old file servers.
_NOT_TEXT = re.compile("[\ud800-\udfff]")
# What file systems take; Windows takes less unless it is set otherwise.
LONGEST_NAME_BYTES, LONGEST_PATH_BYTES = 255, 4096


def regular_file(path: Path, wanted: str = "give a file", maximum_bytes: int | None = None) -> os.stat_result:
    """Check that `path` is a readable regular file, before anything opens it (links are followed).

    Args:
        wanted: what to do, the end of every sentence but those on permissions and size.
        maximum_bytes: of the file; None takes any size.

    Returns:
        What the system says of the file, its size among it.

    Raises:
        InputError: it does not exist, is a folder, pipe, socket or device, may not be read, or is too large.
    """
    try:
        found = path.stat()
    except ValueError as error:  # a NUL character
        raise InputError(f"{str(path)!r} is not a path: {error}; {wanted}.") from None
    except OSError as error:
        check_link(path, wanted)
        if entry_kind(path) is EntryKind.ABSENT:
            raise InputError(f"{path} does not exist: check the path.", code="missing-file") from None
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions.") from error
    if (kind := entry_kind(path)) is not EntryKind.FILE:
        raise InputError(f"{path} is {kind}: {wanted}.", code="unusable-input")
    if maximum_bytes is not None and found.st_size > maximum_bytes:
        sizes = f"{found.st_size} bytes, more than the {maximum_bytes} of such a file"
        raise InputError(f"{path} has {sizes}: {wanted}.", "large-file")
    return found


def read_bounded(path: Path, maximum_bytes: int, wanted: str = "give a file") -> bytes:
    """Read a regular file whole; a file that grows meanwhile is not followed.

    Raises:
        InputError: as `regular_file`, or the disk fails.
    """
    regular_file(path, wanted, maximum_bytes)
    with unreadable_named(path), path.open("rb") as file:
        return file.read(maximum_bytes)


def is_there(path: Path) -> bool:
    """Whether something has that path; also where that is not known, so that reading gives the reason."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return True


def path_problem(text: str) -> str | None:
    """Return why a path is invalid on every file system, as the end of a message; None if it is valid.

    Names that are not UTF-8 are usual on old file servers, so they pass.
    """
    if "\0" in text:
        return "holds a NUL character"
    try:
        too_long = any(len(os.fsencode(part)) > LONGEST_NAME_BYTES for part in Path(text).parts)
        too_long |= len(os.fsencode(text)) > LONGEST_PATH_BYTES
    except UnicodeEncodeError:
        return "holds half a character (a surrogate)"
    return f"is longer than {LONGEST_PATH_BYTES} bytes, or a name in it than {LONGEST_NAME_BYTES}" if too_long else None


def is_plain(path: Path) -> bool:
    """Whether the bytes that the system knows `path` by are those of its text in UTF-8."""
    try:
        return sys.platform == "win32" or os.fsencode(path) == str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False


def plain_name(name: str) -> str:
    """Write each byte that is not UTF-8 as in URLs ("M%FCller"); other names stay as they are."""
    return _NOT_TEXT.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def original_path(path: Path) -> Path:
    """Find the file or folder that `plain_name` wrote the path of, if it is there; else return the path as it is."""
    if "%" not in str(path) or path.exists() or sys.platform == "win32":
        return path
    original = Path(os.fsdecode(unquote_to_bytes(str(path))))
    return original if original.exists() else path
