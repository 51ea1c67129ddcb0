"""Wait for long work while the window goes on answering, where the caller can go on only with its result."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import slicer

from SegWithUCore.util.errors import SegWithUError

from ..i18n import _
from ..run.controller import SLICE_S
from ..scene.steps import SteppedTask, Steps

Result = TypeVar("Result")
_PAUSE_S = 0.01
"""In which a thread gets on; the main thread holds Python otherwise."""


class GivenUpError(SegWithUError):
    """Something else was chosen meanwhile."""


class Waiting:
    """One wait. What the user does meanwhile may call `give_up`: then it ends as soon as that returns.

    Args:
        on_progress: called with how much is done, 0 to 1.
    """

    def __init__(self, on_progress: Callable[[float], None]) -> None:
        self._on_progress = on_progress
        self._is_over = False

    def give_up(self) -> None:
        """End the wait; nothing of the work stays."""
        self._is_over = True

    def for_steps(self, steps: "Steps[Result]", total: float) -> Result:
        """Do steps a while at a time and return their result.

        Raises:
            GivenUpError: `give_up` was called.
        """
        task = SteppedTask(steps, total)
        try:
            while not task.run(SLICE_S):
                self._on_progress(task.fraction)
                self._turn()
        finally:
            task.cancel()
        return task.result

    def for_thread(self, work: Callable[[], Result]) -> Result:
        """Do in a thread what touches neither nodes nor widgets, and return its result; what it raises is raised here.

        Raises:
            GivenUpError: `give_up` was called; the thread ends by itself.
        """
        found: list[Result] = []
        raised: list[Exception] = []

        def run() -> None:
            try:
                found.append(work())
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                raised.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            self._turn()
            time.sleep(_PAUSE_S)
        if raised:
            raise raised[0]
        return found[0]

    def _turn(self) -> None:
        slicer.app.processEvents()
        if self._is_over:
            raise GivenUpError(_("Something else was chosen meanwhile."))
