"""Which way the page draws a volume: letters, sides and voxels, in all axis orders, oblique and anisotropic."""

from typing import Any

import numpy as np
import pytest
from page_phantoms import MAKE_DATA, ORDERS, VIEWS, Phantom, turned
from scipy.spatial.transform import Rotation

SHAPE, SPACING = (7, 9, 5), (1.5, 1.0, 3.0)
COLORS = ([255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0])
LETTERS = {"Axial": ("R", "L", "A", "P"), "Coronal": ("R", "L", "S", "I"), "Sagittal": ("A", "P", "S", "I")}
"""Left, right, top, bottom: radiological, as in 3D Slicer."""

READ_VIEWS = """
({ voxel, scale, box }) => {
  const { viewer } = window;
  viewer.measure();
  viewer.zoom = scale / viewer.fitScale;
  viewer.centre = viewer.grid.size.map((size) => (size - 1) / 2);
  viewer.setFill(true);
  viewer.moveTo(voxel);
  viewer.draw();
  return Object.fromEntries(viewer.views.map((view) => {
    const { layout, planes } = view;
    const letter = (side) => view.root.querySelector(`.letters.${side}`).textContent;
    return [layout.name, {
      letters: ["left", "right", "top", "bottom"].map(letter),
      size: [layout.width, layout.height], plane: [...planes.labels], origin: view.origin, pixels: view.voxelPixels,
      name: view.canvas.getAttribute("aria-label"), boxes: view.boxesHere(box ? [box] : []),
    }];
  }));
}
"""


def asymmetric() -> np.ndarray:
    """Labels along R, A, S that differ in every direction: 1 marks R, 2 A, 3 S, 4 one corner voxel (R, A, S)."""
    patient = np.zeros(SHAPE, np.uint8)
    patient[4:, 3:5, 2] = 1
    patient[3, 6:, 2] = 2
    patient[3, 4, 3:] = 3
    patient[-1, -1, -1] = 4
    return patient


def expected_plane(patient: np.ndarray, view: str, at: tuple[int, ...]) -> np.ndarray:
    """Rows from the top: left is R or A, top is A or S."""
    across, right, down = VIEWS[view]
    plane = np.moveaxis(patient, (across, right, down), (0, 2, 1))[at[across]]
    return plane[::-1, ::-1]


def test_a_structure_is_framed_by_the_box_of_its_voxels(modules: Any) -> None:
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[2, 3:6, 1] = labels[4, 4, 5] = 3
    extent = """async ({ data, label }) => {
        const { extentOfLabel } = await import("./planes.js");
        return extentOfLabel({ index: [10, 20, 30], size: [8, 7, 6], data: Uint8Array.from(data) }, label);
    }"""
    found = modules.evaluate(extent, {"data": labels.ravel().tolist(), "label": 3})
    where = np.argwhere(labels == 3)[:, ::-1] + (10, 20, 30)
    assert found["index"] == where.min(0).tolist() and found["size"] == (np.ptp(where, 0) + 1).tolist()
    assert found["voxel"] in where.tolist()
    assert modules.evaluate(extent, {"data": labels.ravel().tolist(), "label": 2}) is None


def test_all_48_axis_orders_are_drawn_alike_and_the_right_way_round(modules: Any) -> None:
    patient, at = asymmetric(), (3, 4, 2)
    for axes, signs in ORDERS:
        phantom = turned(patient, SPACING, axes, signs)
        modules.evaluate(MAKE_DATA, phantom.described(COLORS))
        voxel = np.rint(np.linalg.inv(phantom.matrix) @ [*(np.array(at) * SPACING + (-30, 20, 10)), 1])[:3]
        marked = np.argwhere(phantom.labels == 1)[:, ::-1]
        box = {"index": marked.min(0).tolist(), "size": (np.ptp(marked, 0) + 1).tolist()}
        shown = modules.evaluate(READ_VIEWS, {"voxel": voxel.tolist(), "scale": 8, "box": box})
        for view, found in shown.items():
            assert tuple(found["letters"]) == LETTERS[view], (axes, signs, view)
            width, height = found["size"]
            plane = np.array(found["plane"]).reshape(height, width)
            assert np.array_equal(plane, expected_plane(patient, view, at)), (axes, signs, view)
            rows, columns = np.nonzero(plane == 1)
            expected = [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1] if len(rows) else []
            assert found["boxes"] == ([expected] if expected else []), (axes, signs, view)
            across, right, down = VIEWS[view]
            assert found["pixels"] == pytest.approx([8 * SPACING[right], 8 * SPACING[down]])
            assert f"slice {int(voxel[axes.index(across)]) + 1} of {SHAPE[across]}" in found["name"]
        assert "L 25.5, A 24.0, S 16.0" in shown["Axial"]["name"]


PIXEL_AT = """
({ voxel }) => {
  const { viewer } = window;
  viewer.moveTo(voxel);
  viewer.draw();
  return viewer.views.map((view) => {
    const { layout, origin, voxelPixels } = view;
    const column = layout.flipRight ? layout.width - 1 - voxel[layout.right] : voxel[layout.right];
    const row = layout.flipDown ? layout.height - 1 - voxel[layout.down] : voxel[layout.down];
    const [x, y] = [origin[0] + (column + 0.25) * voxelPixels[0], origin[1] + (row + 0.25) * voxelPixels[1]];
    return [...view.context.getImageData(Math.floor(x), Math.floor(y), 1, 1).data].slice(0, 3);
  });
}
"""


def test_an_oblique_grid_keeps_the_letters_of_the_nearest_sides_and_its_voxels(modules: Any) -> None:
    turn = Rotation.from_euler("xz", [10, 20], degrees=True).as_matrix()
    for axes, signs in (((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1)), ((1, 2, 0), (1, -1, 1))):
        straight = turned(asymmetric(), SPACING, axes, signs)
        matrix = straight.matrix.copy()
        matrix[:3, :3] = turn @ matrix[:3, :3]
        modules.evaluate(MAKE_DATA, Phantom(straight.labels, matrix).described(COLORS))
        shown = modules.evaluate(READ_VIEWS, {"voxel": [3, 2, 2], "scale": 8})
        # Turned by 20 degrees about S, R leans to A; the tilt of 10 degrees is below what a second letter tells.
        assert shown["Axial"]["letters"] == ["RA", "LP", "AL", "PR"]
        assert shown["Coronal"]["letters"] == ["RA", "LP", "S", "I"]
        assert shown["Sagittal"]["letters"] == ["AL", "PR", "S", "I"]
        corner = [int(index) for index in np.argwhere(straight.labels == 4)[0][::-1]]
        assert modules.evaluate("() => window.viewer.grid.oblique")
        fill = [[102, 102, 0]] * 3
        assert modules.evaluate(PIXEL_AT, {"voxel": corner}) == fill
        world = matrix @ [*corner, 1]
        back = modules.evaluate(
            "async (ras) => (await import('./geometry.js')).voxelOf(window.viewer.grid, ras)", world[:3].tolist()
        )
        assert back == corner


def test_a_click_lands_on_the_voxel_that_is_drawn_there(modules: Any) -> None:
    phantom = turned(asymmetric(), SPACING, (1, 2, 0), (-1, 1, 1))
    modules.evaluate(MAKE_DATA, phantom.described(COLORS))
    modules.evaluate(READ_VIEWS, {"voxel": [1, 1, 1], "scale": 8})
    corner = [int(index) for index in np.argwhere(phantom.labels == 4)[0][::-1]]
    picked = modules.evaluate(
        """({ voxel }) => window.viewer.views.map((view) => {
            const { viewer } = window;
            const { layout, origin, voxelPixels } = view;
            viewer.moveTo([0, 1, 2].map((axis) => (axis === layout.across ? voxel[axis] : 1)));
            viewer.draw();
            const at = view.planes.labels.indexOf(4);
            const [column, row] = [at % layout.width, Math.floor(at / layout.width)];
            viewer.pick(view, origin[0] + (column + 0.99) * voxelPixels[0], origin[1] + (row + 0.01) * voxelPixels[1]);
            return viewer.voxel;
        })""",
        {"voxel": corner},
    )
    assert picked == [corner] * 3
