"""Small volumes for the review page, as its modules take them, and where their voxels must be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np

ORDERS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]
"""All 48 ways in which voxel axes can lie along R, A and S: the patient axis and direction of i, j and k."""
VIEWS = {"Axial": (2, 0, 1), "Coronal": (1, 0, 2), "Sagittal": (0, 1, 2)}
"""The patient axis across each view, and those that run along its columns and rows, towards L or P and P or I."""


@dataclass(frozen=True)
class Phantom:
    """Labels and their grid; `labels` has axes k, j, i, `matrix` is 4 x 4 from i, j, k to RAS mm."""

    labels: np.ndarray
    matrix: np.ndarray

    @property
    def size(self) -> list[int]:
        """Voxels along i, j, k."""
        return [int(size) for size in self.labels.shape[::-1]]

    def described(self, colors: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What `MAKE_DATA` makes a case of, in JSON's types."""
        structures = [{"value": value, "name": f"s{value}", "color": list(c)} for value, c in enumerate(colors, 1)]
        return {
            "size": self.size,
            "matrix": self.matrix[:3].tolist(),
            "labels": self.labels.ravel().tolist(),
            "structures": structures,
        }


def turned(patient: np.ndarray, spacing: Sequence[float], axes: Sequence[int], signs: Sequence[int]) -> Phantom:
    """Store a volume, given along patient axes, in another order of axes.

    Args:
        patient: labels, indexed [r, a, s], each index growing towards R, A, S.
        spacing: mm along R, A, S; the centre of voxel (0, 0, 0) lies at (-30, 20, 10).
        axes, signs: patient axis and direction of i, j and k.
    """
    stored = np.transpose(patient, axes)
    matrix, origin = np.eye(4), np.array([-30.0, 20.0, 10.0])
    for voxel_axis, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[:3, voxel_axis] = 0
        matrix[axis, voxel_axis] = sign * spacing[axis]
        if sign < 0:
            stored = np.flip(stored, voxel_axis)
            origin[axis] += (patient.shape[axis] - 1) * spacing[axis]
    matrix[:3, 3] = origin
    return Phantom(np.ascontiguousarray(np.transpose(stored, (2, 1, 0))), matrix)


MAKE_DATA = """
async ({ size, matrix, labels, structures }) => {
  const { makeGrid } = await import("./geometry.js");
  const { Viewer } = await import("./viewer.js");
  const data = {
    grid: makeGrid(size, matrix), structures, image: null, maps: {},
    labels: { index: [0, 0, 0], size, data: Uint8Array.from(labels) },
  };
  document.getElementById("page").firstChild?.remove();
  window.viewer?.close();
  window.viewer = new Viewer(data);
  document.getElementById("page").append(window.viewer.root);
  window.viewer.root.style.height = "100%";
}
"""
"""Shows a phantom on a page of `opened_modules`."""
