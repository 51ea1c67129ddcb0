"""What a reviewer did, as facts: one line of the log each."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a reviewer says about a region, a structure or a blind place."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"
    REJECTED = "rejected"
    SECOND_READER = "needs second reader"


SEEN = frozenset({Verdict.ACCEPTED, Verdict.CORRECTED})
"""Verdicts after which a region's expected errors count as seen: somebody looked, and it is right now."""


@dataclass(frozen=True)
class Opened:
    """The review was begun or gone on with.

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
    format: int = 1


@dataclass(frozen=True)
class VerdictGiven:
    """A verdict on a region; it replaces the one before.

    Attributes:
        comment: replaces the region's comment; None leaves it.
        seconds: time the region was visible that no line has told yet.
    """

    region: int
    verdict: Verdict
    comment: str | None = None
    seconds: float = 0.0


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
class Looked:
    """A region was visible for some seconds that no line has told yet."""

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
    """

    region: int | None
    structure: str
    voxels_inside: int
    voxels_outside: int
    changed_mm3: float


@dataclass(frozen=True)
class StructureJudged:
    """A verdict on a whole structure; None takes it back to what its regions say."""

    structure: str
    verdict: Verdict | None
    comment: str = ""


@dataclass(frozen=True)
class BlindRevealed:
    """Told at the end: the region of this id was a blind place, and this is what the reviewer said about it."""

    place: int
    answer: Verdict | None


@dataclass(frozen=True)
class Closed:
    """The review was left."""


Fact = Opened | VerdictGiven | Commented | Undone | Looked | Edited | StructureJudged | BlindRevealed | Closed
FACTS: dict[str, type[Fact]] = {
    "opened": Opened,
    "verdict": VerdictGiven,
    "comment": Commented,
    "undo": Undone,
    "looked": Looked,
    "edited": Edited,
    "structure": StructureJudged,
    "blind": BlindRevealed,
    "closed": Closed,
}
"""Event name in the log to the fact that it tells."""
NAMES = {kind: name for name, kind in FACTS.items()}


@dataclass(frozen=True)
class Event:
    """A fact, when it happened (UTC, ISO 8601, seconds) and whose it is."""

    when: str
    reviewer: str
    fact: Fact
