"""The section "Selective review", from the reviewer's name to the last verdict."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

import qt
import slicer

from SegWithUCore.case.case_file import asked_structures
from SegWithUCore.case.structures_table import short_name
from SegWithUCore.regions.region import Region, reasons
from SegWithUCore.review.signing import signed_text
from SegWithUCore.review.verdicts import Verdict
from SegWithUCore.util.errors import SegWithUError

from ..guarded import attempt, guarded
from ..i18n import _
from ..review.contour import Contour
from ..review.opening import earlier_state, obstacle
from ..review.session import ReviewSession
from ..review.verdict_texts import verdict_text
from ..run.model_store import ModelInfo
from ..run.session import Debounce, set_setting, setting, start_timer, waiting_cursor
from ..scene.case_nodes import CaseNodes
from ..scene.observers import nodes_of
from ..scene.readout import for_panel, volume_text
from ..scene.slice_views import crosshair, show_structure
from ..scene.steps import pause
from .contour_panel import ContourPanel
from .edit_panel import EditPanel
from .review_widgets import ORDERS, ReviewKeys, ReviewTable, actions_of, add_verdict_buttons, found_by, keys_text
from .widgets import GuiConnections, connect_clicks, scroll_area_of

REVIEWER_SETTING = "SegWithU/Reviewer"
ASKED_SETTING = "SegWithU/Asked/{model}"
"""The structures that were ticked last, one a line: the question of the next run of the model."""
MASK_PLACE_SETTING = "SegWithU/MaskPlace"
SECTIONS = ("inputsButton", "advancedButton", "casesButton", "modelsButton")
"""Folded during a review; the result is not: a click on a structure goes to it, and the figures follow."""
QUIET_MS = 600
"""Time after the last change of the segmentation after which a stroke counts as finished."""
WATCH_MS = 1000
"""How often it is looked whether the user does anything."""
SAVE_MS = 3000
"""Time after the last stroke after which the edits are written; a verdict and leaving write them at once."""
REST_FACTOR = 10
"""Quiet before the next writing, in times that the last one took."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_review(
    method: Callable[Concatenate["ReviewPanel", ReviewSession, Arguments], Result],
) -> Callable[Concatenate["ReviewPanel", Arguments], Result | None]:
    """Give a method of the panel the open session, and show what the session refuses; without one nothing is done."""

    @wraps(method)
    def call(panel: "ReviewPanel", /, *given: Arguments.args, **named: Arguments.kwargs) -> Result | None:
        if panel.session is None:
            return None
        try:
            return method(panel, panel.session, *given, **named)
        except SegWithUError as error:
            panel.message = str(error)
            panel._draw_setup()
            return None

    own, _session, *others = inspect.signature(method).parameters.values()
    vars(call)["__signature__"] = inspect.Signature([own, *others])  # `guarded` reads it
    return call


class ReviewPanel:
    """Owns the open review.

    Args:
        ui: the widgets of the .ui file.

    Attributes:
        message: of the last action.
        on_review_changed: called when the review began, ended, or a verdict was given or taken back.
        on_next_case: called when the reviewer wants the next open case of a list.
        on_question: called with the names of the structures to be ticked.
        on_figures: called with the figures of the structures after the reviewer's work, by name.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.message = ""
        self.on_review_changed: Callable[[], None] = lambda: None
        self.on_next_case: Callable[[], None] = lambda: None
        self.on_question: Callable[[Sequence[str]], None] = lambda names: None
        self.on_figures: Callable[[Mapping[str, Mapping[str, Any]]], None] = lambda figures: None
        self.session: ReviewSession | None = None
        self._ticked: tuple[str, ...] | None = None
        """By the user, for the shown run."""
        self._stop_watching: Callable[[], None] = lambda: None
        self._nodes: CaseNodes | None = None
        self._is_entered = False
        self._folded: list[str] = []
        self._frames: list[Any] = []
        """The displays of the placed boxes that are hidden during the review."""
        self._gui = GuiConnections()
        self.table = ReviewTable(ui.regionsTable, self.go_to, self._relist)
        self.edit = EditPanel(ui)
        self.contour = ContourPanel(ui, self._begin_contour, self._take_contour)
        self.files_of: Callable[[CaseNodes], Path | None] = lambda nodes: nodes.case_folder
        """Gives the folder of a case's files, where it is known."""
        self.keys = ReviewKeys(actions_of(self))
        self._edits_later = Debounce(QUIET_MS, self._check_for_edits)
        self._save_later = Debounce(SAVE_MS, self._save)
        # Positions are known only after the layout was updated.
        self._scroll_later = Debounce(0, self._scroll)
        ui.reviewKeysLabel.text = keys_text()
        ui.reviewerEdit.text = setting(REVIEWER_SETTING)
        ui.orderBox.addItems(list(ORDERS.values()))
        self._connect()
        self.show(None)

    @property
    def reviewer(self) -> str:
        """The name that was entered."""
        return str(self.ui.reviewerEdit.text)

    # -- what the module panel calls --

    def show(self, nodes: CaseNodes | None) -> None:
        """Show another run, or none: a review of the one before ends."""
        hub = nodes.hub if nodes is not None else None
        if self.session is not None and self.session.nodes.hub is not hub:
            self.end()
        if self._nodes is None or self._nodes.hub is not hub:
            self.message, self._ticked = "", None
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
        """Release everything."""
        self.end()
        self._scroll_later.stop()
        self.edit.show(None)

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

    @waiting_cursor()
    def start(self) -> None:
        """Start a review of the shown run, or resume it."""
        if self.session is not None or self._nodes is None or not self.ui.startReviewButton.enabled:
            return
        order = list(ORDERS)[max(0, self.ui.orderBox.currentIndex)]
        try:
            on_edit = self._edits_later.trigger
            session = ReviewSession(self._nodes, self.reviewer, settings_folder(), order, on_edit=on_edit)
        except SegWithUError as error:
            self.message = str(error)
            self._draw_setup()
            return
        self.session, self.message = session, " ".join(session.notes)
        set_setting(REVIEWER_SETTING, self.reviewer)
        slicer.app.connect("aboutToQuit()", self.end)
        self._stop_watching = start_timer(WATCH_MS, self._watch)
        if self._ticked:
            session.core.ask(self._ticked)
        session.arrange = self._arranged
        self.ui.regionFilterEdit.text = ""
        self._relist(always=True)
        pause()
        self.edit.show(session.nodes)
        self._draw_setup()
        self._update_visibility()
        pause()
        first = session.resumed_at if session.resumed_at in session.ids else session.following()
        if first is None:
            self.go_to_structure(session.unfinished() or session.state.asked[0])
        else:
            self.go_to(first)
        pause()
        self.table.focus()
        self._folded = [name for name in SECTIONS if not getattr(self.ui, name).collapsed]
        self._fold(True)
        self._frames = [box.GetDisplayNode() for box in session.nodes.boxes if box.GetDisplayVisibility()]
        self._show_frames(False)
        pause()
        self._show_figures()
        pause()
        self.on_review_changed()
        self._scroll_later.trigger()  # once what a review needs not is hidden

    def leave(self) -> str:
        """End the review, if one is open and the disk holds all of it; else it stays open, and why is returned."""
        session = self.session
        if session is None:
            return ""
        self.keep_comment()
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
        self.keep_comment()
        self.contour.end()
        self.session = None
        self._stop_watching()
        slicer.app.disconnect("aboutToQuit()", self.end)
        self._edits_later.stop()
        self._save_later.stop()
        attempt(
            self.keys.remove,
            lambda: self.edit.show(None),
            session.close,
            lambda: setattr(self, "message", kept_text(session)),
            lambda: self.table.fill([], session.state.verdict_of),
            self._draw_setup,
            lambda: self._fold(False),
            lambda: self._show_frames(True),
            self.on_review_changed,
        )

    def _fold(self, folded: bool) -> None:
        """Fold the sections that were open, or open them again; what the user has opened meanwhile stays open."""
        for name in self._folded:
            getattr(self.ui, name).collapsed = folded

    def _show_frames(self, visible: bool) -> None:
        for display in self._frames:
            display.SetVisibility(visible)

    def _scroll(self) -> None:
        area = scroll_area_of(self.ui.reviewButton)
        if area is not None:
            area.verticalScrollBar().value = self.ui.reviewButton.mapTo(area.widget(), qt.QPoint(0, 0)).y()

    # -- steps --

    def ask(self, structures: Sequence[str]) -> None:
        """Measure these structures, from the start of the review on if none is open; without any the question stays."""
        self._ticked = tuple(structures)
        if self._nodes is not None:
            set_setting(ASKED_SETTING.format(model=self._nodes.model_name), "\n".join(structures))
        if self.session is not None and structures:
            self.session.core.ask(structures)
            self._changed()
        self._draw_setup()

    @in_review
    def go_to_structure(self, session: ReviewSession, name: str) -> bool:
        """Go to the next open region of a structure, or show it as a whole; None if no review is open."""
        self.keep_comment()
        self.contour.end()
        self.ui.regionFilterEdit.text = ""
        region_id = session.next_undecided(name)
        if region_id is not None:
            self.go_to(region_id)
            return True
        session.show_structure(name)
        values = [structure.value for structure in session.nodes.case.structures if structure.name == name]
        show_structure(session.nodes.segmentation, values[0])
        self.table.select(None)
        self.ui.whyLabel.text = _("{structure}: no region is open.").format(structure=name)
        self.ui.whyLabel.toolTip = self.ui.commentEdit.text = ""
        self.edit.choose(name)
        self._draw_progress()
        return True

    @in_review
    def go_to(self, session: ReviewSession, region_id: int | None) -> None:
        """Show a region, if there is one and it is of the question."""
        if region_id is None:
            return
        self.keep_comment()
        self.contour.end()
        if region_id not in session.ids:
            self.ui.regionFilterEdit.text = ""
        if region_id not in session.ids:
            return
        session.show(region_id)
        self.table.select(region_id)
        region = session.current
        assert region is not None
        # What may be wrong, and whether the edge is near; shape and kinds of uncertainty are in the tool tip.
        lines = [f"{part[:1].upper()}{part[1:]}." for part in reasons(region, bool(session.nodes.case.raw.get("roi")))]
        self.ui.whyLabel.text = " ".join([lines[0], lines[-1]] if region.touches_border and lines[1:] else lines[:1])
        self.ui.whyLabel.toolTip = "\n".join(lines)
        self.ui.commentEdit.text = session.state.comment_of(region.id)
        self.edit.choose(session.structure)
        self._draw_progress()

    @in_review
    def previous(self, session: ReviewSession) -> None:
        """Go to the previous region."""
        self.go_to(session.previous())

    @in_review
    def next(self, session: ReviewSession) -> None:
        """Go to the next region without a verdict."""
        self.go_to(session.next_undecided())

    @in_review
    def judge(self, session: ReviewSession, verdict: Verdict) -> None:
        """Give the current region a verdict, and go to the next one of its structure if that is wanted."""
        if session.current is None:
            return
        self.keep_comment()
        session.judge(verdict)
        self.table.update(session.current.id, verdict)
        following = session.following()
        if self.ui.goOnBox.checked and following is not None:
            self.go_to(following)
        self._changed()

    @in_review
    def judge_structure(self, session: ReviewSession, verdict: Verdict | None) -> None:
        """Give the structure at hand a verdict as a whole; None: as its regions."""
        session.judge_structure(session.structure, verdict)
        self._changed()

    @in_review
    def finish(self, session: ReviewSession) -> None:
        """Take the structure at hand, which was looked through, as right, and go on with the next one."""
        if session.structure not in session.state.asked:
            return
        self.keep_comment()
        session.finish()
        self._relist()
        following = session.unfinished()
        if following is None:  # the blind sample is left
            self.next()
        else:
            self.go_to_structure(following)
        self._changed()

    @in_review
    def sign(self, session: ReviewSession) -> None:
        """Let the reviewer sign the volumes that are finished or measured, after a question that lists them."""
        self.keep_comment()
        signed = session.signature()
        names = {volume.structure for volume in signed.volumes}
        left = ", ".join(name for name in session.state.asked if name not in names)
        lines = [_("{reviewer} signs:").format(reviewer=session.core.log.reviewer), *map(signed_text, signed.volumes)]
        unsigned = _("Neither finished nor measured, and not signed: {structures}.").format(structures=left)
        lines += [unsigned] if left else []
        if slicer.util.confirmOkCancelDisplay("\n".join(lines), windowTitle="SegWithU"):
            session.core.append(signed)
            self._changed()

    @in_review
    def add_place(self, session: ReviewSession) -> None:
        """Add the place of the crosshair to the regions, and go there."""
        where = crosshair()
        if where is None:
            return
        self.keep_comment()
        place = session.add_place(where)
        self._relist()
        self.go_to(place)
        self._changed()

    def choose_mask(self) -> None:
        """Let the reviewer choose the file of a mask that becomes the edit."""
        title, names = _("Take a mask as my edit"), "*.nii *.nii.gz *.nrrd *.mha *.mgz *.mgh"
        kinds = _("Masks ({names})").format(names=names)
        chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, setting(MASK_PLACE_SETTING), kinds)
        if chosen:
            set_setting(MASK_PLACE_SETTING, str(Path(str(chosen)).parent))
            self.take_mask(Path(str(chosen)))

    @in_review
    def take_mask(self, session: ReviewSession, path: Path) -> None:
        """Take a mask as the edit, in place of an earlier one if the reviewer confirms it."""
        text = _("The mask replaces your edited segmentation of this case. Continue?")
        if session.state.edited and not slicer.util.confirmOkCancelDisplay(text, windowTitle="SegWithU"):
            return
        with waiting_cursor():
            taken = session.take_mask(path)
        said = _("{file} is your edit now.") if taken else _("{file} is what is drawn already.")
        self.message = said.format(file=path.name)
        self._draw_setup()
        self._changed()

    @in_review
    def _begin_contour(self, session: ReviewSession, is_whole: bool) -> Contour | None:
        if not session.structure:
            return None
        with waiting_cursor():
            return session.contour(self.files_of(session.nodes), is_whole)

    @in_review
    def _take_contour(self, session: ReviewSession, contour: Contour) -> None:
        session.take_contour(contour)
        self._changed()

    @in_review
    def accept_rest(self, session: ReviewSession) -> None:
        """Accept all regions without a verdict unseen, if the reviewer confirms it."""
        rest = session.state.rest()
        if not rest.regions:
            return
        text = _("Accept all regions without a verdict ({n}), unseen?").format(n=len(rest.regions))
        held = _("They hold {wrong} of expected error.").format(wrong=volume_text(rest.expected_wrong_mm3))
        text += f" {held} " if rest.expected_wrong_mm3 else " "
        text += _('They are logged as "not looked at" and counted apart; undo reverts all of it.')
        if not slicer.util.confirmOkCancelDisplay(text, windowTitle="SegWithU"):
            return
        self.keep_comment()
        session.accept_rest()
        self._relist(always=True)
        self._changed()

    @in_review
    def undo(self, session: ReviewSession) -> None:
        """Undo the last verdict or comment and go to its region, or undo all of an accepted rest."""
        self.keep_comment()
        self.contour.end()
        fact = session.undo()
        self._relist(always=True)
        if session.current is not None:
            self.ui.commentEdit.text = session.state.comment_of(session.current.id)
        if fact is not None and fact.region is not None:
            self.go_to(fact.region)
        elif session.current is None:
            self.go_to_structure(session.structure)
        self._changed()

    def write_comment(self) -> None:
        """Put the keyboard into the comment."""
        self.ui.commentEdit.setFocus()
        self.ui.commentEdit.selectAll()

    @in_review
    def keep_comment(self, session: ReviewSession) -> None:
        """Log the comment that was typed, if it differs from what is known."""
        if session.current is not None:
            session.comment(self.ui.commentEdit.text.strip())
            self._draw_progress()

    def _changed(self) -> None:
        self._relist()
        self._show_figures()
        self._draw_progress()
        self.on_review_changed()

    @in_review
    def _show_figures(self, session: ReviewSession) -> None:
        self.on_figures(session.figures())

    @in_review
    def _relist(self, session: ReviewSession, always: bool = False) -> None:
        if session.relist() or always:
            self.table.fill(session.regions, session.state.verdict_of)
            self.table.select(session.current.id if session.current is not None else None)

    def _arranged(self, regions: list[Region]) -> list[Region]:
        assert self.session is not None
        state, words = self.session.state, self.ui.regionFilterEdit.text
        found = [region for region in regions if found_by(region, state.comment_of(region.id), words)]
        return self.table.arranged(found, state.verdict_of)

    # -- what comes from elsewhere --

    @in_review
    def _check_for_edits(self, session: ReviewSession) -> None:
        if session.check_for_edits():
            self._save_later.trigger()
            self._changed()

    @in_review
    def _watch(self, session: ReviewSession) -> None:
        """Let time count only while the user moves the mouse, types, or changes what a view shows."""
        position, views = qt.QCursor.pos(), nodes_of(slicer.mrmlScene, "vtkMRMLSliceNode")
        moved = (position.x(), position.y(), self.ui.commentEdit.text, *(view.GetMTime() for view in views))
        session.notice(moved if slicer.app.activeWindow() is not None else None)

    @in_review
    def _save(self, session: ReviewSession) -> None:
        began = monotonic()
        session.save()
        # A large segmentation takes seconds: it is written less often.
        self._save_later.set_delay(round(max(SAVE_MS, REST_FACTOR * 1000 * (monotonic() - began))))
        self._draw_progress()

    @in_review
    def _order_chosen(self, session: ReviewSession, index: int) -> None:
        self.table.forget_sorting()
        session.order = list(ORDERS)[index]
        self._relist()

    # -- drawing and bookkeeping --

    def _update_visibility(self) -> None:
        """Run keys, clock and editor only while the review is visible."""
        if self.session is None:
            return
        is_visible = self._is_entered and not self.ui.reviewButton.collapsed
        if is_visible:
            self.keys.install()
            self.edit.resume()
        else:
            self.keys.remove()
            self.contour.end()
            self.edit.pause()
        self.session.set_visible(is_visible)

    def _draw_setup(self) -> None:
        ui, nodes, is_open = self.ui, self._nodes, self.session is not None
        problem, earlier = "", None
        if not is_open:
            problem = obstacle(nodes) or ("" if self.reviewer.strip() else _("Enter your name to begin."))
            if nodes is not None and not problem:
                try:
                    earlier = earlier_state(nodes, self.reviewer, settings_folder())
                except SegWithUError:  # reported when the review is opened
                    earlier = None
        if self._ticked == ():
            problem = problem or _("Tick the structures to be measured in the table above.")
        ui.startReviewButton.text = _("Start review")
        if earlier is not None:
            resume, progress = _("Resume the review (regions: {decided} of {regions})"), earlier.progress()
            ui.startReviewButton.text = resume.format(decided=progress.decided, regions=progress.regions)
        if nodes is not None:
            state = self.session.state if self.session is not None else earlier
            asked = asked_structures(nodes.case.raw) if state is None else state.asked
            self.on_question(asked if self._ticked is None else self._ticked)
        # The list has the free height.
        ui.reviewButton.parent().layout().setStretchFactor(ui.reviewButton, int(is_open))
        ui.reviewButton.visible = nodes is not None
        ui.startReviewButton.enabled = not is_open and not problem
        ui.endReviewButton.visible = ui.reviewFrame.visible = is_open
        for widget in (ui.startReviewButton, ui.reviewerLabel, ui.reviewerEdit):
            widget.visible = not is_open
        ui.reviewNoteLabel.text = " ".join(filter(None, map(for_panel, [self.message, problem])))
        ui.reviewNoteLabel.visible = bool(ui.reviewNoteLabel.text)

    @in_review
    def _draw_progress(self, session: ReviewSession) -> None:
        name, is_asked = session.structure, session.structure in session.state.asked
        lines = [session.state.progress().text, session.trouble]
        if session.core.is_done:
            lines.append(_("The review is finished."))
        else:
            lines[0] += _("; about {minutes:.0f} min left").format(minutes=max(session.core.minutes_left, 1))
        if is_asked and name not in session.state.finished and session.next_undecided(name) is None:
            lines.append(_("Look through {structure} and finish it.").format(structure=name))
        if again := ", ".join(map(short_name, sorted(session.reopened - session.state.finished))):
            lines.append(_("Edited since it was finished: {structures}.").format(structures=again))
        if session.state.signed is not None:
            when = session.state.signed_at.replace("T", " ")
            lines.append(_("Signed: {count}, {when}.").format(count=len(session.state.signed.volumes), when=when))
        self.ui.signButton.enabled = session.state.signed is None
        self.ui.reviewProgressLabel.text = "\n".join(filter(None, lines))
        self.ui.nextButton.enabled = session.next_undecided() is not None
        self.ui.acceptRestButton.enabled = bool(session.state.rest().regions)
        self.ui.finishButton.text = _("Finish {structure}").format(structure=short_name(name))
        self.ui.finishButton.enabled = is_asked
        self.ui.previousButton.enabled = session.previous() is not None
        self.ui.undoButton.enabled = session.state.next_undo() is not None
        state = session.state.structure(name)
        verdict = _("no verdict yet") if state.verdict is None else verdict_text(state.verdict)
        self.ui.structureVerdictLabel.text = f"{name}: {verdict}"
        self.ui.clearStructureButton.enabled = state.explicit

    def _connect(self) -> None:
        ui = self.ui
        self._gui.connect(ui.orderBox, self._order_chosen)
        ui.regionFilterEdit.connect("textChanged(QString)", guarded(lambda _text: self._relist()))
        ui.reviewButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self._update_visibility()))
        ui.reviewerEdit.connect("textChanged(QString)", guarded(lambda _text: self._draw_setup()))
        ui.reviewerEdit.connect("returnPressed()", guarded(self.start))
        ui.commentEdit.connect("editingFinished()", guarded(self.keep_comment))
        ui.commentEdit.connect("returnPressed()", guarded(self.table.focus))
        connect_clicks(
            ui,
            startReviewButton=self.start,
            endReviewButton=self.end,
            previousButton=self.previous,
            nextButton=self.next,
            undoButton=self.undo,
            finishButton=self.finish,
            addPlaceButton=self.add_place,
            signButton=self.sign,
            acceptRestButton=self.accept_rest,
            takeMaskButton=self.choose_mask,
            clearStructureButton=lambda: self.judge_structure(None),
        )
        add_verdict_buttons(ui, self.judge, self.judge_structure)


def ticked_before(model: ModelInfo) -> tuple[str, ...]:
    """Return the structures of a model that the user ticked last; none if nobody has."""
    names = setting(ASKED_SETTING.format(model=model.name)).split("\n")
    return tuple(name for name in model.structures if name in names)


def settings_folder() -> Path:
    """Return where Slicer keeps the user's settings."""
    return Path(slicer.app.userSettings().fileName()).parent


def kept_text(session: ReviewSession) -> str:
    """Return the message after the end: where the review was saved, or why it was not."""
    if session.trouble:
        return session.trouble
    kept = _("{progress}: kept in {folder}.").format(progress=session.state.progress().text, folder=session.folder)
    return f"{kept} {_('The case can teach its model: see Cases.')}" if session.core.is_done else kept
