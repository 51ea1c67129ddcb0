"""Texts of verdicts in the panel, of the engine's table of verdicts; needs no Qt."""

from SegWithUCore.review import verdicts
from SegWithUCore.review.verdicts import GIVEN, Verdict

from ..i18n import translated


def verdict_text(verdict: Verdict | None) -> str:
    """Return the text of a verdict in a table, behind its sign; "-" if there is none."""
    return "-" if verdict is None else f"{verdict.kind.sign} {translated_verdict(verdict.text)}"


def numbered_text(first: str) -> str:
    """Return which verdict each number gives; `first` is how the platform writes the key of the first one."""
    return ", ".join(
        f"{number if number > 1 else first} {translated_verdict(each.text)}" for number, each in enumerate(GIVEN, 1)
    )


def translated_verdict(text: str) -> str:
    """Translate a text of the table of verdicts."""
    return translated(text, verdicts)
