"""A flag, what it is about, and the flags that the warnings in a case raise."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ..models.quality import EMPTY_KIND, QUALITY_KIND

WARNED = frozenset({"warning", "refused"})
"""Severities of a difference from the training cases that raise a flag; a note does not."""
WITHOUT_LIMITS = "the checks of input and model, empty structures and reviewers"
"""What flags a case although no limit is set."""


class Rule(StrEnum):
    """What a flag is about."""

    WRONG_VOLUME = "expected wrong volume"
    WRONG_SHARE = "expected wrong share"
    INTERVAL = "volume interval"
    DICE = "predicted Dice"
    SOFT_DICE = "soft Dice"
    FINGERPRINT = "fingerprint"
    EMPTY = "empty structure"
    MODEL = "model"
    REVIEWER = "reviewer"


_OF_KIND = {EMPTY_KIND: Rule.EMPTY, QUALITY_KIND: Rule.MODEL}


@dataclass(frozen=True)
class Flag:
    """Why a case needs a look.

    Attributes:
        rule: that raised it.
        structure: name; None for the whole case.
        figure, limit: what was found and what is allowed, in the rule's unit; None if the rule has no figure.
        sentence: for people.
    """

    rule: Rule
    structure: str | None
    figure: float | None
    limit: float | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """For `case.json` and `worklist.json`."""
        return {**asdict(self), "rule": self.rule.value}


def flags_of_warnings(case: Mapping[str, Any], fingerprint: bool) -> list[Flag]:
    """Flag what the case warns of; first the model and empty structures, which no option switches off.

    Args:
        fingerprint: whether differences from the training cases raise flags.
    """
    names = {int(entry["value"]): str(entry["name"]) for entry in case["structures"]}
    warnings = (case.get("fingerprint") or {}).get("warnings") or []
    found: dict[Rule, list[Flag]] = {Rule.MODEL: [], Rule.EMPTY: [], Rule.FINGERPRINT: []}
    for warning in warnings:
        if warning["severity"] in WARNED:
            structure = warning.get("structure")
            name = None if structure is None else names.get(int(structure))
            rule = _OF_KIND.get(str(warning.get("kind")), Rule.FINGERPRINT)
            found[rule].append(Flag(rule, name, None, None, str(warning["sentence"])))
    return [*found[Rule.MODEL], *found[Rule.EMPTY], *(found[Rule.FINGERPRINT] if fingerprint else [])]


def first_lines(flags: Iterable[Flag], rules: Collection[Rule] = (Rule.MODEL, Rule.EMPTY)) -> list[str]:
    """Return what stands above all else of a case, or of many with `Rule.MODEL` alone; each sentence once."""
    return list(dict.fromkeys(flag.sentence for flag in flags if flag.rule in rules))
