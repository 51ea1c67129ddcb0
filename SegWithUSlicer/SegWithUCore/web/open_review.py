"""One reviewer's review of a case, open for writing: what the page shows of it, and what it adds to the log."""

import copy
import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ..case.contents import checked_file
from ..case.segmentation_file import read_reviewed
from ..regions.region import ORDERS, Region
from ..review.blind import BlindSample, blind_report, revealed
from ..review.independence import ended, seen_by
from ..review.log import AuditLog, Clock, NotStoredError
from ..review.log_format import (
    MAXIMUM_COMMENT,
    SPOKEN,
    Action,
    BlindRevealed,
    Closed,
    Commented,
    Event,
    Opened,
    ParsedLog,
    RegionViewed,
    StructureJudged,
    Undone,
    VerdictGiven,
    read_action,
    read_log,
)
from ..review.opening import (
    SHORTEST_LOOK_S,
    ReviewLocation,
    ReviewOptions,
    blind_places_of,
    blind_sample,
    read_location,
    review_header,
    review_settings,
    write_location,
)
from ..review.reviewer import log_path, version_path
from ..review.reviews import MAXIMUM_BLIND, read_reviews
from ..review.state import ReviewState
from ..util.errors import InputError, OutputError, UsageError
from ..util.strict_json import parse_json
from .case_page import PageCase
from .display_volumes import DisplayVolume, RegionMasks, box_between, display_labels

MOST_EVENTS = 50
"""Of one act: the page sends one or two."""
MOST_SECONDS = 24 * 3600.0
"""On one region at a time."""
KEPT_ANSWERS = 100
"""To acts, so that one whose answer was lost can be sent again."""


@dataclass(frozen=True)
class Shown:
    """The regions of a review, blind places among them, and their voxels."""

    regions: tuple[Region, ...]
    masks: RegionMasks
    blind: BlindSample


def shown_regions(case: PageCase, blind_places: int) -> Shown:
    """Mix the blind places of a review into the regions of its case.

    Raises:
        InputError: the volumes that they are drawn from are damaged.
    """
    if not blind_places:
        return Shown(case.regions, case.masks, BlindSample(()))
    blind = blind_sample(case.volumes.sampling_input(), case.regions, min(blind_places, MAXIMUM_BLIND), case.key)
    boxes, starts, parts = dict(case.masks.boxes), dict(case.masks.starts), [case.masks.data]
    length = len(case.masks.data)
    for place in blind.places:
        low, high = place.voxels.min(0), place.voxels.max(0) + 1
        box = box_between(low[::-1], high[::-1])
        mask = bytearray(int((high - low).prod()))
        for k, j, i in (place.voxels - low).tolist():
            mask[i + box.size[0] * (j + box.size[1] * k)] = 1
        boxes[place.region.id], starts[place.region.id] = box, length
        parts.append(bytes(mask))
        length += len(mask)
    return Shown(tuple(blind.mixed(case.regions)), RegionMasks(b"".join(parts), boxes, starts), blind)


def mark_of(lines: Sequence[bytes]) -> str:
    """Return what stands for all lines up to the last: the page names the one that it has seen."""
    return hashlib.sha256(b"".join(lines)).hexdigest()


def known_lines(lines: Sequence[bytes], mark: str) -> int | None:
    """Return how many lines a page has seen that names `mark`; None if these lines never were the log."""
    running = hashlib.sha256()
    if running.hexdigest() == mark:
        return 0
    for number, line in enumerate(lines, 1):
        running.update(line)
        if running.hexdigest() == mark:
            return number
    return None


def parsed_lines(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Give lines of a log as the JSON that they are."""
    return [parse_json(line, "a line of the review") for line in lines]


def found_in(said: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> int | None:
    """Return with how many lines a log says what a page said, as where the answer was lost; None if it does not.

    Args:
        said: lines, from where the page has not seen them.
        events: of the page.
    """
    at = 0
    for event in events:
        if event.get("event") == "reveal":
            start = at
            while at < len(said) and said[at]["event"] == "blind":
                at += 1
            if at == start:
                return None
        elif at < len(said) and all(said[at].get(key) == value for key, value in event.items()):
            at += 1
        else:
            return None
    return at


@dataclass
class OpenReview:
    """A review that this process holds open.

    Attributes:
        shown: its regions.
        state: what holds after all lines of the log.
        resumed_at: region where an earlier session stopped; None for a new review.
        pages: the time of the last sign of life of each window that shows it, by session.
        edited: the reviewer's own version of the segmentation, as it was read last; None if there is none.
    """

    case: PageCase
    log: AuditLog
    shown: Shown
    state: ReviewState
    order: str
    resumed_at: int | None
    pages: dict[str, float] = field(default_factory=dict)
    edited: DisplayVolume | None = None
    _answers: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict)
    _location: tuple[int | None, str] | None = None

    @property
    def folder(self) -> Path:
        """Of the case."""
        return self.log.path.parent

    @property
    def mark(self) -> str:
        """Stands for all lines, see `mark_of`."""
        return mark_of(self.log.lines)

    @property
    def revealed(self) -> list[int] | None:
        """Ids of the blind places, once they are told; None before, and where there are none."""
        places = [event.action.place for event in self.log.events if isinstance(event.action, BlindRevealed)]
        return sorted(set(places)) if places else None

    @property
    def progress(self) -> str:
        """How far the review is, for people."""
        return self.state.progress().text

    def to_json(self) -> dict[str, Any]:
        """Say all that the page shows of the review."""
        return {
            "reviewer": self.log.reviewer,
            "read_only": False,
            "lines": parsed_lines(self.log.lines),
            "last": self.mark,
            "progress": self.progress,
            "resumed_at": self.resumed_at,
            "order": self.order,
            "notes": list(self.log.notes),
            "stored": self.log.trouble is None,
            "trouble": "" if self.log.trouble is None else str(self.log.trouble),
            "regions": self.case.regions_json(self.shown.regions, self.shown.masks),
            "blind_places": len(self.shown.blind.places),
            "revealed": self.revealed,
            "blind_report": self._blind_report(),
            "others": self.others(),
        }

    def has_answered(self, act: str) -> bool:
        """Whether an act was stored already."""
        return act in self._answers

    def say(self, act: str, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Add to the log; all of it or, where something does not fit, nothing.

        Args:
            act: names what the reviewer did; the same one again gets the same answer, and adds nothing.
            events: as the page says them.

        Returns:
            The answer for the page.

        Raises:
            UsageError: an event does not fit.
        """
        if act in self._answers:
            return self._answers[act]
        actions = self._checked(events)
        before = len(self.log.lines)
        for action in actions:
            self._append(action)
        answer = {
            "lines": parsed_lines(self.log.lines[before:]),
            "last": self.mark,
            "progress": self.progress,
            "stored": self.log.trouble is None,
            "trouble": "" if self.log.trouble is None else str(self.log.trouble),
            "revealed": self.revealed,
            "blind_report": self._blind_report(),
            "others": self.others(),
        }
        if answer["stored"]:
            self._answers[act] = answer
            while len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return answer

    def said_after(self, known: int) -> list[dict[str, Any]]:
        """List what was said after the first `known` lines, without openings and endings."""
        lines = parsed_lines(self.log.lines[known:])
        return [line for line in lines if line["event"] not in ("opened", "closed")]

    def others(self) -> list[dict[str, Any]] | None:
        """Tell what other reviewers said, once both have ended; None before."""
        if self.state.next_undecided([region.id for region in self.shown.regions]) is not None:
            return None
        found = read_reviews(self.folder, self.case.raw)
        own = [review for review in found.reviews if review.reviewer == self.log.reviewer]
        if not any(ended(review, found.regions) for review in own):
            return None
        return [
            {
                "reviewer": review.reviewer,
                "verdicts": {str(id_): v.value for id_, v in review.verdicts(found.regions).items()},
                "comments": {str(r.id): text for r in found.regions if (text := review.state.comment_of(r.id))},
            }
            for review in seen_by(self.log.reviewer, found).reviews
            if review.reviewer != self.log.reviewer
        ]

    def read_edited(self) -> tuple[DisplayVolume | None, list[str]]:
        """Read the reviewer's own version of the segmentation, made in Slicer, and notes on it; None if there is none.

        Raises:
            InputError: it is damaged, lies elsewhere, or was made on another image.
        """
        path = version_path(self.folder, self.log.path.name)
        self.edited, note = None, ""
        if os.path.lexists(path):
            checked_file(self.folder, path.name)
            first = self.case.volumes.first
            labels, note = read_reviewed(path, first, self.case.raw)
            self.edited = display_labels(labels, str(path))
        return self.edited, [note] if note else []

    def remember(self, at: Mapping[str, Any] | None, when: datetime) -> None:
        """Remember where the reviewer is, for the next session, here or in Slicer.

        Args:
            at: `region` and `order`, as the page says them.
        """
        if not isinstance(at, Mapping):
            return
        region, order = at.get("region"), at.get("order")
        known = {one.id for one in self.shown.regions}
        if (region is not None and region not in known) or order not in ORDERS or (region, order) == self._location:
            return
        self._location = (region, str(order))
        with suppress(OutputError):  # it only saves a click; the log says what is wrong with the folder
            location = ReviewLocation(region, str(order), when.isoformat(timespec="microseconds"))
            write_location(self.folder, self.log.path.name, location)

    def close(self) -> None:
        """Tell the end, and let other programs have the review.

        Raises:
            OutputError: there are lines that could not be brought to disk; the review stays open.
        """
        if self.log.pending:
            self.log.flush()
        if not isinstance(self.log.events[-1].action, Closed):
            self._append(Closed())
        self.log.close()

    def _append(self, action: Action) -> None:
        try:
            event = self.log.append(action)
        except NotStoredError as error:  # kept in memory, told to the page, and tried again with the next line
            event = error.event
        self.state.apply(event)

    def _blind_report(self) -> str | None:
        places = self.revealed
        return None if places is None else blind_report(places, self.state.verdict_of).text

    def _checked(self, events: Sequence[Mapping[str, Any]]) -> list[Action]:
        """Make actions of what the page says, and see that each could come next.

        Raises:
            UsageError: one does not fit.
        """
        if not 0 < len(events) <= MOST_EVENTS:
            raise UsageError(f"An act has between 1 and {MOST_EVENTS} events, not {len(events)}.")
        state, said, actions = copy.deepcopy(self.state), [event.action for event in self.log.events], []
        for event in events:
            for action in self._actions(event, state, said):
                try:
                    state.apply(Event("", self.log.reviewer, action))
                except InputError as error:
                    raise UsageError(str(error)) from error
                said.append(action)
                actions.append(action)
        return actions

    def _actions(self, event: Mapping[str, Any], state: ReviewState, said: Sequence[Action]) -> list[Action]:
        name = event.get("event")
        if name == "reveal":
            return self._reveal(state, said)
        if name == "rest":
            rest = state.rest()
            if not rest.regions:
                raise UsageError("Every region has a verdict already.")
            return [rest]
        try:
            action = read_action(event)
        except ValueError as error:
            raise UsageError(f"The page said something that is no event of a review ({error}).") from error
        _check_action(action, {entry.name for entry in self.case.volumes.description.structures})
        return [action]

    def _reveal(self, state: ReviewState, said: Sequence[Action]) -> list[Action]:
        places = self.shown.blind.ids
        if state.next_undecided([region.id for region in self.shown.regions]) is not None:
            raise UsageError("Blind places are told when every region has a verdict.")
        return [action for action in revealed(places, state.verdict_of) if action not in said]


def _check_action(action: Action, structures: set[str]) -> None:
    """Refuse what a page may not add to a log.

    Raises:
        UsageError: it is such.
    """
    if not isinstance(action, VerdictGiven | Commented | StructureJudged | RegionViewed | Undone):
        raise UsageError("The page may add verdicts, comments, looks and undos to a review, nothing else.")
    comment, verdict = getattr(action, "comment", None), getattr(action, "verdict", None)
    seconds = getattr(action, "seconds", 0.0)
    if comment is not None and len(comment) > MAXIMUM_COMMENT:
        raise UsageError(f"The comment has {len(comment)} characters: write at most {MAXIMUM_COMMENT}.")
    if verdict is not None and verdict not in SPOKEN:
        raise UsageError(f"'{verdict}' is no verdict of somebody who looked.")
    if not (SHORTEST_LOOK_S if isinstance(action, RegionViewed) else 0.0) <= seconds <= MOST_SECONDS:
        raise UsageError(f"Nobody looks at a region for {seconds:g} s.")
    if isinstance(action, StructureJudged) and action.structure not in structures:
        raise UsageError(f"The case has no structure '{action.structure}'.")


def earlier_lines(case: PageCase, path: Path) -> ParsedLog | None:
    """Read a review so far; None if there is none about these regions.

    Raises:
        InputError: its file is damaged.
    """
    if not path.exists():
        return None
    lines = read_log(path)
    return lines if lines.events and lines.regions_sha256 == case.regions_sha256 else None


def start_review(case: PageCase, reviewer: str, options: ReviewOptions, clock: Clock) -> OpenReview:
    """Go on with a reviewer's review of a case, or begin one.

    Raises:
        UsageError, LogInUseError, InputError: as `AuditLog.open`.
    """
    folder = case.volumes.folder
    path = log_path(folder, reviewer)
    lines = None if path.is_symlink() else earlier_lines(case, path)
    asked = blind_places_of(lines.events) if lines is not None else options.blind_places
    shown = shown_regions(case, asked)
    location = read_location(folder, path.name) if lines is not None else None
    order = location.order if location is not None and location.order in ORDERS else options.order
    settings = review_settings(case.raw, order, asked, shown.blind)
    log = AuditLog.open(folder, reviewer, review_header(case.raw, case.regions_sha256, settings), clock)
    try:
        state = ReviewState.replayed(log.events, shown.regions, case.total_mm3, shown.blind.ids)
    except BaseException:
        log.close()
        raise
    stopped = location.region if location is not None else state.last_region if lines is not None else None
    known = {region.id for region in shown.regions}
    return OpenReview(case, log, shown, state, order, stopped if stopped in known else None)


def since_when(lines: ParsedLog | None) -> str:
    """Return when the last session of a log began; "" if nobody knows."""
    opened = [event.when for event in lines.events if isinstance(event.action, Opened)] if lines is not None else []
    return opened[-1] if opened else ""
