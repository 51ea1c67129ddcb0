"""One reviewer's review of a case, for panel and page: begun or resumed, added to line by line, undone, closed.

Every act is a line of the log before it holds. numpy is loaded with `blind`, when a sample is drawn.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regions.region import ORDERS, Region
from ..util.atomic_files import atomic_file
from ..util.errors import InputError, OutputError
from ..util.input_files import read_bounded
from ..util.strict_json import parse_json, typed
from .log import AuditLog, Clock, NotStoredError, now_utc
from .log_format import (
    BLIND,
    MAXIMUM_BLIND,
    MAXIMUM_BYTES,
    SEAL,
    Action,
    BlindRevealed,
    Closed,
    Opened,
    ParsedLog,
    RestAccepted,
    Undone,
    read_lines,
)
from .reviewer import log_path
from .state import ReviewState

if TYPE_CHECKING:
    from .blind import BlindSample, SamplingInput

KEY_LETTERS = 32
SHORTEST_LOOK_S = 0.5
"""A region shown for less was only passed on the way through the list."""
MAXIMUM_LOCATION_BYTES = 64 << 10
Keep = Callable[[AuditLog], None]
"""Takes the log after each line, for a copy of it in a scene."""


def _keep_nowhere(_log: AuditLog) -> None:
    pass


@dataclass(frozen=True)
class ReviewOptions:
    """Options of a review.

    Attributes:
        order: one of `regions.region.ORDERS`.
        blind_places: how many places of low risk are mixed in unmarked; a resumed review keeps its own.
    """

    order: str = "expected wrong volume"
    blind_places: int = 0


@dataclass(frozen=True)
class ReviewedCase:
    """What a review needs of its case.

    Attributes:
        raw: the content of `case.json`.
        regions: of the case, without blind places.
        regions_sha256: of the text of `regions.csv`; "" without regions.
        sampling_input: returns what blind places are drawn from; called where there are some.
    """

    raw: Mapping[str, Any]
    regions: Sequence[Region]
    regions_sha256: str
    sampling_input: "Callable[[], SamplingInput]"

    @property
    def key(self) -> str:
        """The case's name made of hashes."""
        return case_key(self.raw, self.regions_sha256)

    @property
    def expected_wrong_mm3(self) -> float:
        """The expected wrong volume of everything that was assessed."""
        return expected_wrong_mm3(self.raw, self.regions)

    def blind_sample(self, count: int) -> "BlindSample":
        """Draw the blind places of a review; a resumed one gets the same."""
        from .blind import BlindSample, draw_blind_sample

        if not count:
            return BlindSample(())
        return draw_blind_sample(self.sampling_input(), self.regions, min(count, MAXIMUM_BLIND), self.key)


class Session:
    """A reviewer's review of a case. Call `close` when done; the log is locked until then.

    Attributes:
        case: what is reviewed.
        log: its lines.
        regions: by expected wrong volume, blind places among them.
        blind: the places; none if none were asked for.
        state: what holds after all lines.
        order: the order of the list in which the reviewer went.
        resumed_at: id of the region where an earlier session stopped; None for a new review.
    """

    def __init__(self, case: ReviewedCase, log: AuditLog, blind: "BlindSample", keep: Keep = _keep_nowhere) -> None:
        """Replay a log; `open` and `read_only` are the ways to one.

        Raises:
            InputError: a line does not fit the regions.
        """
        self.case, self.log, self.blind = case, log, blind
        self.regions = tuple(blind.mixed(case.regions))
        self.state = ReviewState.replayed(log.events, self.regions, case.expected_wrong_mm3, blind.ids)
        self.order = ReviewOptions().order
        self.resumed_at: int | None = None
        self._keep = keep
        self._location: tuple[int | None, str] | None = None

    @classmethod
    def open(
        cls,
        case: ReviewedCase,
        folder: Path,
        reviewer: str,
        options: ReviewOptions,
        clock: Clock = now_utc,
        scene_copy: str = "",
        scene_location: "ReviewLocation | None" = None,
        keep: Keep = _keep_nowhere,
    ) -> "Session":
        """Resume a reviewer's review of a case, or begin one.

        Args:
            folder: of its log.
            clock: returns the time, with its time zone.
            scene_copy, scene_location: what a scene holds of the review: the text of its log, and where it stopped.
            keep: keeps such a copy.

        Raises:
            UsageError, LogInUseError, InputError: as `AuditLog.open`.
            InputError: the volumes that blind places are drawn from are damaged, or a line does not fit the regions.
        """
        path = log_path(folder, reviewer)
        earlier = newest_lines(path, case.regions_sha256, scene_copy)
        asked = options.blind_places if earlier is None else earlier.blind_places
        blind = case.blind_sample(asked)
        location = None if earlier is None else _later(read_location(folder, path.name), scene_location)
        order = location.order if location is not None and location.order in ORDERS else options.order
        header = review_header(case.raw, case.regions_sha256, _settings(case, order, asked, blind))
        log = AuditLog.open(folder, reviewer, header, clock, scene_copy)
        try:
            session = cls(case, log, blind, keep)
        except BaseException:
            log.close()
            raise
        session.order = order
        if earlier is not None:
            stopped = session.state.last_region if location is None else location.region
            session.resumed_at = stopped if stopped in session.ids else None
        keep(log)
        return session

    @classmethod
    def read_only(cls, case: ReviewedCase, path: Path) -> "Session":
        """Show a review that somebody else writes, or nobody may; what cannot be read or does not fit counts as empty.

        Args:
            path: of its log.
        """
        lines = newest_lines(path, case.regions_sha256) or ParsedLog((), ())
        blind = case.blind_sample(lines.blind_places)
        reviewer = lines.events[0].reviewer if lines.events else ""
        with suppress(InputError):
            return cls(case, AuditLog.in_memory(path, reviewer, lines), blind)
        return cls(case, AuditLog.in_memory(path, reviewer, ParsedLog((), ())), blind)

    @property
    def ids(self) -> list[int]:
        """Of all regions, blind places among them."""
        return [region.id for region in self.regions]

    @property
    def is_done(self) -> bool:
        """Whether every region has a verdict."""
        return self.state.next_undecided(self.ids) is None

    @property
    def trouble(self) -> str:
        """Why the disk does not hold all lines; "" if it does."""
        return "" if self.log.trouble is None else str(self.log.trouble)

    @property
    def actions(self) -> list[Action]:
        """All that was said, oldest first."""
        return [event.action for event in self.log.events]

    @property
    def revealed(self) -> list[int] | None:
        """Ids of the blind places, once they are revealed; None before, and where there are none."""
        return sorted({action.place for action in self.actions if isinstance(action, BlindRevealed)}) or None

    def append(self, action: Action) -> None:
        """Add a line, then let it hold. If it cannot be written it stays in memory and `trouble` says why.

        Raises:
            InputError: it does not fit the lines before it; nothing is written.
        """
        self.state.check(action)
        try:
            event = self.log.append(action)
        except NotStoredError as error:  # written with the next line
            event = error.event
        self.state.apply(event)
        self._keep(self.log)

    def trial(self) -> "Session":
        """Return a copy of the review in memory, to see whether lines fit before any of them is written."""
        trial = copy.copy(self)
        trial.state, trial._keep = copy.deepcopy(self.state), _keep_nowhere
        trial.log = AuditLog.in_memory(self.log.path, self.log.reviewer, ParsedLog(self.log.lines, self.log.events))
        return trial

    def undo(self) -> Undone | None:
        """Take back the last verdict or comment, or all of an accepted rest; None if there is nothing to undo."""
        undone = self.state.next_undo()
        if undone is not None:
            self.append(undone)
        return undone

    def accept_rest(self) -> RestAccepted | None:
        """Take all regions without a verdict as they are, in one line; None if every region has one."""
        rest = self.state.rest()
        if not rest.regions:
            return None
        self.append(rest)
        return rest

    def reveal(self) -> str | None:
        """Log which places were blind, as far as that is not logged yet, and sum them up; None if there are none."""
        from .blind import blind_report, revealed

        known = self.actions
        for action in revealed(self.blind.ids, self.state.verdict_of):
            if action not in known:
                self.append(action)
        return blind_report(self.blind.ids, self.state.verdict_of) if self.blind.places else None

    def remember(self, region: int | None, order: str, when: datetime) -> "ReviewLocation | None":
        """Remember where the reviewer is, for the next session; None if that is known, or not in this review."""
        if (region is not None and region not in self.ids) or order not in ORDERS or (region, order) == self._location:
            return None
        self._location = (region, order)
        location = ReviewLocation(region, order, when.isoformat(timespec="microseconds"))
        with suppress(OutputError):  # it only saves a click; the log says what is wrong with the folder
            write_location(self.log.path.parent, self.log.path.name, location)
        return location

    def flush(self) -> None:
        """Try again to bring lines to disk that are not there yet; a failure is reported as `trouble`."""
        if self.log.pending:
            with suppress(OutputError):
                self.log.flush()

    def close(self) -> None:
        """Log the end, and let other programs have the review.

        Raises:
            OutputError: there are lines that could not be brought to disk; the review stays open.
        """
        if self.log.pending:
            self.log.flush()
        if not isinstance(self.log.events[-1].action, Closed):
            self.append(Closed())
        self.log.close()


def newest_lines(path: Path, regions_sha256: str, scene_copy: str = "") -> ParsedLog | None:
    """Read a review so far, from its file or a scene's copy, whichever is longer; None if neither is about the regions.

    What is damaged is passed over here: opening the log reports it.
    """
    found = [scene_copy.encode(errors="replace")]
    with suppress(InputError):
        found += [read_bounded(path, MAXIMUM_BYTES)] if path.is_file() and not path.is_symlink() else []
    for content in sorted(found, key=len, reverse=True):
        with suppress(InputError):
            lines = read_lines(content, str(path))
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
        raw.get("region_of_interest"),
        regions_sha256,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:KEY_LETTERS]


def expected_wrong_mm3(raw: Mapping[str, Any], regions: Sequence[Region]) -> float:
    """Return the expected wrong volume of everything that was assessed.

    Args:
        raw: the content of `case.json`.
        regions: of the case, without blind places.
    """
    stored = (raw.get("regions") or {}).get("expected_wrong_mm3")
    return float(stored) if stored is not None else sum(region.expected_wrong_mm3 for region in regions)


def review_header(raw: Mapping[str, Any], regions_sha256: str, settings: dict[str, Any]) -> Opened:
    """Return the first line of a session.

    Args:
        raw: the content of `case.json`.
    """
    model = raw.get("model") or {}
    keys = ("name", "version", "head", "weights_sha256", "calibration_sha256")
    name, version, head, weights, calibration = (str(model.get(key) or "") for key in keys)
    return Opened(str(raw["name"]), name, version, head, weights, calibration, regions_sha256, settings)


def _settings(case: ReviewedCase, order: str, asked: int, blind: "BlindSample") -> dict[str, Any]:
    settings = {**(case.raw.get("regions") or {}).get("settings", {}), "order": order, BLIND: asked}
    return {**settings, **({SEAL: blind.sha256} if blind.places else {})}


@dataclass(frozen=True)
class ReviewLocation:
    """Where a reviewer stopped.

    Attributes:
        region: ID of the region that was shown; None before the first.
        order: the name of the order of the list (`regions.region.ORDERS`).
        when: UTC in ISO format; of two locations the later one counts.
    """

    region: int | None
    order: str
    when: str

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def parse_location(text: str) -> ReviewLocation | None:
    """Parse a remembered location. Returns None for damaged text: it only saves the reviewer a click."""
    try:
        location: ReviewLocation = typed(ReviewLocation, parse_json(text, "a location"))
    except (InputError, ValueError):
        return None
    return location


def write_location(folder: Path, log_name: str, location: ReviewLocation) -> None:
    """Remember where a reviewer stopped.

    Raises:
        OutputError: the folder cannot be written to.
    """
    with atomic_file(_location_file(folder, log_name)) as work:
        work.write_text(location.text + "\n", encoding="utf-8")


def read_location(folder: Path, log_name: str) -> ReviewLocation | None:
    """Return where a reviewer stopped; None for a new review, or where that cannot be read."""
    try:
        content = read_bounded(_location_file(folder, log_name), MAXIMUM_LOCATION_BYTES)
    except InputError:
        return None
    return parse_location(content.decode(errors="replace"))


def _location_file(folder: Path, log_name: str) -> Path:
    return folder / f"{log_name.removesuffix('.jsonl')}.place.json"


def _later(first: ReviewLocation | None, second: ReviewLocation | None) -> ReviewLocation | None:
    found = [location for location in (first, second) if location is not None]
    return max(found, key=lambda location: location.when, default=None)
