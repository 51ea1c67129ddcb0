"""Made-up cases whose regions are known beforehand, and real ones made from the shipped model."""

from collections.abc import Sequence

import numpy as np

from SegWithUCore.regions.find_regions import Assessed

ORGAN, OTHER = 1, 2
NAMES = {0: "background", ORGAN: "organ", OTHER: "other"}
SHAPE = (60, 64, 68)


def ball(centre: Sequence[float], radius_mm: float, spacing: Sequence[float] = (1, 1, 1), shape: Sequence[int] = SHAPE):
    """Voxels (z, y, x) within a radius of a point, both in mm from the first voxel."""
    grid = np.indices(tuple(shape)) * np.reshape(spacing, (3, 1, 1, 1))
    distance: np.ndarray = np.sqrt(((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0))
    return distance <= radius_mm


class Phantom:
    """Nothing uncertain at first; parts are painted on.

    Args:
        spacing: mm, (z, y, x).
    """

    def __init__(self, shape: Sequence[int] = SHAPE, spacing: Sequence[float] = (1, 1, 1)) -> None:
        self.error = np.zeros(tuple(shape), np.float32)
        self.segmentation = np.zeros(tuple(shape), np.uint8)
        self.runner_up = np.zeros(tuple(shape), np.uint8)
        self.ijk_to_ras = np.diag([*spacing[::-1], 1.0])

    def predict(self, where: np.ndarray, value: int) -> "Phantom":
        """The segmentation says `value` there, with nothing to doubt."""
        self.segmentation[where] = value
        self.runner_up[where] = value
        return self

    def doubt(self, where: np.ndarray, error: float, truth: int) -> "Phantom":
        """Where it may be `truth` instead, with this error probability."""
        self.error[where] = error
        self.runner_up[where] = truth
        return self

    def assessed(self) -> Assessed:
        """What `find_regions` takes."""
        return Assessed(self.error, self.segmentation, self.runner_up, NAMES, self.ijk_to_ras)
