"""One reviewer's review of one run, without Qt: regions, verdicts, edits, time.

Every act becomes a line of the log before it holds; the scene gets a copy of the log, views follow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic as system_monotonic
from typing import Any

from SegWithUCore.regions.region import Kind, Region
from SegWithUCore.review import log_format
from SegWithUCore.review.gestures import SCROLL
from SegWithUCore.review.log import now_utc
from SegWithUCore.review.reviews import Review
from SegWithUCore.review.session import FIRST_ORDER, SHORTEST_LOOK_S
from SegWithUCore.review.signing import signature
from SegWithUCore.review.state import ReviewState
from SegWithUCore.review.verdicts import Verdict
from SegWithUCore.util.errors import OutputError

from ..guarded import attempt
from ..scene.case_nodes import CaseNodes
from ..scene.focus import RegionHighlight, focus_on
from ..scene.segmentation import mark_judged
from ..scene.steps import pause
from .contour import Contour, draw_runs
from .edits import EditWatch, structure_at, take_mask
from .opening import open_review
from .store import has_unkept_edits, save_reviewed

LONGEST_PAUSE_S = 60.0
"""After the last input: whoever does nothing for longer does not look any more."""


class ReviewSession:
    """One reviewer's review of one run. Call `close` when done; until then the log is locked for others.

    Args:
        nodes: the run; `opening.obstacle` must find nothing against it.
        reviewer: name of the person.
        root: the folder of Slicer's user settings.
        on_edit: called when the segmentation may have been edited: wait until it is quiet, then `check_for_edits`.
        clock, monotonic: return the time, and seconds from any point in time.

    Attributes:
        order: the way to go through the regions, one of `regions.region.ORDERS`.
        regions: of the question, in this order and arranged; `relist` makes them again.
        ids: theirs.
        arrange: sorts and filters them; by default they stay as they are.
        core: the review itself.
        current: the region that is shown; None before the first, and where only a structure is.
        structure: name of the structure at hand: that of the region, or one without an open region.
        reopened: names of structures that were edited after they had been finished.
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
        self.structure = ""
        self.arrange: Callable[[list[Region]], list[Region]] = list
        self.core, self.notes = open_review(nodes, reviewer, root, order, clock)
        log, self.resumed_at, self.order = self.core.log, self.core.resumed_at, order
        self.folder = log.path.parent
        self.ids: list[int] = []
        self.reopened: set[str] = set()
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
        self._last_input: object | None = None

    # -- what is shown --

    @property
    def state(self) -> ReviewState:
        """The state of the review after all events."""
        return self.core.state

    @property
    def trouble(self) -> str:
        """Why the disk does not hold everything; "" if it does."""
        return self.core.trouble or self._edit_trouble

    def show(self, region_id: int) -> None:
        """Show a region: views, highlight, clock."""
        region = self.regions[self.ids.index(region_id)]
        self._take_up(region, self.subject(region))
        pause()
        focus_on(self.nodes, region)

    def show_structure(self, name: str) -> None:
        """Leave the region for a structure that has no open one."""
        self._take_up(None, name)

    def subject(self, region: Region) -> str:
        """Return the asked structure that a region is about."""
        asked = (region.structure, *self.state.asked)
        return next((name for name in asked if name in self.state.asked and region.is_about([name])), region.structure)

    def next_undecided(self, structure: str = "") -> int | None:
        """Return the ID of the next open region, of all or of a structure; None if there is none."""
        order = [region.id for region in self.regions if not structure or self.subject(region) == structure]
        return self.state.next_undecided(order, self.current.id if self.current is not None else None)

    def following(self) -> int | None:
        """Return the ID of the region to go to after a verdict.

        None at the end of a structure, which is to be finished first. Other orders, and the blind sample, go on.
        """
        by_structure = self.order == FIRST_ORDER and self.structure not in self.state.finished
        return self.next_undecided(self.structure if by_structure else "")

    def unfinished(self) -> str | None:
        """Return the name of the next asked structure that is not finished; None if all are."""
        asked = self.state.asked
        start = asked.index(self.structure) + 1 if self.structure in asked else 0
        return next((name for name in asked[start:] + asked[:start] if name not in self.state.finished), None)

    def previous(self) -> int | None:
        """Return the ID of the region before the current one; None at the start."""
        return self.state.previous(self.ids, self.current.id) if self.current is not None else None

    def set_visible(self, visible: bool) -> None:
        """Follow the panel's visibility.

        Only while it is visible time counts and the region is marked; when it is hidden, edits are written.
        """
        self._is_visible = visible
        self._timer.set_running(visible)
        self._mark()
        if not visible:
            self.check_for_edits()
            self._save_edits()

    def notice(self, user_input: object | None) -> None:
        """Count time only while somebody is there.

        Args:
            user_input: differs from that of the call before if the user has done something; None if Slicer's window
                is not active.
        """
        self._timer.set_running(self._is_visible and user_input is not None)
        if user_input != self._last_input:
            self._timer.note_input()
        self._last_input = user_input

    # -- verdicts, comments, edits --

    def judge(self, verdict: Verdict, comment: str | None = None) -> None:
        """Give the current region a verdict; a comment replaces the one that it has."""
        if self.current is None:
            return
        self.check_for_edits()
        self.core.append(log_format.VerdictGiven(self.current.id, verdict, comment, round(self._timer.take(), 1)))
        self._save_edits()

    def comment(self, text: str) -> None:
        """Add a comment to the current region."""
        if self.current is not None and text != self.state.comment_of(self.current.id):
            self.core.append(log_format.Commented(self.current.id, text))

    def accept_rest(self) -> log_format.RestAccepted | None:
        """Take all regions without a verdict as they are, in one line of the log; None if every region has one."""
        self.check_for_edits()
        fact = self.core.accept_rest()
        self._save_edits()
        return fact

    def undo(self) -> log_format.Undone | None:
        """Undo the last verdict or comment, or all of an accepted rest.

        Returns:
            The event that undoes it; None if there is nothing to undo.
        """
        self.check_for_edits()  # what was drawn by hand since a gesture comes after it
        due = self.state.next_undo()
        if due is not None and due.what == log_format.NAMES[log_format.Edited]:
            draw_runs(self.nodes, self.state.edits[-1].runs, back=True)
            self._watch.check()
            self._is_unsaved = True
        undone = self.core.undo()
        self._save_edits()
        if self.current is not None and self.current.id >= self.state.next_place():
            self.current = None  # an added place, which is gone
        return undone

    def finish(self) -> None:
        """Take the structure at hand, which was looked through, as right."""
        self.check_for_edits()
        self.core.finish(self.structure)
        self._save_edits()

    def signature(self) -> log_format.Signed:
        """Return what the reviewer would sign now; `core.append` signs it.

        Raises:
            UsageError: as `signing.signature`.
            OutputError: the disk does not hold everything.
        """
        self.save()
        if self.trouble:
            raise OutputError(self.trouble)
        case, figures = self.nodes.case.raw, self.figures()
        now = {
            "structures": [figures.get(each["name"], each) for each in case["structures"]],
            "asked": self.state.asked,
        }
        log = self.core.log
        return signature({**case, **now}, Review(log.path, log.reviewer, tuple(log.events), self.state))

    def add_place(self, world_ras_mm: Sequence[float]) -> int:
        """Add a place that the reviewer has found, and return the ID of its region.

        It is about the structure that is drawn there, if that is asked, else about the one at hand.

        Raises:
            InputError: it lies outside of the image.
        """
        own, asked, reference = [0.0] * 3, self.state.asked, self.nodes.reference
        assert reference is not None
        reference.TransformPointFromWorld(list(world_ras_mm), own)
        names = (structure_at(self.nodes, own), self.structure, *asked)
        return self.core.add_place(next(name for name in names if name in asked), (own[0], own[1], own[2]))

    def judge_structure(self, name: str, verdict: Verdict | None) -> None:
        """Give a whole structure a verdict; None removes it, so that the verdicts of its regions count."""
        self.core.append(log_format.StructureJudged(name, verdict, ""))

    def check_for_edits(self) -> bool:
        """Notice edits and log them; False if nothing has changed. An edited structure is not finished any more."""
        nodes = self.nodes
        if nodes.segmentation is None or not self._is_whole:
            return False  # the run is falling apart: what is gone is no edit
        changed = self._watch.check()
        if changed:
            self._is_unsaved = True
            region = self.current.id if self.current is not None else None
            self.reopened.update(self.core.edit(self._watch.edited(changed, region)))
        return bool(changed)

    def contour(self, folder: Path | None, is_whole: bool) -> Contour:
        """Return the contour of the structure at hand, or of the current region, to be scrolled.

        Args:
            folder: of the case's files.

        Raises:
            InputError: as `Contour`.
        """
        self.check_for_edits()
        region = None if is_whole or self.current is None or self.current.kind is Kind.ADDED else self.current.id
        return Contour(self.nodes, folder, self.state, self.structure, region)

    def take_contour(self, contour: Contour) -> None:
        """Make a contour at its position the reviewer's edit."""
        runs = contour.runs
        if not runs:
            return
        draw_runs(self.nodes, runs)
        changed = self._watch.check()
        edit = replace(self._watch.edited(changed, contour.region), gesture=SCROLL, runs=tuple(runs))
        self.reopened.update(self.core.edit(edit))
        self._is_unsaved = True
        self._save_edits()

    def take_mask(self, path: Path) -> bool:
        """Take the mask of another program as the reviewer's edit; False if it is what is drawn already.

        Raises:
            InputError: as `edits.take_mask`.
        """
        self.check_for_edits()
        take_mask(self.nodes, path)
        is_edit = self.check_for_edits()
        self._save_edits()
        return is_edit

    @property
    def _is_whole(self) -> bool:
        """Whether the nodes that edits are measured on are in the scene."""
        nodes = self.nodes
        return nodes.hub.GetScene() is not None and set(nodes.case.maps) & {"error_probability"} <= set(nodes.maps)

    def figures(self) -> dict[str, Mapping[str, Any]]:
        """Return the entries of the table of structures after the reviewer's work, by name."""
        if not self._is_whole:
            return {}
        return self._watch.figures(self.state, self.core.log.reviewer)

    def _save_edits(self) -> None:
        """Write the edits that no file holds yet. A failure is reported as `trouble`, and the next call tries again."""
        if self._is_unsaved and self.nodes.segmentation is not None:
            try:
                save_reviewed(self.nodes, self.folder, self.core.log.path.name)
                self._is_unsaved, self._edit_trouble = False, ""
            except OutputError as error:
                self._edit_trouble = str(error)

    def save(self) -> None:
        """Write edits and log lines that are not on disk yet; a failure is reported as `trouble`."""
        self.check_for_edits()
        self._save_edits()
        self.core.flush()

    def close(self) -> None:
        """End the session: everything on disk, highlight and observers gone."""
        if self.nodes.hub.GetScene() is not None:
            attempt(self.save, self._leave_current)
        attempt(self._close_log, self._watch.release, self._highlight.release)

    # -- bookkeeping --

    def _close_log(self) -> None:
        try:
            self.core.close()
        except OutputError:  # reported as `trouble`; the scene has the lines
            self.core.append(log_format.Closed())
            self.core.log.abandon()

    def relist(self) -> bool:
        """List the regions of the question again, after it, or what is finished or added, has changed.

        Returns:
            Whether the list is another one.
        """
        before, asked = self.ids, self.state.asked
        # Named after what was asked for: a region on its boundary may be of a neighbour, by the question of the run.
        listed = [replace(region, structure=self.subject(region)) for region in self.core.listed(self.order)]
        if self.order == FIRST_ORDER:  # as the table of structures has them, left and right next to each other
            listed.sort(key=lambda region: (region.kind is Kind.BLIND, asked.index(region.structure)))
        self.regions = self.arrange(listed)
        self.ids = [region.id for region in self.regions]
        return self.ids != before

    def _take_up(self, region: Region | None, structure: str) -> None:
        self._leave_current()
        self.current, self.structure = region, structure
        self._mark()
        self._timer.take()  # seconds that nobody took are lost

    def _mark(self) -> None:
        region = self.current if self._is_visible else None
        if region is not None and region.kind is not Kind.ADDED:  # which has no voxels
            self._highlight.show(region.id)
        else:
            self._highlight.hide()

    def _leave_current(self) -> None:
        if self.current is None:
            return
        seconds = self._timer.take()
        if seconds >= SHORTEST_LOOK_S:
            self.core.append(log_format.RegionViewed(self.current.id, round(seconds, 1)))


class ViewTimer:
    """Counts the seconds that the current region was looked at: at most `LONGEST_PAUSE_S` after the last input.

    Args:
        monotonic: seconds from any point in time, never going back.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds = 0.0
        self._seen_since: float | None = monotonic()
        """None while the panel is hidden, or another program has the screen."""
        self._input_at = self._seen_since

    def take(self) -> float:
        """Return the seconds since the last call, without pauses."""
        self.note_input()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def note_input(self) -> None:
        """Go on counting: the user has done something."""
        self.set_running(self._seen_since is not None)
        self._input_at = self._monotonic()

    def set_running(self, running: bool) -> None:
        """Count from now on, or pause."""
        now = self._monotonic()
        if self._seen_since is None:
            self._input_at = now  # whoever comes back looks again
        else:
            self._seconds += max(0.0, min(now, self._input_at + LONGEST_PAUSE_S) - self._seen_since)
        self._seen_since = now if running else None
