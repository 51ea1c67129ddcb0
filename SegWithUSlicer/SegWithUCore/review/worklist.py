"""Worklist: cases sorted by the expected errors seen per minute of review, or by a figure of the whole case.

Figures need no fitted limit: with the usual twenty calibration cases no limit may tell bad cases from good ones beyond
chance, and yet the worst case is often that of the largest expected wrong share or of the lowest predicted Dice.
Standard library only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..case.case_file import naming_case, read_case
from ..regions.region import Region
from ..util.errors import InputError
from ..util.folder_entries import lost_link
from .flags import (
    FIGURE_DIGITS,
    FIGURES,
    LARGEST,
    Flag,
    FlagRules,
    Rule,
    case_flags,
    check_limits,
    dice_estimate,
    figures_of_case,
    first_lines,
    rules_of_case,
    structures_of,
)
from .log_format import SEEN, SPOKEN, Verdict
from .reviews import CaseReviews, Elsewhere, Review, read_reviews, seen_by, unseen_regions

SECONDS_PER_REGION = 20.0
"""Assumed until `ENOUGH_DECIDED` regions have been decided."""
SECONDS_TO_OPEN = 15.0
"""Assumed for opening a case and finding one's way: without it one large region would beat any case of many."""
ENOUGH_DECIDED = 5
SORTED_BY = (
    "the expected wrong volume (mm3) in the regions that nobody has accepted, corrected or taken without a look, per "
    "minute that looking at them takes (seconds per region times their number, plus the time to open the case)"
)

BENEFIT = "benefit"
SORTS = {
    BENEFIT: SORTED_BY,
    "share": "the expected wrong volume, missed tissue included, as a share of the segmented volume, largest first",
    "mm3": "the expected wrong volume of the whole case (mm3), missed tissue included, largest first",
    "predicted-dice": "the lowest predicted Dice of a structure, lowest first",
}
"""Orders of a worklist by name."""


@dataclass(frozen=True)
class Rank:
    """How a case compares with the calibration cases by one figure.

    Attributes:
        better: calibration cases that look better.
        cases: all of them that have the figure.
    """

    better: int
    cases: int

    @property
    def text(self) -> str:
        """For tables."""
        return f"{self.better} of {self.cases}"


@dataclass(frozen=True)
class Triage:
    """Figures of a whole case; None for what its model does not give.

    Attributes:
        wrong_share: expected wrong volume, missed tissue included, over the volume of all structures.
        wrong_mm3: that expected wrong volume.
        predicted_dice: the lowest of its structures, also where the prediction is not informative.
        ranks: by figure, among the calibration cases; without those that say nothing: of the share where nothing was
            segmented, of the predicted Dice where it is not informative. Empty for bundles that do not know them.
        rules_active: whether any limit of a figure can flag the case.
    """

    wrong_share: float | None = None
    wrong_mm3: float | None = None
    predicted_dice: float | None = None
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    rules_active: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether something is expected to be missed, and nothing was segmented."""
        return self.wrong_share is not None and self.wrong_share >= LARGEST

    @property
    def sentences(self) -> list[str]:
        """Say how the case ranks, for people."""
        said = []
        if (rank := self.ranks.get("wrong_share")) and self.wrong_share is not None:
            what = f"{100 * self.wrong_share:.0f} %"
            said.append(
                f"The expected wrong volume, missed tissue included, is {what} of the segmented volume: larger than "
                f"in {rank.text} calibration cases."
            )
        elif self.is_empty and self.wrong_mm3 is not None:
            said.append(f"Nothing was segmented; {self.wrong_mm3:.0f} mm3 are expected to be missed.")
        if (rank := self.ranks.get("predicted_dice")) and self.predicted_dice is not None:
            said.append(
                f"The lowest predicted Dice of a structure is {self.predicted_dice:.2f}: lower than in {rank.text} "
                "calibration cases."
            )
        return said


UNKNOWN = Triage()
"""Of a case that was not read."""


@dataclass(frozen=True)
class ReviewStatus:
    """How far one reviewer is.

    Attributes:
        decided: regions with a verdict of somebody who looked, of `regions`.
        when: time of the last line of the log, UTC; "" in anonymous cases.
        unseen: regions that were taken without a look.
    """

    reviewer: str
    decided: int
    regions: int
    when: str
    unseen: int = 0

    @property
    def text(self) -> str:
        """For people."""
        unseen = f", {self.unseen} not looked at" if self.unseen else ""
        when = f", {self.when}" if self.when else ""
        return f"{self.reviewer}: {self.decided} of {self.regions} regions{unseen}{when}"


@dataclass(frozen=True)
class WorklistEntry:
    """One case of a worklist.

    Attributes:
        name: of the case.
        folder: of the case; None for a result that lies in none, as in a scene of Slicer.
        flags: with their reasons.
        worst_structure: the one with the largest expected wrong volume; None without calibration.
        expected_wrong_mm3: of that structure.
        regions: number of regions; None if nothing is calibrated.
        open_regions: those that nobody has accepted, corrected or taken without a look.
        open_wrong_mm3: expected wrong volume that these hold.
        minutes: that reviewing them takes.
        reviews: of each reviewer.
        notes: what is wrong with its reviews, one sentence each.
        trouble: why the case could not be read; "" where it could.
        unseen_regions: those that were taken without a look and that nobody has looked at.
        unseen_wrong_mm3: expected wrong volume that these hold.
        triage: figures of the whole case, and its ranks among the calibration cases.
    """

    name: str
    folder: Path | None
    flags: tuple[Flag, ...] = ()
    worst_structure: str | None = None
    expected_wrong_mm3: float | None = None
    regions: int | None = None
    open_regions: int = 0
    open_wrong_mm3: float = 0.0
    minutes: float = 0.0
    reviews: tuple[ReviewStatus, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: str = ""
    unseen_regions: int = 0
    unseen_wrong_mm3: float = 0.0
    triage: Triage = UNKNOWN

    @property
    def benefit(self) -> float:
        """Expected wrong mm3 seen per minute; 0 if nothing is left to review."""
        return self.open_wrong_mm3 / self.minutes if self.minutes else 0.0

    @property
    def precedence(self) -> tuple[bool, bool]:
        """Sort key before any figure: cases that lack a structure come first, those that could not be read last."""
        return bool(self.trouble), all(flag.rule is not Rule.EMPTY for flag in self.flags)


@dataclass(frozen=True)
class Worklist:
    """Cases in order.

    Attributes:
        entries: best benefit first, or as `sort` says; before these cases that lack a structure, after them those that
            could not be read.
        seconds_per_region: for the estimate of minutes.
        decided: regions behind that figure; 0 if it is the assumed one.
        rules: that the user gave; None if each case's own were used.
        sort: of `SORTS`.
        notes: limits that do not act on some of the cases, one sentence each.
    """

    entries: tuple[WorklistEntry, ...]
    seconds_per_region: float
    decided: int
    rules: FlagRules | None
    sort: str = BENEFIT
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What is to be known of the models of the cases."""
        return model_warnings(self.entries)

    @property
    def pace(self) -> str:
        """Where the seconds per region come from, for people."""
        if self.decided:
            return f"{self.seconds_per_region:.0f} s per region, the median of {self.decided} decided regions"
        return f"{self.seconds_per_region:.0f} s per region, assumed: fewer than {ENOUGH_DECIDED} are decided yet"


@dataclass(frozen=True)
class CaseReading:
    """What a worklist reads of a case.

    Attributes:
        folder: None for a result that lies in none.
        case: the content of `case.json`.
        found: its regions, and the reviews that may be seen.
        all_reviews: those, and others of which only the progress is told.
        rules_active: whether any limit of a figure can flag it.
    """

    folder: Path | None
    case: Mapping[str, Any]
    found: CaseReviews
    all_reviews: tuple[Review, ...]
    flags: tuple[Flag, ...]
    rules_active: bool = True

    @property
    def paces(self) -> list[float]:
        """Seconds that reviewers spent on each region that they decided."""
        spent = [
            review.state.seconds_on(region)
            for review in self.found.reviews
            for region, verdict in review.verdicts(self.found.regions).items()
            if verdict in SPOKEN
        ]
        return [seconds for seconds in spent if seconds > 0]

    def entry(self, seconds_per_region: float = SECONDS_PER_REGION) -> WorklistEntry:
        """Make the case's row."""
        case, found = self.case, self.found
        assessed = [entry for entry in structures_of(case) if entry.get("expected_wrong_mm3") is not None]
        worst = max(assessed, key=lambda entry: float(entry["expected_wrong_mm3"]), default=None)
        waiting, unseen = open_regions(found), unseen_regions(found.regions, found.reviews)
        return WorklistEntry(
            name=str(case["name"]),
            folder=self.folder,
            flags=self.flags,
            worst_structure=None if worst is None else str(worst["name"]),
            expected_wrong_mm3=None if worst is None else float(worst["expected_wrong_mm3"]),
            regions=None if case.get("regions") is None else len(found.regions),
            open_regions=len(waiting),
            open_wrong_mm3=sum(region.expected_wrong_mm3 for region in waiting),
            minutes=_minutes(len(waiting), seconds_per_region),
            reviews=tuple(self._status(review) for review in self.all_reviews),
            notes=found.notes,
            unseen_regions=len(unseen),
            unseen_wrong_mm3=sum(region.expected_wrong_mm3 for region in unseen),
            triage=triage_of(case, self.rules_active),
        )

    def _status(self, review: Review) -> ReviewStatus:
        regions = self.found.regions
        given = list(review.verdicts(regions).values())
        unseen = given.count(Verdict.NOT_LOOKED_AT)
        when = "" if self.case.get("anonymous") else review.when
        return ReviewStatus(review.reviewer, len(given) - unseen, len(regions), when, unseen)


def model_warnings(entries: Sequence[WorklistEntry]) -> list[str]:
    """Return what is to be known of the models of some cases, each sentence once."""
    return first_lines((flag for entry in entries for flag in entry.flags), (Rule.MODEL,))


def make_worklist(folders: Sequence[Path], rules: FlagRules | None = None, sort: str = BENEFIT) -> Worklist:
    """Read case folders and sort them; a damaged one is listed with a sentence and does not stop the rest.

    Only `case.json`, `regions.csv` and the logs are read.

    Args:
        rules: None for those that each case's model brings.
        sort: of `SORTS`.

    Raises:
        UsageError: a limit of `rules` can act on none of the cases.
    """
    readings: list[CaseReading] = []
    broken: list[WorklistEntry] = []
    for folder in folders:
        try:
            readings.append(read_for_worklist(folder, rules))
        except InputError as error:
            broken.append(unreadable(folder, error))
    seconds, decided = pace_of([pace for reading in readings for pace in reading.paces])
    notes = [] if rules is None else check_limits([reading.case for reading in readings], rules)
    entries = in_sort([reading.entry(seconds) for reading in readings], sort)
    return Worklist((*entries, *broken), seconds, decided, rules, sort, tuple(notes))


def read_for_worklist(
    folder: Path, rules: FlagRules | None = None, also: Elsewhere | None = None, reviewer: str | None = None
) -> CaseReading:
    """Read what a worklist needs of one case.

    Args:
        rules: None for those that the case's model brings.
        also: returns another folder whose reviews count too.
        reviewer: for whom; of other reviews that this one may not see yet only the progress is told.

    Raises:
        InputError: it is no case folder, or damaged.
    """
    case = read_case(folder)
    with naming_case(folder):
        found = read_reviews(folder, case, also)
        reading = reading_of(folder, case, found if reviewer is None else seen_by(reviewer, found), rules)
        reading = replace(reading, all_reviews=found.reviews)
        reading.entry()  # what is damaged is found here, and not when all cases are put in order
        return reading


def reading_of(
    folder: Path | None, case: Mapping[str, Any], found: CaseReviews, rules: FlagRules | None = None
) -> CaseReading:
    """Prepare what a worklist needs of a case that was read already.

    Args:
        rules: None for those that the case's model brings.
    """
    used = rules or rules_of_case(case)
    flags = tuple(case_flags(case, used, found.reviews, found.regions))
    return CaseReading(folder, case, found, found.reviews, flags, used.active)


def unreadable(folder: Path, error: InputError) -> WorklistEntry:
    """Make the row of a case that cannot be read."""
    name = folder.name if lost_link(folder) else folder.resolve().name  # not that of an annex key
    return WorklistEntry(name, folder, trouble=str(error))


def pace_of(paces: Sequence[float]) -> tuple[float, int]:
    """Seconds per region, and the number of decided regions behind that figure; 0 if it is the assumed one."""
    enough = len(paces) >= ENOUGH_DECIDED
    return (median(paces), len(paces)) if enough else (SECONDS_PER_REGION, 0)


def with_pace(entry: WorklistEntry, seconds_per_region: float) -> WorklistEntry:
    """Recompute a row's minutes at another pace."""
    return replace(entry, minutes=_minutes(entry.open_regions, seconds_per_region))


def by_benefit(entries: Sequence[WorklistEntry]) -> list[WorklistEntry]:
    """Rows with the best benefit first, before these cases that lack a structure; those that could not be read last."""
    return sorted(entries, key=lambda entry: (entry.precedence, -entry.benefit, entry.name, str(entry.folder)))


def in_sort(entries: Sequence[WorklistEntry], sort: str) -> list[WorklistEntry]:
    """Rows in an order of `SORTS`, first cases that lack a structure.

    Those without the figure come later, those that could not be read last.
    """
    if sort == BENEFIT:
        return by_benefit(entries)

    def key(entry: WorklistEntry) -> tuple[tuple[bool, bool], bool, float, str]:
        figure = _figure(entry, sort)
        return entry.precedence, figure is None, 0.0 if figure is None else figure, entry.name

    return sorted(entries, key=key)


def _figure(entry: WorklistEntry, sort: str) -> float | None:
    """Return what a row is sorted by, lowest first."""
    triage = entry.triage
    if sort == "predicted-dice":
        return triage.predicted_dice
    figure = triage.wrong_share if sort == "share" else triage.wrong_mm3
    return None if figure is None else -figure


def open_regions(found: CaseReviews) -> list[Region]:
    """List the regions that nobody has accepted, corrected or taken without a look.

    One that somebody rejected stays open, whoever took it without a look.
    """
    seen = {id_ for review in found.reviews for id_, v in review.verdicts(found.regions).items() if v in SEEN}
    seen |= {region.id for region in unseen_regions(found.regions, found.reviews)}
    return [region for region in found.regions if region.id not in seen]


def _minutes(open_regions: int, seconds: float) -> float:
    return (SECONDS_TO_OPEN + seconds * open_regions) / 60 if open_regions else 0.0


def triage_of(case: Mapping[str, Any], rules_active: bool) -> Triage:
    """Return the figures of a case, and its ranks among the calibration cases of its model.

    Args:
        case: the content of its `case.json`.
        rules_active: whether any limit of a figure can flag it.
    """
    figures = figures_of_case(case)
    known = ((case.get("model") or {}).get("flags") or {}).get("figures") or {}
    share_found, wrong, dice = (figures[name] for name in FIGURES)
    found = Triage(share_found, wrong, dice, rules_active=rules_active)
    silent = {"wrong_share"} if found.is_empty else set()
    estimated = [entry for entry in case["structures"] if dice_estimate(entry) is not None]
    if not all(entry.get("predicted_dice") is not None for entry in estimated):
        silent.add("predicted_dice")
    ranks = {
        name: _rank(value, [float(other) for other in known[name]], low_is_bad=name == "predicted_dice")
        for name, value in figures.items()
        if value is not None and known.get(name) and name not in silent
    }
    return replace(found, ranks=ranks)


def _rank(value: float, others: list[float], low_is_bad: bool) -> Rank:
    value = round(value, FIGURE_DIGITS)  # as theirs, else a tie would look like the worst of all
    better = sum(other > value if low_is_bad else other < value for other in others)
    return Rank(better, sum(math.isfinite(other) for other in others))
