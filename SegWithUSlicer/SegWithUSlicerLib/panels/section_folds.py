"""The other sections while a review is open: folded, so that what a reviewer needs is in sight together."""

from typing import Any

import qt

from ..run.session import Debounce

SECTIONS = (
    "inputsButton",
    "outputsButton",
    "advancedButton",
    "logButton",
    "overlayButton",
    "structuresButton",
    "plotsButton",
    "casesButton",
    "modelsButton",
)

_EFFECT_COLUMNS, _SEGMENTS_PX = 4, 56
"""Two rows of effects, and one of structures: the others scroll."""


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


def compact_editor(editor: Any) -> None:
    """Leave out of the editor's height what a review does not need: the review chooses the structure."""
    editor.setShow3DButtonVisible(False)
    editor.effectButtonStyle = qt.Qt.ToolButtonTextUnderIcon
    editor.effectColumnCount = _EFFECT_COLUMNS
    for table in editor.findChildren("qMRMLSegmentsTableView"):
        table.setFixedHeight(_SEGMENTS_PX)
