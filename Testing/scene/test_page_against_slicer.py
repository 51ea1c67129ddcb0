"""The review page against Slicer's own slice views: labels and outlines of axis-aligned grids, pixel by pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from mrml_headless import HeadlessScene, SliceView
from page_phantoms import MAKE_DATA, VIEWS, Phantom, turned
from vtk.util.numpy_support import numpy_to_vtk

SHAPE, SPACING, PX_PER_MM, SIZE = (10, 8, 6), (1.2, 1.0, 2.5), 6, (160, 140)
COLORS = ([255, 0, 0], [0, 255, 0], [0, 0, 255])

SHOW = """
({ voxel, scale, size, fill }) => {
  const { viewer } = window;
  for (const view of viewer.views) {
    view.canvas.style.width = `${size[0]}px`;
    view.canvas.style.height = `${size[1]}px`;
  }
  viewer.measure();
  viewer.zoom = scale / viewer.fitScale;
  viewer.centre = viewer.grid.size.map((size) => (size - 1) / 2);
  viewer.setFill(fill);
  viewer.setLabels(viewer.volumes.labels);
  viewer.moveTo(voxel);
  viewer.draw();
  return viewer.views.map((view) => {
    const look = { ...viewer.look(), voxel: [-99, -99, -99] };  // the crosshair would lie over them
    if (fill) {
      look.outlineColours = new Map();
      look.outlineKey = "none";
    }
    view.compose(look);
    return [...view.context.getImageData(0, 0, ...size).data];
  });
}
"""


def _random_labels() -> np.ndarray:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (5, 4, 3), np.uint8).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    # Single voxels and holes: corners of all kinds.
    lone = rng.random(SHAPE) < 0.15
    labels[lone] = rng.integers(0, 4, int(lone.sum()))
    return labels


def _slicer_views(headless: HeadlessScene, phantom: Phantom, point: np.ndarray, fill: bool) -> list[np.ndarray]:
    """Label shown at each pixel of Slicer's three views; rows from the top."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(phantom.matrix[row, column]))
    node = headless.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "labels")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetOpacity2DFill(float(fill))
    node.GetDisplayNode().SetOpacity2DOutline(float(not fill))
    for value, color in enumerate(COLORS, 1):
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(*phantom.size)
        image.GetPointData().SetScalars(numpy_to_vtk((phantom.labels == value).astype(np.uint8).ravel(), deep=True))
        image.SetImageToWorldMatrix(matrix)
        segment = slicer.vtkSegment()
        segment.SetName(str(value))
        segment.SetColor(*(part / 255 for part in color))
        segment.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(segment, str(value))
    middle = (phantom.matrix @ [*((np.array(phantom.size) - 1) / 2), 1])[:3]
    shown = []
    for name, (across, _right, _down) in VIEWS.items():
        view = SliceView(headless, f"{name} {fill}", name, SIZE)
        view.resize()
        view.node.SetFieldOfView(SIZE[0] / PX_PER_MM, SIZE[1] / PX_PER_MM, 1)
        centre = middle.copy()
        centre[across] = point[across]
        to_ras = view.node.GetSliceToRAS()
        # Slicer samples at the corners of pixels, the page at their centres.
        for row in range(3):
            half = 0.5 / PX_PER_MM * (to_ras.GetElement(row, 0) + to_ras.GetElement(row, 1))
            to_ras.SetElement(row, 3, centre[row] + half)
        view.node.UpdateMatrices()
        shown.append(_labels_of(view.pixels()))
    headless.scene.RemoveNode(node)
    return shown


def _labels_of(pixels: np.ndarray) -> np.ndarray:
    """The label whose colour a pixel has; 0 for black."""
    bright = pixels[..., :3].max(axis=-1) > 60
    return np.where(bright, pixels[..., :3].argmax(axis=-1) + 1, 0)


@pytest.mark.parametrize("axes, signs", [((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, -1))])
def test_labels_and_outlines_lie_on_the_pixels_where_slicer_draws_them(
    modules: Any, tmp_path: Path, axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    phantom = turned(_random_labels(), SPACING, axes, signs)
    modules.evaluate(MAKE_DATA, phantom.described(COLORS))
    voxel = [int(size * 0.6) for size in phantom.size]
    point = (phantom.matrix @ [*voxel, 1])[:3]
    headless = HeadlessScene(tmp_path)
    for fill in (True, False):
        shown = {"voxel": voxel, "scale": PX_PER_MM, "size": SIZE, "fill": fill}
        pictures = [np.array(rgba, np.uint8) for rgba in modules.evaluate(SHOW, shown)]
        page = [_labels_of(picture.reshape(SIZE[1], SIZE[0], 4)) for picture in pictures]
        slicers = _slicer_views(headless, phantom, point, fill)
        for name, ours, theirs in zip(VIEWS, page, slicers, strict=True):
            assert (theirs > 0).sum() > 300, name
            assert set(np.unique(theirs)) == {0, 1, 2, 3}, name
            assert np.array_equal(ours, theirs), f"{name}: {(ours != theirs).sum()} pixels differ"
