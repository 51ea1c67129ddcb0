"""The section "Overlay": which map is drawn over the image, and how."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import slicer

from ..i18n import _
from ..scene.case_nodes import CaseNodes
from ..scene.map_display import COLOUR_MAPS
from ..scene.overlay import Overlay, OverlaySettings
from ..scene.readout import above_text
from ..scene.steps import pause
from .review_widgets import key_text
from .widgets import GuiConnections, connect_clicks

_MOST_ROWS = 6
"""Structures of which a line says how much is above the threshold."""
_STEPS = 100
_LEAST_DECIMALS = 2
_EPSILON = 1e-6


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
        self._former: OverlaySettings | None = None
        for name in COLOUR_MAPS:
            ui.colourBox.addItem(name)
        ui.keyLabel.text = _("{key} shows the bare image, and the overlay again.").format(key=key_text(key))
        self._gui.connect(ui.resultBox, on_run_chosen)
        self._gui.connect(ui.mapBox, self._show_map)
        self._connect(ui.opacitySlider, Overlay.set_opacity, lambda overlay: overlay.opacity)
        self._connect(ui.thresholdSlider, Overlay.set_threshold, lambda overlay: overlay.threshold)
        self._connect(ui.colourBox, lambda overlay, at: overlay.set_colour_map(list(COLOUR_MAPS)[at]), _colours_index)
        connect_clicks(ui, showInputButton=self.show_input)
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
        """Follow a run without changing any view: what it shows already (a loaded scene) is adopted."""
        if self.overlay is not None:
            self._former = self.overlay.settings or self._former
            self.overlay.release()
        self.overlay = None if nodes is None else Overlay(nodes, self.refresh)
        self.refresh()

    def show_run(self, nodes: CaseNodes) -> None:
        """Show a run: as the last one was shown where it has the same map, else with its first map."""
        self.attach(nodes)
        pause()
        overlay = self.overlay
        assert overlay is not None
        if overlay.map_name is None and overlay.available:
            former = self._former
            had = former.map_name if former is not None else None
            overlay.show(had if had in overlay.available else next(iter(overlay.available)))
            if former is not None:
                overlay.apply(former)
        self.refresh()

    def release(self) -> None:
        """Release everything; the next run is shown as this one was."""
        self.attach(None)

    def forget(self) -> None:
        """Release everything before the scene or the panel is closed: the next run is shown as the first was."""
        self.release()
        self._former = None

    def toggle(self) -> None:
        """Show the bare image, or everything again."""
        if self.overlay is not None:
            self.overlay.hide(not self.overlay.is_hidden)

    def show_again(self) -> None:
        """End the view of the bare image."""
        if self.overlay is not None:
            self.overlay.hide(False)

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
        # A map that was deleted a moment ago still has its name.
        window = overlay.window if overlay is not None and overlay.map_name is not None else None
        for name in ("opacitySlider", "thresholdSlider", "colourBox"):
            getattr(self.ui, name).enabled = window is not None
        if overlay is None or window is None:
            self.ui.showInputButton.visible = False
            self.ui.readoutLabel.text = ""
            return
        self.ui.showInputButton.visible = overlay.view_count == 0 and bool(overlay.nodes.inputs)
        # Colours end at the window; most of a large structure can be above it.
        end = 1.0 if overlay.map_name == "error_probability" else window[1]
        self._set_threshold_range(window[0], max(window[1], end))
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
        overlay, box = self.overlay, self.ui.mapBox
        maps = {} if overlay is None else overlay.available
        titles = [*(MAP_TITLES.get(name, info.title) for name, info in maps.items()), _("None")]
        with self._gui.updating():
            box.clear()
            box.addItems(titles)
            box.currentIndex = self._offered.index(None if overlay is None else overlay.map_name)

    def _read_out(self) -> None:
        rows = self.overlay.readout() if self.overlay is not None else []
        if len(rows) > _MOST_ROWS:
            rows = sorted(rows, key=lambda row: -(row.share or 0.0))
        lines = [_("Above: {what}").format(what=above_text(row)) for row in rows]
        self.ui.readoutLabel.setToolTip("\n".join(lines[_MOST_ROWS:]))
        if len(lines) > _MOST_ROWS:
            more = _("Further structures, in the tool tip: {n}.").format(n=len(lines) - _MOST_ROWS)
            lines = [*lines[:_MOST_ROWS], more]
        self.ui.readoutLabel.text = "\n".join(lines) or _("Above the threshold: not assessed.")

    def _show_map(self, index: int) -> None:
        overlay, offered = self.overlay, self._offered
        if overlay is None or index >= len(offered):
            return
        overlay.show(offered[index])
        self.refresh()

    def _connect(self, widget: Any, write: Callable[[Overlay, Any], None], read: Callable[[Overlay], Any]) -> None:
        """Connect a widget with a setting of the overlay that is shown."""

        def changed(value: Any) -> None:
            if self.overlay is not None:
                write(self.overlay, value)
                self._read_out()

        self._gui.connect(widget, changed, lambda: read(self.overlay) if self.overlay is not None else None)


def _decimals(step: float) -> int:
    """Return how many decimals show each step: those of the step, or one more than its first digit."""
    if step <= 0:
        return _LEAST_DECIMALS
    most = max(_LEAST_DECIMALS, 1 + math.ceil(-math.log10(step)))
    return next((n for n in range(_LEAST_DECIMALS, most) if math.isclose(round(step, n), step)), most)


MAP_TITLES = {
    "ranking": _("Uncertainty, unscaled (ranking map)"),
    "calibration": _("Softened probabilities (calibration map)"),
}
"""Titles that replace the names of the method."""


def _colours_index(overlay: Overlay) -> int:
    """Return the index of the overlay's colour map; -1 for a colour node of the user's own."""
    names: list[str | None] = [*COLOUR_MAPS]
    return names.index(overlay.colour_map) if overlay.colour_map in names else -1


KEY = "P"
"""Free in Slicer: not used by slice views, Segment Editor or the main window."""
