"""Find out what an entry of a folder is without opening it, for every listing of images, patients or cases.

`Path.is_file` and `Path.is_dir` say no to a link that leads nowhere (git-annex, DataLad, a share that is not mounted)
as they do to what was never there, so a listing by them would leave out a slice or a patient without a message.
"""

import errno
import os
import stat
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from .errors import InputError

_FETCH = "fetch what it leads to (git annex get, mount the share)"
NOT_OPENABLE = "entries-not-openable"
_SHOWN = 5


class EntryKind(StrEnum):
    """What a path leads to, links followed; the value ends the sentence "it is ..."."""

    FILE = "a file"
    FOLDER = "a folder"
    ABSENT = "not there"
    # Or to itself.
    LINK_TO_NOTHING = "a link to nothing"
    SPECIAL = "a pipe, a socket or a device"
    UNREADABLE = "not readable with these permissions, or its disk is not reachable"

    @property
    def opens(self) -> bool:
        """Return whether an entry is a readable file or folder; anything else must be reported."""
        return self in (EntryKind.FILE, EntryKind.FOLDER)


_KINDS = {stat.S_IFREG: EntryKind.FILE, stat.S_IFDIR: EntryKind.FOLDER}


def entry_kind(path: Path) -> EntryKind:
    """Find out what a path leads to, without opening it and so without waiting for a pipe."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return EntryKind.LINK_TO_NOTHING if path.is_symlink() else EntryKind.ABSENT
    except OSError as error:
        return EntryKind.LINK_TO_NOTHING if error.errno == errno.ELOOP else EntryKind.UNREADABLE
    except ValueError:
        return EntryKind.UNREADABLE
    kind = _KINDS.get(stat.S_IFMT(mode), EntryKind.SPECIAL)
    needed = os.R_OK | (os.X_OK if kind is EntryKind.FOLDER else 0)
    return kind if not kind.opens or os.access(path, needed) else EntryKind.UNREADABLE


def lost_link(path: Path) -> Path | None:
    """Find the link that leads nowhere among a path and the folders on the way to it, if it is the reason."""
    for place in (*reversed(path.parents), path):
        if (kind := entry_kind(place)) is EntryKind.LINK_TO_NOTHING:
            return place
        if kind is not EntryKind.FOLDER:
            return None
    return None


def check_link(path: Path, wanted: str) -> None:
    """Refuse a path that leads nowhere because of a link on the way; whatever else is wrong passes.

    Args:
        wanted: what else to do, the end of the sentence.

    Raises:
        InputError: names the link.
    """
    if lost := lost_link(path):
        raise InputError(f"{lost} is {EntryKind.LINK_TO_NOTHING}: {_FETCH}, or {wanted}.", code="link-to-nothing")


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
    found = f"{len(closed)} of the {what} in {closed[0][0].parent} cannot be opened ({named}{more})"
    raise InputError(f"{found}: {_FETCH}, or remove it.", code=NOT_OPENABLE)
