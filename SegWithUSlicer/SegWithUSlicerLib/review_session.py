"""One reviewer's review of one run: what the panel shows and does, without Qt.

Every act becomes a line of the log before it holds; the scene gets a copy of the log, views and status follow.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from time import monotonic as system_monotonic

from SegWithUCore.errors import OutputError
from SegWithUCore.review.audit_log import NotStoredError, now_utc
from SegWithUCore.review.blind_report import BlindReport, blind_report, revealed
from SegWithUCore.review.events import (
    BlindRevealed,
    Closed,
    Commented,
    Edited,
    Fact,
    Looked,
    StructureJudged,
    Verdict,
    VerdictGiven,
)
from SegWithUCore.review.region import Region, in_order
from SegWithUCore.review.rescoring import Rescore

from .case_nodes import CaseNodes
from .look_clock import LookClock
from .original_node import show_original
from .region_highlight import RegionHighlight
from .region_nodes import RegionMask, region_mask
from .region_view import look_at, restore_zoom
from .review_edit import Change, EditWatch
from .review_opening import OpenedReview, ReviewOptions, open_review
from .review_scores import Scores, blind_mask
from .review_store import Place, keep_log, remember_place, save_reviewed
from .segmentation_node import mark_judged
from .structure_status import StatusBook

SHORTEST_LOOK_S = 0.5
"""A look that ends sooner was a step through the list."""


class ReviewSession:
    """Call `close` when done; until then the log is locked for others.

    Args:
        nodes: the run; `review_opening.obstacle` must find nothing against it.
        reviewer: name of the person.
        root: the folder of Slicer's user settings.
        on_edit: called when the segmentation may have been edited: wait until it is quiet, then `look_for_edits`.
        clock, monotonic: tell the time, and seconds from any point in time.

    Attributes:
        regions: in the chosen order, blind places among them.
        current: what is looked at; None before the first.
        keep_zoom: whether the views keep the user's zoom unless a region does not fit.
        notes: what the reviewer should know about how the review was found.
        rescore: what edits have changed; None before the first.

    Raises:
        UsageError, LogInUseError, InputError: as `open_review`.
    """

    def __init__(
        self,
        nodes: CaseNodes,
        reviewer: str,
        root: Path,
        options: ReviewOptions | None = None,
        *,
        on_edit: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = now_utc,
        monotonic: Callable[[], float] = system_monotonic,
    ) -> None:
        self.nodes = nodes
        self.keep_zoom = True
        self.current: Region | None = None
        self.rescore: Rescore | None = None
        self._clock = clock
        self._opened: OpenedReview = open_review(nodes, reviewer, root, options or ReviewOptions(), clock)
        self.notes: Sequence[str] = self._opened.notes
        self.state = self._opened.state
        self.order = self._opened.order
        self.regions: list[Region] = in_order(self._opened.regions, self.order)
        self._look = LookClock(monotonic)
        self._highlight = RegionHighlight(nodes)
        self._scores = Scores(nodes)
        self._watch = EditWatch(nodes, on_edit)
        self._status = StatusBook(nodes)
        self._unsaved_edits = False
        self._trouble = ""
        self._keep_log()

    # -- what is shown --

    @property
    def trouble(self) -> str:
        """Why the disk does not hold everything; "" where it does."""
        log = self._opened.log.trouble
        return str(log) if log is not None else self._trouble

    @property
    def folder(self) -> Path:
        """Where the review's files lie."""
        return self._opened.folder

    @property
    def resumed_at(self) -> int | None:
        """Id of the region where an earlier session stopped; None for a new review."""
        return self._opened.region

    @property
    def is_done(self) -> bool:
        """Whether every region has a verdict."""
        return self.state.next_undecided(self._ids) is None

    @property
    def total_mm3(self) -> float:
        """Expected wrong volume of the whole case."""
        return self._scores.total_mm3

    @property
    def real_regions(self) -> list[Region]:
        """The regions without blind places, for figures."""
        return [region for region in self.regions if region.id not in self._opened.blind.ids]

    def show(self, region_id: int) -> None:
        """Look at a region: views, highlight, clock; where the reviewer stopped is remembered."""
        region = self.regions[self._ids.index(region_id)]
        self._leave_current(region)
        self.current = region
        mask = self._mask(region)
        look_at(self.nodes, region, self.keep_zoom, voxels=mask)
        if mask is None:
            self._highlight.hide()
        else:
            self._highlight.show_mask(mask)
        self._look.start()
        self._remember()

    def first(self) -> int:
        """Id of the region to begin with: where the reviewer stopped, else the first."""
        return self.resumed_at if self.resumed_at is not None else self._ids[0]

    def next_undecided(self) -> int | None:
        """Id of the next region without a verdict; None when all have one."""
        return self.state.next_undecided(self._ids, self.current.id if self.current is not None else None)

    def previous(self) -> int | None:
        """Id of the region before the current one; None at the start."""
        return self.state.previous(self._ids, self.current.id) if self.current is not None else None

    def set_order(self, order: str) -> None:
        """Go through the regions in another of `review.region.ORDERS`."""
        self.order = order
        self.regions = in_order(self.regions, order)
        self._remember()

    def set_visible(self, visible: bool) -> None:
        """The panel came into sight or went out of it: time counts only in sight, and status is written at leaving."""
        self._look.set_visible(visible)
        if not visible:
            self._status.leave()
            self._save_edits()

    def show_original(self, visible: bool) -> None:
        """Draw the model's own contours beside the edited ones, or hide them."""
        show_original(self.nodes, visible)

    # -- what the reviewer says --

    def judge(self, verdict: Verdict, comment: str | None = None) -> None:
        """Give the current region a verdict; a comment replaces the one that it has."""
        if self.current is None:
            return
        self.look_for_edits()
        self._log(VerdictGiven(self.current.id, verdict, comment, round(self._look.take(), 1)))
        mark_judged(self.nodes.segmentation)
        self._judge_status(self.current)
        self._save_edits()
        self._refresh_scores()

    def comment(self, text: str) -> None:
        """Comment on the current region."""
        if self.current is not None and text != self.state.comment_of(self.current.id):
            self._log(Commented(self.current.id, text))

    def undo(self) -> int | None:
        """Take back the last verdict or comment; the id of the region that it was about, None for none."""
        fact = self.state.next_undo()
        if fact is None:
            return None
        self._log(fact)
        if fact.region is not None:
            self._judge_status(self.regions[self._ids.index(fact.region)])
        self._refresh_scores()
        return fact.region

    def judge_structure(self, name: str, verdict: Verdict | None, comment: str = "") -> None:
        """A verdict on a whole structure; None takes it back to what its regions say."""
        self._log(StructureJudged(name, verdict, comment))
        value = next(structure.value for structure in self.nodes.case.structures if structure.name == name)
        self._status.judge(value, verdict, begun=True)

    def look_for_edits(self) -> Change | None:
        """Notice edits, log and score them; None where nothing has changed."""
        change = self._watch.look()
        if change is None:
            return None
        names = {structure.value: structure.name for structure in self.nodes.case.structures}
        changed = ", ".join(names[value] for value in sorted(change.structures) if value in names)
        score = self._scores.after(change, self.state.seen_ids)
        self.rescore = score
        region = self.current.id if self.current is not None else None
        self._log(Edited(region, changed, score.inside_voxels, score.outside, round(score.changed_mm3, 3)))
        self._status.edited(value for value in change.structures if value in names)
        self._unsaved_edits = True
        return change

    def finish_blind(self) -> BlindReport | None:
        """Tell which places were blind and what was said about them; None where there were none."""
        places = self._opened.blind.ids
        if not places:
            return None
        told = {event.fact for event in self._opened.log.events if isinstance(event.fact, BlindRevealed)}
        for fact in revealed(places, self.state.verdict_of):
            if fact not in told:
                self._log(fact)
        return blind_report(places, self.state.verdict_of)

    def close(self) -> None:
        """End the session: everything on disk, highlight and observers gone, the user's zoom back."""
        if self.nodes.hub.GetScene() is not None:
            self.look_for_edits()
            self._leave_current(None)
            self._status.leave()
            self._save_edits()
            self.show_original(False)
            restore_zoom(self.nodes.hub.GetScene())
        self._log(Closed())
        self._watch.release()
        self._highlight.release()
        with suppress(OutputError):  # told as `trouble`; the scene has the lines
            self._opened.log.close()

    # -- bookkeeping --

    @property
    def _ids(self) -> list[int]:
        return [region.id for region in self.regions]

    @property
    def _log_name(self) -> str:
        return self._opened.log.path.name

    def _mask(self, region: Region) -> RegionMask | None:
        for place in self._opened.blind.places:
            if place.region.id == region.id:
                return blind_mask(self.nodes, place)
        return region_mask(self.nodes, region.id)

    def _leave_current(self, following: Region | None) -> None:
        if self.current is None:
            return
        seconds = self._look.take()
        if seconds >= SHORTEST_LOOK_S:
            self._log(Looked(self.current.id, round(seconds, 1)))
        if following is None or following.structure != self.current.structure:
            self._status.leave()

    def _judge_status(self, region: Region) -> None:
        standing = self.state.structure(region.structure)
        verdict = standing.verdict
        if verdict is None and standing.flagged:
            verdict = Verdict.SECOND_READER
        self._status.judge(region.structure_value, verdict, begun=standing.decided > 0)

    def _log(self, fact: Fact) -> None:
        try:
            event = self._opened.log.append(fact)
        except NotStoredError as error:  # told as `trouble`; tried again with the next line
            event = error.event
        self.state.apply(event)
        self._keep_log()

    def _keep_log(self) -> None:
        if self.nodes.hub.GetScene() is not None:
            keep_log(self.nodes, self._log_name, self._opened.log.text)

    def _save_edits(self) -> None:
        if not self._unsaved_edits:
            return
        try:
            save_reviewed(self.nodes, self.folder, self._log_name)
            self._unsaved_edits, self._trouble = False, ""
        except OutputError as error:
            self._trouble = str(error)

    def _refresh_scores(self) -> None:
        if self.rescore is not None:
            self.rescore = self._scores.seen(self.state.seen_ids)

    def _remember(self) -> None:
        when = self._clock().isoformat(timespec="microseconds")
        place = Place(self.current.id if self.current is not None else None, self.order, when)
        with suppress(OutputError):  # the scene remembers; what the log cannot write is told as `trouble`
            remember_place(self.nodes, self.folder, self._log_name, place)
