"""The contour under the wheel: buttons, slider, keys, and the wheel of the slice views."""

from collections.abc import Callable
from typing import Any

import slicer

from SegWithUCore.case.structures_table import short_name

from ..guarded import guarded
from ..i18n import _
from ..review.contour import Contour
from .review_widgets import ReviewKeys
from .widgets import GuiConnections, connect_clicks

_BEFORE_OTHERS = 100.0
"""Priority of the wheel: the views themselves would change the slice."""


class ContourPanel:
    """Scrolls a contour.

    Args:
        ui: the widgets of the .ui file.
        begin: makes the contour of the structure at hand, of all of it or of the current region; None if it cannot.
        take: keeps what a contour draws.
    """

    def __init__(self, ui: Any, begin: Callable[[bool], Contour | None], take: Callable[[Contour], None]) -> None:
        self.ui, self._begin, self._take = ui, begin, take
        self.contour: Contour | None = None
        self._gui = GuiConnections()
        self._wheels: list[tuple[Any, int]] = []
        self._keys = ReviewKeys({
            "[": lambda: self.step(-1), "]": lambda: self.step(1), "Return": self.take, "Escape": self.end,
        })  # fmt: skip
        self._gui.connect_signal(ui.contourSlider, "valueChanged(int)", self._go_to)
        connect_clicks(
            ui,
            scrollRegionButton=lambda: self.begin(False),
            scrollStructureButton=lambda: self.begin(True),
            takeContourButton=self.take,
            keepContourButton=self.end,
        )
        self.draw()

    def begin(self, is_whole: bool) -> None:
        """Let the wheel move the contour of the current region, or of the whole structure."""
        self.end()
        self.contour = self._begin(is_whole)
        if self.contour is not None:
            with self._gui.updating():
                self.ui.contourSlider.maximum = self.contour.positions - 1
            self._keys.install()
            manager = slicer.app.layoutManager()
            for name in manager.sliceViewNames():
                interactor = manager.sliceWidget(name).sliceView().interactor()
                for event, steps in (("MouseWheelForwardEvent", 1), ("MouseWheelBackwardEvent", -1)):
                    self._listen(interactor, event, steps)
        self.draw()

    def step(self, steps: int) -> None:
        """Move by positions."""
        if self.contour is not None:
            self._go_to(self.contour.position + steps)

    def take(self) -> None:
        """Make the contour the reviewer's edit."""
        contour = self.contour
        if contour is not None:
            self._take(contour)
        self.end()

    def end(self) -> None:
        """Keep the old contour, but for what was taken."""
        contour, self.contour = self.contour, None
        for interactor, tag in self._wheels:
            interactor.RemoveObserver(tag)
        self._wheels = []
        self._keys.remove()
        if contour is not None:
            contour.release()
        self.draw()

    def draw(self) -> None:
        """Show what can be done."""
        ui, contour = self.ui, self.contour
        ui.scrollFrame.visible, ui.contourFrame.visible = contour is None, contour is not None
        if contour is None:
            return
        with self._gui.updating():
            ui.contourSlider.value = contour.position
        before, now = contour.volume_mm3
        text = _("{structure}: {volume:.0f} mm³ ({percent:+.1f} %)")  # throughout: a turn of the wheel shows in it
        percent = 100 * (now - before) / before if before else 0.0
        lines = [text.format(structure=short_name(contour.structure), volume=now, percent=percent)]
        lines += [_("{structure}: {change:+.0f} mm³").format(structure=short_name(name), change=change)
                  for name, change in contour.neighbours_mm3.items()]  # fmt: skip
        ui.contourLabel.text = "\n".join(lines)

    def _go_to(self, position: int) -> None:
        if self.contour is not None:
            self.contour.go_to(position)
            self.draw()

    def _listen(self, interactor: Any, event: str, steps: int) -> None:
        tags: list[int] = []

        @guarded
        def turned(_caller: object, _event: str) -> None:
            interactor.GetCommand(tags[0]).SetAbortFlag(1)
            self.step(steps)

        tags.append(interactor.AddObserver(event, turned, _BEFORE_OTHERS))
        self._wheels.append((interactor, tags[0]))
