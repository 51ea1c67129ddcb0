"""Long work on the main thread in short steps, so that the window goes on answering.

Nodes and VTK belong to the main thread, and threads of Python hardly run while Qt's loop does. So what takes long is a
generator: it yields what it has done since the last time, and whoever runs it decides when to go on. No Qt here.
"""

import time
from collections.abc import Generator
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
Steps = Generator[float, None, Result]
"""Yields after each step how much was done, in bytes; returns the result."""

STEP_BYTES = 1 << 22
"""Worked on in one step: some milliseconds for what is simple."""


def finish(steps: "Steps[Result]") -> Result:
    """Do all steps at once and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


class SteppedTask(Generic[Result]):
    """Steps that are done a while at a time.

    Args:
        total: how much there is to do, as the steps count it.

    Example:
        task = SteppedTask(load_case_steps(folder, volume), total)
        while not task.run(0.05):
            show(task.fraction)
        nodes = task.result
    """

    def __init__(self, steps: "Steps[Result]", total: float) -> None:
        self._steps: Steps[Result] | None = steps
        self._total, self._done = max(total, 1.0), 0.0
        self.result: Any = None
        """What the steps have returned."""

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return min(self._done / self._total, 1.0)

    def run(self, seconds: float) -> bool:
        """Go on for so long, at least by one step; True once all is done. What a step raises ends the task."""
        until = time.perf_counter() + seconds
        while self._steps is not None:
            try:
                self._done += next(self._steps)
            except StopIteration as end:
                self._steps, self.result = None, end.value
            except BaseException:
                self._steps = None
                raise
            if time.perf_counter() >= until:
                break
        return self._steps is None

    def cancel(self) -> None:
        """Give up; what was begun is cleaned up by the steps themselves."""
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()
