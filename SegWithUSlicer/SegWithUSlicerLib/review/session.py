"""One reviewer's review of one run, without Qt: regions, verdicts, edits, time.

Every act becomes a line of the log before it holds; the scene gets a copy of the log, views follow.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from time import monotonic as system_monotonic

from SegWithUCore.regions.region import Region
from SegWithUCore.review import log_format
from SegWithUCore.review.log import now_utc
from SegWithUCore.review.session import FIRST_ORDER, SHORTEST_LOOK_S
from SegWithUCore.review.state import ReviewState
from SegWithUCore.review.verdicts import Verdict
from SegWithUCore.util.errors import OutputError

from ..guarded import attempt
from ..scene.case_nodes import CaseNodes
from ..scene.focus import RegionHighlight, focus_on
from ..scene.segmentation import mark_judged
from .edits import EditWatch, edited_event
from .opening import open_review
from .store import has_unkept_edits, save_reviewed


class ReviewSession:
    """One reviewer's review of one run. Call `close` when done; until then the log is locked for others.

    Args:
        nodes: the run; `opening.obstacle` must find nothing against it.
        reviewer: name of the person.
        root: the folder of Slicer's user settings.
        on_edit: called when the segmentation may have been edited: wait until it is quiet, then `check_for_edits`.
        clock, monotonic: return the time, and seconds from any point in time.

    Attributes:
        regions: of the question, in the chosen order; `relist` makes them again.
        current: the region that is shown; None before the first.
        folder: of the review's files.
        resumed_at: id of the region where an earlier session stopped; None for a new review.
        notes: what the reviewer should know about how the review was found.

    Raises:
        UsageError, LogInUseError, InputError, OutputError: as `open_review`.
    """

    def __init__(
        self,
        nodes: CaseNodes,
        reviewer: str,
        root: Path,
        order: str = FIRST_ORDER,
        *,
        on_edit: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = now_utc,
        monotonic: Callable[[], float] = system_monotonic,
    ) -> None:
        self.nodes = nodes
        self.current: Region | None = None
        self._review, self.notes = open_review(nodes, reviewer, root, order, clock)
        log, self.resumed_at, self.order = self._review.log, self._review.resumed_at, order
        self.folder = log.path.parent
        self.relist()
        # From now on a re-run must not put other regions under the reviewer's eyes: it makes nodes of its own.
        mark_judged(nodes.segmentation)
        # What was drawn before the review began is the reviewer's too.
        self._is_unsaved = has_unkept_edits(nodes, self.folder, log.path.name)
        self._watch = EditWatch(nodes, on_edit)
        self._edit_trouble = ""
        self._timer = ViewTimer(monotonic)
        self._highlight = RegionHighlight(nodes)
        self._is_visible = True

    # -- what is shown --

    @property
    def state(self) -> ReviewState:
        """The state of the review after all events."""
        return self._review.state

    @property
    def trouble(self) -> str:
        """Why the disk does not hold everything; "" if it does."""
        return self._review.trouble or self._edit_trouble

    @property
    def is_done(self) -> bool:
        """Whether all asked structures are finished, and the blind sample is judged."""
        return self._review.is_done

    def show(self, region_id: int) -> None:
        """Show a region: views, highlight, clock."""
        region = self.regions[self._index_of[region_id]]
        self._leave_current()
        self.current = region
        focus_on(self.nodes, region)
        self._mark()
        self._timer.take()  # seconds that nobody took are lost

    def first(self) -> int:
        """Return the ID of the first region."""
        return self._ids[0]

    def next_undecided(self) -> int | None:
        """Return the ID of the next region without a verdict; None if all have one."""
        return self.state.next_undecided(self._ids, self.current.id if self.current is not None else None)

    def previous(self) -> int | None:
        """Return the ID of the region before the current one; None at the start."""
        return self.state.previous(self._ids, self.current.id) if self.current is not None else None

    def set_order(self, order: str) -> None:
        """Go through the regions in another of `review.region.ORDERS`."""
        self.order = order
        self.relist()

    def set_visible(self, visible: bool) -> None:
        """Follow the panel's visibility.

        Only while it is visible time counts and the region is marked; when it is hidden, edits are written.
        """
        self._is_visible = visible
        self._timer.set_visible(visible)
        self._mark()
        if not visible:
            self.check_for_edits()
            self._save_edits()

    # -- verdicts, comments, edits --

    def judge(self, verdict: Verdict, comment: str | None = None) -> None:
        """Give the current region a verdict; a comment replaces the one that it has."""
        if self.current is None:
            return
        self.check_for_edits()
        self._review.append(log_format.VerdictGiven(self.current.id, verdict, comment, round(self._timer.take(), 1)))
        self._save_edits()

    def comment(self, text: str) -> None:
        """Add a comment to the current region."""
        if self.current is not None and text != self.state.comment_of(self.current.id):
            self._review.append(log_format.Commented(self.current.id, text))

    def accept_rest(self) -> log_format.RestAccepted | None:
        """Take all regions without a verdict as they are, in one line of the log; None if every region has one."""
        if self.is_done:
            return None
        self.check_for_edits()
        fact = self._review.accept_rest()
        self._save_edits()
        return fact

    def undo(self) -> log_format.Undone | None:
        """Undo the last verdict or comment, or all of an accepted rest.

        Returns:
            The event that undoes it; None if there is nothing to undo.
        """
        return self._review.undo()

    def judge_structure(self, name: str, verdict: Verdict | None) -> None:
        """Give a whole structure a verdict; None removes it, so that the verdicts of its regions count."""
        self._review.append(log_format.StructureJudged(name, verdict, ""))

    def check_for_edits(self) -> bool:
        """Notice edits and log them; False if nothing has changed."""
        nodes = self.nodes
        if nodes.hub.GetScene() is None or nodes.segmentation is None or "error_probability" not in nodes.maps:
            return False  # the run is falling apart: what is gone is no edit
        changed = self._watch.check()
        if changed:
            self._is_unsaved = True
            region = self.current.id if self.current is not None else None
            self._review.append(edited_event(nodes, changed, self._watch.box, region))
        return bool(changed)

    def _save_edits(self) -> None:
        """Write the edits that no file holds yet. A failure is reported as `trouble`, and the next call tries again."""
        if self._is_unsaved and self.nodes.segmentation is not None:
            try:
                save_reviewed(self.nodes, self.folder, self._review.log.path.name)
                self._is_unsaved, self._edit_trouble = False, ""
            except OutputError as error:
                self._edit_trouble = str(error)

    def save(self) -> None:
        """Write edits and log lines that are not on disk yet; a failure is reported as `trouble`."""
        self.check_for_edits()
        self._save_edits()
        self._review.flush()

    def close(self) -> None:
        """End the session: everything on disk, highlight and observers gone."""
        if self.nodes.hub.GetScene() is not None:
            attempt(self.save, self._leave_current)
        attempt(self._close_log, self._watch.release, self._highlight.release)

    # -- bookkeeping --

    def _close_log(self) -> None:
        try:
            self._review.close()
        except OutputError:  # reported as `trouble`; the scene has the lines
            self._review.append(log_format.Closed())
            self._review.log.abandon()

    def relist(self) -> None:
        """List the regions of the question again, after it, or what is finished or added, has changed."""
        self.regions: list[Region] = self._review.listed(self.order)
        self._ids = [region.id for region in self.regions]
        self._index_of = {identifier: index for index, identifier in enumerate(self._ids)}

    def _mark(self) -> None:
        if self.current is not None and self._is_visible:
            self._highlight.show(self.current.id)
        else:
            self._highlight.hide()

    def _leave_current(self) -> None:
        if self.current is None:
            return
        seconds = self._timer.take()
        if seconds >= SHORTEST_LOOK_S:
            self._review.append(log_format.RegionViewed(self.current.id, round(seconds, 1)))


class ViewTimer:
    """Counts the seconds that the current region was visible.

    Args:
        monotonic: seconds from any point in time, never going back.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds = 0.0
        self._seen_since: float | None = monotonic()
        """None while the panel is hidden."""

    def take(self) -> float:
        """Return the seconds since the last call, without hidden time."""
        self.set_visible(self._seen_since is not None)
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def set_visible(self, visible: bool) -> None:
        """Follow the panel's visibility."""
        now = self._monotonic()
        if self._seen_since is not None:
            self._seconds += max(0.0, now - self._seen_since)
        self._seen_since = now if visible else None
