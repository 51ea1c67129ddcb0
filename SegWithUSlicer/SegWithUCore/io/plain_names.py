"""File names that image libraries cannot be given: bytes that are not UTF-8, usual on old file servers.

SimpleITK takes names as UTF-8 and ends the process where one is none. A link of a plain name leads to such a file.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ..util.errors import InputError

LINKS_PREFIX = "segwithu-links-"
_NOT_TEXT = re.compile("[\ud800-\udfff]")
"""How Python writes a byte of a file name that is no UTF-8."""


def is_plain(path: Path) -> bool:
    """Whether the bytes that the system knows `path` by are those of its text in UTF-8."""
    try:
        return sys.platform == "win32" or os.fsencode(path) == str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False


def check_plain(path: Path) -> None:
    """Refuse a name that would end the process: before an image library is given one.

    Raises:
        InputError: it is not UTF-8.
    """
    if not is_plain(path):
        raise InputError(f"{plain_name(str(path))} has a name that is not UTF-8 (here as in URLs): rename it.")


def plain_name(name: str) -> str:
    """Write each byte that is no UTF-8 as in URLs ("M%FCller"); other names stay as they are."""
    return _NOT_TEXT.sub(lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def original_path(path: Path) -> Path:
    """Find the file or folder that `plain_name` wrote the path of, if it is there; else return the path as it is."""
    if "%" not in str(path) or path.exists() or sys.platform == "win32":
        return path
    original = Path(os.fsdecode(unquote_to_bytes(str(path))))
    return original if original.exists() else path


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """Make a path to the same file or folder that image libraries take; `path` itself wherever they take it.

    The links behind other names lie in a private temporary folder as long as the block runs. Errors raised in the
    block name `path`.

    Raises:
        InputError: links cannot be made.
    """
    if is_plain(path) and not _odd_names_in(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=f"{LINKS_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as links:
        try:
            link = _linked(path.absolute(), Path(links))
        except OSError as error:
            name = plain_name(str(path))
            raise InputError(f"{name} has a name that is not UTF-8 ({error.strerror}): rename it.") from error
        try:
            yield link
        except InputError as error:
            raise type(error)(str(error).replace(str(link), str(path))) from error


def _odd_names_in(path: Path) -> bool:
    try:
        return path.is_dir() and not all(is_plain(entry) for entry in path.iterdir())
    except OSError:
        return False  # the reader says what is wrong with the folder


def _linked(path: Path, links: Path) -> Path:
    """Link a path of plain names below `links` to a file, or to a folder that holds the same files."""
    link = links / plain_name(path.name)
    if path.is_dir():
        link.mkdir()
        for entry in path.iterdir():
            (link / plain_name(entry.name)).symlink_to(entry)
        return link
    if is_plain(Path(path.name)):  # the folder is at fault: a header finds its voxels beside it
        beside = links / "folder"
        beside.symlink_to(path.parent)
        return beside / path.name
    link.symlink_to(path)
    return link
