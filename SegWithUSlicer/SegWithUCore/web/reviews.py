"""All reviews that a server holds open: who may write, which windows show them, when they are given back.

The log of a review belongs to this process from the moment when a window opens the case until the last window has
left it, or has been silent: then Slicer, or another server, can go on with it.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..regions.region import ORDERS
from ..review.log import LogInUseError, now_utc
from ..review.log_format import ParsedLog
from ..review.opening import ReviewOptions, blind_places_of
from ..review.reviewer import clean_reviewer_name, log_path
from ..review.reviews import MAXIMUM_BLIND
from ..review.state import ReviewState
from ..util.errors import InputError, OutputError, UsageError
from .case_page import PageCase
from .display_volumes import DisplayVolume
from .open_review import (
    OpenReview,
    earlier_lines,
    found_in,
    known_lines,
    parsed_lines,
    shown_regions,
    since_when,
    start_review,
)

SILENT_AFTER_S = 30.0
"""A window that has given no sign of life for so long is gone; it gives one every ten seconds."""
MOST_PAGES = 50
"""Windows of one review."""
LONGEST_NAME = 200


@dataclass(frozen=True)
class RefusalError(Exception):
    """What the page asked for cannot be, and the page knows what to do.

    Attributes:
        status: of HTTP.
        content: the answer: `kind`, `error`, and what the page shows instead.
    """

    status: int
    content: dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a window asks for when it opens a case.

    Attributes:
        reviewer: name as entered.
        order, blind_places: for a new review.
        last: stands for the last line that the window has seen; None for none.
        pending: events of an act whose answer was lost.
    """

    reviewer: str
    order: str = "expected wrong volume"
    blind_places: int = 0
    last: str | None = None
    pending: Sequence[Mapping[str, Any]] = ()


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

    def open(self, id_: str, case: PageCase, asked: Asked) -> dict[str, Any]:
        """Open a reviewer's review of a case for a window, or show it to one more.

        Raises:
            UsageError: there is no name, or another person's file has this name.
            RefusalError: another program has it, it cannot be read, or there is nothing to review.
        """
        _check_asked(asked)
        if case.regions_trouble:
            raise RefusalError(409, {"kind": "no_regions", "error": case.regions_trouble})
        with self._lock:
            review = self._current(id_, case, asked)
            if len(review.pages) >= MOST_PAGES:
                raise RefusalError(409, {"kind": "pages", "error": f"{MOST_PAGES} windows show this review already."})
            session = secrets.token_urlsafe(16)
            review.pages[session] = self._monotonic()
            known = None if asked.last is None else known_lines(review.log.lines, asked.last)
            said = [] if asked.last is None else review.said_after(known or 0)
            stored = found_in(said, asked.pending) if asked.pending else None
            edited, trouble = _edited(review)
            labels = None if edited is None else {"url": f"volumes/labels?session={session}", **edited.facts()}
            answer = review.to_json()
            return {
                **answer,
                "session": session,
                "changed": asked.last is not None and (known is None or len(said) > (stored or 0)),
                "pending_stored": stored is not None,
                "masks": {"url": f"volumes/masks?session={session}", "dtype": "uint8",
                          "bytes": len(review.shown.masks.data)},
                "has_edits": edited is not None or bool(review.state.edits),
                "labels": labels,
                "notes": [*answer["notes"], *trouble],
            }  # fmt: skip

    def alive(self, session: str, at: Any) -> dict[str, Any]:
        """Take a sign of life.

        Args:
            at: where the reviewer is, as the page says.

        Raises:
            RefusalError: the session is over.
        """
        with self._lock:
            review = self._of(session)
            review.log.keep_alive()
            review.remember(at, self._clock())
            if review.log.pending:
                with suppress(OutputError):  # told to the page as `trouble`
                    review.log.flush()
            trouble = "" if review.log.trouble is None else str(review.log.trouble)
            return {"last": review.mark, "stored": not trouble, "trouble": trouble}

    def lines(self, session: str) -> dict[str, Any]:
        """Return all lines of a review.

        Raises:
            RefusalError: the session is over.
        """
        with self._lock:
            return self._of(session).to_json()

    def say(self, session: str, last: str, act: str, events: Sequence[Mapping[str, Any]], at: Any) -> dict[str, Any]:
        """Add to the log what a reviewer said; it is on disk when this returns, or the answer says that it is not.

        Args:
            last: stands for the last line that the window has seen.
            act: names what the reviewer did, see `OpenReview.say`.
            at: where the reviewer is, as the page says.

        Raises:
            UsageError: it does not fit.
            RefusalError: the session is over, or the window has not seen the last line.
        """
        with self._lock:
            review = self._of(session)
            if not review.has_answered(act) and last != review.mark:
                error = "Another window went on with this review: look again, and give the verdict again."
                raise RefusalError(409, {"kind": "stale", "error": error, **review.to_json()})
            answer = review.say(act, events)
            review.remember(at, self._clock())
            return answer

    def review(self, session: str) -> OpenReview:
        """Return the review of a session.

        Raises:
            RefusalError: the session is over.
        """
        with self._lock:
            return self._of(session)

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
                for session, seen in list(review.pages.items()):
                    if seen < limit:
                        del review.pages[session]
                if not review.pages:
                    self._give_back(key)

    def close_all(self) -> list[str]:
        """Give all reviews back; returns what could not be brought to disk, one sentence each."""
        with self._lock:
            for key in list(self._open):
                self._give_back(key)
            return [str(review.log.trouble) for review in self._open.values() if review.log.trouble is not None]

    @property
    def count(self) -> int:
        """How many reviews are open."""
        return len(self._open)

    def _current(self, id_: str, case: PageCase, asked: Asked) -> OpenReview:
        """Return the open review, or open it.

        Raises:
            as `open`.
        """
        folder = case.volumes.folder
        key = (id_, log_path(folder, asked.reviewer).name)
        known = self._open.get(key)
        if known is not None and known.log.is_current and known.case.regions_sha256 == case.regions_sha256:
            return known
        if known is not None:
            self._drop(key)
        try:
            review = start_review(case, asked.reviewer, ReviewOptions(asked.order, asked.blind_places), self._clock)
        except LogInUseError as error:
            raise RefusalError(423, _in_use(case, asked.reviewer, error)) from error
        except InputError as error:
            raise RefusalError(409, {"kind": "damaged", "error": str(error)}) from error
        if review.log.trouble is not None:
            sentence = _not_writable(review)
            review.log.abandon()
            raise RefusalError(423, {"kind": "not_writable", "error": sentence, "who": "", "since": "",
                                     **_read_only(case, asked.reviewer)})  # fmt: skip
        self._open[key] = review
        return review

    def _of(self, session: str) -> OpenReview:
        """Return the review of a session, whose window has just shown that it lives."""
        for key, review in self._open.items():
            if session in review.pages:
                if not review.log.is_current:
                    self._drop(key)
                    break
                review.pages[session] = self._monotonic()
                return review
        raise RefusalError(409, {"kind": "closed", "error": "The review was given back: it is opened again."})

    def _give_back(self, key: tuple[str, str]) -> None:
        with suppress(OutputError):  # stays open, so that it is tried again; the end of the server says so
            self._open[key].close()
            del self._open[key]

    def _drop(self, key: tuple[str, str]) -> None:
        """Let go of a log with which another program went on: nothing more is written to it."""
        self._open.pop(key).log.abandon()


def _check_asked(asked: Asked) -> None:
    """Refuse what no page asks for.

    Raises:
        UsageError: it is such.
    """
    if len(clean_reviewer_name(asked.reviewer)) > LONGEST_NAME:
        raise UsageError(f"The name has more than {LONGEST_NAME} characters: enter a shorter one.")
    if asked.order not in ORDERS:
        raise UsageError(f"There is no order '{asked.order:.80}': take one of {', '.join(ORDERS)}.")
    if not 0 <= asked.blind_places <= MAXIMUM_BLIND:
        raise UsageError(f"{asked.blind_places} blind places: take a number from 0 to {MAXIMUM_BLIND}.")


def _edited(review: OpenReview) -> tuple[DisplayVolume | None, list[str]]:
    """Return the reviewer's own version, and notes on it, or why there is none although there should be."""
    try:
        return review.read_edited()
    except InputError as error:
        return None, [f"Your edited segmentation cannot be shown: {error}"]


def _in_use(case: PageCase, reviewer: str, error: LogInUseError) -> dict[str, Any]:
    lines = _lines_there(case, reviewer)
    facts = {"kind": "in_use", "error": str(error), "who": error.who, "since": since_when(lines)}
    return {**facts, **_read_only(case, reviewer)}


def _not_writable(review: OpenReview) -> str:
    """Say why a review is not opened: nothing of it is kept in memory, as the log's own sentence says."""
    cause = None if review.log.trouble is None else review.log.trouble.__cause__
    if not isinstance(cause, OSError):
        return str(review.log.trouble)
    return (
        f"Cannot write {review.log.path} ({cause.strerror or cause}): the case is shown without taking verdicts, until "
        "the folder is writable or has space and the case is opened again."
    )


def _lines_there(case: PageCase, reviewer: str) -> ParsedLog | None:
    with suppress(InputError):  # said by whoever has it open
        return earlier_lines(case, log_path(case.volumes.folder, reviewer))
    return None


def _read_only(case: PageCase, reviewer: str) -> dict[str, Any]:
    """Say what a window shows of a review that it cannot write to."""
    lines = _lines_there(case, reviewer)
    shown = shown_regions(case, 0 if lines is None else blind_places_of(lines.events))
    progress = ""
    with suppress(InputError):  # a log that does not fit is shown as nothing
        events = () if lines is None else lines.events
        progress = ReviewState.replayed(events, shown.regions, case.total_mm3, shown.blind.ids).progress().text
    return {
        "read_only": True,
        "lines": [] if lines is None else parsed_lines(lines.whole),
        "progress": progress,
        "regions": case.regions_json(shown.regions, shown.masks),
        "masks": {"url": f"volumes/masks?blind={len(shown.blind.places)}", "dtype": "uint8",
                  "bytes": len(shown.masks.data)},
    }  # fmt: skip
