"""One reviewer's review of a case, for panel and page: started or resumed, added to line by line, undone, closed.

Every act is a line of the log before it holds. Standard library only.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..case.case_file import asked_structures
from ..regions.region import Region, in_order
from ..util.errors import InputError, OutputError
from ..util.input_files import read_bounded
from . import log_format
from .log import AuditLog, Clock, now_utc
from .state import ReviewState
from .verdicts import Verdict

KEY_LETTERS = 32
# A region shown for less time was only skipped.
SHORTEST_LOOK_S = 0.5
# The pace of a reviewer until so many verdicts show it.
SECONDS_PER_REGION, PACE_AFTER = 20.0, 5
FIRST_ORDER = "structure"
# Takes the log after each line, for a copy of it in a scene.
Keep = Callable[[AuditLog], None]


@dataclass(frozen=True)
class ReviewedCase:
    """What a review needs of its case.

    Attributes:
        raw: the content of `case.json`.
        regions: of the case.
        regions_sha256: of the text of `regions.csv`; "" without regions.
    """

    raw: Mapping[str, Any]
    regions: Sequence[Region]
    regions_sha256: str

    @property
    def key(self) -> str:
        """The case's name made of hashes."""
        return case_key(self.raw, self.regions_sha256)

    def header(self, **settings: Any) -> log_format.Opened:
        """Return the first line of a session, with the settings of the regions and those given."""
        model = self.raw.get("model") or {}
        keys = ("name", "version", "head", "weights_sha256", "calibration_sha256")
        name, version, head, weights, calibration = (str(model.get(key) or "") for key in keys)
        settings = {**(self.raw.get("regions") or {}).get("settings", {}), **settings}
        return log_format.Opened(
            str(self.raw["name"]), name, version, head, weights, calibration, self.regions_sha256, settings
        )


class Session:
    """A reviewer's review of a case. Call `close` when done; the log is locked until then.

    Attributes:
        case: what is reviewed.
        log: its lines.
        state: what holds after all lines.
        resumed_at: id of the region where an earlier session stopped; None for a new review.
    """

    def __init__(self, case: ReviewedCase, log: AuditLog, keep: Keep = lambda _log: None) -> None:
        """Replay a log; `open` and `read_only` are the ways to one.

        Raises:
            InputError: a line does not fit the regions.
        """
        self.case, self.log = case, log
        self.state = ReviewState.replayed(log.events, case.regions, asked_structures(case.raw))
        self.resumed_at: int | None = None
        self._keep = keep

    @classmethod
    def open(
        cls,
        case: ReviewedCase,
        folder: Path,
        reviewer: str,
        order: str = FIRST_ORDER,
        clock: Clock = now_utc,
        scene_copy: str = "",
        keep: Keep = lambda _log: None,
    ) -> "Session":
        """Resume a reviewer's review of a case, or begin one.

        Args:
            folder: of its log.
            order: in which the reviewer goes, one of `regions.region.ORDERS`; the log says it.
            clock: returns the time, with its time zone.
            scene_copy: what a scene holds of the review: the text of its log.
            keep: keeps such a copy.

        Raises:
            UsageError, LogInUseError, InputError: as `AuditLog.open`.
            InputError: a line does not fit the regions.
        """
        log = AuditLog.open(folder, reviewer, case.header(order=order), clock, scene_copy)
        try:
            session = cls(case, log, keep)
        except BaseException:
            log.close()
            raise
        session.resumed_at = session.state.stopped_at([region.id for region in session.listed(order)])
        keep(log)
        return session

    @classmethod
    def read_only(cls, case: ReviewedCase, path: Path) -> "Session":
        """Show a review that is not writable; one that cannot be read or does not fit counts as empty.

        Args:
            path: of its log.
        """
        lines = newest_lines(path, case.regions_sha256) or log_format.ParsedLog()
        reviewer = lines.events[0].reviewer if lines.events else ""
        with suppress(InputError):
            return cls(case, AuditLog.in_memory(path, reviewer, lines))
        return cls(case, AuditLog.in_memory(path, reviewer, log_format.ParsedLog()))

    @property
    def is_done(self) -> bool:
        """Whether all asked structures are finished, and the blind sample is judged."""
        return self.state.is_done

    def listed(self, order: str = FIRST_ORDER) -> list[Region]:
        """Return the regions of the question in the reviewer's order, one of `regions.region.ORDERS`."""
        return in_order(self.state.listed(), order)

    @property
    def trouble(self) -> str:
        """Why the disk does not hold all lines; "" if it does."""
        return "" if self.log.trouble is None else str(self.log.trouble)

    @property
    def actions(self) -> list[log_format.Action]:
        """All actions, oldest first."""
        return [event.action for event in self.log.events]

    @property
    def minutes_left(self) -> float:
        """Time for the open regions of the question, at the median pace of this reviewer's verdicts."""
        seconds = [action.seconds for action in self.actions if isinstance(action, log_format.VerdictGiven)]
        pace = median(seconds) if len(seconds) >= PACE_AFTER else SECONDS_PER_REGION
        return pace * sum(map(self.state.is_open, self.state.listed())) / 60

    def append(self, action: log_format.Action) -> None:
        """Add a line, then let it hold. If it cannot be written it stays in memory and `trouble` says why.

        Raises:
            InputError: it does not fit the lines before it; nothing is written.
        """
        self.state.check(action)
        self.state.apply(self.log.append(action))
        self._keep(self.log)

    def trial(self) -> "Session":
        """Return a copy of the review in memory, to see whether lines fit before any of them is written."""
        trial = copy.copy(self)
        trial.state, trial._keep = self.state.copied(), lambda _log: None
        trial.log = AuditLog.in_memory(
            self.log.path, self.log.reviewer, log_format.ParsedLog(self.log.lines, self.log.events)
        )
        return trial

    def undo(self) -> log_format.Undone | None:
        """Take back the last verdict or comment, or all of an accepted rest; None if there is nothing to undo."""
        undone = self.state.next_undo()
        if undone is not None:
            self.append(undone)
        return undone

    def ask(self, structures: Sequence[str]) -> None:
        """Change the question; names of structures of the case, at least one."""
        if tuple(structures) != self.state.asked:
            self.append(log_format.Asked(tuple(structures)))

    def edit(self, edited: log_format.Edited) -> list[str]:
        """Add an edit; returns the structures that it changes after they were finished: they are finished no more."""
        self.append(edited)
        reopened = [name for name in edited.structure.split(", ") if name in self.state.finished]
        for name in reopened:
            self.append(log_format.StructureJudged(name, None))
        return reopened

    def finish(self, structure: str) -> Verdict:
        """Take a structure, which was looked through, as right; returns whether as accepted or as corrected."""
        verdict = Verdict.CORRECTED if structure in self.state.edited else Verdict.ACCEPTED
        self.append(log_format.StructureJudged(structure, verdict))
        return verdict

    def add_place(self, structure: str, ras_mm: tuple[float, float, float]) -> int:
        """Add a place that the reviewer found (RAS mm); returns the number of its region."""
        place = log_format.PlaceAdded(self.state.next_place(), structure, ras_mm)
        self.append(place)
        return place.region

    def accept_rest(self) -> log_format.RestAccepted | None:
        """Take all open regions of the question as they are, in one line; None if none is open."""
        rest = self.state.rest()
        if not rest.regions:
            return None
        self.append(rest)
        return rest

    def flush(self) -> None:
        """Try again to bring lines to disk that are not there yet; a failure is reported as `trouble`."""
        if self.log.pending:
            with suppress(OutputError):
                self.log.flush()

    def close(self) -> None:
        """Log the end, and let other programs have the review.

        Raises:
            OutputError: there are lines that could not be stored; the review stays open.
        """
        if self.log.pending:
            self.log.flush()
        if not isinstance(self.log.events[-1].action, log_format.Closed):
            self.append(log_format.Closed())
        self.log.close()


def newest_lines(path: Path, regions_sha256: str, scene_copy: str = "") -> log_format.ParsedLog | None:
    """Read a review so far, from its file or a scene's copy, whichever is longer; None if neither is about the regions.

    What is damaged is passed over here: opening the log reports it.
    """
    found = [scene_copy.encode(errors="replace")]
    with suppress(InputError):
        found += [read_bounded(path, log_format.MAXIMUM_BYTES)] if path.is_file() and not path.is_symlink() else []
    for content in sorted(found, key=len, reverse=True):
        with suppress(InputError):
            lines = log_format.read_lines(content, str(path))
            if lines.events and lines.regions_sha256 == regions_sha256:
                return lines
    return None


def case_key(raw: Mapping[str, Any], regions_sha256: str) -> str:
    """Return a name for a case's review, made of hashes alone.

    Args:
        raw: the content of `case.json`.
        regions_sha256: of the text of `regions.csv`; "" without regions.
    """
    model = raw.get("model") or {}
    facts = [
        [channel.get("voxels_sha256") for channel in (raw.get("input") or {}).get("channels") or []],
        [model.get("weights_sha256"), model.get("calibration_sha256"), model.get("head")],
        raw.get("roi"),
        regions_sha256,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:KEY_LETTERS]
