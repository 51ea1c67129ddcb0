"""The words of a review as users read them."""

import re

from SegWithUCore.regions.region import Kind
from SegWithUCore.review.events import Verdict

from ..i18n import _

ORDERS = {
    "expected wrong volume": _("Largest expected error first"),
    "peak": _("Highest error probability first"),
    "structure": _("Structure by structure"),
    "position": _("From head to foot"),
}
"""The names of `review.region.ORDERS`."""

KINDS = {
    Kind.BOUNDARY: _("boundary"),
    Kind.MISSED: _("missed part"),
    Kind.EXTRA: _("extra part"),
    Kind.CONFUSION: _("confusion"),
}

VERDICTS = {
    Verdict.ACCEPTED: _("✓ accepted"),
    Verdict.CORRECTED: _("✎ corrected"),
    Verdict.REJECTED: _("✗ rejected"),
    Verdict.SECOND_READER: _("? second reader"),
}
"""Each with a sign, so that a long list can be read at a glance and without colours."""


def verdict_text(verdict: Verdict | None) -> str:
    """A verdict in a table: "-" while there is none."""
    return "-" if verdict is None else VERDICTS[verdict]


def wrappable(text: str) -> str:
    """A sentence whose paths may be broken after each separator: a long word would widen the whole panel."""
    return re.sub(r"([/\\])", "\\1\u200b", text)
