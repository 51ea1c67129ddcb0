"""All reviews that a server holds open: who may write, which windows show them, when they are given back.

The log of a review belongs to this process from the moment when a window opens the case until the last window has
left it, or has been silent: then Slicer, or another server, can go on with it.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..case.case_folders import checked_file
from ..case.segmentation_file import read_reviewed
from ..regions.region import ORDERS
from ..review.blind import blind_report
from ..review.log import LogInUseError, now_utc
from ..review.log_format import (
    MAXIMUM_BLIND,
    MAXIMUM_COMMENT,
    SPOKEN,
    Action,
    Commented,
    Opened,
    RegionViewed,
    StructureJudged,
    Undone,
    VerdictGiven,
    read_action,
)
from ..review.reviewer import clean_reviewer_name, log_path, version_path
from ..review.reviews import ended, read_reviews, seen_by
from ..review.session import SHORTEST_LOOK_S, ReviewOptions, Session
from ..util.errors import InputError, OutputError, UsageError
from ..util.strict_json import parse_json
from .case_page import PageCase
from .case_volumes import DisplayVolume, RegionMasks, display_labels

SILENT_AFTER_S = 30.0
"""A window that has given no sign of life for so long is gone; it gives one every ten seconds."""
MOST_PAGES = 50
"""Windows of one review."""
LONGEST_NAME = 200
MOST_EVENTS = 50
"""Of one act; the page sends one or two."""
MOST_SECONDS = 24 * 3600.0
"""On one region at a time."""


@dataclass(frozen=True)
class RefusalError(Exception):
    """What the page asked for cannot be, and the page knows what to do.

    Attributes:
        status: of HTTP.
        content: the answer: `kind`, `error`, and what the page shows instead.
    """

    status: int
    content: dict[str, Any]


@dataclass
class OpenReview:
    """A review that this process holds open.

    Attributes:
        session: the review.
        masks: the voxels of its regions, blind places among them.
        pages: the time of the last sign of life of each window that shows it, by session.
        edited: the reviewer's own version of the segmentation, as it was read last; None if there is none.
    """

    case: PageCase
    session: Session
    masks: RegionMasks
    pages: dict[str, float] = field(default_factory=dict)
    edited: DisplayVolume | None = None

    @property
    def mark(self) -> str:
        """Stands for all lines, see `mark_of`."""
        return mark_of(self.session.log.lines)

    def to_json(self) -> dict[str, Any]:
        """Describe all that the page shows of the review."""
        session = self.session
        return {
            "reviewer": session.log.reviewer,
            "read_only": False,
            "resumed_at": session.resumed_at,
            "order": session.order,
            "notes": list(session.log.notes),
            "regions": self.case.regions_json(session.regions, self.masks),
            "blind_places": len(session.blind.places),
            **self.answer(0),
        }

    def answer(self, known: int) -> dict[str, Any]:
        """Describe what has changed since the first `known` lines."""
        session, places = self.session, self.session.revealed
        return {
            "lines": parsed_lines(self.session.log.lines[known:]),
            "last": self.mark,
            "progress": session.state.progress().text,
            "stored": not session.trouble,
            "trouble": session.trouble,
            "revealed": places,
            "blind_report": None if places is None else blind_report(places, session.state.verdict_of),
            "others": self.others(),
        }

    def say(self, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Add to the log; all of it or, where something does not fit, nothing.

        Args:
            events: as the page sends them.

        Returns:
            The answer for the page.

        Raises:
            UsageError: an event does not fit.
        """
        if not 0 < len(events) <= MOST_EVENTS:
            raise UsageError(f"An act has between 1 and {MOST_EVENTS} events, not {len(events)}.")
        trial, known = self.session.trial(), len(self.session.log.lines)
        for event in events:
            self._try(trial, event)
        for action in trial.actions[known:]:
            self.session.append(action)
        return self.answer(known)

    def said_after(self, known: int) -> list[dict[str, Any]]:
        """List what was said after the first `known` lines, without openings and endings."""
        lines = parsed_lines(self.session.log.lines[known:])
        return [line for line in lines if line["event"] not in ("opened", "closed")]

    def others(self) -> list[dict[str, Any]] | None:
        """Return what other reviewers said, once both have ended; None before."""
        if not self.session.is_done:
            return None
        found, reviewer = read_reviews(self.case.volumes.folder, self.case.raw), self.session.log.reviewer
        if not any(review.reviewer == reviewer and ended(review, found.regions) for review in found.reviews):
            return None
        return [
            {
                "reviewer": review.reviewer,
                "verdicts": {str(id_): v.value for id_, v in review.verdicts(found.regions).items()},
                "comments": {str(r.id): text for r in found.regions if (text := review.state.comment_of(r.id))},
            }
            for review in seen_by(reviewer, found).reviews
            if review.reviewer != reviewer
        ]

    def read_edited(self) -> list[str]:
        """Read the reviewer's own version of the segmentation, made in Slicer; return notes on it, a sentence each."""
        folder = self.case.volumes.folder
        path = version_path(folder, self.session.log.path.name)
        self.edited, note = None, ""
        if os.path.lexists(path):
            try:
                checked_file(folder, path.name)
                labels, note = read_reviewed(path, self.case.volumes.first, self.case.raw)
                self.edited = display_labels(labels, str(path))
            except InputError as error:
                note = f"Your edited segmentation cannot be shown: {error}"
        return [note] if note else []

    def remember(self, at: Any, when: datetime) -> None:
        """Remember where the reviewer is, for the next session, here or in Slicer.

        Args:
            at: `region` and `order`, as the page says them.
        """
        region, order = (at.get("region"), at.get("order")) if isinstance(at, Mapping) else (None, None)
        if isinstance(order, str) and (region is None or isinstance(region, int)):
            self.session.remember(region, order, when)

    def _try(self, trial: Session, event: Mapping[str, Any]) -> None:
        """Add an event of the page to a trial.

        Raises:
            UsageError: it does not fit.
        """
        name = event.get("event")
        if name == "reveal":
            if not trial.is_done:
                raise UsageError("Blind places are revealed when every region has a verdict.")
            trial.reveal()
            return
        if name == "rest":
            if trial.accept_rest() is None:
                raise UsageError("Every region has a verdict already.")
            return
        try:
            action = read_action(event)
        except ValueError as error:
            raise UsageError(f"The page sent what is no event of a review ({error}).") from error
        _check_action(action, {entry.name for entry in self.case.volumes.description.structures})
        try:
            trial.append(action)
        except InputError as error:
            raise UsageError(str(error)) from error


class OpenReviews:
    """Reviews that are open, by case and reviewer.

    Args:
        clock, monotonic: return the time, and seconds from any point in time.
    """

    def __init__(
        self, clock: Callable[[], datetime] = now_utc, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._open: dict[tuple[str, str], OpenReview] = {}
        self._lock = threading.RLock()

    def open(
        self,
        id_: str,
        case: PageCase,
        reviewer: str,
        options: ReviewOptions,
        last: str | None = None,
        pending: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """Open a reviewer's review of a case for a window, or show it to one more.

        Args:
            reviewer: name as entered.
            options: for a new review.
            last: stands for the last line that the window has seen; None for none.
            pending: events of an act whose answer was lost.

        Raises:
            UsageError: there is no name, or another person's file has this name.
            RefusalError: another program has it, it cannot be read, or there is nothing to review.
        """
        _check_asked(reviewer, options)
        if case.regions_trouble:
            raise RefusalError(409, {"kind": "no_regions", "error": case.regions_trouble})
        with self._lock:
            review = self._current(id_, case, reviewer, options)
            if len(review.pages) >= MOST_PAGES:
                raise RefusalError(409, {"kind": "pages", "error": f"{MOST_PAGES} windows show this review already."})
            session = secrets.token_urlsafe(16)
            review.pages[session] = self._monotonic()
            known = None if last is None else known_lines(review.session.log.lines, last)
            said = [] if last is None else review.said_after(known or 0)
            stored = found_in(said, pending) if pending else None
            notes, edited = review.read_edited(), review.edited
            labels = None if edited is None else {"url": f"volumes/labels?session={session}", **edited.facts()}
            answer = review.to_json()
            return {
                **answer,
                "session": session,
                "changed": last is not None and (known is None or len(said) > (stored or 0)),
                "pending_stored": stored is not None,
                "masks": review.masks.to_json(f"session={session}"),
                "has_edits": edited is not None or bool(review.session.state.edits),
                "labels": labels,
                "notes": [*answer["notes"], *notes],
            }

    def alive(self, session: str, at: Any) -> dict[str, Any]:
        """Take a sign of life.

        Args:
            at: where the reviewer is, as the page says.

        Raises:
            RefusalError: the session is over.
        """
        with self._lock:
            review = self.review(session)
            review.remember(at, self._clock())
            review.session.flush()
            trouble = review.session.trouble
            return {"last": review.mark, "stored": not trouble, "trouble": trouble}

    def say(self, session: str, last: str, events: Sequence[Mapping[str, Any]], at: Any) -> dict[str, Any]:
        """Add to the log what a reviewer said; it is on disk when this returns, or the answer says that it is not.

        What is there already, since an answer was lost, is not added again.

        Args:
            last: stands for the last line that the window has seen.
            at: where the reviewer is, as the page says.

        Raises:
            UsageError: it does not fit.
            RefusalError: the session is over, or the window has not seen the last line.
        """
        with self._lock:
            review = self.review(session)
            if last != review.mark:
                known = known_lines(review.session.log.lines, last)
                if known is not None and events and found_in(review.said_after(known), events) is not None:
                    return review.answer(known)
                error = "Another window went on with this review: look again, and give the verdict again."
                raise RefusalError(409, {"kind": "stale", "error": error, **review.to_json()})
            answer = review.say(events)
            review.remember(at, self._clock())
            return answer

    def review(self, session: str) -> OpenReview:
        """Return the review of a session, whose window has just shown that it lives.

        Raises:
            RefusalError: the session is over.
        """
        with self._lock:
            for key, review in self._open.items():
                if session in review.pages:
                    if not review.session.log.is_current:
                        self._drop(key)
                        break
                    review.pages[session] = self._monotonic()
                    return review
        raise RefusalError(409, {"kind": "closed", "error": "The review was given back: it is opened again."})

    def close(self, session: str) -> None:
        """End a session; with the last one of a review other programs can have it."""
        with self._lock:
            for key, review in list(self._open.items()):
                if review.pages.pop(session, None) is not None and not review.pages:
                    self._give_back(key)

    def sweep(self) -> None:
        """End the sessions of windows that are silent."""
        with self._lock:
            limit = self._monotonic() - SILENT_AFTER_S
            for key, review in list(self._open.items()):
                review.pages = {session: seen for session, seen in review.pages.items() if seen >= limit}
                if not review.pages:
                    self._give_back(key)

    def close_all(self) -> list[str]:
        """Give all reviews back; returns what could not be brought to disk, one sentence each."""
        with self._lock:
            for key in list(self._open):
                self._give_back(key)
            return [review.session.trouble for review in self._open.values() if review.session.trouble]

    def _current(self, id_: str, case: PageCase, reviewer: str, options: ReviewOptions) -> OpenReview:
        """Return the open review, or open it.

        Raises:
            as `open`.
        """
        folder = case.volumes.folder
        key = (id_, log_path(folder, reviewer).name)
        known = self._open.get(key)
        if known is not None and known.session.log.is_current and known.case.regions_sha256 == case.regions_sha256:
            return known
        if known is not None:
            self._drop(key)
        try:
            session = Session.open(case.reviewed, folder, reviewer, options, self._clock)
        except LogInUseError as error:
            raise RefusalError(423, _read_only(case, reviewer, "in_use", str(error), error.who)) from error
        except InputError as error:
            raise RefusalError(409, {"kind": "damaged", "error": str(error)}) from error
        if session.trouble:
            message = _not_writable(session)
            session.log.abandon()
            raise RefusalError(423, _read_only(case, reviewer, "not_writable", message))
        review = OpenReview(case, session, case.masks_with(session.blind))
        self._open[key] = review
        return review

    def _give_back(self, key: tuple[str, str]) -> None:
        with suppress(OutputError):  # stays open, so that it is tried again; the end of the server says so
            self._open[key].session.close()
            del self._open[key]

    def _drop(self, key: tuple[str, str]) -> None:
        """Let go of a log with which another program went on: nothing more is written to it."""
        self._open.pop(key).session.log.abandon()


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
        name = event.get("event")
        if name == "reveal":
            start = at
            while at < len(said) and said[at]["event"] == "blind":
                at += 1
            if at == start:
                return None
        elif at < len(said) and (
            said[at]["event"] == name == "rest" or all(said[at].get(key) == value for key, value in event.items())
        ):
            at += 1
        else:
            return None
    return at


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


def _check_asked(reviewer: str, options: ReviewOptions) -> None:
    """Refuse what no page asks for.

    Raises:
        UsageError: it is such.
    """
    if len(clean_reviewer_name(reviewer)) > LONGEST_NAME:
        raise UsageError(f"The name has more than {LONGEST_NAME} characters: enter a shorter one.")
    if options.order not in ORDERS:
        raise UsageError(f"There is no order '{options.order:.80}': take one of {', '.join(ORDERS)}.")
    if not 0 <= options.blind_places <= MAXIMUM_BLIND:
        raise UsageError(f"{options.blind_places} blind places: take a number from 0 to {MAXIMUM_BLIND}.")


def _not_writable(session: Session) -> str:
    """Say why a review is not opened: nothing of it is kept in memory, as the log's own sentence says."""
    cause = None if session.log.trouble is None else session.log.trouble.__cause__
    if not isinstance(cause, OSError):
        return session.trouble
    return (
        f"Cannot write {session.log.path} ({cause.strerror or cause}): the case is shown without taking verdicts, "
        "until the folder is writable or has space and the case is opened again."
    )


def _read_only(case: PageCase, reviewer: str, kind: str, error: str, who: str = "") -> dict[str, Any]:
    """Describe what a window shows of a review that it cannot write to, and why; `who` has it open."""
    session = Session.read_only(case.reviewed, log_path(case.volumes.folder, reviewer))
    masks = case.masks_with(session.blind)
    opened = [event.when for event in session.log.events if isinstance(event.action, Opened)]
    return {
        "kind": kind,
        "error": error,
        "who": who,
        "since": opened[-1] if who and opened else "",
        "read_only": True,
        "lines": parsed_lines(session.log.lines),
        "progress": session.state.progress().text,
        "regions": case.regions_json(session.regions, masks),
        "masks": masks.to_json(f"blind={len(session.blind.places)}"),
    }
