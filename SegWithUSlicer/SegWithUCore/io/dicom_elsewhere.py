"""Slices of a series that lie where they are not read: in hidden files, and in folders inside its folder."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..util.errors import InputError
from ..util.folder_entries import EntryKind, entry_kind
from .dicom_folder import DicomSlice
from .dicom_header import identifiers
from .plain_names import plain_name

MOST_FILES = 2000
"""How many are looked at: about a second's work, and more than a disc of one study has beside a series."""
_LEAST_BYTES = 132
"""Of a DICOM file. Files of the system that block have a size of 0."""
_NAMED = 3


def check_all_here(folder: Path, slices: Sequence[DicomSlice]) -> None:
    """Check that no further slice of a series is hidden or lies in a folder inside, as far as `MOST_FILES` goes.

    Copies of slices that are read, by their SOPInstanceUID, are no matter: backups, and the files behind links.

    Raises:
        InputError: there are some; names the first few, and counts them.
    """
    series = slices[0].text("SeriesInstanceUID")
    known = {one.text("SOPInstanceUID") for one in slices} - {""}
    known = known if len(known) == len(slices) else set()  # else they do not tell slices apart
    files = islice(_not_read(folder), MOST_FILES) if series else ()
    missed = [
        file
        for file, opens in files
        if opens and (found := identifiers(file)) is not None and found[0] == series and found[1] not in known
    ]
    if missed:
        named = ", ".join(plain_name(str(file.relative_to(folder))) for file in missed[:_NAMED])
        more = f" and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
        raise InputError(
            f"{folder} holds {len(slices)} slices of a series of which {len(missed)} others are hidden or in folders "
            f"inside ({named}{more}): put all slices of the series into one folder, or take those out.",
            code="slices-elsewhere",
        )


def unseen(folder: Path) -> list[str]:
    """Sentences about what `check_all_here` could not look at; they hold no name of a file."""
    others = list(islice(_not_read(folder), MOST_FILES + 1))
    closed, found = sum(not opens for _, opens in others), []
    if closed:
        found.append(
            f"{closed} entries of the folders inside cannot be opened (links to nothing, no permission): check that "
            "they are no slices of this series."
        )
    if len(others) > MOST_FILES:
        found.append(
            f"Of the files in folders inside only the first {MOST_FILES} were looked at: check that the others hold no "
            "slices of this series."
        )
    return found


def _not_read(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Hidden files of a folder, then all in the folders inside, the nearest first; hidden folders are not opened.

    These hold what a program keeps for itself: git's objects, snapshots, the bin.

    Yields:
        An entry, and whether it can be opened.
    """
    waiting, known = deque([folder]), set()
    while waiting:
        place = waiting.popleft()
        try:
            status, entries = place.stat(), sorted(place.iterdir())
        except OSError:
            yield place, False
            continue
        if (status.st_dev, status.st_ino) in known:  # a link to a folder above
            continue
        known.add((status.st_dev, status.st_ino))
        for entry in entries:
            kind, hidden = entry_kind(entry), entry.name.startswith(".")
            if kind is EntryKind.FOLDER and not hidden:
                waiting.append(entry)
            elif kind is EntryKind.FILE and (hidden or place != folder) and entry.stat().st_size >= _LEAST_BYTES:
                yield entry, True
            elif not kind.opens and not hidden:
                yield entry, False
