"""Rules by which a review is opened, in Slicer and in the browser: key, header, blind places, where it stopped.

numpy is loaded with `blind`, when a sample is drawn.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regions.region import Region
from ..util.atomic_files import atomic_file
from ..util.errors import InputError
from ..util.input_files import read_bounded
from ..util.strict_json import parse_json
from .log_format import BlindRevealed, Event, Opened

if TYPE_CHECKING:
    from .blind import BlindSample, SamplingInput

BLIND = "blind_places"
"""Setting in a log's header: how many blind places were asked for."""
SEAL = "blind_places_sha256"
KEY_LETTERS = 32
SHORTEST_LOOK_S = 0.5
"""A region shown for less was only passed on the way through the list."""
MAXIMUM_LOCATION_BYTES = 64 << 10


@dataclass(frozen=True)
class ReviewOptions:
    """Options of a review.

    Attributes:
        order: one of `regions.region.ORDERS`.
        blind_places: how many places of low risk are mixed in unmarked; a resumed review keeps its own.
    """

    order: str = "expected wrong volume"
    blind_places: int = 0


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
    """Return what the first line of a session says.

    Args:
        raw: the content of `case.json`.
    """
    model = raw.get("model") or {}

    def word(key: str) -> str:
        return str(model.get(key) or "")

    return Opened(
        case=str(raw["name"]),
        model=word("name"),
        model_version=word("version"),
        head=word("head"),
        weights_sha256=word("weights_sha256"),
        calibration_sha256=word("calibration_sha256"),
        regions_sha256=regions_sha256,
        settings=settings,
    )


def review_settings(raw: Mapping[str, Any], order: str, blind_places: int, blind: "BlindSample") -> dict[str, Any]:
    """Return the settings for the header.

    Args:
        raw: the content of `case.json`.
        blind_places: how many were asked for.
        blind: those that there was room for.
    """
    settings = {**(raw.get("regions") or {}).get("settings", {}), "order": order, BLIND: blind_places}
    return {**settings, **({SEAL: blind.sha256} if blind.places else {})}


def blind_places_of(events: Sequence[Event]) -> int:
    """Return how many blind places a review began with.

    Args:
        events: of its log, from the first on.
    """
    first = events[0].action if events else None
    asked = first.settings.get(BLIND, 0) if isinstance(first, Opened) else 0
    return asked if type(asked) is int else 0


def blind_sample(source: "SamplingInput", regions: Sequence[Region], count: int, key: str) -> "BlindSample":
    """Draw the blind places of a review; a resumed one gets the same.

    Args:
        regions: of the case.
        count: how many were asked for.
        key: `case_key` of the case.
    """
    from .blind import draw_blind_sample

    return draw_blind_sample(source, regions, count, key)


def has_ended(events: Sequence[Event], decided: bool) -> bool:
    """Whether a reviewer has said everything: only then others see it, and it sees them.

    Args:
        events: of the log.
        decided: every region has a verdict.
    """
    first = events[0].action if events else None
    hidden = isinstance(first, Opened) and bool(first.settings.get(SEAL))
    return decided and (not hidden or any(isinstance(event.action, BlindRevealed) for event in events))


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
        stored = parse_json(text, "a location")
        region = stored["region"]
        return ReviewLocation(None if region is None else int(region), str(stored["order"]), str(stored["when"]))
    except (InputError, ValueError, KeyError, TypeError):
        return None


def location_file(folder: Path, log_name: str) -> Path:
    """Return where it is kept beside the log, how far a reviewer came."""
    return folder / f"{log_name.removesuffix('.jsonl')}.place.json"


def write_location(folder: Path, log_name: str, location: ReviewLocation) -> None:
    """Remember where a reviewer stopped.

    Raises:
        OutputError: the folder cannot be written to.
    """
    with atomic_file(location_file(folder, log_name)) as work:
        work.write_text(location.text + "\n", encoding="utf-8")


def read_location(folder: Path, log_name: str) -> ReviewLocation | None:
    """Return where a reviewer stopped; None for a new review, or where that cannot be read."""
    try:
        content = read_bounded(location_file(folder, log_name), MAXIMUM_LOCATION_BYTES)
    except InputError:
        return None
    return parse_location(content.decode(errors="replace"))
