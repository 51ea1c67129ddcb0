"""How a map is drawn: fixed window, threshold, colours and legend, all on display nodes only."""

import numpy as np
import slicer

from SegWithUCore.case.case_file import MapInfo

from .case_images import CaseImages, MapVolume
from .case_nodes import MAP, MAP_ATTRIBUTE, CaseNodes
from .observers import nodes_of
from .readout import voxels_above
from .steps import pause

# Perceptually uniform and readable with the common forms of colour blindness. Built-in nodes of every Slicer,
# which are not saved with a scene: they are named by id, never copied.
COLOUR_MAPS = {
    "Inferno": "vtkMRMLColorTableNodeFileInferno.txt",
    "Viridis": "vtkMRMLColorTableNodeFileViridis.txt",
    "Cividis": "vtkMRMLColorTableNodeFileCividis.txt",
    "Plasma": "vtkMRMLColorTableNodeFilePlasma.txt",
}
DEFAULT_COLOUR_MAP = "Inferno"
WINDOW_ATTRIBUTE = "SegWithU.Window"
FLOOR_ATTRIBUTE = "SegWithU.Floor"
_UPPER_ATTRIBUTE = "SegWithU.Upper"
_LEGEND_SIZE, _LEGEND_LABELS, _LEGEND_PT = (0.08, 0.3), 3, 11
"""As a share of the view: it must not cover the image."""


def prepare_display(volume: "slicer.vtkMRMLScalarVolumeNode", entry: MapVolume) -> None:
    """Give a map its fixed window; a new one also its colours and threshold, which a re-run leaves to the user."""
    low, high = entry.window
    volume.SetAttribute(WINDOW_ATTRIBUTE, f"{low!r} {high!r}")
    volume.SetAttribute(FLOOR_ATTRIBUTE, repr(entry.floor))
    # Above every value, or the most uncertain voxels would be the ones that vanish.
    volume.SetAttribute(_UPPER_ATTRIBUTE, repr(max(entry.top, high) + 1.0))
    is_new = volume.GetDisplayNode() is None
    if is_new:
        display = slicer.vtkMRMLScalarVolumeDisplayNode()
        # Before it sees the image: automatic windowing would go through all voxels.
        display.AutoWindowLevelOff()
        volume.GetScene().AddNode(display)
        set_colour_map(display, DEFAULT_COLOUR_MAP)
        # The colour of a voxel is its value: interpolated between assessed and masked voxels it would be neither.
        display.InterpolateOff()
        volume.SetAndObserveDisplayNodeID(display.GetID())
    keep_fixed(volume)
    if is_new:
        set_threshold(volume, _first_threshold(entry.info, entry.window))


def _first_threshold(info: MapInfo, window: tuple[float, float]) -> float:
    """Return the threshold of the case; of a map that would colour everything, one for a tenth of structures."""
    lower = window[0] if info.lower_threshold is None else info.lower_threshold
    if lower > window[0] or info.histograms is None:
        return lower
    counts = sum((np.asarray(bins) for value, bins in info.histograms.counts.items() if value), np.zeros(1))
    edges, above = voxels_above(info.histograms, counts)
    return min(float(np.interp(above[0] / 10, above[::-1], edges[::-1])), window[1])


def fixed_window(volume: "slicer.vtkMRMLScalarVolumeNode") -> tuple[float, float]:
    """Return the lowest and highest value of the map's colour scale, in its unit: the same for every patient."""
    low, high = volume.GetAttribute(WINDOW_ATTRIBUTE).split()
    return float(low), float(high)


def keep_fixed(volume: "slicer.vtkMRMLScalarVolumeNode") -> bool:
    """Restore what dragging the mouse must not change: window, upper threshold, and that there is a threshold.

    Returns:
        Whether anything had to be restored.
    """
    display = volume.GetDisplayNode()
    low, high = fixed_window(volume)
    upper, floor = float(volume.GetAttribute(_UPPER_ATTRIBUTE)), float(volume.GetAttribute(FLOOR_ATTRIBUTE))
    lower = max(display.GetLowerThreshold(), floor)
    is_fixed = (
        not display.GetAutoWindowLevel()
        and (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (low, high)
        and display.GetApplyThreshold()
        and (display.GetLowerThreshold(), display.GetUpperThreshold()) == (lower, upper)
    )
    if is_fixed:
        return False
    with slicer.util.NodeModify(display):
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(low, high)
        display.AutoThresholdOff()
        display.SetThreshold(lower, upper)
        display.ApplyThresholdOn()
    return True


def set_threshold(volume: "slicer.vtkMRMLScalarVolumeNode", threshold: float) -> None:
    """Draw only voxels at or above `threshold` (the map's unit); voxels that were not assessed stay hidden."""
    display = volume.GetDisplayNode()
    display.SetLowerThreshold(max(float(threshold), float(volume.GetAttribute(FLOOR_ATTRIBUTE))))


def set_colour_map(display: "slicer.vtkMRMLScalarVolumeDisplayNode", name: str) -> None:
    """Colour with one of `COLOUR_MAPS`.

    Raises:
        KeyError: another name.
        RuntimeError: the scene lacks Slicer's built-in colour nodes.
    """
    node_id = COLOUR_MAPS[name]
    if display.GetScene().GetNodeByID(node_id) is None:
        raise RuntimeError(f"colour node {node_id} is not in the scene: the Colors module has not been set up")
    display.SetAndObserveColorNodeID(node_id)


def colour_map_of(display: "slicer.vtkMRMLScalarVolumeDisplayNode") -> str | None:
    """Return the name in `COLOUR_MAPS`; None if the user has chosen another colour node."""
    return next((name for name, node_id in COLOUR_MAPS.items() if node_id == display.GetColorNodeID()), None)


def show_legend(volume: "slicer.vtkMRMLScalarVolumeNode", info: MapInfo, visible: bool) -> None:
    """Show or hide the map's legend, whose title names map and unit. It is made at the first call."""
    logic = slicer.vtkSlicerColorLogic
    legend = logic.GetColorLegendDisplayNode(volume)
    if legend is None:
        if not visible:
            return
        legend = logic.AddDefaultColorLegendDisplayNode(volume)
        title = info.title if info.unit == "1" else f"{info.title} ({info.unit})"
        legend.SetTitleText(title.replace(" ", "\n"))  # narrow: beside the image
        legend.SetLabelFormat("%.2f")
        legend.SetSize(*_LEGEND_SIZE)
        legend.SetPosition(0.98, 0.05)
        legend.SetNumberOfLabels(_LEGEND_LABELS)
        for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
            text.SetFontSize(_LEGEND_PT)
    legend.RemoveAllViewNodeIDs()
    legend.AddViewNodeID(_legend_view(volume.GetScene()))
    legend.SetVisibility(visible)


def _legend_view(scene: "slicer.vtkMRMLScene") -> str:
    """Return the ID of the one slice view that has the legend: Red, or the first that the layout shows."""
    views = nodes_of(scene, "vtkMRMLSliceNode")
    views.sort(key=lambda view: (not view.IsMappedInLayout(), view.GetLayoutName() != "Red"))
    return views[0].GetID() if views else ""


def put_maps(nodes: CaseNodes, images: CaseImages) -> None:
    """Put the maps of a run into its scene, in place of those it had; what is not among them goes."""
    scene, former = nodes.hub.GetScene(), nodes.maps
    for name, node in former.items():
        # A map of the earlier run must not be mistaken for a result of this one.
        if name not in images.maps:
            scene.RemoveNode(node)
    for name, entry in images.maps.items():
        title = f"{nodes.label} {entry.info.title}"
        node = former.get(name) or scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", title)
        nodes.remember(MAP + name, node)
        with slicer.util.NodeModify(node):
            node.SetAttribute(MAP_ATTRIBUTE, name)
            node.SetAndObserveImageData(entry.volume.image)
            node.SetIJKToRASMatrix(entry.volume.ijk_to_ras)
            prepare_display(node, entry)
        pause()
