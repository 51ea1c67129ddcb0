"""How long jobs report where they are."""

import time
from typing import Protocol


class Progress(Protocol):
    """Called by long jobs from the thread they run in."""

    def __call__(self, stage: str, fraction: float, detail: str = "") -> None:
        """Say that `stage` is `fraction` done.

        Args:
            stage: what is being done, in words for the user ("reading", "segmenting").
            fraction: share of the whole job done, 0 to 1.
            detail: figures worth showing beside it, such as the current loss.
        """


def silent(stage: str, fraction: float, detail: str = "") -> None:
    """Report nothing."""


def seconds_left(begun: float, fraction: float) -> float | None:
    """Time left at the pace so far, None before there is a pace."""
    if fraction <= 0.01:
        return None
    return round((time.monotonic() - begun) * (1 - fraction) / fraction, 1)


def time_left(seconds: float) -> str:
    """For people: "about 20 s left", "about 8 min left", "about 3 h 5 min left"."""
    if seconds < 55:
        return f"about {max(1, round(seconds / 10)) * 10} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {max(1, minutes)} min left"
    return f"about {minutes // 60} h {minutes % 60} min left"
