"""Buttons and texts of verdicts in the panel, of the engine's table of verdicts; needs no Qt."""

from typing import NamedTuple

from SegWithUCore.review import verdicts
from SegWithUCore.review.verdicts import GIVEN, Verdict

from ..i18n import _, translated


class VerdictButton(NamedTuple):
    """A button that gives a verdict; `name` is that of the object."""

    name: str
    text: str
    tip: str
    verdict: Verdict


def region_buttons() -> list[VerdictButton]:
    """List the buttons for a region, in their order: acceptButton, ..., secondReaderButton."""
    return [
        VerdictButton(f"{_begin(each)}Button", _capitalised(_translated(each.value)), _translated(each.kind.tip), each)
        for each in GIVEN
    ]


def structure_buttons() -> list[VerdictButton]:
    """List the buttons for a whole structure, in their order."""
    tip = _("Your verdict on the structure as a whole: {verdict}.")
    return [
        VerdictButton(f"{_begin(each)}StructureButton", text, tip.format(verdict=_translated(each.text)), each)
        for each in GIVEN
        if (text := _translated(each.kind.structure))
    ]


def verdict_text(verdict: Verdict | None) -> str:
    """Return the text of a verdict in a table, behind its sign; "-" if there is none."""
    return "-" if verdict is None else f"{verdict.kind.sign} {_translated(verdict.text)}"


def numbered_text(first: str) -> str:
    """Return which verdict each number gives; `first` is how the platform writes the key of the first one."""
    return ", ".join(
        f"{number if number > 1 else first} {_translated(each.text)}" for number, each in enumerate(GIVEN, 1)
    )


def _begin(verdict: Verdict) -> str:
    """Return how the names of a verdict's buttons begin: "accept" of accepted, "secondReader" of second reader."""
    first, *others = verdict.text.removesuffix("ed").split()
    return first + "".join(word.capitalize() for word in others)


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _translated(text: str) -> str:
    return translated(text, verdicts)
