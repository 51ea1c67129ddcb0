"""Format of a review log: actions, JSON lines, cut last lines."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..util.errors import OTHER_VERSION, InputError
from ..util.input_files import read_bounded
from ..util.strict_json import parse_json, to_json, typed
from .verdicts import Verdict

# Format of the lines; a log of another format is not continued.
FORMAT = 2
WANTED = "rename the file to begin a new review"
# About 100 000 lines, one per second for more than a day.
MAXIMUM_BYTES = 16 << 20
# Most of a long line is its comment.
MAXIMUM_LINE_BYTES = 2 << 20
# Characters, about forty pages; a longer comment is cut, with a note.
MAXIMUM_COMMENT = 100_000


@dataclass(frozen=True)
class Opened:
    """The review was started or resumed.

    Attributes:
        case: name of the case.
        model: name of the bundle; `model_version` and `head` go with it.
        weights_sha256, calibration_sha256, regions_sha256: what was reviewed; "" where there is none.
        settings: of the review, as the panel had them.
        format: of the log's lines.
    """

    case: str
    model: str
    model_version: str
    head: str
    weights_sha256: str
    calibration_sha256: str
    regions_sha256: str
    settings: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True)
class VerdictGiven:
    """A verdict on a region; it replaces the one before.

    Attributes:
        comment: replaces the region's comment; None leaves it.
        seconds: time the region was visible since the last line about it.
    """

    region: int
    verdict: Verdict
    comment: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class RestAccepted:
    """All regions without a verdict were taken as they are: each of them counts as not looked at.

    Attributes:
        regions: ids, each without a verdict until then.
        expected_wrong_mm3: expected wrong volume that is taken with them.
    """

    regions: tuple[int, ...]
    expected_wrong_mm3: float


@dataclass(frozen=True)
class Commented:
    """A comment on a region; it replaces the one before."""

    region: int
    comment: str


@dataclass(frozen=True)
class Undone:
    """A line that holds no longer.

    Attributes:
        line: its number in the log, from 1.
        what: its event name.
        region: what it spoke of; None for a structure.
    """

    line: int
    what: str
    region: int | None = None


@dataclass(frozen=True)
class RegionViewed:
    """A region was visible for some seconds since the last line about it."""

    region: int
    seconds: float


@dataclass(frozen=True)
class Edited:
    """How the reviewer's segmentation differs from the model's after an edit.

    Attributes:
        region: the region at hand; None when none was.
        structure: name of the edited structure.
        voxels_inside, voxels_outside: changed voxels in regions and in none.
        changed_mm3: volume of all of them.
        removed: ids of regions whose expected wrong volume lies in changed voxels: nothing is left to look at.
        gesture: what drew it, one of `gestures.GESTURES`; "" for an edit in a program that does not say which voxels.
        runs: the voxels that the gesture changed, so that it can be undone: first flat index (i fastest), how many,
            label before, label after.
    """

    region: int | None
    structure: str
    voxels_inside: int
    voxels_outside: int
    changed_mm3: float
    removed: tuple[int, ...] = ()
    gesture: str = ""
    runs: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True)
class StructureJudged:
    """A verdict on a whole structure; None takes it back to what its regions say."""

    structure: str
    verdict: Verdict | None
    comment: str = ""


@dataclass(frozen=True)
class Asked:
    """The question: names of the structures to be measured; it replaces the one before."""

    structures: tuple[str, ...]


@dataclass(frozen=True)
class PlaceAdded:
    """A place that the reviewer has found.

    Attributes:
        region: its number, one above the highest.
        structure: that it is about.
        ras_mm: where.
    """

    region: int
    structure: str
    ras_mm: tuple[float, float, float]


@dataclass(frozen=True)
class SignedVolume:
    """The volume of a structure that a reader signs, in mm3.

    Attributes:
        volume_mm3: as drawn.
        expected_volume_mm3, expected_interval_mm3: the estimate with its interval; None where it was finished.
        basis: `signing.FINISHED` or `signing.MEASURED`.
    """

    structure: str
    volume_mm3: float
    expected_volume_mm3: float | None
    expected_interval_mm3: tuple[float, float] | None
    basis: str


@dataclass(frozen=True)
class Signed:
    """The reader stands by these volumes, until a later line changes something.

    Attributes:
        segmentation_sha256: of the file that they are of: the reader's version, else the model's segmentation.
    """

    volumes: tuple[SignedVolume, ...]
    segmentation_sha256: str


@dataclass(frozen=True)
class Closed:
    """The review was left."""


Action = (
    Opened
    | VerdictGiven
    | RestAccepted
    | Commented
    | Undone
    | RegionViewed
    | Edited
    | StructureJudged
    | Asked
    | PlaceAdded
    | Signed
    | Closed
)
# Event name in the log to the action.
ACTIONS: dict[str, type[Action]] = {
    "opened": Opened,
    "verdict": VerdictGiven,
    "rest": RestAccepted,
    "comment": Commented,
    "undo": Undone,
    "looked": RegionViewed,
    "edited": Edited,
    "structure": StructureJudged,
    "asked": Asked,
    "added": PlaceAdded,
    "signed": Signed,
    "closed": Closed,
}
NAMES = {kind: name for name, kind in ACTIONS.items()}


@dataclass(frozen=True)
class Event:
    """An action, its time (UTC, ISO 8601, seconds) and its reviewer."""

    when: str
    reviewer: str
    action: Action


@dataclass(frozen=True)
class ParsedLog:
    """A log taken apart.

    Attributes:
        whole: its whole lines, each with its end of line.
        events: their content.
        cut: what a crash left of a last line; empty as a rule.
        unended: whether only the end of the last whole line is missing.
    """

    whole: tuple[bytes, ...] = ()
    events: tuple[Event, ...] = ()
    cut: bytes = b""
    unended: bool = False

    @property
    def size(self) -> int:
        """Bytes of the whole lines."""
        return sum(map(len, self.whole))

    @property
    def regions_sha256(self) -> str | None:
        """Hash of the regions that the log is about; None when it does not say."""
        opened = [event.action for event in self.events if isinstance(event.action, Opened)]
        return opened[-1].regions_sha256 if opened else None

    def longer(self, other: "ParsedLog") -> "ParsedLog | None":
        """Return the longer of two copies of one log; None where neither begins the other."""
        shared = min(len(self.whole), len(other.whole))
        if self.whole[:shared] != other.whole[:shared]:
            return None
        return other if len(other.whole) > shared else self


def to_line(event: Event) -> bytes:
    """One JSON object with an end of line, UTF-8; a comment beyond `MAXIMUM_COMMENT` is cut, with a note."""
    content = {
        "when": event.when,
        "reviewer": event.reviewer,
        "event": NAMES[type(event.action)],
        **asdict(event.action),
    }
    if len(content.get("comment") or "") > MAXIMUM_COMMENT:
        content["comment"] = f"{content['comment'][:MAXIMUM_COMMENT]} [cut after {MAXIMUM_COMMENT} characters]"
    return f"{to_json(content, indent=None)}\n".encode()


def read_lines(content: bytes, source: str) -> ParsedLog:
    """Take a log apart.

    A last line that cannot be read is what a crash left of it. It was never reported as stored.

    Args:
        source: name for messages.

    Raises:
        InputError: a line in the middle is damaged, or the log is of another format or too large.
    """
    if len(content) > MAXIMUM_BYTES:
        raise InputError(f"{source} has {len(content)} bytes, more than the {MAXIMUM_BYTES} of a review: {WANTED}.")
    parts = content.split(b"\n")
    if parts[-1] == b"":
        parts.pop()
    events: list[Event] = []
    for number, part in enumerate(parts, 1):
        try:
            if len(part) > MAXIMUM_LINE_BYTES:
                raise ValueError(f"it has {len(part)} bytes, more than {MAXIMUM_LINE_BYTES}")
            events.append(read_event(parse_json(part, "the line")))
        except (InputError, ValueError) as error:
            code = OTHER_VERSION if OTHER_VERSION in str(error) else ""
            if number == len(parts) and len(part) <= MAXIMUM_LINE_BYTES and not code:
                break
            where = f"{source}: line {number} of {len(parts)}"
            raise InputError(f"{where} is damaged ({error!s:.200}): repair that line, or {WANTED}.", code) from error
    whole = tuple(part + b"\n" for part in parts[: len(events)])
    size = sum(map(len, whole))
    return ParsedLog(whole, tuple(events), content[size:], size > len(content))


def read_log(path: Path) -> ParsedLog:
    """Read a log without touching it, also while it is written.

    Raises:
        InputError: it cannot be read, or a line in the middle is damaged.
    """
    return read_lines(read_bounded(path, MAXIMUM_BYTES, WANTED), str(path))


def read_event(content: Any) -> Event:
    """Read an event from the JSON of a line; keys that are not its own are passed over.

    Raises:
        ValueError: it is not an event, or of another format.
    """
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("when", "reviewer")):
        raise ValueError("it is not an object with when and reviewer")
    return Event(content["when"], content["reviewer"], read_action(content))


def read_action(content: Mapping[str, Any]) -> Action:
    """Read an action from the JSON of a line; raises as `read_event`."""
    kind = ACTIONS.get(str(content.get("event")))
    if kind is None:
        raise ValueError(f"unknown event {content.get('event')!r:.40}")
    if kind is Opened and content.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{OTHER_VERSION}: its format is {content['format']!r:.20}, this version reads {FORMAT}")
    return typed(kind, content)
