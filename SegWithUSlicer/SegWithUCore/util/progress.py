"""How long jobs report where they are, and the time that they still take."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter
from typing import Any, Protocol, TypeVar

# Share of a job at its beginning, whose pace is not that of the rest.
NOT_COUNTED = 0.02
# Share of a job over which its pace is averaged.
AVERAGED = 0.25
_BY_NAME = attrgetter("name")
_Item = TypeVar("_Item")


class Progress(Protocol):
    """Called by long jobs from the thread they run in."""

    def __call__(self, stage: str, fraction: float, detail: str = "") -> None:
        """Say that `stage` is `fraction` done.

        Args:
            stage: what is being done, in words for the user ("reading", "segmenting").
            fraction: share of the whole job done, 0 to 1.
            detail: further information, such as the current loss.
        """


def silent(stage: str, fraction: float, detail: str = "") -> None:
    """Report nothing."""


def part_of(progress: Progress, begin: float, end: float) -> Progress:
    """Return the progress of one part of a job, which reaches from `begin` to `end` of the whole."""

    def report(stage: str, fraction: float, detail: str = "") -> None:
        progress(stage, begin * (1 - fraction) + end * fraction, detail)

    return report


def in_turn(
    items: Collection[_Item], stage: str, progress: Progress, name: Callable[[Any], str] = _BY_NAME
) -> Iterator[_Item]:
    """Yield items one after the other, and report each before it is worked on.

        for case in in_turn(cases, "evaluating", progress):
            evaluate(case)

    Args:
        name: returns the name of an item, the detail of the report.
    """
    for number, item in enumerate(items):
        progress(stage, number / len(items), name(item))
        yield item


class TimeLeft:
    """Time left of a job: what is left of it at its average pace over the last quarter that was done.

    The first 2 % do not count, since loading and reading say nothing about the pace; before two later reports there
    is nothing to average, and so no time left. Fractions are shares of the work: the time left is right as far as they
    are shares of the time, too.

        left = TimeLeft()
        for number, window in enumerate(windows):
            run(window)
            print(left.message((number + 1) / len(windows)))  # "", "about 20 s left", "about 10 s left"

    Args:
        now: returns seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._reports: deque[tuple[float, float]] = deque()

    def seconds(self, fraction: float) -> float | None:
        """Return the time left where `fraction` of the job is done now, None before there is a pace."""
        reports = self._reports
        if reports and fraction < reports[-1][1]:  # restarted, as on another device
            reports.clear()
        if fraction > NOT_COUNTED and (not reports or fraction > reports[-1][1]):
            reports.append((self._now(), fraction))
        while len(reports) > 2 and reports[1][1] <= fraction - AVERAGED:
            reports.popleft()
        if len(reports) < 2:
            return None
        (started, first), (ended, last) = reports[0], reports[-1]
        return round((ended - started) / (last - first) * (1 - last), 1)

    def message(self, fraction: float) -> str:
        """Return the time left as `time_left`; empty before there is a pace, and at the end."""
        seconds = self.seconds(fraction)
        return "" if seconds is None or fraction >= 1 else time_left(seconds)


def time_left(seconds: float) -> str:
    """For people: "about 20 s left", "about 8 min left", "about 3 h 5 min left"."""
    if seconds < 55:
        return f"about {max(1, round(seconds / 10)) * 10} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {max(1, minutes)} min left"
    return f"about {minutes // 60} h {minutes % 60} min left"
