"""The section "Overlay": which map is drawn over the image, and how; and the key that hides it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import qt
import slicer

from SegWithUCore.case.case_file import CaseDescription

from ..guarded import guarded
from ..i18n import _
from ..scene.case_nodes import CaseNodes
from ..scene.overlay import COLOUR_MAPS, Overlay
from ..scene.readout import sentence, share_above
from .map_loader import MapLoader, map_words
from .review_widgets import key_text
from .widgets import GuiConnections

_STEPS = 100
_FIRST_SHARE = 0.1
_LEAST_DECIMALS = 2
_EPSILON = 1e-6


@dataclass(frozen=True)
class OverlaySettings:
    """How a map is shown; `threshold` in its unit, `opacity` from 0 to 1, `colour_map` None for one of the user's."""

    map_name: str
    threshold: float
    opacity: float
    colour_map: str | None
    legend: bool


class OverlayPanel:
    """The section "Overlay". Owns the one overlay that is shown.

    Args:
        ui: the widgets of the .ui file.
        on_run_chosen: called with the index of the run that the user chose.
    """

    def __init__(self, ui: Any, on_run_chosen: Callable[[int], None], key: str) -> None:
        self.ui = ui
        self.overlay: Overlay | None = None
        self._gui = GuiConnections()
        self._map_words: list[str] = []
        self.loader = MapLoader(ui, self.refresh)
        self._suggested: set[str] = set()
        for name in COLOUR_MAPS:
            ui.colourBox.addItem(name)
        ui.keyLabel.text = _("Hold {key} to see the bare image.").format(key=key_text(key))
        self._gui.connect(ui.resultBox, on_run_chosen)
        self._gui.connect(ui.mapBox, self._show_map)
        self._connect(ui.opacitySlider, Overlay.set_opacity, lambda overlay: overlay.opacity)
        self._connect(ui.thresholdSlider, Overlay.set_threshold, lambda overlay: overlay.threshold, self._read_out)
        self._connect(ui.colourBox, _set_colours, _colours_index)
        self._connect(ui.legendBox, Overlay.set_legend, lambda overlay: overlay.legend)
        ui.showInputButton.connect("clicked(bool)", guarded(self.show_input))
        self.refresh()

    @property
    def nodes(self) -> CaseNodes | None:
        """The run that is shown."""
        return self.overlay.nodes if self.overlay else None

    def list_runs(self, runs: Sequence[CaseNodes], current: CaseNodes | None) -> None:
        """Offer the runs of the scene."""
        hubs = [nodes.hub for nodes in runs]
        with self._gui.updating():
            self.ui.resultBox.clear()
            for nodes in runs:
                self.ui.resultBox.addItem(f"{nodes.label} ({nodes.model_name})")
            self.ui.resultBox.currentIndex = hubs.index(current.hub) if current and current.hub in hubs else -1
        self.ui.resultBox.visible = self.ui.resultLabel.visible = len(runs) > 1

    def attach(self, nodes: CaseNodes | None) -> None:
        """Follow a run without changing any view: what it shows already (a loaded scene) is taken up."""
        self.loader.cancel()
        if self.overlay is not None:
            self.overlay.release()
        self.overlay = None if nodes is None else Overlay(nodes, self.refresh)
        self.refresh()

    def show_run(self, nodes: CaseNodes) -> None:
        """Show a run: as the last one was shown where it has the same map, else with its first map."""
        former = self.overlay
        was = None if former is None else (former.map_name, former.opacity, former.legend)
        self.attach(nodes)
        overlay = self.overlay
        assert overlay is not None
        available = list(overlay.available)
        if overlay.map_name is None and available:
            is_there = was is not None and was[0] in available and not overlay.needs_loading(was[0])
            overlay.show(was[0] if was is not None and is_there else available[0])
            if was is not None and was[0] is not None:
                overlay.set_opacity(was[1])
                overlay.set_legend(was[2])
        self.refresh()

    @property
    def settings(self) -> OverlaySettings | None:
        """How the map is shown now; None if none is."""
        overlay = self.overlay
        if overlay is None or overlay.map_name is None or overlay.threshold is None:
            return None
        return OverlaySettings(overlay.map_name, overlay.threshold, overlay.opacity, overlay.colour_map, overlay.legend)

    def apply_settings(self, settings: OverlaySettings | None) -> None:
        """Show another run's map as one was shown before, if it has that map and need not load it first."""
        overlay = self.overlay
        if overlay is None or settings is None or settings.map_name not in overlay.available:
            return
        if overlay.needs_loading(settings.map_name):
            return
        overlay.show(settings.map_name)
        overlay.set_opacity(settings.opacity)
        overlay.set_legend(settings.legend)
        overlay.set_threshold(settings.threshold)
        if settings.colour_map is not None:
            overlay.set_colour_map(settings.colour_map)
        self.refresh()

    def release(self) -> None:
        """Let go of everything: before the scene closes, or the panel goes."""
        self.attach(None)

    def show_bare_image(self, held: bool) -> None:
        """Show the bare image while the key is held."""
        if self.overlay is not None:
            self.overlay.hide_while(held)

    def show_input(self) -> None:
        """Put the image of the run into the background of all slice views, and the map over it."""
        nodes = self.nodes
        if nodes is None or not nodes.inputs:
            return
        slicer.util.setSliceViewerLayers(background=nodes.inputs[0], fit=True)
        self.refresh()

    def refresh(self) -> None:
        """Show the overlay's current state; also called after changes from outside."""
        overlay = self.overlay
        self.ui.overlayButton.visible = self.ui.mapBox.enabled = overlay is not None
        self._list_maps()
        self.loader.draw(overlay)
        # A map that was deleted a moment ago still has its name.
        window = overlay.window if overlay is not None and overlay.map_name is not None else None
        for name in ("opacitySlider", "thresholdSlider", "colourBox", "legendBox"):
            getattr(self.ui, name).enabled = window is not None
        if overlay is None or window is None:
            self.ui.showInputButton.visible = False
            self.ui.readoutLabel.text = ""
            return
        self.ui.showInputButton.visible = overlay.view_count == 0 and bool(overlay.nodes.inputs)
        self._set_threshold_range(*window)
        self._gui.refresh()
        self._read_out()

    def _set_threshold_range(self, low: float, high: float) -> None:
        slider, step = self.ui.thresholdSlider, (high - low) / _STEPS
        with self._gui.updating():
            # First: ends and values are rounded to them, and a step that is rounded away sticks.
            slider.decimals = _decimals(step)
            # Outwards: no value of the map may lie beyond the ends.
            tick = 10.0**-slider.decimals
            low, high = math.floor(low / tick + _EPSILON) * tick, math.ceil(high / tick - _EPSILON) * tick
            slider.maximum = max(high, slider.minimum)
            slider.minimum = low
            slider.maximum = high
            slider.singleStep = step

    @property
    def _offered(self) -> list[str | None]:
        return [*(self.overlay.available if self.overlay is not None else ()), None]

    def _list_maps(self) -> None:
        overlay, box, names = self.overlay, self.ui.mapBox, self._offered
        current = self.loader.wanted or (overlay.map_name if overlay is not None else None)
        words = [_("None") if name is None or overlay is None else map_words(overlay, name) for name in names]
        with self._gui.updating():
            if words != self._map_words or box.count != len(names):
                box.clear()
                for word in words:
                    box.addItem(word)
                self._map_words = words
            box.currentIndex = names.index(current) if current in names else len(names) - 1

    def _read_out(self) -> None:
        rows = self.overlay.readout() if self.overlay is not None else []
        lines = [_("Above: {what}").format(what=sentence(row)) for row in rows]
        self.ui.readoutLabel.text = "\n".join(lines) or _("Above the threshold: not assessed.")

    def _show_map(self, index: int) -> None:
        overlay, offered = self.overlay, self._offered
        if overlay is None or index >= len(offered):
            return
        name = offered[index]

        def show() -> None:
            overlay.show(name)
            self._suggest_threshold(overlay)

        self.loader.when_loaded(overlay, name, show)
        self.refresh()

    def _suggest_threshold(self, overlay: Overlay) -> None:
        """Hide most of a map that would colour everything when it is chosen first."""
        name, window, case = overlay.map_name, overlay.window, overlay.nodes.case
        node = overlay.nodes.maps.get(name) if name is not None else None
        if name is None or node is None or window is None or case is None or node.GetID() in self._suggested:
            return
        self._suggested.add(node.GetID())
        if overlay.threshold is not None and overlay.threshold <= window[0] + (window[1] - window[0]) / _STEPS:
            overlay.set_threshold(_threshold_of_share(case, name, window))

    def _connect(
        self,
        widget: Any,
        write: Callable[[Overlay, Any], None],
        read: Callable[[Overlay], Any],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect a widget with a setting of the overlay that is shown."""

        def changed(value: Any) -> None:
            if self.overlay is not None:
                write(self.overlay, value)
                then()

        self._gui.connect(widget, changed, lambda: read(self.overlay) if self.overlay is not None else None)


def _decimals(step: float) -> int:
    """Return so many decimals that no step is rounded away: those of the step, or one more than its first digit."""
    if step <= 0:
        return _LEAST_DECIMALS
    most = max(_LEAST_DECIMALS, 1 + math.ceil(-math.log10(step)))
    return next((n for n in range(_LEAST_DECIMALS, most) if math.isclose(round(step, n), step)), most)


def _threshold_of_share(case: CaseDescription, name: str, window: tuple[float, float]) -> float:
    """Return the highest threshold with at least a tenth of the structures above it; the lowest without histograms."""
    low, high = window

    def above(threshold: float) -> float:
        return sum(row.volume_mm3 or 0.0 for row in share_above(case, name, threshold))

    least, steps = _FIRST_SHARE * above(low), range(_STEPS, 0, -1)
    found = (low + step * (high - low) / _STEPS for step in steps)
    return next((threshold for threshold in found if 0 < least <= above(threshold)), low)


def _set_colours(overlay: Overlay, index: int) -> None:
    overlay.set_colour_map(list(COLOUR_MAPS)[index])


def _colours_index(overlay: Overlay) -> int:
    """Return the index of the overlay's colour map; -1 for a colour node of the user's own."""
    names: list[str | None] = [*COLOUR_MAPS]
    return names.index(overlay.colour_map) if overlay.colour_map in names else -1


KEY = "P"
"""Free in Slicer: not used by slice views, Segment Editor or the main window."""


class BareImageKey:
    """Hides the overlay while a key is held; installed while the module is open.

    A shortcut reports only that a key went down, and ignores keys typed into text fields; its release is seen by an
    event filter, which is there only while the key is held: one for good would slow down every event of Slicer.

    Args:
        on_held: called with True when the key goes down and with False when it comes up.
    """

    def __init__(self, on_held: Callable[[bool], None]) -> None:
        self._on_held = on_held
        self._shortcut: Any = None
        self._filter: Any = None

    @property
    def is_held(self) -> bool:
        """Whether the key is down now."""
        return self._filter is not None

    def install(self) -> None:
        """Begin to listen."""
        window = slicer.util.mainWindow()
        if self._shortcut is None and window is not None:
            self._shortcut = qt.QShortcut(qt.QKeySequence(KEY), window)
            self._shortcut.autoRepeat = False
            self._shortcut.connect("activated()", self.press)

    def remove(self) -> None:
        """Stop listening; a held key counts as released."""
        self.let_go()
        if self._shortcut is not None:
            self._shortcut.disconnect("activated()", self.press)
            self._shortcut.enabled = False
            self._shortcut.setParent(None)
            self._shortcut.deleteLater()
            self._shortcut = None

    @guarded
    def press(self) -> None:
        """React to the key going down."""
        if self._filter is None:
            self._filter = _ReleaseFilter()
            self._filter.owner = self
            slicer.app.installEventFilter(self._filter)
            self._on_held(True)

    @guarded
    def let_go(self) -> None:
        """React to the key coming up, or to the application losing the keyboard."""
        if self._filter is not None:
            slicer.app.removeEventFilter(self._filter)
            self._filter.owner = None
            self._filter = None
            self._on_held(False)


class _ReleaseFilter(qt.QObject):
    """Waits for the end of a key press."""

    owner: BareImageKey | None = None

    def eventFilter(self, _watched: Any, event: Any) -> bool:  # noqa: N802 - Qt calls it
        kind = event.type()
        # A held key comes as many presses and releases; only the last release is none of a repetition.
        is_last = kind == qt.QEvent.KeyRelease and not getattr(event, "isAutoRepeat", lambda: False)()
        if self.owner is not None and (is_last or kind == qt.QEvent.ApplicationDeactivate):
            self.owner.let_go()
        return False
