"""The head of the review section: reviewer, order, start and end of a review, messages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from SegWithUCore.review.log_format import Verdict
from SegWithUCore.util.errors import SegWithUError

from ..guarded import guarded
from ..i18n import _
from ..review.opening import decided_so_far, obstacle
from ..review.session import ReviewSession
from ..run.session import Debounce, set_setting, setting
from ..scene.case_nodes import CaseNodes
from ..scene.readout import volume_text
from .review_widgets import ORDERS
from .widgets import GuiConnections

REVIEWER_SETTING = "SegWithU/Reviewer"


class ReviewSetup:
    """Reviewer, order, the buttons that start and end a review, and the line for messages.

    Args:
        ui: the widgets of the .ui file.
        on_order: called with the name of the order that the user chose.

    Attributes:
        message: of the last action; shown until the next one.
    """

    def __init__(self, ui: Any, on_order: Callable[[str], None]) -> None:
        self.ui = ui
        self.message = ""
        self._nodes: CaseNodes | None = None
        self._is_open = False
        self._gui = GuiConnections()
        ui.reviewerEdit.text = setting(REVIEWER_SETTING)
        for title in ORDERS.values():
            ui.orderBox.addItem(title)
        self._gui.connect(ui.orderBox, lambda index: on_order(list(ORDERS)[index]))
        ui.reviewerEdit.connect("textChanged(QString)", guarded(lambda _text: self.draw()))

    @property
    def reviewer(self) -> str:
        """The name that was entered."""
        return str(self.ui.reviewerEdit.text)

    @property
    def order(self) -> str:
        """The order that was chosen."""
        return list(ORDERS)[max(0, self.ui.orderBox.currentIndex)]

    def remember_reviewer(self) -> None:
        """Remember the name for the next time."""
        set_setting(REVIEWER_SETTING, self.reviewer)

    def show(self, nodes: CaseNodes | None, is_open: bool) -> None:
        """Show what can be done with a run.

        Args:
            is_open: a review of it is open.
        """
        self._nodes, self._is_open = nodes, is_open
        self.draw()

    def draw(self) -> None:
        """Show what is true now."""
        ui, is_open = self.ui, self._is_open
        ui.reviewButton.visible = self._nodes is not None
        problem = "" if is_open else self._obstacle()
        earlier = None if is_open or problem else self._earlier()
        ui.startReviewButton.text = _("Start review") if earlier is None else _go_on_text(*earlier)
        ui.startReviewButton.enabled = not is_open and not problem
        ui.startReviewButton.visible = not is_open
        ui.endReviewButton.visible = is_open
        ui.reviewerEdit.enabled = not is_open
        ui.reviewerLabel.visible = ui.reviewerEdit.visible = not is_open
        text = " ".join(filter(None, [self.message, problem]))
        ui.reviewNoteLabel.text = text
        ui.reviewNoteLabel.visible = bool(text)

    def _obstacle(self) -> str:
        found = obstacle(self._nodes)
        return found if found or self.reviewer.strip() else _("Enter your name to begin.")

    def _earlier(self) -> tuple[int, int] | None:
        assert self._nodes is not None
        try:
            return decided_so_far(self._nodes, self.reviewer, settings_folder())
        except SegWithUError:  # reported when the review is opened
            return None


def settings_folder() -> Path:
    """Return where Slicer keeps the user's settings."""
    return Path(slicer.app.userSettings().fileName()).parent


def _go_on_text(decided: int, regions: int) -> str:
    return _("Go on with the review ({decided} of {regions} regions)").format(decided=decided, regions=regions)


def progress_text(session: ReviewSession) -> str:
    """Return the lines on regions decided, errors seen, time left, and what could not be written."""
    return "\n".join(filter(None, [session.state.progress().text, session.trouble]))


def rest_question(session: ReviewSession) -> str:
    """Ask whether the regions without a verdict are to be taken unseen, with the expected error that they hold."""
    rest = session.state.rest()
    text = _(
        "Take the {n} regions without a verdict as they are, without a look? They hold {wrong} of expected error. They "
        'are logged as "not looked at" and counted apart; undo takes all of it back.'
    )
    return text.format(n=len(rest.regions), wrong=volume_text(rest.expected_wrong_mm3))


def closing_text(session: ReviewSession) -> str:
    """Return the message when every region has a verdict; "" before."""
    if not session.is_done:
        return ""
    state = session.state
    given = [state.verdict_of(region.id) for region in session.regions]
    counts = {"rejected": given.count(Verdict.REJECTED), "second": given.count(Verdict.SECOND_READER)}
    text = _("All {n} regions are decided: {rejected} rejected, {second} for a second reader.").format(
        n=len(given), **counts
    )
    unseen = given.count(Verdict.NOT_LOOKED_AT)
    if unseen:
        wrong = volume_text(state.expected_mm3_of(state.unseen_ids))
        text = _(
            "All {n} regions are decided but for {unseen} that were not looked at ({wrong} of expected error): "
            "{rejected} rejected, {second} for a second reader."
        ).format(n=len(given), unseen=unseen, wrong=wrong, **counts)
    return text


def kept_text(session: ReviewSession) -> str:
    """Return the message after the end: where the review was saved, or why it was not."""
    if session.trouble:
        return session.trouble
    return _("{progress}: kept in {folder}.").format(progress=session.state.progress().text, folder=session.folder)


SECTIONS = ("inputsButton", "overlayButton", "advancedButton", "casesButton", "modelsButton")


class SectionFolds:
    """Folds sections for a review and opens them again after it.

    Args:
        ui: the widgets of the .ui file.
        shown: the section that is scrolled to.
    """

    def __init__(self, ui: Any, shown: Any) -> None:
        self._ui, self._shown = ui, shown
        self._folded: list[str] = []
        # Positions are known only after the layout has taken the folding in.
        self._scroll_later = Debounce(0, self._scroll)

    def fold(self) -> None:
        """Fold the sections that are open, and scroll to the one that is shown."""
        self._folded = [name for name in SECTIONS if not getattr(self._ui, name).collapsed]
        for name in self._folded:
            getattr(self._ui, name).collapsed = True
        self._scroll_later.trigger()

    def unfold(self) -> None:
        """Open what was folded; what the user has opened meanwhile stays open, and what was folded before stays so."""
        folded, self._folded = self._folded, []
        for name in folded:
            getattr(self._ui, name).collapsed = False

    def close(self) -> None:
        """Let go of everything."""
        self._scroll_later.stop()

    def _scroll(self) -> None:
        area = self._shown.parent()
        while area is not None and not area.inherits("QScrollArea"):
            area = area.parent()
        if area is not None:
            area.verticalScrollBar().value = self._shown.y
