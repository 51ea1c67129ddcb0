"""Worklist: cases sorted by the expected errors seen per minute of review, or by a figure of the whole case.

Figures need no fitted limit: with the usual twenty calibration cases no limit may tell bad cases from good ones beyond
chance, and yet the worst case is often that of the largest expected wrong share or of the lowest predicted Dice.
Standard library only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..case.case_file import naming_case, read_case
from ..util.errors import InputError
from ..util.folder_entries import lost_link
from .flags import (
    FIGURE_DIGITS,
    LARGEST,
    Flag,
    FlagRules,
    Rule,
    case_flags,
    dice_estimate,
    first_lines,
    metrics_of_case,
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

BENEFIT = "benefit"
SORTS = {
    BENEFIT: "the expected wrong volume (mm3) in the regions that nobody has accepted, corrected or taken without a "
    "look, per minute that looking at them takes (seconds per region times their number, plus the time to open the "
    "case)",
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
            said.append(
                f"The expected wrong volume, missed tissue included, is {100 * self.wrong_share:.0f} % of the "
                f"segmented volume: larger than in {rank.text} calibration cases."
            )
        elif self.is_empty and self.wrong_mm3 is not None:
            said.append(f"Nothing was segmented; {self.wrong_mm3:.0f} mm3 are expected to be missed.")
        if (rank := self.ranks.get("predicted_dice")) and self.predicted_dice is not None:
            said.append(
                f"The lowest predicted Dice of a structure is {self.predicted_dice:.2f}: lower than in {rank.text} "
                "calibration cases."
            )
        return said


def triage_of(case: Mapping[str, Any], rules_active: bool) -> Triage:
    """Return the figures of a case, and its ranks among the calibration cases of its model.

    Args:
        case: the content of its `case.json`.
        rules_active: whether any limit of a figure can flag it.
    """
    figures = metrics_of_case(case)
    known = ((case.get("model") or {}).get("flags") or {}).get("metrics") or {}
    found = Triage(figures["wrong_share"], figures["wrong_mm3"], figures["predicted_dice"], rules_active=rules_active)
    silent = {"wrong_share"} if found.is_empty else set()
    if any(dice_estimate(entry) is not None and entry.get("predicted_dice") is None for entry in case["structures"]):
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
        folder: of the case.
        flags: with their reasons.
        worst_structure: the one with the largest expected wrong volume; None without calibration.
        expected_wrong_mm3: of that structure.
        regions: number of regions; None if nothing is calibrated, or the case was not read.
        open_regions: those that nobody has accepted, corrected or taken without a look.
        open_wrong_mm3: expected wrong volume that these hold.
        reviews: of each reviewer.
        notes: what is wrong with its reviews, one sentence each.
        trouble: why the case could not be read; "" where it could.
        unseen_regions: those that were taken without a look and that nobody has looked at.
        unseen_wrong_mm3: expected wrong volume that these hold.
        triage: figures of the whole case, and its ranks among the calibration cases.
        paces: seconds that reviewers spent on each region that they decided.
        seconds_per_region: by which the minutes are estimated.
    """

    name: str
    folder: Path
    flags: tuple[Flag, ...] = ()
    worst_structure: str | None = None
    expected_wrong_mm3: float | None = None
    regions: int | None = None
    open_regions: int = 0
    open_wrong_mm3: float = 0.0
    reviews: tuple[ReviewStatus, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: str = ""
    unseen_regions: int = 0
    unseen_wrong_mm3: float = 0.0
    triage: Triage = Triage()
    paces: tuple[float, ...] = ()
    seconds_per_region: float = SECONDS_PER_REGION

    @property
    def minutes(self) -> float:
        """That reviewing the open regions takes."""
        seconds = SECONDS_TO_OPEN + self.seconds_per_region * self.open_regions
        return seconds / 60 if self.open_regions else 0.0

    @property
    def benefit(self) -> float:
        """Expected wrong mm3 seen per minute; 0 if nothing is left to review."""
        return self.open_wrong_mm3 / self.minutes if self.minutes else 0.0


_KEYS: dict[str, Callable[[WorklistEntry], float | None]] = {
    BENEFIT: lambda entry: -entry.benefit,
    "share": lambda entry: None if entry.triage.wrong_share is None else -entry.triage.wrong_share,
    "mm3": lambda entry: None if entry.triage.wrong_mm3 is None else -entry.triage.wrong_mm3,
    "predicted-dice": lambda entry: entry.triage.predicted_dice,
}
"""What each of `SORTS` sorts by, lowest first."""


@dataclass(frozen=True)
class Worklist:
    """Cases in order.

    Attributes:
        entries: as `sort` says; before these cases that lack a structure, after them those that could not be read.
        seconds_per_region: for the estimate of minutes.
        decided: regions behind that figure; 0 if it is the assumed one.
        rules: that the user gave; None if each case's own were used.
        sort: of `SORTS`.
    """

    entries: tuple[WorklistEntry, ...]
    seconds_per_region: float
    decided: int
    rules: FlagRules | None
    sort: str = BENEFIT

    @property
    def warnings(self) -> list[str]:
        """What is to be known of the models of the cases, each sentence once."""
        return first_lines((flag for entry in self.entries for flag in entry.flags), (Rule.MODEL,))

    @property
    def pace(self) -> str:
        """Where the seconds per region come from, for people."""
        if self.decided:
            return f"{self.seconds_per_region:.0f} s per region, the median of {self.decided} decided regions"
        return f"{self.seconds_per_region:.0f} s per region, assumed: fewer than {ENOUGH_DECIDED} are decided yet"


def make_worklist(folders: Sequence[Path], rules: FlagRules | None = None, sort: str = BENEFIT) -> Worklist:
    """Read case folders and sort them; a damaged one is listed with a sentence and does not stop the rest.

    Only `case.json`, `regions.csv` and the logs are read.

    Args:
        rules: None for those that each case's model brings.
        sort: of `SORTS`.
    """
    return worklist_of([read_for_worklist(folder, rules) for folder in folders], rules, sort)


def worklist_of(entries: Sequence[WorklistEntry], rules: FlagRules | None = None, sort: str = BENEFIT) -> Worklist:
    """Sort entries, with minutes at the pace of their reviewers.

    Cases that lack a structure come first, then those with the figure of the order, then those without; those that
    could not be read are last.
    """
    paces = [pace for entry in entries for pace in entry.paces]
    is_known = len(paces) >= ENOUGH_DECIDED
    seconds = median(paces) if is_known else SECONDS_PER_REGION

    def key(entry: WorklistEntry) -> tuple[Any, ...]:
        figure = _KEYS[sort](entry)
        lacks = any(flag.rule is Rule.EMPTY for flag in entry.flags)
        return bool(entry.trouble), not lacks, figure is None, figure or 0.0, entry.name, str(entry.folder)

    ordered = sorted((replace(entry, seconds_per_region=seconds) for entry in entries), key=key)
    return Worklist(tuple(ordered), seconds, len(paces) if is_known else 0, rules, sort)


def read_for_worklist(
    folder: Path, rules: FlagRules | None = None, also: Elsewhere | None = None, reviewer: str | None = None
) -> WorklistEntry:
    """Read the row of one case; of one that is no case folder, or damaged, it says why.

    Args:
        rules: None for those that the case's model brings.
        also: returns another folder whose reviews count too.
        reviewer: for whom; of other reviews that this one may not see yet only the progress is told.
    """
    try:
        case = read_case(folder)
        with naming_case(folder):
            found = read_reviews(folder, case, also)
            seen = found if reviewer is None else seen_by(reviewer, found)
            return entry_of(folder, case, seen, found.reviews, rules)
    except InputError as error:
        name = folder.name if lost_link(folder) else folder.resolve().name  # not that of an annex key
        return WorklistEntry(name, folder, trouble=str(error))


def entry_of(
    folder: Path,
    case: Mapping[str, Any],
    found: CaseReviews,
    all_reviews: Sequence[Review],
    rules: FlagRules | None = None,
) -> WorklistEntry:
    """Make the row of a case.

    Args:
        found: the reviews that count.
        all_reviews: those, and others of which only the progress is told.
        rules: None for those that the case's model brings.
    """
    used, regions = rules or rules_of_case(case), found.regions
    assessed = [entry for entry in structures_of(case) if entry.get("expected_wrong_mm3") is not None]
    worst = max(assessed, key=lambda entry: float(entry["expected_wrong_mm3"]), default=None)
    unseen = unseen_regions(regions, found.reviews)
    # One that somebody rejected stays open, whoever took it without a look.
    done = {id_ for review in found.reviews for id_, verdict in review.verdicts(regions).items() if verdict in SEEN}
    done |= {region.id for region in unseen}
    waiting = [region for region in regions if region.id not in done]
    spent = [
        review.state.seconds_on(region)
        for review in found.reviews
        for region, verdict in review.verdicts(regions).items()
        if verdict in SPOKEN
    ]
    statuses = []
    for review in all_reviews:
        given = list(review.verdicts(regions).values())
        taken, when = given.count(Verdict.NOT_LOOKED_AT), "" if case.get("anonymous") else review.when
        statuses.append(ReviewStatus(review.reviewer, len(given) - taken, len(regions), when, taken))
    return WorklistEntry(
        name=str(case["name"]),
        folder=folder,
        flags=tuple(case_flags(case, used, found.reviews, regions)),
        worst_structure=None if worst is None else str(worst["name"]),
        expected_wrong_mm3=None if worst is None else float(worst["expected_wrong_mm3"]),
        regions=None if case.get("regions") is None else len(regions),
        open_regions=len(waiting),
        open_wrong_mm3=sum(region.expected_wrong_mm3 for region in waiting),
        reviews=tuple(statuses),
        notes=found.notes,
        unseen_regions=len(unseen),
        unseen_wrong_mm3=sum(region.expected_wrong_mm3 for region in unseen),
        triage=triage_of(case, used.active),
        paces=tuple(seconds for seconds in spent if seconds > 0),
    )
