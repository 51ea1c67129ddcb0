"""Rows of a list of cases from the disk: a `worklist.json` (shown at once, then read anew) or a folder of cases."""

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SegWithUCore.case.case_file import CASE_FILE, case_folders
from SegWithUCore.case.region_files import REGIONS_FILE
from SegWithUCore.errors import InputError
from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.reviews import LOG_PATTERN, Elsewhere
from SegWithUCore.review.worklist import SECONDS_PER_REGION, CaseReading, WorklistEntry, read_for_worklist, unreadable
from SegWithUCore.review.worklist_files import read_listed

from .cases.case_list import CaseItem, Stamp

if TYPE_CHECKING:
    from .scene.case_nodes import CaseNodes


class FolderRows:
    """One row a case folder.

    Args:
        place: a `worklist.json`, a folder of case folders, or a case folder.
        also: tells another folder where reviews of a case may lie.

    Raises:
        InputError: the place holds no cases, or the file is no worklist.
    """

    empty_text = ""
    comes_and_goes = False

    def __init__(self, place: Path, also: Elsewhere | None = None) -> None:
        self.title = str(place)
        self.rules: FlagRules | None = None
        self.seconds_per_region = SECONDS_PER_REGION
        self.is_sorted = place.is_file()
        self._also = also
        if self.is_sorted:
            listed = read_listed(place)
            entries: Sequence[WorklistEntry] = listed.entries
            self.rules, self.seconds_per_region = listed.rules, listed.seconds_per_region
        else:
            entries = [WorklistEntry(folder.resolve().name, folder) for folder in case_folders([place])]
        self._entries = entries

    def rows(self, known: Sequence[CaseItem]) -> list[CaseItem]:
        """The rows as they were found when the list was opened."""
        return list(known) or [CaseItem(entry, _key(_folder(entry))) for entry in self._entries]

    def key_of(self, nodes: "CaseNodes") -> Hashable:
        """The folder that a run in the scene was loaded from."""
        return None if nodes.case_folder is None else _key(nodes.case_folder)

    def stamp(self, item: CaseItem) -> Stamp:
        """The files of the row."""
        return files_stamp(item.folder, item.elsewhere)

    def read(self, item: CaseItem, rules: FlagRules | None) -> CaseReading:
        """Read the case folder.

        Raises:
            InputError: it is none, or damaged.
        """

        def also(folder: Path, case: Mapping[str, Any], regions_sha256: str) -> Path | None:
            item.elsewhere = self._also(folder, case, regions_sha256) if self._also is not None else None
            return item.elsewhere

        return read_for_worklist(_folder(item.entry), rules, also)

    def unreadable(self, item: CaseItem, error: InputError) -> WorklistEntry:
        """The row of a folder that cannot be read."""
        return unreadable(_folder(item.entry), error)


def files_stamp(*places: Path | None) -> Stamp:
    """The files in case folders, or where reviews lie, that a row depends on, with size and time of change."""
    found = []
    for place in places:
        try:
            entries = [] if place is None else list(os.scandir(place))
        except OSError:  # told when the case is read
            continue
        for entry in entries:
            if entry.name in (CASE_FILE, REGIONS_FILE) or Path(entry.name).match(LOG_PATTERN):
                facts = entry.stat()
                found.append((entry.path, facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(found))


def _key(folder: Path) -> str:
    return os.path.realpath(folder)


def _folder(entry: WorklistEntry) -> Path:
    assert entry.folder is not None  # every row of this source has one
    return entry.folder
