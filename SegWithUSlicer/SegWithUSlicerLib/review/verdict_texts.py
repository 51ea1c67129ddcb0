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


def verdict_buttons(of_structure: bool) -> list[VerdictButton]:
    """List the buttons for a region, or a whole structure, in their order: acceptButton, ..., secondReaderButton."""
    tip = _("Your verdict on the structure as a whole: {verdict}.")
    buttons = []
    for verdict in GIVEN:
        first, *others = verdict.text.removesuffix("ed").split()  # accept of accepted, secondReader of second reader
        name = first + "".join(word.capitalize() for word in others)
        kind, text = verdict.kind, _translated(verdict.value)
        if not of_structure:
            text = f"{text[:1].upper()}{text[1:]}"
            buttons.append(VerdictButton(f"{name}Button", text, _translated(kind.tip), verdict))
        elif kind.structure:
            tip_of = tip.format(verdict=text)
            buttons.append(VerdictButton(f"{name}StructureButton", _translated(kind.structure), tip_of, verdict))
    return buttons


def verdict_text(verdict: Verdict | None) -> str:
    """Return the text of a verdict in a table, behind its sign; "-" if there is none."""
    return "-" if verdict is None else f"{verdict.kind.sign} {_translated(verdict.text)}"


def numbered_text(first: str) -> str:
    """Return which verdict each number gives; `first` is how the platform writes the key of the first one."""
    return ", ".join(
        f"{number if number > 1 else first} {_translated(each.text)}" for number, each in enumerate(GIVEN, 1)
    )


def _translated(text: str) -> str:
    return translated(text, verdicts)
