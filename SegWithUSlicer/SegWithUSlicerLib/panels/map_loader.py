"""Maps of large images in the section "Overlay": loaded when they are chosen, with progress and Cancel."""

from collections.abc import Callable
from typing import Any

from SegWithUCore.util.errors import SegWithUError

from ..guarded import guarded
from ..i18n import _
from ..run.controller import FIRST_S, SLICE_S
from ..run.session import LOADING_INTERVAL_MS, start_timer
from ..scene.case_nodes import CaseNodes
from ..scene.later_maps import load_map_steps, loadable, map_bytes
from ..scene.overlay import Overlay
from ..scene.steps import SteppedTask, Steps


class MapLoader:
    """Does what needs a map as soon as that is loaded; another choice gives the one before up.

    Args:
        ui: the widgets of the .ui file.
        redraw: called when something was loaded or given up.
    """

    def __init__(self, ui: Any, redraw: Callable[[], None]) -> None:
        self.ui, self._redraw = ui, redraw
        self._task: SteppedTask[None] | None = None
        self._stop_timer: Callable[[], None] = lambda: None
        self._then: Callable[[], None] = lambda: None
        self._overlay: Overlay | None = None
        self._trouble = ""
        self.wanted: str | None = None
        """The map that was chosen and is being loaded."""
        ui.mapLoadButton.connect("clicked(bool)", guarded(self.load_all_or_cancel))

    @property
    def is_busy(self) -> bool:
        """Whether something is being loaded."""
        return self._task is not None

    def when_loaded(self, overlay: Overlay, name: str | None, then: Callable[[], None]) -> None:
        """Call `then` at once, or as soon as this map is loaded."""
        if self.is_busy and self.wanted == name and name is not None:
            return  # the same choice again
        self.cancel()
        if name is None or not overlay.needs_loading(name):
            then()
            return
        self._begin(overlay.loading_steps(name), map_bytes(overlay.nodes), then, name)

    def load_all_or_cancel(self) -> None:
        """Load the maps that are not loaded, or give up what is being loaded."""
        if self.is_busy or self._overlay is None:
            self.cancel()
            self._redraw()
            return
        names = loadable(self._overlay.nodes)
        work = map_bytes(self._overlay.nodes) * len(names)
        self._begin(_all_steps(self._overlay.nodes, names), work, lambda: None, None)

    def cancel(self) -> None:
        """Give up what is being loaded; nothing of it stays."""
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        self._task, self.wanted, self._trouble = None, None, ""

    def draw(self, overlay: Overlay | None) -> None:
        """Show what is loaded and what is not."""
        self._overlay = overlay
        nodes = None if overlay is None else overlay.nodes
        left = [] if nodes is None else loadable(nodes)
        self.ui.mapLoadFrame.visible = bool(self.is_busy or left or self._trouble)
        self.ui.mapLoadLabel.text = self._trouble or ("" if nodes is None else self._words(nodes, left))
        self.ui.mapLoadLabel.visible = bool(self.ui.mapLoadLabel.text)
        self.ui.mapLoadButton.text = _("Cancel") if self.is_busy else _("Load all")
        self.ui.mapLoadButton.visible = bool(self.is_busy or left)

    def _words(self, nodes: CaseNodes, left: list[str]) -> str:
        titles = ", ".join(nodes.case.maps[name].title for name in left)
        if self._task is not None:
            what = nodes.case.maps[self.wanted].title if self.wanted is not None else titles
            return _("Loading {what}: {percent:.0f} %").format(what=what, percent=100 * self._task.fraction)
        if not left:
            return ""
        if nodes.case_folder is not None:
            return _("Not loaded: {maps}.").format(maps=titles)
        return _("Not loaded, and not saved with the scene: {maps}.").format(maps=titles)

    def _begin(self, steps: "Steps[None]", work: float, then: Callable[[], None], name: str | None) -> None:
        self._task, self._then, self.wanted, self._trouble = SteppedTask(steps, work), then, name, ""
        self._stop_timer = start_timer(LOADING_INTERVAL_MS, self._go_on)
        self._run(FIRST_S)

    def _go_on(self) -> None:
        self._run(SLICE_S)

    def _run(self, seconds: float) -> None:
        task = self._task
        if task is None:
            return
        trouble = ""
        try:
            is_done = task.run(seconds)
        except SegWithUError as error:
            is_done, trouble = True, str(error)
        except BaseException:
            self.cancel()
            raise
        if not is_done:
            self.draw(self._overlay)
            return
        then = self._then
        self.cancel()
        self._trouble = trouble
        if not trouble:
            then()
        self._redraw()


def _all_steps(nodes: CaseNodes, names: list[str]) -> "Steps[None]":
    for name in names:
        yield from load_map_steps(nodes, name)


MAP_WORDS = {
    "ranking": _("Uncertainty, unscaled (ranking map)"),
    "calibration": _("Softened probabilities (calibration map)"),
}
"""What a map says, before the name that the method gives it."""


def map_words(overlay: Overlay, name: str) -> str:
    """Return how a map is offered, and whether it is loaded."""
    words = MAP_WORDS.get(name, overlay.available[name].title)
    return words if name in overlay.nodes.maps else _("{map}: not loaded").format(map=words)
