"""What an entry of a folder is, asked without opening it: every listing of images, patients or cases asks here.

`Path.is_file` and `Path.is_dir` say no to a link that leads nowhere (git-annex, DataLad, a share that is not mounted)
as they do to what was never there, so a listing by them leaves out a slice or a patient in silence.
"""

import errno
import os
import stat
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from .errors import InputError

FETCH = "fetch what it leads to (git annex get, mount the share)"
_SHOWN = 5


class EntryKind(StrEnum):
    """What a path leads to, links followed; the value ends the sentence "it is ..."."""

    FILE = "a file"
    FOLDER = "a folder"
    ABSENT = "not there"
    LINK_TO_NOTHING = "a link to nothing"
    LINK_TO_ITSELF = "a link to itself"
    PIPE = "a pipe (FIFO)"
    SOCKET = "a socket"
    DEVICE = "a device"
    UNREADABLE = "not to be read with these permissions, or its disk is not reachable"

    @property
    def opens(self) -> bool:
        """Whether it can be read as a file or listed as a folder; everything else must never be left out unsaid."""
        return self in (EntryKind.FILE, EntryKind.FOLDER)


_KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFIFO: EntryKind.PIPE,
    stat.S_IFSOCK: EntryKind.SOCKET,
}


def entry_kind(path: Path) -> EntryKind:
    """Find out what a path leads to, without opening it and so without waiting for a pipe."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return EntryKind.LINK_TO_NOTHING if path.is_symlink() else EntryKind.ABSENT
    except (OSError, ValueError) as error:
        loop = isinstance(error, OSError) and error.errno == errno.ELOOP
        return EntryKind.LINK_TO_ITSELF if loop else EntryKind.UNREADABLE
    kind = _KINDS.get(stat.S_IFMT(mode), EntryKind.DEVICE)
    needed = os.R_OK | (os.X_OK if kind is EntryKind.FOLDER else 0)
    return kind if not kind.opens or os.access(path, needed) else EntryKind.UNREADABLE


def check_entries(entries: Iterable[Path], what: str) -> None:
    """Refuse entries that cannot be opened, all in one sentence.

    Args:
        entries: of one folder, those that name an image, a slice, a patient or a case.
        what: they are, in the plural ("slices").

    Raises:
        InputError: names the first few that cannot be opened, and counts them.
    """
    closed = [(path, kind) for path in entries if not (kind := entry_kind(path)).opens]
    if not closed:
        return
    named = ", ".join(f"{path.name} is {kind}" for path, kind in closed[:_SHOWN])
    more = f", and {len(closed) - _SHOWN} more" if len(closed) > _SHOWN else ""
    place = closed[0][0].parent
    raise InputError(
        f"{place} holds {len(closed)} {what} that cannot be opened ({named}{more}): {FETCH}, or take it out.",
        code="entries-not-openable",
    )
