"""The section "How many regions are enough?": how many of the expected errors reviewing the first regions covers."""

from collections.abc import Callable
from math import ceil
from typing import Any

import slicer

from SegWithUCore.review.budget import expected_coverage

from ..guarded import guarded
from ..i18n import _
from ..review.session import ReviewSession
from ..scene.readout import volume_text
from .widgets import GuiConnections

_FIRST_CHOICE = 10


class BudgetPanel:
    """The section "How many regions are enough?".

    Blind places take time but are none of the case's expected errors: the numbers are those of the real regions.

    Args:
        ui: the widgets of the .ui file.
        on_accept_rest: called when the reviewer takes the regions without a verdict as they are.
    """

    def __init__(self, ui: Any, on_accept_rest: Callable[[], None]) -> None:
        self.ui, self._on_accept_rest = ui, on_accept_rest
        self._session: ReviewSession | None = None
        self._gui = GuiConnections()
        self._gui.connect(ui.budgetBox, lambda _value: self.refresh())
        ui.acceptRestButton.connect("clicked(bool)", guarded(self.accept_rest))
        ui.budgetButton.connect("contentsCollapsed(bool)", guarded(lambda _collapsed: self.refresh()))

    def show(self, session: ReviewSession | None) -> None:
        """Show the budget of a review, or none."""
        self._session = session
        if session is None:
            self.ui.budgetButton.collapsed = True
            return
        with self._gui.updating():
            self.ui.budgetBox.maximum = len(session.real_regions)
            self.ui.budgetBox.value = min(_FIRST_CHOICE, len(session.real_regions))
        self.refresh()

    def refresh(self) -> None:
        """Show what the choice covers, whether it is reached, and whether there is a rest."""
        session = self._session
        if session is None:
            return
        self.ui.acceptRestButton.enabled = not session.is_done
        if self.ui.budgetButton.collapsed:  # it counts all regions, and a verdict must not wait for that
            return
        number = self.ui.budgetBox.value
        is_reached = session.state.progress().decided >= number and not session.is_done
        reached = _("You have looked at as many: the rest can be accepted.") if is_reached else ""
        self.ui.budgetLabel.text = " ".join(filter(None, [coverage_text(session, number), reached]))

    def accept_rest(self) -> None:
        """Take the regions without a verdict as they are, if the reviewer confirms it."""
        session = self._session
        if session is None or session.is_done:
            return
        if slicer.util.confirmOkCancelDisplay(rest_question(session), windowTitle="SegWithU"):
            self._on_accept_rest()


def coverage_text(session: ReviewSession, regions: int) -> str:
    """Return what reviewing so many regions covers, in the order of the review."""
    curve = expected_coverage(session.real_regions, session.total_mm3, session.order)
    number = min(max(regions, 0), len(curve.ids))
    text = _("{n} regions cover {share} % of the expected errors ({covered} of {total}); {left} remain.")
    return text.format(
        n=number,
        share=int(100 * curve.share[number] + 1e-9),
        covered=volume_text(float(curve.wrong_mm3[number])),
        total=volume_text(curve.total_wrong_mm3),
        left=volume_text(float(curve.remaining_mm3[number])),
    )


def rest_question(session: ReviewSession) -> str:
    """Ask whether the regions without a verdict are to be taken unseen, with the expected error that they hold."""
    rest, total = session.state.rest(), session.total_mm3
    text = _(
        "Take the {n} regions without a verdict as they are, without a look? They hold {wrong} of expected error, "
        '{share} % of this case\'s. They are logged as "not looked at" and counted apart; undo takes all of it '
        "back."
    )
    share = rest.expected_wrong_mm3 / total if total > 0 else 0.0
    wrong = volume_text(rest.expected_wrong_mm3)
    return text.format(n=len(rest.regions), wrong=wrong, share=min(100, ceil(100 * share)))
