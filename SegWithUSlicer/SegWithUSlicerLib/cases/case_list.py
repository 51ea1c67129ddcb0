"""The list of cases behind the panel: rows read step by step, filtered, sorted, with each reviewer's status.

Needs neither Qt nor MRML. Where rows come from, a `RowSource` knows: see `rows`.
"""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.reviews import RegionVerdicts, disagreements
from SegWithUCore.review.worklist import CaseReading, WorklistEntry, by_benefit, pace_of, with_pace
from SegWithUCore.util.errors import InputError

if TYPE_CHECKING:
    from ..scene.case_nodes import CaseNodes

Stamp = tuple[tuple[str, int, int], ...]
"""Which files and nodes a row depends on, with size and time of change."""


@dataclass(frozen=True)
class Difference:
    """A region on which reviewers disagree.

    Attributes:
        item, case: the row, and the name of the case.
        reviewers: in the order of `verdicts.verdicts`.
    """

    item: "CaseItem"
    case: str
    reviewers: tuple[str, ...]
    verdicts: RegionVerdicts


@dataclass(eq=False)
class CaseItem:
    """One row of the list.

    Attributes:
        entry: the case's entry of the worklist.
        key: what its source knows the row by.
        nodes: the result in the scene that the row is about; None for a case folder.
        is_read: the numbers were read from the case itself; else they are from a file that may be older, or unknown.
        paces: seconds that reviewers spent on each decided region.
        differences: regions on which reviewers disagree.
        elsewhere: where other reviews of the case may lie.
    """

    entry: WorklistEntry
    key: Hashable
    nodes: "CaseNodes | None" = None
    is_read: bool = False
    paces: Sequence[float] = ()
    differences: Sequence[Difference] = field(default=(), repr=False)
    elsewhere: Path | None = None
    stamp: Stamp = field(default=(), repr=False)

    @property
    def folder(self) -> Path | None:
        """The case folder; None for a result that is whole in the scene alone."""
        return self.entry.folder


class RowSource(Protocol):
    """Source of the rows of a list: a folder, a worklist or the scene."""

    @property
    def title(self) -> str:
        """What is listed, for people."""

    @property
    def empty_text(self) -> str:
        """The message if there is nothing to list."""

    @property
    def is_dynamic(self) -> bool:
        """Whether rows may come and go while the list is shown."""

    @property
    def rules(self) -> FlagRules | None:
        """Of flags, that came with the rows; None for those of each case's model."""

    @property
    def seconds_per_region(self) -> float:
        """The pace to begin with."""

    @property
    def is_sorted(self) -> bool:
        """Whether rows come in the order in which they are to be shown."""

    def rows(self, known: Sequence[CaseItem]) -> list[CaseItem]:
        """Return the current rows: known ones that still exist, then new ones."""

    def key_of(self, nodes: "CaseNodes") -> Hashable:
        """Return the key of the row for a result in the scene; None if no row can be about it."""

    def stamp(self, item: CaseItem) -> Stamp:
        """Return a value that changes whenever the row must be read again."""

    def read(self, item: CaseItem, rules: FlagRules | None) -> CaseReading:
        """Read a row.

        Raises:
            InputError: it cannot be read.
        """

    def unreadable(self, item: CaseItem, error: InputError) -> WorklistEntry:
        """Return the text for a row that cannot be read."""


class CaseList:
    """The cases of one source, read step by step.

    Args:
        source: where the rows come from.

    Attributes:
        items: in the order of the worklist; else sorted by benefit as soon as all were read.
        rules: of flags, that the worklist's maker gave or the user has set; None for those of each case's model.
    """

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.rules = source.rules
        self._seconds, self._is_sorted = source.seconds_per_region, source.is_sorted
        self.items: list[CaseItem] = []
        self._waiting: deque[CaseItem] = deque()
        self._take(source.rows(()))

    def set_wrong_share(self, share: float | None) -> None:
        """Flag cases of which more than this share, or of one of their structures, is expected to be wrong.

        All are read again.

        Args:
            share: from 0 to 1; None for the rules of each case's model, or what else the worklist's maker gave.
        """
        given = self.source.rules
        changed = replace(given or FlagRules(), wrong_share=share, case_share=share)
        self.rules = None if share is None and given is None else changed
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

    def recheck(self) -> int:
        """Let rows be read again that have changed since; returns how many wait now."""
        waiting = set(self._waiting)
        self._waiting.extend(
            item for item in self.items if item not in waiting and self.source.stamp(item) != item.stamp
        )
        return len(self._waiting)

    def renew(self) -> bool:
        """Add new rows and drop those that are gone; False if nothing changed."""
        rows = self.source.rows(self.items)
        if rows == self.items:
            return False
        self._is_sorted = self._is_sorted and bool(self.items)
        self._take(rows)
        return True

    def read_again(self, nodes: "CaseNodes | None") -> CaseItem | None:
        """Read the row of what the scene shows now; None if it is not listed."""
        item = self.find(nodes)
        if item is not None:
            self._read(item)
        return item

    def find(self, nodes: "CaseNodes | None") -> CaseItem | None:
        """Find the row of a result in the scene."""
        key = None if nodes is None else self.source.key_of(nodes)
        return None if key is None else self._by_key.get(key)

    @property
    def differences(self) -> list[Difference]:
        """All regions on which reviewers disagree, case by case."""
        return [difference for item in self.items for difference in item.differences]

    def _take(self, rows: list[CaseItem]) -> None:
        waiting = set(self._waiting)
        self._waiting = deque(item for item in rows if item in waiting or not item.is_read)
        self.items, self._by_key = rows, {item.key: item for item in rows}

    def _read(self, item: CaseItem) -> None:
        item.stamp, item.is_read = self.source.stamp(item), True
        try:
            reading = self.source.read(item, self.rules)
        except InputError as error:
            item.entry, item.paces, item.differences = self.source.unreadable(item, error), (), ()
            return
        item.entry, item.paces = reading.entry(self._seconds), reading.paces
        found = reading.found
        names = tuple(review.reviewer for review in found.reviews)
        item.differences = [
            Difference(item, item.entry.name, names, verdicts)
            for verdicts in disagreements(found.regions, found.reviews)
        ]

    def _sort(self) -> None:
        """Put rows that came without an order in one, once: later they must not jump under the user's hand."""
        self._is_sorted = True
        self._seconds, _decided = pace_of([pace for item in self.items for pace in item.paces])
        for item in self.items:
            item.entry = with_pace(item.entry, self._seconds)
        rank_of = {id(entry): rank for rank, entry in enumerate(by_benefit([item.entry for item in self.items]))}
        self.items.sort(key=lambda item: rank_of[id(item.entry)])


@dataclass(frozen=True)
class ReviewerProgress:
    """Progress of the reviewers of a case.

    Attributes:
        own: regions that the reviewer has decided; None if he has not begun.
        others: the other reviewers with theirs.
        regions: number of regions; None if nothing is calibrated.
        unseen: regions that the reviewer has taken without a look.
    """

    own: int | None
    others: Mapping[str, int]
    regions: int | None
    unseen: int = 0

    @property
    def is_open(self) -> bool:
        """Whether this reviewer has regions left to decide."""
        return bool(self.regions) and (self.own or 0) + self.unseen < (self.regions or 0)


def reviewer_progress(entry: WorklistEntry, reviewer: str) -> ReviewerProgress:
    """Return how far a case is, for a reviewer and for the others; without a name the one who is furthest counts.

    Args:
        reviewer: as it stands in the logs.
    """
    statuses = {status.reviewer: status for status in entry.reviews}
    furthest = max(statuses.values(), key=lambda status: status.decided + status.unseen, default=None)
    own = statuses.pop(reviewer, None) if reviewer else furthest
    decided = {name: status.decided for name, status in statuses.items()}
    if own is None:
        return ReviewerProgress(None, decided, entry.regions)
    return ReviewerProgress(own.decided, decided, entry.regions, own.unseen)


def matches(entry: WorklistEntry, text: str) -> bool:
    """Check whether all words of a filter occur in the texts about a case."""
    folder = "" if entry.folder is None else entry.folder.name
    texts: list[Any] = [entry.name, folder, entry.worst_structure or "", entry.trouble]
    texts += [part for flag in entry.flags for part in (flag.rule.value, flag.sentence)]
    texts += [status.reviewer for status in entry.reviews]
    whole = "\n".join(map(str, texts)).casefold()
    return all(word in whole for word in text.casefold().split())
