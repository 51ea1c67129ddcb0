"""What a case tells about people, taken out: names, dates, paths, free text. Arrays and headers are left to others."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .events import Commented, Edited, Event, Fact, Opened, StructureJudged, VerdictGiven
from .log_lines import Lines, to_line
from .reviewer_name import safe_reviewer_name

FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
"""Every anonymous log begins then; the time between its lines stays."""
COPY_MARK = "anonymous_copy"
"""Setting in the first line of an anonymous log: how many lines the copy has."""
REMOVED = "[removed]"
_PATH = re.compile(r"\S*[/\\]\S*[/\\]\S*")
"""A word with two separators."""
_LEAST_LETTERS = 3
"""Shorter names are not looked for in sentences: they would be found in every other word."""
_CASE_KEYS = (
    *("format", "format_version", "region_of_interest", "not_assessed_value", "versions", "device", "structures"),
    *("maps", "regions", "timings_s", "peak_memory_mb"),
)
_MODEL_KEYS = (
    *("name", "version", "task", "head", "weights_sha256", "calibration_sha256", "calibrated", "calibration_cases"),
    "flags",
)


@dataclass
class Aliases:
    """Names of reviewers and what stands for them, the same in all cases of one export."""

    reviewers: dict[str, str] = field(default_factory=dict)

    def reviewer(self, name: str) -> str:
        """What stands for a reviewer."""
        return self.reviewers.setdefault(name, f"reviewer {len(self.reviewers) + 1}")

    def reviewer_of_file(self, name: str) -> str:
        """What stands for a reviewer of whom the part of a file name is known."""
        known = {safe_reviewer_name(reviewer): alias for reviewer, alias in self.reviewers.items()}
        return known.get(name) or self.reviewer(name)


def anonymous_case(case: Mapping[str, Any], alias: str, image_file: str, folder: Path) -> dict[str, Any]:
    """The content of `case.json` with only what is known to tell nothing about people.

    Args:
        alias: stands for the name of the case.
        image_file: of the image in the anonymous folder.
        folder: of the case, which sentences may name.
    """
    secrets = {str(case["name"])}
    for channel in case["input"]["channels"]:
        for path in ((folder / str(channel.get("file") or "")).resolve(), folder.resolve()):
            secrets |= {str(path), path.as_posix(), path.name, path.name.split(".")[0]}
            secrets |= {str(place) for place in path.parents}
    channels = [
        {"name": channel["name"], "file": image_file, "voxels_sha256": channel["voxels_sha256"]}
        for channel in case["input"]["channels"]
    ]
    warnings = (case.get("fingerprint") or {}).get("warnings") or []
    return {
        **{key: case[key] for key in _CASE_KEYS if key in case},
        "name": alias,
        "anonymous": True,
        "input": {"channels": channels, "grid": case["input"]["grid"]},
        "model": {key: case["model"][key] for key in _MODEL_KEYS if key in case["model"]},
        "fingerprint": {"warnings": [_told(warning, secrets) for warning in warnings]},
        "flags": [_told(flag, secrets) for flag in case.get("flags") or []],
    }


def anonymous_log(
    lines: Lines, case_alias: str, aliases: Aliases, structures: Collection[str], keep_comments: bool = False
) -> bytes:
    """A log that tells the same without names, dates and free text.

    Args:
        structures: names that may stay; segments that a reviewer added lose theirs.
    """
    first = _time(lines.events[0].when) if lines.events else FIRST_DAY
    others: dict[str, str] = {}
    copied = []
    for number, event in enumerate(lines.events):
        fact = _anonymous_fact(event.fact, case_alias, structures, others, keep_comments)
        if number == 0 and isinstance(fact, Opened):
            fact = replace(fact, settings={COPY_MARK: len(lines.events)})
        when = FIRST_DAY + max(timedelta(0), _time(event.when) - first)
        stamp = when.isoformat(timespec="seconds").replace("+00:00", "Z")
        copied.append(to_line(Event(stamp, aliases.reviewer(event.reviewer), fact)))
    return b"".join(copied)


def unchanged_copy(events: Sequence[Event]) -> bool:
    """Whether a log is an anonymous copy that nobody has gone on with: what it says is known where it came from."""
    first = events[0].fact if events else None
    return isinstance(first, Opened) and first.settings.get(COPY_MARK) == len(events)


def _anonymous_fact(
    fact: Fact, case_alias: str, structures: Collection[str], others: dict[str, str], keep_comments: bool
) -> Fact:
    match fact:
        case Opened():
            return replace(fact, case=case_alias, settings={})
        case VerdictGiven() if not keep_comments:
            return replace(fact, comment=None)
        case Commented() if not keep_comments:
            return replace(fact, comment="")
        case StructureJudged():
            said = fact.comment if keep_comments else ""
            return replace(fact, structure=_structure(fact.structure, structures, others), comment=said)
        case Edited():
            return replace(fact, structure=_structure(fact.structure, structures, others))
    return fact


def _structure(name: str, known: Collection[str], others: dict[str, str]) -> str:
    return name if name in known else others.setdefault(name, f"segment {len(others) + 1}")


def _told(entry: Mapping[str, Any], secrets: Collection[str]) -> dict[str, Any]:
    """A warning or flag whose sentence names no file and no case."""
    sentence = str(entry.get("sentence", ""))
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_LETTERS:
            sentence = sentence.replace(secret, REMOVED)
    return {**entry, "sentence": _PATH.sub(REMOVED, sentence)}


def _time(text: str) -> datetime:
    """A time of a log; the first day where it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return FIRST_DAY
    return when if when.tzinfo else when.replace(tzinfo=UTC)
