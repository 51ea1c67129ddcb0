"""What is told about the current region, and what the reviewer says about it."""

from collections.abc import Callable
from typing import Any

import qt

from SegWithUCore.regions.region import Region
from SegWithUCore.review.events import Verdict
from SegWithUCore.review.why import why

from ..i18n import _
from ..review.region_picture import as_ppm, region_picture
from ..review.session import ReviewSession
from .review_words import VERDICTS

BUTTONS = {
    Verdict.ACCEPTED: "acceptButton",
    Verdict.CORRECTED: "correctButton",
    Verdict.REJECTED: "rejectButton",
    Verdict.SECOND_READER: "secondReaderButton",
}


class VerdictBar:
    """Why line, thumbnail, verdict buttons, comment, and the verdict on the whole structure.

    Args:
        ui: the widgets of the .ui file.
        on_verdict: called with the verdict on the current region.
        on_said: called after a comment or a verdict on the structure.
        on_comment_done: called when the reviewer has finished a comment by Enter.
    """

    def __init__(
        self,
        ui: Any,
        on_verdict: Callable[[Verdict], None],
        on_said: Callable[[], None],
        on_comment_done: Callable[[], None],
    ) -> None:
        self.ui = ui
        self._session: ReviewSession | None = None
        self._on_said = on_said
        for verdict, name in BUTTONS.items():
            getattr(ui, name).connect("clicked(bool)", _calling(on_verdict, verdict))
        ui.commentEdit.connect("editingFinished()", self.keep_comment)
        ui.commentEdit.connect("returnPressed()", on_comment_done)
        ui.acceptStructureButton.connect("clicked(bool)", _calling(self.judge_structure, Verdict.ACCEPTED))
        ui.flagStructureButton.connect("clicked(bool)", _calling(self.judge_structure, Verdict.SECOND_READER))
        ui.clearStructureButton.connect("clicked(bool)", _calling(self.judge_structure, None))

    def show(self, session: ReviewSession | None) -> None:
        """Show the current region of a review, or nothing."""
        self._session = session
        region = session.current if session is not None else None
        if session is None or region is None:
            self.ui.thumbnailLabel.clear()
            self.ui.whyLabel.text = self.ui.commentEdit.text = ""
            return
        self.ui.whyLabel.text = _capital(why(region, bool(session.nodes.case.raw.get("region_of_interest"))))
        self.ui.commentEdit.text = session.state.comment_of(region.id)
        self.refresh()
        self._draw(session, region)

    def refresh(self) -> None:
        """Show what holds for the current region's structure."""
        session = self._session
        if session is None or session.current is None:
            return
        name = session.current.structure
        standing = session.state.structure(name)
        text = _("no verdict yet") if standing.verdict is None else VERDICTS[standing.verdict]
        self.ui.structureVerdictLabel.text = _("{structure}: {verdict} ({decided} of {regions} regions)").format(
            structure=name, verdict=text, decided=standing.decided, regions=standing.regions
        )
        self.ui.clearStructureButton.enabled = standing.explicit

    def write_comment(self) -> None:
        """Put the keyboard into the comment."""
        self.ui.commentEdit.setFocus()
        self.ui.commentEdit.selectAll()

    def keep_comment(self) -> None:
        """Log the comment that was typed, if it differs from what is known."""
        session = self._session
        if session is None or session.current is None:
            return
        text = self.ui.commentEdit.text.strip()
        if text != session.state.comment_of(session.current.id):
            session.comment(text)
            self._on_said()

    def judge_structure(self, verdict: Verdict | None) -> None:
        """A verdict on the structure of the current region as a whole; None: as its regions say."""
        if self._session is not None and self._session.current is not None:
            self._session.judge_structure(self._session.current.structure, verdict)
            self.refresh()
            self._on_said()

    def _draw(self, session: ReviewSession, region: Region) -> None:
        found = session.mask(region)
        picture = region_picture(session.nodes, region, found) if found is not None else None
        if picture is None:
            self.ui.thumbnailLabel.clear()
            return
        pixmap = qt.QPixmap()
        pixmap.loadFromData(as_ppm(picture))
        self.ui.thumbnailLabel.setPixmap(pixmap)


def _calling(function: Callable[[Any], None], argument: Any) -> Callable[[], None]:
    return lambda: function(argument)


def _capital(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."
