"""Worklist: cases sorted by status, then by a metric of the whole case, worst first, or by errors seen per minute.

Metrics need no fitted limit: with the usual twenty calibration cases perhaps no limit separates bad cases from good
ones better than chance, and yet the worst case is often first (`Testing/Benchmarks/results/worklist_order.json`).
Standard library at file scope.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..case.case_file import SEGMENTATION_FILE, is_mask_alone, lost_maps, naming_case, read_case
from ..case.case_files import case_file, shown_files
from ..case.case_folders import checked_file
from ..regions.region import expected_wrong
from ..util.errors import InputError
from ..util.folder_entries import lost_link
from .flags import LARGEST, Flag, Rule, asked_of, case_flags, metrics_of_case, rules_of_case
from .reviews import CaseReviews, Elsewhere, Review, read_reviews, seen_by, unseen_regions
from .session import SECONDS_PER_REGION
from .signing import valid_signature, volume_rows
from .status import Level, Status, status_of
from .verdicts import SEEN

# For opening a case: without it one large region would come before any case of many.
SECONDS_TO_OPEN = 15.0
PACE = f"{SECONDS_PER_REGION:.0f} s per region and {SECONDS_TO_OPEN:.0f} s per case are assumed"

WORST_FIRST = "predicted-dice"
# Orders of a worklist by name.
SORTS = {
    WORST_FIRST: "the predicted Dice, mean of the structures, lowest first",
    "share": "the expected wrong volume, missed tissue included, as a share of the segmented volume, largest first",
    "benefit": "the expected wrong volume (mm3) in the regions that are still to be reviewed, per minute of review",
}


@dataclass(frozen=True)
class ReviewProgress:
    """How far one reviewer is.

    Attributes:
        decided: regions with a verdict after a look, of `regions`.
        when: time of the last line of the log, UTC; "" in anonymous cases.
        unseen: regions that were taken without a look.
        is_done: as `ReviewState.is_done`, whatever regions say.
        is_signed: whether volumes are signed, of the segmentation as it is.
    """

    reviewer: str
    decided: int
    regions: int
    when: str
    unseen: int = 0
    is_done: bool = False
    is_signed: bool = False

    @property
    def short_text(self) -> str:
        """For a cell of a table."""
        if self.is_signed:
            return "signed"
        if self.unseen and not self.is_done:
            return f"{self.decided} of {self.regions}, {self.unseen} not looked at"
        return "done" if self.is_done or self.decided >= self.regions else f"{self.decided} of {self.regions}"

    @property
    def text(self) -> str:
        """For people."""
        unseen = f", {self.unseen} not looked at" if self.unseen else ""
        when = f", {self.when}" if self.when else ""
        return f"{self.reviewer}: {self.decided} of {self.regions} regions{unseen}{when}"

    def to_json(self) -> dict[str, Any]:
        """For `worklist.json`."""
        return {**asdict(self), "text": self.text}


@dataclass(frozen=True)
class WorklistEntry:
    """One case of a worklist.

    Attributes:
        name: of the case.
        folder: of the case.
        flags: with their reasons.
        status: what to do with the case; None if it was not read.
        worst_structure: of those asked for, the one with the largest expected wrong volume; None without
            calibration, or where nothing is left.
        expected_wrong_mm3: of that structure.
        regions: number of regions of structures asked for; None if nothing is calibrated, or the case was not read.
        open_regions: those that no reviewer has accepted, corrected or taken without a look, and whose structure nobody
            has finished; None as `regions`.
        open_wrong_mm3: expected wrong volume that these hold.
        reviews: of each reviewer.
        notes: what is wrong with its reviews, one sentence each.
        trouble: why the case could not be read; "" where it could.
        unseen_regions: those that were taken without a look and that no reviewer has looked at.
        unseen_wrong_mm3: expected wrong volume that these hold.
        metrics: of the case, as `metrics_of_case`; None for what its model does not give.
        asked: names of the structures to be measured, which all figures are about.
        has_finished: a reviewer has finished a structure, so that the case can teach its model.
        volumes: its rows of `volumes.csv`.
        is_mask_alone: as `case_file.is_mask_alone`.
    """

    name: str
    folder: Path
    flags: tuple[Flag, ...] = ()
    status: Status | None = None
    worst_structure: str | None = None
    expected_wrong_mm3: float | None = None
    regions: int | None = None
    open_regions: int | None = None
    open_wrong_mm3: float | None = None
    reviews: tuple[ReviewProgress, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: str = ""
    unseen_regions: int | None = None
    unseen_wrong_mm3: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    has_finished: bool = False
    volumes: tuple[Sequence[Any], ...] = ()
    is_mask_alone: bool = False

    @property
    def share_text(self) -> str:
        """How much is likely wrong, relative to what was segmented; "" if that is not known."""
        share = self.metrics.get("wrong_share")
        return "" if share is None else "all" if share >= LARGEST else f"{share * 100:.0f} %"

    @property
    def minutes(self) -> float | None:
        """Estimated time of reviewing the open regions."""
        if not self.open_regions:
            return None if self.open_regions is None else 0.0
        return (SECONDS_TO_OPEN + SECONDS_PER_REGION * self.open_regions) / 60

    @property
    def benefit(self) -> float | None:
        """Expected wrong mm3 seen per minute; 0 if nothing is left to review."""
        wrong = self.open_wrong_mm3
        return None if wrong is None else wrong / self.minutes if self.minutes else 0.0

    @property
    def is_flagged(self) -> bool:
        """Whether anything of what is asked for is to be looked at, as far as is known; `status` says why."""
        return self.status is None or self.status.level is not Level.NOT_FLAGGED

    @property
    def about(self) -> list[str]:
        """Why the case has its status, and what is unusual about it."""
        if self.trouble:
            return [self.trouble]
        reasons = [] if self.status is None else [self.status.text]
        reasons += [flag.message for flag in self.flags if self.status is None or flag.message != self.status.reason]
        return list(dict.fromkeys([*reasons, *self.notes]))

    @property
    def searched(self) -> str:
        """What a filter looks for words in."""
        named = [*(flag.rule.value for flag in self.flags), *(review.reviewer for review in self.reviews)]
        return "\n".join([self.name, self.worst_structure or "", *self.about, *named])

    @property
    def open_text(self) -> str:
        """How many regions are open, of all; "" if that is not known."""
        return "" if self.regions is None else f"{self.open_regions} of {self.regions}"

    def decided_by(self, reviewer: str) -> int:
        """Count the regions that a reviewer has decided or taken without a look; "" for whoever is furthest."""
        reviews = [review for review in self.reviews if review.reviewer == reviewer or not reviewer]
        return max((review.decided + review.unseen for review in reviews), default=0)

    def is_open_for(self, reviewer: str) -> bool:
        """Whether a reviewer has regions left to decide."""
        is_done = any(review.is_done for review in self.reviews if review.reviewer == reviewer or not reviewer)
        return not (self.trouble or is_done) and self.decided_by(reviewer) < (self.regions or 0)

    def review_text(self, reviewer: str) -> str:
        """Say how far the case is: the reviewer's own part first, then the others'."""
        if self.trouble or not self.regions:
            return "cannot be read" if self.trouble else "not calibrated" if self.regions is None else "no region"
        own = [each.short_text for each in self.reviews if each.reviewer == reviewer]
        others = [f"{each.reviewer}: {each.short_text}" for each in self.reviews if each.reviewer != reviewer]
        return "; ".join([*own, *others] if own or (others and not reviewer) else ["not started", *others])


# Sort keys of `SORTS`, lowest first.
_KEYS: dict[str, Callable[[WorklistEntry], float | None]] = {
    WORST_FIRST: lambda entry: entry.metrics.get("mean_dice"),
    "share": lambda entry: None if (share := entry.metrics.get("wrong_share")) is None else -share,
    "benefit": lambda entry: -(entry.benefit or 0.0),
}


@dataclass(frozen=True)
class Worklist:
    """Cases in order.

    Attributes:
        entries: by status, then as `sort` says; after them those that could not be read.
        sort: of `SORTS`.
    """

    entries: tuple[WorklistEntry, ...]
    sort: str = WORST_FIRST

    @property
    def warnings(self) -> list[str]:
        """What is to be known of the models of the cases, each sentence once."""
        flags = (flag for entry in self.entries for flag in entry.flags)
        return list(dict.fromkeys(flag.message for flag in flags if flag.rule is Rule.MODEL))

    @property
    def order(self) -> str:
        """The order as a sentence."""
        is_alone = self.entries and all(entry.is_mask_alone for entry in self.entries)
        by = "the number of open regions, largest first" if is_alone else SORTS[self.sort]
        return f"First the cases not to be used, then those to look at, each by {by}."


def counts_text(entries: Sequence[WorklistEntry], reviewer: str | None = None) -> str:
    """Say how many cases have which status, and how many are open for a reviewer, "" for whoever reads it."""
    levels = [entry.status.level for entry in entries if entry.status is not None]
    text = ", ".join(f"{levels.count(level)} {level}" for level in Level)
    text = f"{len(entries)} {'case' if len(entries) == 1 else 'cases'}: {text}"
    if reviewer is None:
        return text
    return f"{text}; {sum(entry.is_open_for(reviewer) for entry in entries)} open for {reviewer or 'you'}"


def make_worklist(folders: Sequence[Path], sort: str = WORST_FIRST) -> Worklist:
    """Read case folders and sort them; a damaged one is listed with a sentence and does not stop the rest.

    Only `case.json`, `regions.csv` and the logs are read, and the segmentation is compared with its hash; of the maps,
    which are a hundred times larger, only that they are there, but where a reviewer's work is not measured yet.

    Args:
        sort: of `SORTS`.
    """
    return worklist_of([read_for_worklist(folder, compare=True) for folder in folders], sort)


def worklist_of(entries: Sequence[WorklistEntry], sort: str = WORST_FIRST) -> Worklist:
    """Sort entries.

    Cases that must not be used come first, then those to look at, each with the figure of the order before those
    without, which go by their share, masks alone by their open regions; those that could not be read are last.
    """

    def key(entry: WorklistEntry) -> tuple[Any, ...]:
        figure, share = _KEYS[sort](entry), _KEYS["share"](entry)
        level, known = Level.LOOK if entry.status is None else entry.status.level, figure is not None
        figure = figure if known else share if share is not None else -float(entry.open_regions or 0)
        order = (bool(entry.trouble), list(Level).index(level), not known, figure or 0.0)
        return *order, entry.name, str(entry.folder)

    return Worklist(tuple(sorted(entries, key=key)), sort)


def read_for_worklist(
    folder: Path, also: Elsewhere | None = None, reviewer: str | None = None, compare: bool = False, heavy: bool = True
) -> WorklistEntry:
    """Read the row of one case; a folder that is not a case, or is damaged, gets the reason.

    Args:
        also: returns another folder whose reviews count too.
        reviewer: for whom; of other reviews, which this one may not see yet, only the progress is shown.
        compare: that the files of a review are there, and the segmentation is the one written; not in Slicer's window.
        heavy: whether volumes may be read to measure what a reviewer has done (`shown_case`); not in Slicer's window.
    """
    try:
        case = read_case(folder)
        with naming_case(folder):
            for name in shown_files(folder, case) if compare else ():
                (case_file(folder, case, name) if name == SEGMENTATION_FILE else checked_file(folder, name))
            found = read_reviews(folder, case, also)
            seen = found if reviewer is None else seen_by(reviewer, found)
            if seen.reviews:
                from .reviewed_case import shown_case  # needs numpy

                case, notes = shown_case(folder, case, seen.reviews, heavy)
                seen = replace(seen, notes=(*seen.notes, *notes))
            return entry_of(folder, case, seen, found.reviews)
    except InputError as error:
        name = folder.name if lost_link(folder) else folder.resolve().name  # not that of an annex key
        return WorklistEntry(name, folder, trouble=str(error))


def entry_of(folder: Path, case: Mapping[str, Any], found: CaseReviews, all_reviews: Sequence[Review]) -> WorklistEntry:
    """Make the row of a case.

    Args:
        case: the content of its `case.json`, or what `reviewed_case` makes of it.
        found: the reviews that count.
        all_reviews: those, and others of which only the progress is shown.
    """
    case = {**case, "asked": found.asked or case.get("asked")}  # a review may ask for others than the case
    regions, flags = found.regions, case_flags(case, rules_of_case(case), found.reviews)
    asked = asked_of(case)
    assessed = [entry for entry in asked if entry.get("expected_wrong_mm3")]  # with nothing wrong, none is the worst
    worst = max(assessed, key=lambda entry: float(entry["expected_wrong_mm3"]), default=None)
    unseen = unseen_regions(regions, found.reviews)
    # One that somebody rejected stays open, even if another one accepted it without a look.
    done = {id_ for review in found.reviews for id_, verdict in review.verdicts(regions).items() if verdict in SEEN}
    finished = {name for review in found.reviews for name in review.state.finished}
    unfinished = {str(entry["name"]) for entry in asked} - finished
    done |= {region.id for region in regions if region in unseen or not region.is_about(unfinished)}
    block = case.get("regions") or {}
    done |= set(block.get("removed") or ())
    waiting = [region for region in regions if region.id not in done]
    left = dict(enumerate(block.get("left_mm3") or ()))
    counts: dict[str, Any] = {
        "regions": len(regions),
        "open_regions": len(waiting),
        "open_wrong_mm3": sum(left.get(region.id, region.expected_wrong_mm3 or 0.0) for region in waiting),
        "unseen_regions": len(unseen),
        "unseen_wrong_mm3": expected_wrong(unseen),
    }
    if is_alone := is_mask_alone(case):
        counts |= {"open_wrong_mm3": None, "unseen_wrong_mm3": None}
    progress = []
    for review in all_reviews:
        now, when = review.state.progress(), "" if case.get("anonymous") else review.when
        marks = review.state.is_done, valid_signature(case, review) is not None
        progress.append(ReviewProgress(review.reviewer, now.decided, now.regions, when, now.unseen, *marks))
    return WorklistEntry(name=str(case["name"]), folder=folder, flags=tuple(flags), status=status_of(case, flags),
                         worst_structure=None if worst is None else str(worst["name"]),
                         expected_wrong_mm3=None if worst is None else float(worst["expected_wrong_mm3"]),
                         reviews=tuple(progress), notes=(*found.notes, *lost_maps(folder, case).values()),
                         metrics=metrics_of_case(case), asked=tuple(str(entry["name"]) for entry in asked),
                         has_finished=bool(finished) or any(review.is_done for review in progress),
                         volumes=tuple(volume_rows(case, found.reviews)), is_mask_alone=is_alone,
                         **counts if case.get("regions") is not None else {})  # fmt: skip
