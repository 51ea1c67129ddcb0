"""A button whose text may be longer than the panel is wide: cut in the middle, whole in its tool tip."""

from typing import Any

import qt

from ..guarded import guarded

_MARGINS_PX = 16


class ElidedButton:
    """Keeps the text of a button within its width, also while the panel is made wider or narrower.

    Args:
        button: its width must not follow its text (size policy Ignored); its tool tip explains it.

    Attributes:
        text: the whole text.
    """

    def __init__(self, button: Any) -> None:
        self.button, self._tip = button, str(button.toolTip)
        self.text = ""
        self._filter = _ResizeFilter()
        self._filter.owner = self
        button.installEventFilter(self._filter)

    def show(self, text: str) -> None:
        """Show a text."""
        self.text = text
        self.draw()

    @guarded
    def draw(self) -> None:
        """Cut the text to the width of now."""
        button = self.button
        width = button.width - _MARGINS_PX
        shown = str(qt.QFontMetrics(button.font).elidedText(self.text, qt.Qt.ElideMiddle, max(0, width)))
        # An ampersand would make a key of the letter behind it.
        button.text = shown.replace("&", "&&")
        button.toolTip = f"{self.text}\n{self._tip}" if shown != self.text else self._tip


class _ResizeFilter(qt.QObject):
    """Waits for another width."""

    owner: ElidedButton | None = None

    def eventFilter(self, _watched: Any, event: Any) -> bool:  # noqa: N802 - Qt calls it
        """Draw the text again."""
        if self.owner is not None and event.type() == qt.QEvent.Resize:
            self.owner.draw()
        return False
