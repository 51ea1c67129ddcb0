"""One line that is read first; the sentences behind it on demand."""

from collections.abc import Sequence
from typing import Any

from ..guarded import guarded
from ..scene.readout import typeset


class OneLine:
    """A line whose sentences stand in its tool tip, and below it after a click on "Details".

    Args:
        line: the label that is always read.
        button: a checkable button.
        details: the label for the sentences.
    """

    def __init__(self, line: Any, button: Any, details: Any) -> None:
        self._line, self._button, self._details = line, button, details
        button.connect("toggled(bool)", guarded(lambda _checked: self._draw()))

    def show(self, text: str, sentences: Sequence[str]) -> None:
        """Show a line, or nothing for "".

        Args:
            sentences: what it is the short form of; none if it says all.
        """
        sentences = [typeset(sentence) for sentence in sentences]
        self._line.text, self._line.visible = text, bool(text)
        self._line.toolTip = "\n".join(sentences)
        self._button.visible = bool(text) and bool(sentences)
        if not sentences:
            self._button.checked = False
        self._details.text = "\n".join(f"\N{BULLET} {sentence}" for sentence in sentences)
        self._draw()

    def _draw(self) -> None:
        self._details.visible = self._button.visible and self._button.checked
