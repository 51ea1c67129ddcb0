"""A review that comes back from a page as one file: read with care, since anybody may have written it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..util.errors import OTHER_VERSION, InputError
from ..util.strict_json import read_json_object
from .log_format import MAXIMUM_BYTES, Event, Opened, ParsedLog, read_action, read_lines, to_line
from .reviewer import clean_reviewer_name

FORMAT = "segwithu-page-review"
FORMAT_VERSION = 1
ENDING = ".segwithu.json"
MAXIMUM_LINES = 100_000
LONGEST_NAME = 200
_WANTED = "let the reviewer save the verdicts again"


@dataclass(frozen=True)
class PageReview:
    """A review that came back.

    Attributes:
        path: of its file.
        identity: of the case: hashes of voxels, weights and regions.
        lines: of its log.
    """

    path: Path
    identity: tuple[tuple[str, ...], str, str]
    lines: ParsedLog


def read_page_review(path: Path) -> PageReview:
    """Read a review that a page saved.

    Raises:
        InputError: it is none, or a line of it does not fit.
    """
    content = read_json_object(path, _WANTED, MAXIMUM_BYTES)
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is no review that a page saved: {_WANTED}.")
    if content.get("format_version") != FORMAT_VERSION:
        version = content.get("format_version")
        words = f"{path} has format version {version!r:.20}, this version reads {FORMAT_VERSION}: {_WANTED}."
        raise InputError(words, OTHER_VERSION)
    try:
        identity = _identity(content["identity"])
        reviewer, lines = content["reviewer"], content["lines"]
        if not isinstance(reviewer, str) or not 0 < len(reviewer.strip()) <= LONGEST_NAME:
            raise ValueError("it names no reviewer")
        if not isinstance(lines, list):
            raise ValueError("it has no lines")
        data = _log(lines, clean_reviewer_name(reviewer))
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error!s:.200}): {_WANTED}.") from error
    parsed = read_lines(data, str(path))
    if not parsed.events or not isinstance(parsed.events[0].action, Opened):
        raise InputError(f"{path} does not begin with the opening of a review: {_WANTED}.")
    if parsed.regions_sha256 != identity[2]:
        raise InputError(f"{path} is about other regions than it says: {_WANTED}.")
    return PageReview(path, identity, parsed)


def _identity(given: Mapping[str, Any]) -> tuple[tuple[str, ...], str, str]:
    voxels = given["voxels_sha256"]
    hashes = [*voxels, given["weights_sha256"], given["regions_sha256"]]
    if not isinstance(voxels, list) or not all(isinstance(one, str) for one in hashes):
        raise ValueError("no hashes of a case")
    return tuple(voxels), given["weights_sha256"], given["regions_sha256"]


def _log(lines: Sequence[Any], reviewer: str) -> bytes:
    """Write the lines as a log has them."""
    if len(lines) > MAXIMUM_LINES:
        raise ValueError(f"{len(lines)} lines, more than {MAXIMUM_LINES}")
    return b"".join(to_line(_event(number, line, reviewer)) for number, line in enumerate(lines, 1))


def _event(number: int, line: Any, reviewer: str) -> Event:
    if not isinstance(line, dict):
        raise ValueError(f"line {number} is no object")
    try:
        when, action = str(line["when"]), read_action(line)
        time = datetime.fromisoformat(when)
    except (LookupError, ValueError) as error:
        raise ValueError(f"line {number}: {error!s:.150}") from error
    if time.tzinfo is None or line.get("reviewer") != reviewer:
        raise ValueError(f"line {number} is of another reviewer, or has no time zone")
    return Event(when, reviewer, action)
