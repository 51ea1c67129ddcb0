"""The overlay: one map at a time over the image, for the overlay panel, the browser page and scripts.

Nothing here recomputes anything: threshold, opacity and colours only touch display nodes. Background, zoom, layout
and the image's own window are never changed.
"""

from collections.abc import Callable

import slicer

from SegWithUCore.case.case_file import MapInfo

from . import later_maps, map_display
from .case_nodes import MAP_ATTRIBUTE, CaseNodes
from .map_display import COLOUR_MAPS, DEFAULT_COLOUR_MAP
from .observers import Observations
from .readout import AboveThreshold, share_above
from .slice_views import ViewLayers
from .steps import Steps, finish

__all__ = ["COLOUR_MAPS", "DEFAULT_COLOUR_MAP", "DEFAULT_OPACITY", "Overlay"]

DEFAULT_OPACITY = 0.6


class Overlay:
    """The overlay of one run.

    A map that is already in the foreground (a loaded scene) is taken up as it is. Call `release` when done.

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
        self._legend = True
        self._segmentation_was_visible: bool | None = None
        self._adopt_shown_map()

    @property
    def map_name(self) -> str | None:
        """The map that is shown; None when the overlay is off or the user has taken all views back."""
        return self._map_name

    @property
    def available(self) -> dict[str, MapInfo]:
        """The maps that can be shown, by name, in the order in which to offer them; some may have to be loaded."""
        there = {*self.nodes.maps, *later_maps.loadable(self.nodes)}
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
        """The name in COLOUR_MAPS; None when no map is shown or the user has chosen a colour node of his own."""
        volume = self._volume()
        return None if volume is None else map_display.colour_map_of(volume.GetDisplayNode())

    @property
    def legend(self) -> bool:
        """Whether the legend of the shown map is wanted."""
        return self._legend

    @property
    def observer_count(self) -> int:
        """Number of active observers; 0 after `release`."""
        return len(self._observations) + self._layers.observer_count

    def needs_loading(self, map_name: str | None) -> bool:
        """Check whether `show` would have to load this map first."""
        return map_name is not None and map_name not in self.nodes.maps

    def loading_steps(self, map_name: str) -> Steps[None]:
        """Do in steps what showing a map must do first; nothing is shown yet.

        Raises:
            KeyError: the run has no such map.
            InputError: its file is gone or damaged.
        """
        if map_name not in self.available:
            raise KeyError(map_name)
        yield from later_maps.load_map_steps(self.nodes, map_name)

    def show(self, map_name: str | None) -> int:
        """Show a map in every slice view that shows the input; None switches the overlay off.

        A map that is not loaded yet is loaded, which takes some seconds; the panel does that in `loading_steps`.

        Returns:
            In how many views it is drawn.

        Raises:
            KeyError: the run has no such map.
            InputError: it cannot be loaded.
        """
        self.hide_while(False)
        if map_name is None:
            self.release()
            return 0
        if self.needs_loading(map_name):
            finish(self.loading_steps(map_name))
        volume = self.nodes.maps[map_name]
        opacity = self.opacity
        self._hide_legend()
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

    def set_legend(self, visible: bool) -> None:
        """Show or hide the legend of the map that is shown."""
        self._legend = bool(visible)
        volume = self._volume()
        if volume is not None:
            self._show_legend(volume, self._legend)

    def hide_while(self, held: bool) -> None:
        """Show the bare image while a key is held: no map, no legend, no outlines; then everything as before."""
        if held == self._layers.blanked:
            return
        self._layers.blank(held)
        volume, segmentation = self._volume(), self.nodes.segmentation
        if volume is not None:
            self._show_legend(volume, self._legend and not held)
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
        self.hide_while(False)
        self._hide_legend()
        self._observations.clear()
        self._layers.clear()
        self._map_name = None

    def _volume(self) -> "slicer.vtkMRMLScalarVolumeNode | None":
        return None if self._map_name is None else self.nodes.maps.get(self._map_name)

    def _adopt_shown_map(self) -> None:
        for name, volume in self.nodes.maps.items():
            if name in self._case.maps and self._layers.adopt(volume):
                self._map_name = name
                legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(volume)
                self._legend = legend is None or bool(legend.GetVisibility())
                self._attend(volume)
                return

    def _attend(self, volume: "slicer.vtkMRMLScalarVolumeNode") -> None:
        """Watch the shown map's display and the scene; show its legend."""
        map_display.keep_fixed(volume)
        self._observations.add(volume.GetDisplayNode(), "ModifiedEvent", self._display_changed)
        self._observations.add(self._scene, self._scene.StartCloseEvent, self._scene_closing)
        self._observations.add(self._scene, self._scene.NodeAboutToBeRemovedEvent, self._node_goes, with_node=True)
        self._show_legend(volume, self._legend)

    def _show_legend(self, volume: "slicer.vtkMRMLScalarVolumeNode", visible: bool) -> None:
        if self._map_name is not None:
            map_display.show_legend(volume, self._case.maps[self._map_name], visible)

    def _hide_legend(self) -> None:
        volume = self._volume()
        if volume is not None:
            self._show_legend(volume, False)

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
            # The user has taken the views back, or the map is gone: the overlay is off, without a fight.
            self.release()
        self._notify()

    def _map_chosen(self, volume: "slicer.vtkMRMLNode") -> None:
        """Show a map of this run that was chosen in a view."""
        name = volume.GetAttribute(MAP_ATTRIBUTE)
        if volume in self.nodes.results and name in self.available:
            self._hide_legend()
            self.show(name)
        self._layers_changed()

    def _scene_closing(self, _scene: object, _event: str) -> None:
        self._observations.clear()
        self._layers.detach()
        self._map_name = None
        self._notify()
