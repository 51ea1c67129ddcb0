"""All reviews that a server holds open: who may write, which windows show them, when they are released.

The log of a review belongs to this process from the moment when a window opens the case until the last window has
left it, or has been silent: then Slicer, or another server, can continue it.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from ..case.case_file import SEGMENTATION_FILE, is_mask_alone
from ..case.case_folders import checked_file
from ..case.case_regions import ERROR_PROBABILITY_FILE, RUNNER_UP_FILE
from ..case.region_files import REGION_LABELS_FILE
from ..case.segmentation_file import own_segments, read_reviewed, write_drawn_nrrd
from ..regions.region import ORDERS
from ..review import log_format
from ..review.corrections import take_as_edit
from ..review.gestures import GESTURES, Runs, drawn_by, drawn_by_hand, edit_of, runs_of
from ..review.log import LogInUseError, now_utc
from ..review.reviewed_case import measured_volumes, reviewed_case
from ..review.reviewer import log_path, version_path
from ..review.reviews import Review, corrected_cases_text
from ..review.scroll import Scroll, Volumes
from ..review.session import SHORTEST_LOOK_S, Session
from ..review.signing import signature, signed_text, valid_signature
from ..review.verdicts import GIVEN
from ..util.atomic_files import atomic_file, temporary_folder
from ..util.errors import InputError, OutputError, UsageError
from ..util.strict_json import parse_json, typed
from .case_page import PageCase, page_entries
from .case_volumes import DisplayVolume, display_labels

# A window that has sent nothing for so long is gone; it sends a request every ten seconds.
SILENT_AFTER_S = 30.0
# Of a request: each is on disk before the answer, and an act on the page has three.
MOST_EVENTS = 100
# A day: more is no time that somebody looked.
LONGEST_LOOK_S = 86_400.0
# No image reaches farther from its origin.
FARTHEST_MM = 1e5
_FROM_PAGE = tuple(
    log_format.ACTIONS[name] for name in ("verdict", "comment", "structure", "looked", "undo", "asked", "added")
)
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RefusalError(Exception):
    """The page's request is refused, and the page knows what to do.

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
        pages: the time of the last request of each window that shows it, by session.
        edited: the reviewer's own version of the segmentation, as it was read last; None if there is none.
        labels: (z, y, x), those of `edited`, else the model's.
        arrays: what the figures after the reviewer's work are measured on, once there is any.
    """

    case: PageCase
    session: Session
    pages: dict[str, float] = field(default_factory=dict)
    edited: DisplayVolume | None = None
    labels: np.ndarray | None = None
    arrays: Mapping[str, np.ndarray] | None = None

    @property
    def mark(self) -> str:
        """The hash of all lines: the page sends the mark that it has seen."""
        return hashlib.sha256(b"".join(self.session.log.lines)).hexdigest()

    def known_lines(self, mark: str) -> int | None:
        """Return how many lines a page has seen that names `mark`; None if these lines never were the log."""
        running = hashlib.sha256()
        for number, line in enumerate((b"", *self.session.log.lines)):
            running.update(line)
            if running.hexdigest() == mark:
                return number
        return None

    def to_json(self) -> dict[str, Any]:
        """Describe all that the page shows of the review."""
        session = self.session
        return {
            "reviewer": session.log.reviewer,
            "read_only": False,
            "notes": list(session.log.notes),
            **self.answer(0),
        }

    def answer(self, known: int) -> dict[str, Any]:
        """Describe what has changed since the first `known` lines."""
        session, case = self.session, self.case.volumes
        return {
            "lines": parsed_lines(session.log.lines[known:]),
            "last": self.mark,
            "progress": session.state.progress().text,
            "figures": self.figures(),
            **self._signatures(),
            "corrected": corrected_cases_text(case.folder, case.description.model_name) if session.is_done else "",
            "stored": not session.trouble,
            "trouble": session.trouble,
        }

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the page's table that the reviewer's work has changed, by name: those of `page_entries`.

        `read_by` and `edited` say by what; nothing if they cannot be measured.
        """
        before = page_entries(self.case.raw)
        with suppress(InputError):  # a damaged version or volume: `read_edited` and `check` say so
            return {str(each["name"]): each for each in page_entries(self._now()) if each not in before}
        return {}

    def _now(self) -> dict[str, Any]:
        """Return the content of `case.json` after the reviewer's work, with what is asked now."""
        state, case = self.session.state, self.case.raw
        if state.seen_ids or state.finished or self.edited:
            case = reviewed_case(self.case.volumes.folder, case, self._review(), volumes=self._volumes())
        return {**case, "asked": state.asked}

    def _review(self) -> Review:
        log = self.session.log
        return Review(log.path, log.reviewer, tuple(log.events), self.session.state)

    def _signatures(self) -> dict[str, Any]:
        """Describe what the reviewer could sign now, and has signed."""
        review, to_sign = self._review(), list[str]()
        with suppress(InputError, UsageError):
            to_sign = list(map(signed_text, signature(self._now(), review).volumes))
        is_signed = valid_signature(self.case.raw, review) is not None
        return {"signed": review.state.signed_at if is_signed else "", "to_sign": to_sign}

    def add(self, events: Lines) -> dict[str, Any]:
        """Add events to the log; all of them or, where one does not fit, none.

        Args:
            events: as the page sends them.

        Returns:
            The answer for the page.

        Raises:
            UsageError: an event does not fit.
        """
        if not 0 < len(events) <= MOST_EVENTS:
            raise UsageError(f"The request has {len(events)} events: send 1 to {MOST_EVENTS}.")
        trial, known, labels = self.session.trial(), len(self.session.log.lines), self.labels
        structures = {entry.name for entry in self.case.volumes.description.structures}
        try:
            for event in events:
                if event.get("event") == "drawn":
                    runs = typed(tuple[tuple[int, int, int, int], ...], event.get("runs"))
                    labels = drawn_by(runs, self._labels(labels))
                    trial.edit(self._edited(event.get("region"), str(event.get("gesture")), runs, labels))
                elif event.get("event") != "rest":
                    action = _checked(log_format.read_action(event), structures)
                    if isinstance(action, log_format.Undone) and action.what == "edited":
                        undone = trial.state.edits[-1].runs if trial.state.edits else ()
                        labels = drawn_by(undone, self._labels(labels), back=True)
                    trial.append(action)
                elif trial.accept_rest() is None:
                    raise UsageError("No region of the asked structures is open.")
        except (InputError, ValueError) as error:
            raise UsageError(f"An event does not fit this review: {error}") from error
        if labels is not None and labels is not self.labels:
            self._keep(labels)
        for action in trial.actions[known:]:
            self.session.append(action)
        return self.answer(known)

    def sign(self) -> dict[str, Any]:
        """Let the reviewer sign what `to_sign` showed; returns the answer for the page.

        Raises:
            UsageError: as `signature`.
        """
        known = len(self.session.log.lines)
        self.session.append(signature(self._now(), self._review()))
        return self.answer(known)

    def positions(self, structure: str, region: int | None) -> dict[str, Any]:
        """Describe how the contour of a structure, or of one of its regions, can be scrolled.

        Returns:
            `start`, the position of the contour as it is now, and `positions`, from the smallest to the largest
            structure: each with `voxels`, how many the structure wins, and `runs`, as in `Edited`.

        Raises:
            UsageError: the case has no such structure or region.
            InputError: the structure is finished.
        """
        values = {entry.name: entry.value for entry in self.case.volumes.description.structures}
        if structure not in values or (region is not None and region not in {one.id for one in self.case.regions}):
            raise UsageError(f"The case has no structure '{structure:.80}' with region {region}.")
        if is_mask_alone(self.case.raw):
            raise InputError("Without a model no contour can be scrolled: draw with the brush.", "not-calibrated")
        now, volumes, state = self._labels(self.labels), self._volumes(), self.session.state
        drawn, value = volumes[SEGMENTATION_FILE], values[structure]
        i, j, k = self.case.volumes.grid.spacing
        shown = Volumes(now=now, drawn=drawn, runner_up=volumes.get(RUNNER_UP_FILE, drawn),
                        error=volumes[ERROR_PROBABILITY_FILE], fixed=drawn_by_hand(state.edits, now, drawn),
                        finished=[values[name] for name in state.finished], spacing_mm=(k, j, i))  # fmt: skip
        contour = Scroll(shown, value, None if region is None else volumes[REGION_LABELS_FILE] == region)
        found = []
        for position in range(len(contour.counts)):
            places, labels = contour.at(position)
            before = now.ravel()[places]
            gained = int(np.count_nonzero(labels == value)) - int(np.count_nonzero(before == value))
            found.append({"voxels": gained, "runs": runs_of(places, before, labels)})
        return {"start": contour.start, "positions": found}

    def _labels(self, labels: np.ndarray | None) -> np.ndarray:
        return self._volumes()[SEGMENTATION_FILE] if labels is None else labels

    def _volumes(self) -> Mapping[str, np.ndarray]:
        if self.arrays is None:
            self.arrays = measured_volumes(self.case.volumes.folder, self.case.raw)
        return self.arrays

    def _edited(self, region: int | None, gesture: str, runs: Runs, after: np.ndarray) -> log_format.Edited:
        """Say how a gesture changes the segmentation.

        Raises:
            UsageError: it is none of ours, or draws what is no structure, or a finished one.
        """
        structures, finished = self.case.volumes.description.structures, self.session.state.finished
        names = {entry.value: entry.name for entry in structures if entry.name not in finished}
        values = sorted({value for run in runs for value in run[2:]} - {0})
        if gesture not in GESTURES or not runs or not set(values) <= names.keys():
            raise UsageError(f"The page may not draw the labels {values} by '{gesture:.40}': reopen what is finished.")
        volumes, voxel_mm3 = self._volumes(), float(np.prod(self.case.volumes.grid.spacing))
        maps = (volumes[ERROR_PROBABILITY_FILE], volumes[REGION_LABELS_FILE])
        edit = edit_of(volumes[SEGMENTATION_FILE], after, *maps, voxel_mm3, [names[each] for each in values], region)
        return replace(edit, gesture=gesture, runs=tuple(runs))

    def _keep(self, labels: np.ndarray) -> None:
        """Write the reviewer's version of the segmentation.

        Raises:
            UsageError: the one before has segments of the reviewer's own, which would be lost.
            OutputError: it cannot be written.
        """
        path, volumes = version_path(self.case.volumes.folder, self.session.log.path.name), self.case.volumes
        if os.path.lexists(path):
            checked_file(volumes.folder, path.name)
            if own := own_segments(path, volumes.first, self.case.raw):
                raise UsageError(f"Your version has the segment '{own[0]:.80}' of your own: go on in 3D Slicer.")
        with atomic_file(path) as work:
            write_drawn_nrrd(work, volumes.grid.image(labels), self.case.raw)
        self.labels, self.edited = labels, display_labels(labels, str(path))

    def events_after(self, known: int) -> Lines:
        """List the events after the first `known` lines, without openings and endings."""
        lines = parsed_lines(self.session.log.lines[known:])
        return [line for line in lines if line["event"] not in ("opened", "closed")]

    def read_edited(self) -> list[str]:
        """Read the reviewer's own version of the segmentation, made in Slicer; return notes on it."""
        folder = self.case.volumes.folder
        path = version_path(folder, self.session.log.path.name)
        self.edited, self.labels, note = None, None, ""
        if os.path.lexists(path):
            try:
                checked_file(folder, path.name)
                labels, note = read_reviewed(path, self.case.volumes.first, self.case.raw)
                self.edited, self.labels = display_labels(labels, str(path)), labels
            except InputError as error:
                note = f"Your edited segmentation cannot be shown: {error}"
        return [note] if note else []


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
        self, id_: str, case: PageCase, reviewer: str, order: str, last: str | None = None, pending: Lines = ()
    ) -> dict[str, Any]:
        """Open a reviewer's review of a case for a window, or show it to one more.

        Args:
            reviewer: name as entered.
            order: in which the window shows the regions.
            last: stands for the last line that the window has seen; None for none.
            pending: events of an act whose answer was lost.

        Raises:
            UsageError: the name is not usable, or another reviewer's file has this name.
            RefusalError: another program has it, it cannot be read, or there is nothing to review.
        """
        if order not in ORDERS:
            raise UsageError(f"There is no order '{order:.80}': take one of {', '.join(ORDERS)}.")
        if case.regions_trouble:
            raise RefusalError(409, {"kind": "no_regions", "error": case.regions_trouble})
        with self._lock:
            review = self._current(id_, case, reviewer, order)
            session = secrets.token_urlsafe(16)
            review.pages[session] = self._monotonic()
            known = None if last is None else review.known_lines(last)
            later = [] if last is None else review.events_after(known or 0)
            is_stored = bool(pending) and begins_with(later, pending)
            notes, edited = review.read_edited(), review.edited
            labels = None if edited is None else {"url": f"volumes/labels?session={session}", **edited.facts()}
            answer = review.to_json()
            return {
                **answer,
                "session": session,
                "changed": last is not None and (known is None or len(later) > (len(pending) if is_stored else 0)),
                "pending_stored": is_stored,
                "has_edits": edited is not None or bool(review.session.state.edits),
                "labels": labels,
                "notes": [*answer["notes"], *notes],
            }

    def alive(self, id_: str, session: str) -> dict[str, Any]:
        """Keep a session open, and try again to store lines that are not on disk.

        Raises:
            RefusalError: the session is over.
        """
        with self._lock:
            review = self.review(id_, session)
            review.session.flush()
            trouble = review.session.trouble
            return {"last": review.mark, "stored": not trouble, "trouble": trouble}

    def add(self, id_: str, session: str, last: str, events: Lines) -> dict[str, Any]:
        """Add a reviewer's events to the log; on disk when this returns, else the answer says that they are not.

        Events that are stored already, because an answer was lost, are not added again.

        Args:
            last: stands for the last line that the window has seen.

        Raises:
            UsageError: it does not fit.
            RefusalError: the session is over, or the window has not seen the last line.
        """
        with self._lock:
            review = self.review(id_, session)
            if last == review.mark:
                is_signature = [event.get("event") for event in events] == ["signed"]
                return review.sign() if is_signature else review.add(events)
            known = review.known_lines(last)
            if known is not None and events and begins_with(review.events_after(known), events):
                return review.answer(known)
            error = "Another window changed this review: check the region, and give the verdict again."
            raise RefusalError(409, {"kind": "stale", "error": error, **review.to_json()})

    def positions(self, id_: str, session: str, structure: str, region: int | None) -> dict[str, Any]:
        """Return the positions of a contour, as `OpenReview.positions`.

        Raises:
            UsageError: the case has no such contour.
            InputError: its structure is finished.
            RefusalError: the session is over.
        """
        with self._lock:
            return self.review(id_, session).positions(structure, region)

    def take_mask(self, id_: str, session: str, mask: bytes, name: str, ending: str) -> dict[str, Any]:
        """Keep a segmentation as the reviewer's version, which replaces the one before; the page then opens it again.

        Args:
            mask: the content of its file.
            name: of its file, for messages.
            ending: of its name, which says what the file is.

        Raises:
            RefusalError: the session is over.
            InputError, OutputError: as `take_as_edit`.
        """
        with self._lock:
            review = self.review(id_, session)
            folder, core = review.case.volumes.folder, review.session
            with temporary_folder(folder) as private:
                file = private / f"mask{ending}"
                file.write_bytes(mask)
                try:
                    changed = take_as_edit(folder, core.log.reviewer, file, overwrite=True, review=core)[1]
                except InputError as error:
                    raise InputError(str(error).replace(str(file), name), error.code) from error
            return {"volumes_mm3": changed}

    def review(self, id_: str, session: str) -> OpenReview:
        """Return the review of a session, and note that its window is open.

        Args:
            id_: of its case.

        Raises:
            RefusalError: the session is over, or of another case.
        """
        with self._lock:
            for key, review in self._open.items():
                if key[0] == id_ and session in review.pages:
                    if not review.session.log.is_current:
                        self._abandon(key)
                        break
                    review.pages[session] = self._monotonic()
                    return review
        raise RefusalError(409, {"kind": "closed", "error": "The review was released: it is opened again."})

    def close(self, session: str) -> None:
        """End a session; the last one of a review releases it to other programs."""
        with self._lock:
            for key, review in list(self._open.items()):
                if review.pages.pop(session, None) is not None and not review.pages:
                    self._release(key)

    def close_silent(self) -> None:
        """End the sessions of windows that are silent."""
        with self._lock:
            limit = self._monotonic() - SILENT_AFTER_S
            for key, review in list(self._open.items()):
                review.pages = {session: seen for session, seen in review.pages.items() if seen >= limit}
                if not review.pages:
                    self._release(key)

    def close_all(self) -> list[str]:
        """Release all reviews; returns a message for each that could not be stored."""
        with self._lock:
            for key in list(self._open):
                self._release(key)
            return [review.session.trouble for review in self._open.values() if review.session.trouble]

    def _current(self, id_: str, case: PageCase, reviewer: str, order: str) -> OpenReview:
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
            self._abandon(key)
        try:
            session = Session.open(case.reviewed, folder, reviewer, order, self._clock)
        except LogInUseError as error:
            raise RefusalError(423, _read_only(case, reviewer, "in_use", str(error), error.who)) from error
        except InputError as error:
            raise RefusalError(409, {"kind": "damaged", "error": str(error)}) from error
        if session.trouble:
            session.log.abandon()
            message = f"{session.trouble} The case is shown read-only."
            raise RefusalError(423, _read_only(case, reviewer, "not_writable", message))
        self._open[key] = OpenReview(case, session)
        return self._open[key]

    def _release(self, key: tuple[str, str]) -> None:
        with suppress(OutputError):  # stays open, so that it is tried again; `close_all` reports it
            self._open[key].session.close()
            del self._open[key]

    def _abandon(self, key: tuple[str, str]) -> None:
        """Release a log that another program has changed: nothing more is written to it."""
        self._open.pop(key).session.log.abandon()


def parsed_lines(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Give lines of a log as the JSON that they are."""
    return [parse_json(line, "a line of the review") for line in lines]


def begins_with(lines: Lines, events: Lines) -> bool:
    """Whether lines of a log, which the page has not seen, begin with events that it sent: the answer was lost."""
    return len(events) <= len(lines) and all(
        line["event"] == event.get("event") == "rest"
        or all(line.get(key) == value for key, value in event.items() if (key, value) != ("event", "drawn"))
        for line, event in zip(lines, events, strict=False)
    )


def _checked(action: log_format.Action, structures: set[str]) -> log_format.Action:
    """Return an action that a page may add to a log.

    Raises:
        UsageError: it may not.
    """
    seconds = getattr(action, "seconds", SHORTEST_LOOK_S)
    is_of_page = isinstance(action, _FROM_PAGE) and getattr(action, "verdict", None) in (None, *GIVEN)
    named = action.structures if isinstance(action, log_format.Asked) else (getattr(action, "structure", None),)
    is_known = 0 < len(named) == len(set(named)) and all(name is None or name in structures for name in named)
    shortest = SHORTEST_LOOK_S if isinstance(action, log_format.RegionViewed) else 0.0
    is_near = all(abs(part) <= FARTHEST_MM for part in getattr(action, "ras_mm", ()))
    if not is_of_page or not is_known or not is_near or not shortest <= seconds <= LONGEST_LOOK_S:
        raise UsageError(f"The page may not add this event: {action!r:.200}.")
    return action


def _read_only(case: PageCase, reviewer: str, kind: str, error: str, who: str = "") -> dict[str, Any]:
    """Describe what a window shows of a review that it cannot write to, and why; `who` has it open."""
    session = Session.read_only(case.reviewed, log_path(case.volumes.folder, reviewer))
    opened = [event.when for event in session.log.events if isinstance(event.action, log_format.Opened)]
    return {
        "kind": kind,
        "error": error,
        "who": who,
        "since": opened[-1] if who and opened else "",
        "read_only": True,
        "lines": parsed_lines(session.log.lines),
        "progress": session.state.progress().text,
    }
