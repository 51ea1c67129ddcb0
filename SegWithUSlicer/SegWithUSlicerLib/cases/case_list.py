"""The list of cases behind the panel: case folders read step by step, filtered, with each reviewer's status.

Needs neither Qt nor MRML, and loads nothing.
"""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from SegWithUCore.case.case_folders import case_folders
from SegWithUCore.review.reviews import Elsewhere
from SegWithUCore.review.worklist import WorklistEntry, read_for_worklist, worklist_of
from SegWithUCore.review.worklist_files import read_listed


@dataclass(eq=False)
class CaseItem:
    """One row of the list: a case folder.

    Attributes:
        entry: the case's entry of the worklist.
        is_read: the numbers were read from the case; else they are not known yet.
    """

    entry: WorklistEntry
    is_read: bool = False

    @property
    def folder(self) -> Path:
        """The case folder."""
        return self.entry.folder


class CaseList:
    """The cases of a worklist or a folder, read step by step.

    Args:
        path: a `worklist.json`, a folder of case folders, or a case folder.
        also: returns another folder that may hold reviews of a case.

    Attributes:
        title: what is listed, for people.
        items: in the order of the worklist; those of a folder are sorted worst first as soon as all were read.

    Raises:
        InputError: the folder holds no cases, or the file is no worklist.
    """

    def __init__(self, path: Path, also: Elsewhere | None = None) -> None:
        self.title, self._also = str(path), also
        self._is_sorted = path.is_file()
        if self._is_sorted:
            entries: Sequence[WorklistEntry] = read_listed(path)
        else:
            entries = [WorklistEntry(folder.resolve().name, folder) for folder in case_folders([path])]
        self.items = [CaseItem(entry) for entry in entries]
        self._by_folder = {os.path.realpath(item.folder): item for item in self.items}
        self._waiting = deque(self.items)

    @property
    def progress(self) -> float:
        """The share of rows that wait for nothing, 0 to 1."""
        return 1.0 - len(self._waiting) / max(1, len(self.items))

    def read_some(self, seconds: float) -> list[CaseItem]:
        """Read waiting rows for this time (at least one row) and return them. Call until `progress` is 1."""
        until = monotonic() + seconds
        done: list[CaseItem] = []
        while self._waiting and (not done or monotonic() < until):
            item = self._waiting.popleft()
            self._read(item)
            done.append(item)
        if done and not self._waiting and not self._is_sorted:
            # Once: later they must not jump under the user's hand.
            self._is_sorted = True
            entries = worklist_of([item.entry for item in self.items]).entries
            ranks = {entry.folder: rank for rank, entry in enumerate(entries)}
            self.items.sort(key=lambda item: ranks[item.folder])
            return self.items
        return done

    def read_all_again(self) -> None:
        """Mark all rows to be read again by `read_some`, because reviewers may have continued."""
        self._waiting = deque(self.items)

    def read_again(self, folder: Path | None) -> CaseItem | None:
        """Read the row of a case folder; None if it is not listed."""
        item = self.find(folder)
        if item is not None:
            self._read(item)
        return item

    def find(self, folder: Path | None) -> CaseItem | None:
        """Find the row of a case folder."""
        return None if folder is None else self._by_folder.get(os.path.realpath(folder))

    def _read(self, item: CaseItem) -> None:
        item.entry, item.is_read = read_for_worklist(item.folder, self._also, heavy=False), True


def matches(entry: WorklistEntry, text: str) -> bool:
    """Check whether all words of a filter occur in the texts about a case."""
    whole = f"{entry.searched}\n{entry.folder.name}".casefold()
    return all(word in whole for word in text.casefold().split())
