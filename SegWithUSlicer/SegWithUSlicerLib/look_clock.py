"""How long a reviewer has looked at a region: only while the panel is in sight."""

from collections.abc import Callable


class LookClock:
    """Counts the seconds of one look at a time.

    Args:
        monotonic: seconds from any point in time, never going back.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._begun: float | None = None
        self._seconds = 0.0
        self._is_visible = True

    def start(self) -> None:
        """Another region is looked at; what was not taken is lost."""
        self._seconds = 0.0
        self._begun = self._monotonic() if self._is_visible else None

    def take(self) -> float:
        """The seconds that were not taken yet."""
        self._pause()
        seconds, self._seconds = self._seconds, 0.0
        if self._is_visible:
            self._begun = self._monotonic()
        return seconds

    def set_visible(self, visible: bool) -> None:
        """The panel came into sight or went out of it."""
        if visible and not self._is_visible:
            self._begun = self._monotonic()
        elif not visible:
            self._pause()
        self._is_visible = visible

    def _pause(self) -> None:
        if self._begun is not None:
            self._seconds += max(0.0, self._monotonic() - self._begun)
            self._begun = None
