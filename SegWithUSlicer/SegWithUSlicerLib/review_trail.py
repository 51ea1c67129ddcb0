"""What is told in a review: the log, what holds after it, its copy in the scene, and where the reviewer is."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from SegWithUCore.errors import OutputError
from SegWithUCore.review.events import Closed, Fact
from SegWithUCore.review.log import NotStoredError

from .review.opening import OpenedReview
from .review.store import Place, keep_log, remember_place
from .scene.case_nodes import CaseNodes


class Trail:
    """Tells facts to the log before they hold. Call `close` when done; until then the log is locked for others.

    Args:
        clock: tells the time.

    Attributes:
        state: what holds after everything that was told.
    """

    def __init__(self, nodes: CaseNodes, opened: OpenedReview, clock: Callable[[], datetime]) -> None:
        self.nodes = nodes
        self.state = opened.state
        self._folder, self._log, self._clock = opened.folder, opened.log, clock
        self._keep()

    @property
    def trouble(self) -> str:
        """Why the disk does not hold all lines; "" where it does."""
        return "" if self._log.trouble is None else str(self._log.trouble)

    @property
    def log_name(self) -> str:
        """The file name of the log, which tells reviewers apart."""
        return self._log.path.name

    @property
    def facts(self) -> list[Fact]:
        """Everything that was told, oldest first."""
        return [event.fact for event in self._log.events]

    def tell(self, fact: Fact) -> None:
        """Add a line to the log and let it hold; what the disk does not take is kept and told as `trouble`."""
        try:
            event = self._log.append(fact)
        except NotStoredError as error:  # tried again with the next line
            event = error.event
        self.state.apply(event)
        self._keep()

    def flush(self) -> None:
        """Try again to bring lines to disk that are not there yet."""
        with suppress(OutputError):  # told as `trouble`
            self._log.flush()

    def remember(self, region_id: int | None, order: str) -> None:
        """Remember where the reviewer is."""
        place = Place(region_id, order, self._clock().isoformat(timespec="microseconds"))
        with suppress(OutputError):  # the scene remembers; what the folder does not take the log tells as `trouble`
            remember_place(self.nodes, self._folder, self.log_name, place)

    def close(self) -> None:
        """Tell the end, and let others write the log."""
        self.tell(Closed())
        with suppress(OutputError):  # told as `trouble`; the scene has the lines
            self._log.close()

    def _keep(self) -> None:
        if self.nodes.hub.GetScene() is not None:
            keep_log(self.nodes, self.log_name, self._log.text)
