"""The overlay: one map at a time over the image, for the overlay panel, the browser page and scripts.

Nothing here recomputes anything: threshold, opacity and colours only touch display nodes. Background, zoom, layout
and the image's own window are never changed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import slicer

from SegWithUCore.case.case_file import MapInfo

from . import map_display
from .case_nodes import MAP_ATTRIBUTE, CaseNodes
from .observers import Observations
from .readout import AboveThreshold, share_above
from .slice_views import ViewLayers

DEFAULT_OPACITY = 0.6


@dataclass(frozen=True)
class OverlaySettings:
    """How a map is shown; `threshold` in its unit, `opacity` from 0 to 1, `colour_map` None for one of the user's."""

    map_name: str
    threshold: float | None
    opacity: float
    colour_map: str | None


class Overlay:
    """The overlay of one run.

    A map that is already in the foreground (a loaded scene) is adopted as it is. Call `release` when done.

    Args:
        nodes: the run.
        on_change: called, without arguments, after changes that came from outside: a foreground or opacity chosen in
            the view, a window that was put back, a threshold or colour map set in another module.

    Example:
        overlay = Overlay(load_case(folder, volume))
        overlay.show("error_probability")
        overlay.set_threshold(0.3)
    """

    def __init__(self, nodes: CaseNodes, on_change: Callable[[], object] | None = None) -> None:
        self.nodes = nodes
        self._notify = on_change or (lambda: None)
        self._scene = nodes.hub.GetScene()
        self._case = nodes.case
        self._observations = Observations()
        self._layers = ViewLayers(self._scene, lambda: nodes.inputs, self._layers_changed, self._map_chosen)
        self._map_name: str | None = None
        self._segmentation_was_visible: bool | None = None
        self._adopt_shown_map()

    @property
    def map_name(self) -> str | None:
        """The map that is shown; None when the overlay is off or the user has chosen other foregrounds."""
        return self._map_name

    @property
    def available(self) -> dict[str, MapInfo]:
        """The maps that can be shown, by name, in the order in which to offer them."""
        there = self.nodes.maps
        return {name: info for name, info in self._case.maps.items() if name in there}

    @property
    def view_count(self) -> int:
        """In how many slice views the map is drawn; 0 means that none of them shows the input."""
        return self._layers.count

    @property
    def opacity(self) -> float:
        """Opacity of the map, 0 to 1."""
        return self._layers.opacity if self._map_name else DEFAULT_OPACITY

    @property
    def threshold(self) -> float | None:
        """The value, in the map's unit, below which nothing is coloured; None when no map is shown."""
        volume = self._volume()
        return None if volume is None else volume.GetDisplayNode().GetLowerThreshold()

    @property
    def window(self) -> tuple[float, float] | None:
        """Lowest and highest value of the colour scale (and of the threshold slider); None when no map is shown."""
        volume = self._volume()
        return None if volume is None else map_display.fixed_window(volume)

    @property
    def colour_map(self) -> str | None:
        """The name in COLOUR_MAPS; None when no map is shown or the user has chosen another colour node."""
        volume = self._volume()
        return None if volume is None else map_display.colour_map_of(volume.GetDisplayNode())

    @property
    def settings(self) -> OverlaySettings | None:
        """How the map is shown now; None if none is."""
        if self._map_name is None:
            return None
        return OverlaySettings(self._map_name, self.threshold, self.opacity, self.colour_map)

    def apply(self, settings: OverlaySettings) -> None:
        """Show the map as another one was shown before; the threshold only if it is the same map."""
        self.set_opacity(settings.opacity)
        if settings.map_name == self._map_name and settings.threshold is not None:
            self.set_threshold(settings.threshold)
        if settings.colour_map is not None:
            self.set_colour_map(settings.colour_map)

    def show(self, map_name: str | None) -> int:
        """Show a map in every slice view that shows the input; None switches the overlay off.

        Returns:
            In how many views it is drawn.

        Raises:
            KeyError: the run has no such map.
        """
        self.hide(False)
        if map_name is None:
            self.release()
            return 0
        volume = self.nodes.maps[map_name]
        opacity = self.opacity
        self._show_legend(False)
        self._observations.clear()
        self._map_name = map_name
        count = self._layers.show(volume, opacity)
        self._attend(volume)
        return count

    def set_opacity(self, opacity: float) -> None:
        """Set the opacity of the map, 0 to 1."""
        self._layers.set_opacity(min(max(float(opacity), 0.0), 1.0))

    def set_threshold(self, threshold: float) -> None:
        """Colour only voxels at or above `threshold`, in the map's own unit."""
        volume = self._volume()
        if volume is not None:
            with self._observations.paused():
                map_display.set_threshold(volume, threshold)

    def set_colour_map(self, name: str) -> None:
        """Colour the map with one of COLOUR_MAPS (KeyError for another name)."""
        volume = self._volume()
        if volume is not None:
            with self._observations.paused():
                map_display.set_colour_map(volume.GetDisplayNode(), name)

    @property
    def is_hidden(self) -> bool:
        """Whether the bare image is shown."""
        return self._layers.blanked

    def hide(self, held: bool) -> None:
        """Show the bare image: no map, no legend, no outlines, no boxes; or everything as before."""
        if held == self._layers.blanked:
            return
        self._layers.blank(held)
        self._show_legend(not held)
        for box in self.nodes.boxes:
            box.GetDisplayNode().SetVisibility2D(not held)
        segmentation = self.nodes.segmentation
        display = None if segmentation is None else segmentation.GetDisplayNode()
        if display is None:
            return
        if held:
            self._segmentation_was_visible = bool(display.GetVisibility())
            display.SetVisibility(False)
        elif self._segmentation_was_visible is not None:
            display.SetVisibility(self._segmentation_was_visible)
            self._segmentation_was_visible = None

    def readout(self) -> list[AboveThreshold]:
        """List per structure what is above the threshold, from histograms of the whole grid; empty without them."""
        threshold = self.threshold
        if threshold is None or self._map_name is None:
            return []
        return share_above(self._case, self._map_name, threshold)

    def release(self) -> None:
        """Switch off, give every view the user's own foreground back, and leave no observer."""
        self.hide(False)
        self._show_legend(False)
        self._observations.clear()
        self._layers.clear()
        self._map_name = None

    def _volume(self) -> "slicer.vtkMRMLScalarVolumeNode | None":
        return None if self._map_name is None else self.nodes.maps.get(self._map_name)

    def _adopt_shown_map(self) -> None:
        for name, volume in self.nodes.maps.items():
            if name in self._case.maps and self._layers.adopt(volume):
                self._map_name = name
                self._attend(volume)
                return

    def _attend(self, volume: "slicer.vtkMRMLScalarVolumeNode") -> None:
        """Watch the shown map's display and the scene; show its legend."""
        map_display.keep_fixed(volume)
        self._observations.add(volume.GetDisplayNode(), "ModifiedEvent", self._display_changed)
        self._observations.add(self._scene, self._scene.StartCloseEvent, self._scene_closing)
        self._observations.add(self._scene, self._scene.NodeAboutToBeRemovedEvent, self._node_goes, with_node=True)
        self._show_legend(True)

    def _show_legend(self, visible: bool) -> None:
        volume = self._volume()
        if volume is not None and self._map_name is not None:
            map_display.show_legend(volume, self._case.maps[self._map_name], visible)

    def _display_changed(self, _display: object, _event: str) -> None:
        volume = self._volume()
        if volume is None:
            return
        with self._observations.paused():
            map_display.keep_fixed(volume)
        self._notify()

    def _node_goes(self, _scene: object, _event: str, node: "slicer.vtkMRMLNode") -> None:
        """Give the views back before the shown map is gone: they would turn to another map of ours by themselves."""
        if node is self._volume():
            self.release()
            self._notify()

    def _layers_changed(self) -> None:
        if self._layers.is_over:
            # The user has chosen other foregrounds, or the map was deleted: the overlay is off.
            self.release()
        self._notify()

    def _map_chosen(self, volume: "slicer.vtkMRMLNode") -> None:
        """Show a map of this run that was chosen in a view."""
        name = volume.GetAttribute(MAP_ATTRIBUTE)
        if volume in self.nodes.results and name in self.available:
            self._show_legend(False)
            self.show(name)
        self._layers_changed()

    def _scene_closing(self, _scene: object, _event: str) -> None:
        self._observations.clear()
        self._layers.detach()
        self._map_name = None
        self._notify()
