"""What the blind places say about errors that the map misses."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import sqrt

from .events import BlindRevealed, Verdict

Z_95 = 1.959963984540054
"""Quantile of the normal distribution for an interval that holds 95 %."""


@dataclass(frozen=True)
class BlindReport:
    """Verdicts on blind places.

    Attributes:
        places: how many there were.
        verdicts: how many got which.
        judged: how many were accepted, corrected or rejected.
        wrong: how many of these were corrected or rejected: errors where the map calls the segmentation safe.
        rate: `wrong` of `judged`; None when none was judged.
        low, high: its 95 % interval (Wilson); 0 and 1 when none was judged.
    """

    places: int
    verdicts: dict[Verdict, int]
    judged: int
    wrong: int
    rate: float | None
    low: float
    high: float

    @property
    def text(self) -> str:
        """For people."""
        if self.rate is None:
            return f"None of the {self.places} blind places was judged, so nothing is known about what the map misses."
        rate, low, high = (f"{share * 100:.0f}" for share in (self.rate, self.low, self.high))
        return (
            f"{self.wrong} of {self.judged} judged blind places were wrong: {rate} % of places like these, where the "
            f"map expects no error (95 % interval {low} to {high} %); {self.places - self.judged} of {self.places} "
            "were not judged."
        )


def blind_report(places: Collection[int], verdict_of: Callable[[int], Verdict | None]) -> BlindReport:
    """Sum up the verdicts on blind places.

    The rate is one of places drawn evenly from the strata of `blind_sample`, not one of voxels.

    Args:
        places: their ids.
        verdict_of: for example `ReviewState.verdict_of`.
    """
    counts = Counter(verdict for place in places if (verdict := verdict_of(place)) is not None)
    wrong = counts[Verdict.CORRECTED] + counts[Verdict.REJECTED]
    judged = wrong + counts[Verdict.ACCEPTED]
    low, high = wilson_interval(wrong, judged)
    rate = wrong / judged if judged else None
    return BlindReport(len(places), dict(counts), judged, wrong, rate, low, high)


def revealed(places: Collection[int], verdict_of: Callable[[int], Verdict | None]) -> list[BlindRevealed]:
    """What to log when the review is over: which regions were blind places, and the answers."""
    return [BlindRevealed(place, verdict_of(place)) for place in sorted(places)]


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a rate by Wilson's score; (0, 1) without trials.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    if not trials:
        return 0.0, 1.0
    rate, z2 = hits / trials, Z_95**2
    middle = rate + z2 / (2 * trials)
    half = Z_95 * sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
