"""A worklist as the panel shows it: rows read from disk bit by bit, filtered, sorted, with each reviewer's status.

Needs neither Qt nor MRML. Rows come from a `worklist.json` (shown at once, then read anew) or from a folder of cases.
"""

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from SegWithUCore.errors import InputError
from SegWithUCore.review.agreement import RegionVerdicts, disagreements
from SegWithUCore.review.case_file import CASE_FILE, case_folders
from SegWithUCore.review.case_reviews import LOG_PATTERN, Elsewhere
from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.region_files import REGIONS_FILE
from SegWithUCore.review.worklist import (
    SECONDS_PER_REGION,
    WorklistEntry,
    by_benefit,
    pace_of,
    read_for_worklist,
    unreadable,
    with_pace,
)
from SegWithUCore.review.worklist_files import read_listed

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Difference:
    """A region on which reviewers disagree.

    Attributes:
        folder, case: of the case.
        reviewers: in the order of `verdicts.verdicts`.
    """

    folder: Path
    case: str
    reviewers: tuple[str, ...]
    verdicts: RegionVerdicts


@dataclass(eq=False)
class CaseItem:
    """One row.

    Attributes:
        entry: what the worklist says of the case.
        is_read: the figures were read from the case itself, not from a file that may be older, or are not known yet.
        paces: seconds that reviewers spent on each decided region.
        differences: regions on which reviewers disagree.
        elsewhere: where other reviews of the case may lie.
    """

    entry: WorklistEntry
    is_read: bool = False
    paces: Sequence[float] = ()
    differences: Sequence[Difference] = ()
    elsewhere: Path | None = None
    stamp: Stamp = field(default=(), repr=False)

    @property
    def folder(self) -> Path:
        """The case folder."""
        return self.entry.folder


class CaseList:
    """The cases of one worklist.

    Args:
        place: a `worklist.json`, a folder of case folders, or a case folder.
        also: tells another folder where reviews of a case may lie.

    Attributes:
        items: in the order of the worklist; of a folder, sorted by benefit as soon as all were read.
        rules: of flags, that the worklist's maker gave or the user has set; None for those of each case's model.

    Raises:
        InputError: the place holds no cases, or the file is no worklist.
    """

    def __init__(self, place: Path, also: Elsewhere | None = None) -> None:
        self.place = place
        self.rules: FlagRules | None = None
        self._given: FlagRules | None = None
        self._also = also
        self._seconds = SECONDS_PER_REGION
        if place.is_file():
            listed = read_listed(place)
            self.items = [CaseItem(entry) for entry in listed.entries]
            self.rules = self._given = listed.rules
            self._seconds, self._is_sorted = listed.seconds_per_region, True
        else:
            folders = case_folders([place])
            self.items = [CaseItem(WorklistEntry(folder.resolve().name, folder)) for folder in folders]
            self._is_sorted = False
        self._by_place = {os.path.realpath(item.folder): item for item in self.items}
        self._waiting = deque(self.items)

    def set_wrong_share(self, share: float | None) -> None:
        """Flag cases of which more than this share of a structure is expected to be wrong; all are read again.

        Args:
            share: from 0 to 1; None for the rules of each case's model, or what else the worklist's maker gave.
        """
        given = self._given
        self.rules = None if share is None and given is None else replace(given or FlagRules(), wrong_share=share)
        self._waiting = deque(self.items)

    @property
    def pace(self) -> float:
        """Seconds per region, behind the minutes."""
        return self._seconds

    @property
    def progress(self) -> float:
        """The share of rows that wait for nothing, 0 to 1."""
        return 1.0 - len(self._waiting) / max(1, len(self.items))

    def read_some(self, seconds: float) -> list[CaseItem]:
        """Read rows that wait for it for so long (at least one); returns them. Call until `progress` is 1."""
        until = monotonic() + seconds
        done: list[CaseItem] = []
        while self._waiting and (not done or monotonic() < until):
            item = self._waiting.popleft()
            self._read(item)
            done.append(item)
        if done and not self._waiting and not self._is_sorted:
            self._sort()
            return self.items
        return done

    def look_again(self) -> int:
        """Let rows be read again whose files have changed since; returns how many wait now."""
        waiting = set(map(id, self._waiting))
        changed = [
            item for item in self.items if id(item) not in waiting and _stamp(item.folder, item.elsewhere) != item.stamp
        ]
        self._waiting.extend(changed)
        return len(self._waiting)

    def read_again(self, folder: Path | None) -> CaseItem | None:
        """Read one case's row now; None where it is not listed."""
        item = self.find(folder)
        if item is not None:
            self._read(item)
        return item

    def find(self, folder: Path | None) -> CaseItem | None:
        """The row of a case folder."""
        return None if folder is None else self._by_place.get(os.path.realpath(folder))

    @property
    def differences(self) -> list[Difference]:
        """All regions on which reviewers disagree, case by case."""
        return [difference for item in self.items for difference in item.differences]

    def _read(self, item: CaseItem) -> None:
        item.stamp, item.is_read = _stamp(item.folder, item.elsewhere), True

        def also(folder: Path, case: Mapping[str, Any], regions_sha256: str) -> Path | None:
            item.elsewhere = self._also(folder, case, regions_sha256) if self._also is not None else None
            return item.elsewhere

        try:
            reading = read_for_worklist(item.folder, self.rules, also)
        except InputError as error:
            item.entry, item.paces, item.differences = unreadable(item.folder, error), (), ()
            return
        item.entry, item.paces = reading.entry(self._seconds), reading.paces
        found = reading.found
        names = tuple(review.reviewer for review in found.reviews)
        item.differences = [
            Difference(item.folder, item.entry.name, names, verdicts)
            for verdicts in disagreements(found.regions, found.reviews)
        ]

    def _sort(self) -> None:
        """Put rows that came from a folder in order, once: later they must not jump under the user's hand."""
        self._is_sorted = True
        self._seconds, _decided = pace_of([pace for item in self.items for pace in item.paces])
        for item in self.items:
            item.entry = with_pace(item.entry, self._seconds)
        places = {id(entry): place for place, entry in enumerate(by_benefit([item.entry for item in self.items]))}
        self.items.sort(key=lambda item: places[id(item.entry)])


def _stamp(*places: Path | None) -> Stamp:
    """Which files a row depends on, with size and time of change."""
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


@dataclass(frozen=True)
class Standing:
    """How far a case is.

    Attributes:
        own: regions that the reviewer has decided; None where he has not begun.
        others: the other reviewers with theirs.
        regions: number of regions; None where nothing is calibrated.
    """

    own: int | None
    others: Mapping[str, int]
    regions: int | None

    @property
    def is_open(self) -> bool:
        """Whether this reviewer has regions left to decide."""
        return bool(self.regions) and (self.own or 0) < (self.regions or 0)


def standing(entry: WorklistEntry, reviewer: str) -> Standing:
    """How far a case is, for a reviewer and for the others; without a name the one who is furthest counts.

    Args:
        reviewer: as it stands in the logs.
    """
    decided: dict[str, int] = {status.reviewer: status.decided for status in entry.reviews}
    own = decided.pop(reviewer, None) if reviewer else max(decided.values(), default=None)
    return Standing(own, decided, entry.regions)


def matches(entry: WorklistEntry, text: str) -> bool:
    """Whether all words of a filter stand in what is told of a case."""
    told: list[Any] = [entry.name, entry.folder.name, entry.worst_structure or "", entry.trouble]
    told += [part for flag in entry.flags for part in (flag.rule.value, flag.sentence)]
    told += [status.reviewer for status in entry.reviews]
    whole = "\n".join(map(str, told)).casefold()
    return all(word in whole for word in text.casefold().split())
