"""One reviewer's review of one run, without Qt: regions, verdicts, edits, time.

Every act becomes a line of the log before it holds; the scene gets a copy of the log, views and status follow.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic as system_monotonic

from SegWithUCore.regions.region import Region, in_order
from SegWithUCore.review.log import now_utc
from SegWithUCore.review.log_format import (
    Closed,
    Commented,
    RegionViewed,
    RestAccepted,
    StructureJudged,
    Undone,
    Verdict,
    VerdictGiven,
)
from SegWithUCore.review.session import FIRST_ORDER, SHORTEST_LOOK_S
from SegWithUCore.review.state import ReviewState
from SegWithUCore.util.errors import OutputError

from ..guarded import attempt
from ..scene.case_nodes import CaseNodes
from ..scene.focus import RegionHighlight, focus_on, restore_zoom
from ..scene.review_nodes import RegionMask, region_mask, show_original
from ..scene.segmentation import mark_judged
from .edit_scores import ReviewEdits
from .edits import Change
from .opening import open_review


class ReviewSession:
    """One reviewer's review of one run. Call `close` when done; until then the log is locked for others.

    Args:
        nodes: the run; `opening.obstacle` must find nothing against it.
        reviewer: name of the person.
        root: the folder of Slicer's user settings.
        on_edit: called when the segmentation may have been edited: wait until it is quiet, then `check_for_edits`.
        clock, monotonic: return the time, and seconds from any point in time.

    Attributes:
        regions: in the chosen order.
        current: the region that is shown; None before the first.
        keep_zoom: whether the views keep the user's zoom unless a region does not fit.
        folder: where the review's files lie.
        resumed_at: id of the region where an earlier session stopped; None for a new review.
        notes: what the reviewer should know about how the review was found.
        total_mm3: expected wrong volume of the whole case.

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
        self.keep_zoom = True
        self.current: Region | None = None
        self._scene = nodes.hub.GetScene()
        self._clock = clock
        self._review, self.notes = open_review(nodes, reviewer, root, order, clock)
        log, self.resumed_at, self.order = self._review.log, self._review.resumed_at, order
        self.folder = log.path.parent
        self.total_mm3 = self._review.case.expected_wrong_mm3
        self._sort(self._review.regions)
        # From now on a re-run must not put other regions under the reviewer's eyes: it makes nodes of its own.
        mark_judged(nodes.segmentation)
        self._edits = ReviewEdits(nodes, self.folder, log.path.name, on_edit)
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
        return self._review.trouble or self._edits.trouble

    @property
    def is_done(self) -> bool:
        """Whether every region has a verdict."""
        return self._review.is_done

    def mask(self, region: Region) -> RegionMask | None:
        """Return the voxels of a region; None if the label volume was deleted."""
        return region_mask(self.nodes, region.id)

    def show(self, region_id: int) -> None:
        """Look at a region: views, highlight, clock."""
        region = self.regions[self._index_of[region_id]]
        self._leave_current(region)
        self.current = region
        focus_on(self.nodes, region, self.keep_zoom, voxels=self.mask(region))
        self._mark()
        self._timer.start()

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
        self._sort(self.regions)

    def set_visible(self, visible: bool) -> None:
        """Follow the panel's visibility.

        Only while it is visible time counts and the region is marked; when it is hidden, edits and status are written.
        """
        self._is_visible = visible
        self._timer.set_visible(visible)
        self._mark()
        if not visible:
            self.check_for_edits()
            self._edits.leave()
            self._edits.save()

    def show_original(self, visible: bool) -> None:
        """Draw the model's own contours beside the edited ones, or hide them."""
        show_original(self.nodes, visible)

    # -- verdicts, comments, edits --

    def judge(self, verdict: Verdict, comment: str | None = None) -> None:
        """Give the current region a verdict; a comment replaces the one that it has."""
        if self.current is None:
            return
        self.check_for_edits()
        self._review.append(VerdictGiven(self.current.id, verdict, comment, round(self._timer.take(), 1)))
        self._edits.judge(self.current.structure_value, self.state.structure(self.current.structure))
        self._edits.save()

    def comment(self, text: str) -> None:
        """Add a comment to the current region."""
        if self.current is not None and text != self.state.comment_of(self.current.id):
            self._review.append(Commented(self.current.id, text))

    def accept_rest(self) -> RestAccepted | None:
        """Take all regions without a verdict as they are, in one line of the log; None if every region has one."""
        if self.is_done:
            return None
        self.check_for_edits()
        fact = self._review.accept_rest()
        if fact is not None:
            self._judge_structures_of(fact)
        self._edits.save()
        return fact

    def undo(self) -> Undone | None:
        """Undo the last verdict or comment, or all of an accepted rest.

        Returns:
            The event that undoes it; None if there is nothing to undo.
        """
        fact = self._review.undo()
        if fact is None:
            return None
        undone = self._review.actions[fact.line - 1]
        if fact.region is not None:
            region = self.regions[self._index_of[fact.region]]
            self._edits.judge(region.structure_value, self.state.structure(region.structure))
        elif isinstance(undone, StructureJudged):
            self._judge_segment(undone.structure)
        elif isinstance(undone, RestAccepted):
            self._judge_structures_of(undone)
        return fact

    def judge_structure(self, name: str, verdict: Verdict | None) -> None:
        """Give a whole structure a verdict; None takes it back to what its regions say."""
        self._review.append(StructureJudged(name, verdict, ""))
        self._judge_segment(name)

    def check_for_edits(self) -> Change | None:
        """Notice edits and log them; None if nothing has changed."""
        found = self._edits.check(self.current.id if self.current is not None else None)
        if found is None:
            return None
        self._review.append(found[1])
        return found[0]

    def save(self) -> None:
        """Write edits and log lines that are not on disk yet; a failure is reported as `trouble`."""
        self.check_for_edits()
        self._edits.save()
        self._review.flush()

    def close(self) -> None:
        """End the session: everything on disk, highlight and observers gone, the user's zoom back."""
        if self.nodes.hub.GetScene() is not None:
            attempt(self.save, lambda: self._leave_current(None), lambda: self.show_original(False))
        attempt(self._close_log, self._edits.release, self._highlight.release, lambda: restore_zoom(self._scene))

    # -- bookkeeping --

    def _close_log(self) -> None:
        try:
            self._review.close()
        except OutputError:  # reported as `trouble`; the scene has the lines
            self._review.append(Closed())
            self._review.log.abandon()

    def _sort(self, regions: Sequence[Region]) -> None:
        self.regions: list[Region] = in_order(regions, self.order)
        self._ids = [region.id for region in self.regions]
        self._index_of = {identifier: index for index, identifier in enumerate(self._ids)}

    def _mark(self) -> None:
        mask = self.mask(self.current) if self.current is not None and self._is_visible else None
        if mask is None:
            self._highlight.hide()
        else:
            self._highlight.show_mask(mask)

    def _leave_current(self, following: Region | None) -> None:
        if self.current is None:
            return
        seconds = self._timer.take()
        if seconds >= SHORTEST_LOOK_S:
            self._review.append(RegionViewed(self.current.id, round(seconds, 1)))
        if following is None or following.structure != self.current.structure:
            self._edits.leave()

    def _judge_structures_of(self, fact: RestAccepted) -> None:
        regions = [self.regions[self._index_of[identifier]] for identifier in fact.regions]
        for value, name in {region.structure_value: region.structure for region in regions}.items():
            self._edits.judge(value, self.state.structure(name))

    def _judge_segment(self, name: str) -> None:
        value = next((one.value for one in self.nodes.case.structures if one.name == name), None)
        if value is not None:
            self._edits.judge(value, self.state.structure(name))


class ViewTimer:
    """Counts the seconds that the current region was visible.

    Args:
        monotonic: seconds from any point in time, never going back.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._started_at: float | None = None
        self._seconds = 0.0
        self._is_visible = True

    def start(self) -> None:
        """Restart for another region; seconds that were not taken are lost."""
        self._seconds = 0.0
        self._started_at = self._monotonic() if self._is_visible else None

    def take(self) -> float:
        """Return the seconds since the last call, without hidden time."""
        self._pause()
        seconds, self._seconds = self._seconds, 0.0
        if self._is_visible:
            self._started_at = self._monotonic()
        return seconds

    def set_visible(self, visible: bool) -> None:
        """Follow the panel's visibility."""
        if visible and not self._is_visible:
            self._started_at = self._monotonic()
        elif not visible:
            self._pause()
        self._is_visible = visible

    def _pause(self) -> None:
        if self._started_at is not None:
            self._seconds += max(0.0, self._monotonic() - self._started_at)
            self._started_at = None
