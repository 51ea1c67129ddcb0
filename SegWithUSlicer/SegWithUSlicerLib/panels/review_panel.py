"""The section "Selective review", from the reviewer's name to the last verdict."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import slicer

from SegWithUCore.review.log_format import Verdict
from SegWithUCore.util.errors import SegWithUError

from ..guarded import attempt, guarded
from ..review.opening import obstacle
from ..review.session import ReviewSession
from ..run.session import Debounce
from ..scene.case_nodes import CaseNodes
from . import review_widgets
from .edit_panel import EditPanel
from .review_setup import (
    ReviewSetup,
    SectionFolds,
    closing_text,
    kept_text,
    progress_text,
    rest_question,
    settings_folder,
)
from .review_widgets import ReviewTable, VerdictBar

QUIET_MS = 600
"""So long after the last change of the segmentation a stroke is taken as finished."""
SAVE_MS = 3000
"""So long after the last stroke the edited segmentation is written; a verdict and leaving write it at once."""
REST_FACTOR = 10
"""Quiet before the next writing, in times that the last one took."""


class ReviewPanel:
    """Owns the open review.

    Args:
        ui: the widgets of the .ui file.

    Attributes:
        on_review_changed: called when the review began, ended, or a verdict was given or taken back.
        on_next_case: called when the reviewer wants the next open case of a list.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.on_review_changed: Callable[[], None] = lambda: None
        self.on_next_case: Callable[[], None] = lambda: None
        self.session: ReviewSession | None = None
        self._nodes: CaseNodes | None = None
        self._is_entered = False
        self.setup = ReviewSetup(ui, self._order_chosen)
        self.table = ReviewTable(ui.regionsTable, self.go_to)
        self.verdicts = VerdictBar(ui, self.judge, self._draw_progress, self.table.focus)
        self.edit = EditPanel(ui)
        self.folds = SectionFolds(ui, ui.reviewButton)
        self.keys = review_widgets.ReviewKeys(review_widgets.actions_of(self))
        self._edits_later = Debounce(QUIET_MS, self._check_for_edits)
        self._save_later = Debounce(SAVE_MS, self._save)
        ui.reviewKeysLabel.text = review_widgets.keys_text()
        self._connect()
        self.show(None)

    # -- what the module panel calls --

    def show(self, nodes: CaseNodes | None) -> None:
        """Show another run, or none: a review of the one before ends."""
        hub = nodes.hub if nodes is not None else None
        if self.session is not None and self.session.nodes.hub is not hub:
            self.end()
        if self._nodes is None or self._nodes.hub is not hub:
            self.setup.message = ""
        self._nodes = nodes
        self._draw_setup()

    def enter(self) -> None:
        """React to the module being shown."""
        self._is_entered = True
        self._update_visibility()
        self._draw_setup()

    def exit(self) -> None:
        """React to another module being shown: the review pauses until the user comes back."""
        self._is_entered = False
        self._update_visibility()

    def close(self) -> None:
        """Let go of everything."""
        self.end()
        self.folds.close()
        self.edit.close()

    def scene_closes(self) -> None:
        """React before the scene is emptied."""
        self.end()
        self.show(None)

    def node_removed(self, node: Any) -> None:
        """React to a removed node: a review that has lost one of its own ends."""
        kinds = ("vtkMRMLSegmentationNode", "vtkMRMLVolumeNode", "vtkMRMLTextNode", "vtkMRMLScriptedModuleNode")
        if self._nodes is None or not any(node.IsA(kind) for kind in kinds):
            return
        if self._nodes.hub.GetScene() is None:
            self.show(None)
        elif self.session is None:
            self._draw_setup()
        elif obstacle(self.session.nodes):
            self.end()

    # -- beginning and end --

    def start(self) -> None:
        """Start a review of the shown run, or resume it."""
        if self.session is not None or self._nodes is None or not self.ui.startReviewButton.enabled:
            return
        setup = self.setup
        try:
            session = ReviewSession(
                self._nodes, setup.reviewer, settings_folder(), setup.order, on_edit=self._edits_later.trigger
            )
        except SegWithUError as error:
            setup.message = str(error)
            self._draw_setup()
            return
        self.session, setup.message = session, " ".join(session.notes)
        setup.remember_reviewer()
        slicer.app.connect("aboutToQuit()", self.end)
        self._show_session(session)
        self.folds.fold()
        self.on_review_changed()

    def leave(self) -> str:
        """End the review, if one is open and the disk holds all of it; else it stays open, and why is returned."""
        session = self.session
        if session is None:
            return ""
        self.verdicts.keep_comment()
        session.save()
        if not session.trouble:
            self.end()
        else:
            self._draw_progress()
        return session.trouble

    @guarded
    def end(self) -> None:
        """End the review, if one is open: everything is on disk and in the scene."""
        session = self.session
        if session is None:
            return
        self.verdicts.keep_comment()
        self.session = None
        slicer.app.disconnect("aboutToQuit()", self.end)
        self._edits_later.stop()
        self._save_later.stop()
        attempt(
            self.keys.remove,
            lambda: self.edit.show(None),
            lambda: self.verdicts.show(None),
            session.close,
            lambda: setattr(self.setup, "message", kept_text(session)),
            lambda: self.table.fill([], session.state.verdict_of),
            self._draw_setup,
            self.folds.unfold,
            self.on_review_changed,
        )

    # -- steps --

    def go_to(self, region_id: int) -> None:
        """Look at a region."""
        session = self.session
        if session is None:
            return
        self.verdicts.keep_comment()
        session.show(region_id)
        self.table.select(region_id)
        self.verdicts.show(session)
        if session.current is not None:
            self.edit.choose(session.current)
        self._draw_progress()

    def first(self) -> None:
        """Go to the first region."""
        self._go(self.session.first() if self.session is not None else None)

    def previous(self) -> None:
        """Go to the region before."""
        self._go(self.session.previous() if self.session is not None else None)

    def next(self) -> None:
        """Go to the next region without a verdict."""
        self._go(self.session.next_undecided() if self.session is not None else None)

    def _go(self, region_id: int | None) -> None:
        if region_id is not None:
            self.go_to(region_id)

    def judge(self, verdict: Verdict) -> None:
        """Give the current region a verdict, and go to the next one if that is wanted."""
        session = self.session
        if session is None or session.current is None:
            return
        self.verdicts.keep_comment()
        session.judge(verdict)
        self._update_rows([session.current.id])
        following = session.next_undecided()
        if self.ui.goOnBox.checked and following is not None:
            self.go_to(following)
        else:
            self.verdicts.refresh()
            self._draw_progress()
        self.on_review_changed()

    def accept_rest(self) -> None:
        """Take all regions without a verdict as they are, if the reviewer confirms it."""
        session = self.session
        if session is None or session.is_done:
            return
        if not slicer.util.confirmOkCancelDisplay(rest_question(session), windowTitle="SegWithU"):
            return
        self.verdicts.keep_comment()
        fact = session.accept_rest()
        if fact is not None:
            self._update_rows(fact.regions)
        self.verdicts.refresh()
        self._draw_progress()
        self.on_review_changed()

    def _update_rows(self, regions: Sequence[int]) -> None:
        if self.session is not None:
            for region in regions:
                self.table.update(region, self.session.state.verdict_of(region))

    def undo(self) -> None:
        """Undo the last verdict or comment and go to its region, or undo all of an accepted rest."""
        session = self.session
        if session is None:
            return
        self.verdicts.keep_comment()
        fact = session.undo()
        if fact is not None and fact.region is not None:
            self._update_rows([fact.region])
            self.verdicts.show(session)
            self.go_to(fact.region)
        elif fact is not None:
            self._update_rows([region.id for region in session.regions])
        self.verdicts.refresh()
        self._draw_progress()
        self.on_review_changed()

    # -- what comes from elsewhere --

    def _check_for_edits(self) -> None:
        if self.session is not None and self.session.check_for_edits() is not None:
            self._save_later.trigger()
            self._draw_progress()

    def _save(self) -> None:
        if self.session is None:
            return
        began = monotonic()
        self.session.save()
        # A large segmentation takes seconds: it is written less often.
        self._save_later.set_delay(round(max(SAVE_MS, REST_FACTOR * 1000 * (monotonic() - began))))
        self._draw_progress()

    def _order_chosen(self, order: str) -> None:
        session = self.session
        if session is None:
            return
        session.set_order(order)
        self.table.fill(session.regions, session.state.verdict_of)
        if session.current is not None:
            self.table.select(session.current.id)

    def _keep_zoom(self, keep: bool) -> None:
        if self.session is not None:
            self.session.keep_zoom = keep

    def _show_original(self, visible: bool) -> None:
        if self.session is not None:
            self.session.show_original(visible)

    # -- drawing and bookkeeping --

    def _show_session(self, session: ReviewSession) -> None:
        session.keep_zoom = self.ui.keepZoomBox.checked
        self.ui.originalBox.checked = False
        self.table.fill(session.regions, session.state.verdict_of)
        self.edit.show(session.nodes)
        self._draw_setup()
        self._update_visibility()
        self.go_to(session.resumed_at if session.resumed_at is not None else session.first())
        self.table.focus()

    def _update_visibility(self) -> None:
        """Run keys, clock and editor only while the review is visible."""
        is_visible = self._is_in_sight
        if self.session is None:
            return
        if is_visible:
            self.keys.install()
            self.edit.resume()
        else:
            self.keys.remove()
            self.edit.pause()
        self.session.set_visible(is_visible)

    @property
    def _is_in_sight(self) -> bool:
        return self._is_entered and not self.ui.reviewButton.collapsed

    def _make_room(self, is_edit_folded: bool) -> None:
        """Let list, verdicts and editor be in sight together."""
        self.table.set_short(not is_edit_folded)
        # While editing, keys, list and verdicts lead from region to region.
        for name in ("firstButton", "previousButton", "nextButton"):
            getattr(self.ui, name).visible = is_edit_folded

    def _draw_setup(self) -> None:
        self.setup.show(self._nodes, self.session is not None)
        self.ui.reviewFrame.visible = self.session is not None

    def _draw_progress(self) -> None:
        if self.session is None:
            return
        done = closing_text(self.session)
        self.ui.reviewProgressLabel.text = "\n".join(filter(None, [progress_text(self.session), done]))
        self.ui.acceptRestButton.enabled = not self.session.is_done
        self.ui.nextButton.enabled = not self.session.is_done
        self.ui.previousButton.enabled = self.session.previous() is not None
        self.ui.undoButton.enabled = self.session.state.next_undo() is not None

    def _connect(self) -> None:
        ui = self.ui
        ui.reviewButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self._update_visibility()))
        ui.editButton.connect("contentsCollapsed(bool)", guarded(self._make_room))
        ui.reviewerEdit.connect("returnPressed()", guarded(self.start))
        ui.keepZoomBox.connect("toggled(bool)", guarded(self._keep_zoom))
        ui.originalBox.connect("toggled(bool)", guarded(self._show_original))
        for name, action in (
            ("startReviewButton", self.start),
            ("endReviewButton", self.end),
            ("firstButton", self.first),
            ("previousButton", self.previous),
            ("nextButton", self.next),
            ("undoButton", self.undo),
            ("acceptRestButton", self.accept_rest),
        ):
            getattr(ui, name).connect("clicked(bool)", guarded(action))
