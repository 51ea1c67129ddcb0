"""Time left over the stages of a long job."""

import time
from collections.abc import Callable, Sequence

from SegWithUCore.progress import time_left

KNOWN_SHARE = 0.02
"""Of a stage, from which on its own pace says how long it takes."""


class StageClock:
    """Time left over several stages, from the seconds that were expected and those that passed.

    Args:
        expected: seconds of each stage.
        now: the clock.
    """

    def __init__(self, expected: Sequence[float], now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.expect(expected)
        self.spent = [0.0] * len(expected)
        self.passed_over = [False] * len(expected)
        self.begun, self.shown = 0.0, 0.0

    def expect(self, seconds: Sequence[float]) -> None:
        """Expect other seconds of the stages."""
        self.expected = [max(each, 0.1) for each in seconds]

    def pass_over(self, number: int) -> None:
        """Take a stage out that is there already."""
        self.passed_over[number] = True

    def begin(self, number: int) -> None:
        """Begin a stage."""
        self.begun = self.now() - self.spent[number]

    def end(self, number: int) -> None:
        """End it."""
        self.spent[number] = self.now() - self.begun

    def look(self, number: int, fraction: float) -> tuple[float, str]:
        """Return the share of all that is done, never less than before, and the time left in words.

        Args:
            fraction: of stage `number` that is done.
        """
        spent, known = self.now() - self.begun, fraction > KNOWN_SHARE
        before = [n for n in range(number) if not self.passed_over[n]]
        done = sum(self.spent[n] for n in before) + spent
        worked = done if known else done - spent
        planned = sum(self.expected[n] for n in before) + (self.expected[number] * fraction if known else 0.0)
        pace = worked / planned if planned > 0 and worked > 0 else 1.0
        here = spent / fraction if known else max(pace * self.expected[number], spent)
        left = here - spent + pace * sum(self.expected[number + 1 :])
        self.shown = max(self.shown, done / (done + left) if done + left > 0 else 0.0)
        return self.shown, time_left(left) if left >= 1 else ""
