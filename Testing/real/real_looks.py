"""How the module looks in the application: what a stand-in cannot show. Each function is a workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from real_user import User, error_lines

MOST_PX, MOST_EDITING_PX, LEAST_PX = 420, 520, 330
WIDTHS, WINDOWS = (330, 420, 600), ((1280, 800), (1920, 1080))
SCROLL_BAR_PX = 54
"""So much more than its content Slicer's panel asks for."""


def start_up(user: User) -> None:
    """Start Slicer: nothing of ours is reported."""
    ours = [line for line in error_lines() if "SegWithU" in line]
    user.check("no error line of ours since the start", not ours, ours)


def delete_map(user: User) -> None:
    """Delete the shown map, as in the module Data: the views are given back, and no other map takes its place."""
    nodes = user.segment_sample()
    slicer.mrmlScene.RemoveNode(nodes.maps["error_probability"])
    slicer.app.processEvents()
    shown = [composite.GetForegroundVolumeID() for composite in _nodes("vtkMRMLSliceCompositeNode")]
    user.check("no slice view shows a map", not any(shown), shown)
    user.check("Map says None", user.find("mapBox").currentIndex == user.find("mapBox").count - 1)
    user.check("no legend is left", not _legends())
    user.find("mapBox").currentIndex = 0
    slicer.app.processEvents()
    user.check("another map can be chosen", user.widget.panel.overlay.overlay.map_name == "ranking")


def looks(user: User) -> None:
    """Look at the result: one small legend, no box over the image, structures in the middle of the 3D view."""
    nodes = user.segment_sample()
    legends = _legends()
    views = [legend.GetNumberOfViewNodeIDs() for legend in legends]
    user.check("one legend is in one view", views == [1], views)
    roi = user.find("roiSelector").currentNode()
    user.check("the box of the region is hidden", not roi.GetDisplayNode().GetVisibility())
    user.find("handlesBox").checked = True
    user.check("and shown on demand", roi.GetDisplayNode().GetVisibility())
    user.find("handlesBox").checked = False
    user.find("show3DBox").checked = True
    user.pause(0.5)
    middle, height = _in_3d(nodes.segmentation)
    user.check(
        "the structures are in the middle of the 3D view", max(abs(part - 0.5) for part in middle) < 0.15, middle
    )
    user.check("and fill a good part of it", 0.3 < height < 1.0, height)
    user.picture("in-3d")
    user.start_review()
    table = user.find("regionsTable")
    for width in (LEAST_PX, MOST_PX):
        user.set_panel_width(width)
        least = table.fontMetrics().horizontalAdvance("posterior hip") if hasattr(table, "fontMetrics") else 90
        user.check(
            f"names of structures can be read at {width} px", table.columnWidth(2) >= least, table.columnWidth(2)
        )
    user.click("acceptButton")
    user.picture("review")
    user.click("endReviewButton")


def widths(user: User) -> None:
    """Take pictures of every section and state at several widths: nothing is cut, and the window keeps its size."""
    for size in WINDOWS:
        user.set_size(*size)
        user.restore()
        name = f"{size[0]}"
        user.unfold("inputsButton")
        _measure(user, f"{name}-start", MOST_PX)
        user.segment_sample()
        user.unfold("inputsButton", "overlayButton", "reviewButton")
        _measure(user, f"{name}-done", MOST_PX)
        for section in ("advancedButton", "casesButton", "modelsButton"):
            user.unfold(section)
            user.find("logButton").collapsed = False
            _measure(user, f"{name}-{section.removesuffix('Button')}", MOST_PX)
        user.unfold("reviewButton")
        user.start_review()
        _measure(user, f"{name}-review", MOST_PX)
        user.find("editButton").collapsed = False
        editor = user.review.edit.editor
        for effect in ("Paint", "Erase", "Scissors"):
            editor.setActiveEffectByName(effect)
            _measure(user, f"{name}-{effect.lower()}", MOST_EDITING_PX)
        tools = slicer.util.findChildren(
            slicer.util.findChildren(editor, name="EffectsGroupBox")[0], className="QToolButton"
        )
        rows = {tool.y for tool in tools if tool.visible}
        user.check("the tools are in one row", len(rows) == 1 and len(tools) >= 8, rows)
        user.find("editButton").collapsed = True
        user.click("endReviewButton")
    user.set_size(*WINDOWS[0])


def _measure(user: User, state: str, most: int) -> None:
    """Check and picture one state at the width that Slicer gives it and at others."""
    window, area = slicer.util.mainWindow(), user.scroll_area
    before = window.width
    least = area.widget().minimumSizeHint.width() + SCROLL_BAR_PX
    user.check(f"{state}: the panel asks for {LEAST_PX} to {most} px", LEAST_PX <= least <= most, least)
    for width in (user.dock.width, *WIDTHS):
        got = user.set_panel_width(width)
        fits = user.comes(lambda: area.widget().width <= area.viewport().width)
        user.check(f"{state}: nothing is cut at {got} px", fits)
        user.panel_picture(f"{state}-{got}")
    user.check(f"{state}: the main window keeps its width", window.width == before, (before, window.width))


def _in_3d(segmentation: Any) -> tuple[tuple[float, float], float]:
    """Where the middle of a segmentation is drawn, as shares of the 3D view, and how much of its height it takes."""
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
    width, height = view.renderWindow().GetSize()
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    corners = [(bounds[a], bounds[2 + b], bounds[4 + c]) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    places = []
    for corner in corners:
        renderer.SetWorldPoint(*corner, 1.0)
        renderer.WorldToDisplay()
        places.append(renderer.GetDisplayPoint()[:2])
    low, high = (tuple(edge(place[axis] for place in places) for axis in (0, 1)) for edge in (min, max))
    middle = ((low[0] + high[0]) / 2 / width, (low[1] + high[1]) / 2 / height)
    return middle, (high[1] - low[1]) / height


def _nodes(kind: str) -> list[Any]:
    return list(slicer.util.getNodesByClass(kind))


def _legends() -> list[Any]:
    return [legend for legend in _nodes("vtkMRMLColorLegendDisplayNode") if legend.GetVisibility()]


def self_test(user: User) -> None:
    """Run the module's self test, as Reload and Test does."""
    from SegWithUSlicer import SegWithUSlicerTest

    SegWithUSlicerTest().runTest()
    user.check("the result of the self test is in the scene", len(user.runs) == 1, len(user.runs))


LOOKS: tuple[Callable[[User], None], ...] = (start_up, delete_map, looks, widths, self_test)
