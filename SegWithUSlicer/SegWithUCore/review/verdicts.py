"""The table of verdicts: a new one is a new row, and buttons, keys, texts, flags and rules follow from it.

Whether a region counts as seen, wants attention, or keeps its case out of a calibration is asked of the verdict; no
other file lists verdicts. Standard library only.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

_ = str  # marks texts that the panel translates where it shows them


@dataclass(frozen=True)
class VerdictKind:
    """What all programs know of a verdict.

    Attributes:
        value: in logs, tables and DICOM reports.
        sign: before its text, so that a long list can be read at a glance and without colours.
        tip: of its button.
        tone: colour on the page: "good", "bad" or "ask".
        single_key: on the page; with Ctrl+Alt its number works everywhere.
        text: in lists, if it is not the value.
        flag: reason of the flag that it raises if it wants attention, with a place for what it is about.
        counted: behind the number of its regions, if that is not the text.
        looked: given by somebody who looked; the one other verdict is what `RestAccepted` leaves.
        seen: the region's expected errors count as seen: it was looked at, and is right now.
        needs_edit: said only of what was edited.
        structure: button that gives it to a whole structure; "" for none.
    """

    value: str
    sign: str
    tip: str = ""
    tone: str = ""
    single_key: str = ""
    text: str = ""
    flag: str = ""
    counted: str = ""
    looked: bool = True
    seen: bool = False
    needs_edit: bool = False
    structure: str = ""


class Verdict(StrEnum):
    """What a reviewer says about a region or a structure; a new verdict follows those that a reviewer gives."""

    kind: VerdictKind

    ACCEPTED = VerdictKind(
        _("accepted"),
        "✓",
        _("The segmentation is right here. The region's expected errors count as seen."),
        tone="good",
        single_key="A",
        seen=True,
        structure=_("Accept structure"),
    )
    CORRECTED = VerdictKind(
        _("corrected"), "✎", _("It was wrong here, and you have corrected it."), tone="good", seen=True, needs_edit=True
    )
    REJECTED = VerdictKind(
        _("rejected"),
        "✗",
        _("It is wrong here, and you have not corrected it."),
        tone="bad",
        single_key="R",
        flag="rejected {}",
    )
    SECOND_READER = VerdictKind(
        _("needs second reader"),
        "?",
        _("You are not sure; a second reader should decide."),
        tone="ask",
        single_key="S",
        text=_("second reader"),
        flag="wants a second reader for {}",
        counted="for a second reader",
        structure=_("Second reader"),
    )
    NOT_LOOKED_AT = VerdictKind(_("not looked at"), "○", looked=False)

    def __new__(cls, kind: VerdictKind) -> "Verdict":
        """Make a text of a row: what is written and compared is its value."""
        verdict = str.__new__(cls, kind.value)
        verdict._value_, verdict.kind = kind.value, kind
        return verdict

    @property
    def text(self) -> str:
        """In lists, behind its sign."""
        return self.kind.text or self.value

    @property
    def wants_attention(self) -> bool:
        """Whether somebody who looked does not take it as right: the case counts as neither finished nor corrected."""
        return self.kind.looked and not self.kind.seen

    @property
    def key(self) -> str:
        """Its key in Slicer and on the page; "" if no reviewer gives it."""
        return f"Ctrl+Alt+{GIVEN.index(self) + 1}" if self in GIVEN else ""

    @property
    def counted(self) -> str:
        """Behind the number of its regions."""
        return self.kind.counted or self.text

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        named = ("text", "wants_attention", "key", "counted")
        return {**asdict(self.kind), **{name: getattr(self, name) for name in named}}


# Verdicts that a reviewer gives after a look, in the order of their buttons, keys and columns.
GIVEN = tuple(verdict for verdict in Verdict if verdict.kind.looked)
# Verdicts after which a region's expected errors count as seen.
SEEN = frozenset(verdict for verdict in Verdict if verdict.kind.seen)
