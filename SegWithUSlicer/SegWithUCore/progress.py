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
