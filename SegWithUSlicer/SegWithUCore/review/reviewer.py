"""Reviewer names: cleaning, file names of logs, aliases, and anonymous copies of logs."""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ..util.errors import UsageError
from .log_format import (
    ACTIONS,
    Action,
    Commented,
    Edited,
    Event,
    Opened,
    ParsedLog,
    StructureJudged,
    Undone,
    VerdictGiven,
    to_line,
)

FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
"""Every anonymous log begins then; the time between its lines stays."""
COPY_MARK = "anonymous_copy"
"""Setting in the first line of an anonymous log: how many lines the copy has."""


_HASH = re.compile(r"[0-9a-f]{64}")
MAXIMUM_BYTES = 80
"""Of a name within a file name; file systems allow 255 for all of it."""


def clean_reviewer_name(name: str) -> str:
    """Normalise a name as it is stored in the log: composed characters, no blanks around it.

    Raises:
        UsageError: there is nothing left.
    """
    clean = unicodedata.normalize("NFC", " ".join(name.split()))
    if not clean:
        raise UsageError("The reviewer has no name: enter one, it becomes part of the file name of the review.")
    return clean


def safe_reviewer_name(name: str) -> str:
    """Make a name part of a file name: letters of all scripts stay, what file systems refuse becomes "_".

    A long name is cut and gets a mark of its own, so that two long names stay two.

    Raises:
        UsageError: there is no name.
    """
    clean = clean_reviewer_name(name)
    safe = "".join("_" if unicodedata.category(sign)[0] == "C" else sign for sign in clean)
    safe = re.sub(r'[<>:"/\\|?*]', "_", safe)
    safe = re.sub(r"^\.+|[. ]+$", lambda dots: "_" * len(dots[0]), safe)
    if len(safe.encode()) > MAXIMUM_BYTES:
        mark = hashlib.sha256(clean.encode(errors="surrogatepass")).hexdigest()[:8]
        safe = f"{safe.encode()[: MAXIMUM_BYTES - 9].decode(errors='ignore')}-{mark}"
    return safe


def log_path(folder: Path, reviewer: str) -> Path:
    """Where a reviewer's log lies in a case folder.

    Raises:
        UsageError: there is no name, or another reviewer's file has the same name but for upper and lower case, which
            is one file on many systems.
    """
    path = folder / f"review.{safe_reviewer_name(reviewer)}.jsonl"
    for other in sorted(folder.glob("review.*.jsonl")) if folder.is_dir() else []:
        if other.name != path.name and _folded(other.name) == _folded(path.name):
            raise UsageError(
                f"{folder} holds {other.name} already, which differs from {path.name} in upper and lower case "
                "only: enter the reviewer's name the way it was entered first, or another name."
            )
    return path


def version_path(folder: Path, log_name: str) -> Path:
    """Where a reviewer's version of the segmentation lies: one each, so that two reviewers keep two versions."""
    reviewer = log_name.removeprefix("review.").removesuffix(".jsonl")
    return folder / f"segmentation_reviewed.{reviewer}.seg.nrrd"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@dataclass
class Aliases:
    """Names of reviewers and what stands for them, the same in all cases of one export."""

    reviewers: dict[str, str] = field(default_factory=dict)

    def reviewer(self, name: str) -> str:
        """Return the alias of a reviewer."""
        return self.reviewers.setdefault(name, f"reviewer {len(self.reviewers) + 1}")

    def reviewer_of_file(self, name: str) -> str:
        """Return the alias of a reviewer of whom the part of a file name is known."""
        known = {safe_reviewer_name(reviewer): alias for reviewer, alias in self.reviewers.items()}
        return known.get(name) or self.reviewer(name)


def anonymous_log(
    lines: ParsedLog,
    case: Mapping[str, Any],
    aliases: Aliases,
    structures: Collection[str],
    keep_comments: bool = False,
) -> bytes:
    """Rewrite a log without names, dates and free text.

    Args:
        case: the anonymous content of `case.json`, whose name and model replace those of the log.
        structures: names that may stay; segments that a reviewer added lose theirs.
    """
    first = parsed_time(lines.events[0].when) if lines.events else FIRST_DAY
    others: dict[str, str] = {}
    copied = []
    for number, event in enumerate(lines.events):
        action = _anonymous_action(event.action, case, structures, others, keep_comments)
        if number == 0 and isinstance(action, Opened):
            action = replace(action, settings={COPY_MARK: len(lines.events)})
        when = FIRST_DAY + max(timedelta(0), parsed_time(event.when) - first)
        stamp = when.isoformat(timespec="seconds").replace("+00:00", "Z")
        copied.append(to_line(Event(stamp, aliases.reviewer(event.reviewer), action)))
    return b"".join(copied)


def unchanged_copy(events: Sequence[Event]) -> bool:
    """Whether a log is an anonymous copy that was not continued: its content is known where it came from."""
    first = events[0].action if events else None
    return isinstance(first, Opened) and first.settings.get(COPY_MARK) == len(events)


def _anonymous_action(
    action: Action, case: Mapping[str, Any], structures: Collection[str], others: dict[str, str], keep_comments: bool
) -> Action:
    match action:
        case Opened():
            return _anonymous_header(action, case)
        case Undone() if action.what not in ACTIONS:
            return replace(action, what="")
        case VerdictGiven() if not keep_comments:
            return replace(action, comment=None)
        case Commented() if not keep_comments:
            return replace(action, comment="")
        case StructureJudged():
            comment = action.comment if keep_comments else ""
            return replace(action, structure=_structure(action.structure, structures, others), comment=comment)
        case Edited():
            return replace(action, structure=_structure(action.structure, structures, others))
    return action


def _anonymous_header(action: Opened, case: Mapping[str, Any]) -> Opened:
    model = case["model"]
    known = {"model": "name", "model_version": "version", "head": "head"}
    words: dict[str, Any] = {name: str(model.get(key) or "") for name, key in known.items()}
    for name in ("weights_sha256", "calibration_sha256", "regions_sha256"):
        value = getattr(action, name)
        words[name] = value if _HASH.fullmatch(value) else ""
    return replace(action, case=case["name"], settings={}, **words)


def _structure(name: str, known: Collection[str], others: dict[str, str]) -> str:
    return name if name in known else others.setdefault(name, f"segment {len(others) + 1}")


def parsed_time(text: str) -> datetime:
    """Parse a time of a log; the first day if it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return FIRST_DAY
    return when if when.tzinfo else when.replace(tzinfo=UTC)
