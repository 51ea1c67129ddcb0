"""Read the reviews of a case folder without changing them, and compare reviewers.

Cases of which a reviewer finished structures: references that the calibration of a model can be fitted on.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..case.case_file import DAMAGED, asked_structures, read_case
from ..case.case_files import regions_of_case
from ..case.case_folders import checked_file
from ..models.quality import site_command
from ..regions.region import Kind, Region
from ..util.csv_files import csv_text
from ..util.errors import InputError, naming, wrong_values_named
from .log_format import NAMES, Event, Opened, ParsedLog, read_log
from .reviewer import clean_reviewer_name, is_log_of, version_path
from .state import ReviewState
from .verdicts import GIVEN, SEEN, Verdict

LOG_PATTERN = "review.*.jsonl"
# Returns a folder besides the case's own where reviews of it may lie, from the case folder, the content of `case.json`
# and the hash of the regions; None for none.
Elsewhere = Callable[[Path, Mapping[str, Any], str], Path | None]
# Columns of the table of all verdicts.
COLUMNS = ("case", "region", "structure", "expected_wrong_mm3", "reviewer", "verdict", "comment", "reviewers_disagree")


@dataclass(frozen=True)
class Review:
    """One reviewer's review of a case.

    Attributes:
        path: of its log.
        reviewer: name in its lines.
        events: all of its lines.
        state: what holds now.
    """

    path: Path
    reviewer: str
    events: tuple[Event, ...]
    state: ReviewState

    @property
    def when(self) -> str:
        """Time of the last line, UTC."""
        return self.events[-1].when

    @property
    def version_file(self) -> Path | None:
        """The reviewer's own version of the segmentation beside the log; None if there is none."""
        path = version_path(self.path.parent, self.path.name)
        return path if path.is_file() else None

    def verdicts(self, regions: Sequence[Region]) -> dict[int, Verdict]:
        """Verdict by region id, of the regions given; undecided ones are left out."""
        found = {region.id: self.state.verdict_of(region.id) for region in regions}
        return {region: verdict for region, verdict in found.items() if verdict is not None}

    def is_finished(self, regions: Sequence[Region], structures: Sequence[str]) -> bool:
        """Whether every region was accepted or corrected after a look, and no structure, by name, is in doubt."""
        verdicts = [self.state.verdict_of(region.id) for region in regions]
        verdicts += [verdict for name in structures if (verdict := self.state.structure(name).verdict)]
        return bool(verdicts) and SEEN.issuperset(verdicts)

    def version(self, folder: Path) -> Path | None:
        """Return this reviewer's version of the segmentation; None where the case's own stands.

        Raises:
            InputError: something was corrected, and the version is missing.
        """
        path, verdicts = version_path(folder, self.path.name), map(self.state.verdict_of, self.state.seen_ids)
        if path.is_file():
            return path
        if self.state.edits or any(verdict is not None and verdict.kind.needs_edit for verdict in verdicts):
            raise InputError(f"{path} is missing, though the segmentation was corrected: put it back.", "missing-file")
        return None


@dataclass(frozen=True)
class CaseReviews:
    """All reviews of the regions of a case.

    Attributes:
        regions: to be reviewed, by rank: those of the structures that the reviews ask for, or else the case.
        reviews: sorted by reviewer.
        notes: what could not be read or belongs to other regions, one sentence each.
        asked: names of the structures to be measured, as the reviews ask, or else the case.
    """

    regions: tuple[Region, ...]
    reviews: tuple[Review, ...]
    notes: tuple[str, ...]
    asked: tuple[str, ...] = ()


def read_reviews(folder: Path, case: Mapping[str, Any], also: Elsewhere | None = None) -> CaseReviews:
    """Read regions and reviews of a case folder.

    Args:
        also: returns another folder whose reviews count too.

    Raises:
        InputError: the case has regions, and they are missing or damaged.
    """
    if case.get("regions") is None:
        return CaseReviews((), (), (), asked_structures(case))
    regions, wanted = regions_of_case(folder, case)
    with wrong_values_named(folder, "segment the case again", problem="is damaged, in case.json"):
        asked = asked_structures(case)
    reviews, notes = [], []
    other = also(folder, case, wanted) if also is not None else None
    for path in [path for place in (folder, other) if place is not None for path in sorted(place.glob(LOG_PATTERN))]:
        try:
            checked_file(path.parent, path.name)
            with naming(path):
                lines = read_log(path)
                reviews.append(review_of(path, lines, regions, wanted, asked))
            if lines.cut:
                notes.append(f"{path.name} is cut in line {len(lines.whole) + 1}: what was behind does not count.")
        except InputError as error:
            notes.append(str(error).replace(f"{folder}{os.sep}", ""))  # a report must not reveal where it was made
    own = [each for each in reviews if is_log_of(each.path.name, each.reviewer)]
    # The last of a reviewer counts: one with the right name, else the longest.
    kept = {each.reviewer: each for each in [*sorted(reviews, key=lambda each: len(each.events)), *own]}
    copies = [each for each in reviews if each is not kept[each.reviewer] and each not in own]
    notes += [f"{each.path.name} is a copy of the review of '{each.reviewer}': it does not count." for each in copies]
    kept_ones = tuple(each for each in reviews if each not in copies)
    by_all = {name for each in kept_ones for name in each.state.asked}
    names = asked_structures({**case, "asked": by_all}) if by_all else asked
    listed = tuple(region for region in regions if region.kind is not Kind.BLIND and region.is_about(names))
    return CaseReviews(listed, kept_ones, tuple(notes), names)


def review_of(path: Path, lines: ParsedLog, regions: Sequence[Region], wanted: str, asked: Sequence[str]) -> Review:
    """Read the verdicts of a log on the regions of a case.

    Args:
        path: of the log.
        regions: of the case.
        wanted: the hash of its regions.
        asked: names of the structures to be measured.

    Raises:
        InputError: the log holds nothing, does not begin with its header, has a line of another reviewer, or is about
            other regions.
    """
    if not lines.events:
        raise InputError(f"{path} has no complete line: the review has not started.")
    first = lines.events[0]
    if not isinstance(first.action, Opened):
        begin = NAMES[type(first.action)]
        raise InputError(f"{path} begins with '{begin}' instead of the header: restore the file.", "damaged-log")
    for number, event in enumerate(lines.events, 1):
        if event.reviewer != first.reviewer:
            whose = f"a line of '{event.reviewer}' in the review of '{first.reviewer}'"
            raise InputError(f"{path}, line {number} is {whose}: restore the file.", "damaged-log")
    if lines.regions_sha256 != wanted:
        raise InputError(f"{path} is about other regions of this case: it does not count.", "other-regions")
    state = ReviewState.replayed(lines.events, regions, asked)
    return Review(path, lines.events[0].reviewer, lines.events, state)


def _given(region: Region, reviews: Sequence[Review]) -> set[Verdict]:
    """Return the verdicts of reviewers who looked at a region."""
    return {verdict for review in reviews if (verdict := review.state.verdict_of(region.id)) in GIVEN}


def disagreements(regions: Sequence[Region], reviews: Sequence[Review]) -> list[Region]:
    """List the regions on which verdicts of reviewers who looked differ."""
    return [region for region in regions if len(_given(region, reviews)) > 1]


def unseen_regions(regions: Sequence[Region], reviews: Sequence[Review]) -> list[Region]:
    """List the regions that were accepted without a look and that no reviewer has looked at."""
    accepted = {id_ for review in reviews for id_ in review.state.unseen_ids}
    return [region for region in regions if region.id in accepted and not _given(region, reviews)]


def agreement_csv(cases: Sequence[tuple[str, Sequence[Region], Sequence[Review]]]) -> str:
    """List all verdicts: case, region, structure, expected wrong volume, reviewer, verdict, comment, disagreement.

    One row for each region and reviewer, so that any number of reviewers fits.
    """
    rows: list[list[object]] = []
    for name, regions, reviews in cases:
        split = disagreements(regions, reviews)
        for region in regions:
            for review in reviews:
                verdict, comment = review.state.verdict_of(region.id), review.state.comment_of(region.id)
                wrong = "" if region.expected_wrong_mm3 is None else f"{region.expected_wrong_mm3:.6g}"
                cells = [name, region.id, region.structure, wrong, review.reviewer, verdict or "", comment]
                rows.append([*cells, int(region in split)])
    return csv_text(COLUMNS, rows)


def seen_by(reviewer: str, found: CaseReviews) -> CaseReviews:
    """Leave the reviews that a reviewer may see: the own ones, since a verdict must not depend on those of others.

    Args:
        reviewer: name as entered; "" for nobody, who sees none.
    """
    name = clean_reviewer_name(reviewer) if reviewer.strip() else ""
    return replace(found, reviews=tuple(review for review in found.reviews if review.reviewer == name))


FACTOR_CASES, STAGE_CASES = 3, 10
"""From so many on a factor, and a second stage, are fitted."""
MOST_LOOKED_AT = 50
"""Cases that are read for their number."""


def finished_structures(folder: Path, case: Mapping[str, Any], review: Review) -> frozenset[str]:
    """Return the names of the structures that a review has finished, as `ReviewState.finished`.

    Where every region of the case was accepted or corrected, and no structure is in doubt, that is all of them: so
    reviews were finished before structures were.

    Raises:
        InputError: regions are missing or damaged.
    """
    names = [str(entry["name"]) for entry in case["structures"] if int(entry["value"])]
    is_finished = review.is_finished(regions_of_case(folder, case)[0], names)
    return frozenset(names) if is_finished else review.state.finished.intersection(names)


@dataclass(frozen=True)
class Lesson:
    """What a review teaches of a case.

    Attributes:
        structures: names of those that the reader finished; nothing is known of the others.
        version: the reader's version of the segmentation, as `Review.version`.
    """

    structures: frozenset[str]
    version: Path | None


def lesson_of(folder: Path, case: Mapping[str, Any]) -> Lesson | None:
    """Find what a reader finished of a case; None for nothing.

    A saved version teaches all structures where all regions have a verdict, and none of a region or structure wants
    attention: so reviews were finished before structures were.

    Raises:
        InputError: several readers finished some; a version or regions are missing, or damaged.
    """
    found, lessons = read_reviews(folder, case), dict[str, Lesson]()
    names = [str(entry["name"]) for entry in case["structures"] if int(entry["value"])]
    regions = regions_of_case(folder, case)[0] if found.reviews else ()
    for review in found.reviews:
        verdicts = [*review.verdicts(regions).values()]
        is_decided = len(verdicts) == len(regions) and version_path(folder, review.path.name).is_file()
        verdicts += [verdict for name in names if (verdict := review.state.structure(name).verdict)]
        is_whole = is_decided and not any(verdict.wants_attention for verdict in verdicts)
        if finished := frozenset(names) if is_whole else review.state.finished.intersection(names):
            lessons[review.path.name] = Lesson(finished, review.version(folder))
    if len(lessons) > 1:
        found_in = f"{len(lessons)} reviews of {folder} have finished structures ({', '.join(lessons)})"
        raise InputError(f"{found_in}: move all but one away.", "two-references")
    return next(iter(lessons.values()), None)


def corrected_cases_text(folder: Path, model: str) -> str:
    """Say how many cases of a model have finished structures, here and next to here, and how to add them; "" for none.

    Args:
        folder: of a case.
    """
    count, places = 0, sorted({path.parent for path in folder.parent.glob(f"*/{LOG_PATTERN}")})
    for place in places[:MOST_LOOKED_AT]:
        try:
            case = read_case(place)
            count += case["model"]["name"] == model and lesson_of(place, case) is not None
        except (InputError, *DAMAGED):  # the command says what is wrong with it
            continue
    if not count:
        return ""
    what = "1 case" if count == 1 else f"{count} cases"
    what += " or more" if len(places) > MOST_LOOKED_AT else ""
    what += " with finished structures, which teach the model"
    if count < STAGE_CASES:
        least = f"from {FACTOR_CASES} cases on its error probability is moved, " if count < FACTOR_CASES else ""
        what += f" ({least}from {STAGE_CASES} with all structures finished it may be fitted on them alone)"
    return f"{what}: {site_command(model, folder.parent)}"
