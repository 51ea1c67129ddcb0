"""The status of a case: what to do with it, and one reason in plain words; the same wherever the case is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ..calibration.flag_limits import SHOWN_MISSED
from ..case.case_file import is_mask_alone
from .flags import Flag, Rule, asks_all, case_flags, metrics_of_case, rules_of_case, warnings_of

_UNUSABLE = (Rule.MODEL, Rule.MISPLACED, Rule.EMPTY)
"""Rules after which nothing of a case is to be relied on: what should be there is not, or the model is too poor."""

_JUDGED = "judged"
"""Kind of the notes on a segmentation that was made elsewhere (`inference.deviation`)."""


class Level(StrEnum):
    """What to do with a case."""

    DO_NOT_USE = "do not use"
    LOOK = "look at it"
    NOT_FLAGGED = "not flagged"


@dataclass(frozen=True)
class Status:
    """What to do with a case and why.

    Attributes:
        level: what to do.
        reason: one sentence; where it is not flagged, how often this misses a bad case.
    """

    level: Level
    reason: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.level.value.capitalize()}: {self.reason}"

    def to_json(self) -> dict[str, str]:
        """For `case.json`, `worklist.json` and the page."""
        return asdict(self)


def status_of(case: Mapping[str, Any], flags: Sequence[Flag]) -> Status:
    """Sum up a case.

    Args:
        case: the content of its `case.json`.
        flags: of `case_flags`, with those of reviewers that count.
    """
    warnings = warnings_of(case)
    refused = [str(warning["message"]) for warning in warnings if warning["severity"] == "refused"]
    if unusable := [*refused, *(flag.message for flag in flags if flag.rule in _UNUSABLE)]:
        return Status(Level.DO_NOT_USE, unusable[0])
    if flags:
        return Status(Level.LOOK, flags[0].message)
    if is_mask_alone(case):
        return Status(Level.NOT_FLAGGED, "No model was run: how often this misses a bad mask is not measured.")
    if metrics_of_case(case)["wrong_mm3"] is None:
        return Status(Level.LOOK, "The model is not calibrated: nothing says how much may be wrong.")
    if any(warning.get("kind") == _JUDGED for warning in warnings):
        unknown = "How often this misses a bad segmentation that was made elsewhere is not measured."
        return Status(Level.NOT_FLAGGED, unknown)
    if not asks_all(case):
        unknown = "How often a bad case is not flagged is not measured for the structures asked for."
        return Status(Level.NOT_FLAGGED, unknown)
    return Status(Level.NOT_FLAGGED, miss_rate((case.get("model") or {}).get("flags")))


def with_status(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add flags and status to the content of a `case.json`."""
    flags = case_flags(facts, rules_of_case(facts))
    return {**facts, "flags": [flag.to_json() for flag in flags], "light": status_of(facts, flags).to_json()}


def miss_rate(calibration: Mapping[str, Any] | None) -> str:
    """Say how many bad cases had no flag when the limits were fitted.

    Args:
        calibration: the block "flags" of a bundle's calibration, or None.
    """
    rules = [rule for rule in ((calibration or {}).get("rules") or {}).values() if rule["useful"] and "missed" in rule]
    if not calibration or not rules:
        return "How often a bad case is not flagged is not measured for this model."
    rule, bad = min(rules, key=lambda rule: rule["bound"]), int(calibration["bad_cases"])
    return (
        f"Of {bad} bad calibration cases (Dice of a structure below {calibration['bad_dice']:.2f}) {rule['missed']} "
        f"had no flag either; in simulations {SHOWN_MISSED} of new ones like them had none."
    )
