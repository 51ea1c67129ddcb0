"""Windows of any size and direction, cut out of the whole case in one step.

Turning and scaling a window that is cut already leaves empty corners, or an empty frame where it shrinks. Here the grid
of the window is laid into the case first, turned and scaled, so that it shows what lies there (as nnU-Net does with
larger first cuts).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from .dataset import PreparedCase

SLIGHT_TURN = 0.5
"""Largest angle in radians where windows are not turned by any angle."""
STRETCH = 0.15
"""Each axis is stretched by up to this share besides, each by itself."""
FOREGROUND_SHARE = 1 / 3
"""How often a window is centred on a random foreground voxel."""


@dataclass(frozen=True)
class ScaledWindows:
    """How windows are laid into cases.

    Attributes:
        window: (z, y, x) in voxels.
        scale: smallest and largest factor by which a window enlarges what it shows, drawn evenly in its logarithm.
        thick: tensor axis (0 = z, 1 = y, 2 = x) across thick slices, along which nothing is turned or scaled; None
            turns about every axis.
        any_turn: half of the windows are turned by any angle, the others slightly.
    """

    window: tuple[int, int, int]
    scale: tuple[float, float]
    thick: int | None
    any_turn: bool = False

    def draw(self, case: PreparedCase, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        """One window of a case; equal states of `generator` give equal windows.

        Returns:
            `image` float32 (channels, z, y, x), linear; `labels` and `valid` float32 (1, z, y, x), nearest voxel;
            outside the case all are 0.
        """
        matrix = self._matrix(generator)
        centre = self._centre(case, np.linalg.norm(matrix, axis=0), generator)
        grid = _sampling_grid(self.window, matrix, centre, case.labels.shape)
        image = torch.from_numpy(np.ascontiguousarray(case.image))[None]
        labels = torch.from_numpy(case.labels.astype(np.float32))[None, None]
        return {
            "image": _sampled(image, grid, "bilinear"),
            "labels": _sampled(labels, grid, "nearest"),
            "valid": _sampled(torch.ones_like(labels), grid, "nearest"),
        }

    def _matrix(self, generator: np.random.Generator) -> np.ndarray:
        """Steps in the case, (z, y, x) in voxels, for one step along each axis of the window (columns)."""
        low, high = np.log(self.scale)
        common = generator.uniform(low, high)
        stretches = generator.uniform(-math.log1p(STRETCH), math.log1p(STRETCH), 3)
        anywhere = self.any_turn and generator.random() < 0.5
        limit = math.pi if anywhere else SLIGHT_TURN
        angles = generator.uniform(-limit, limit, 3)
        if self.thick is None:
            turn = _turn(0, angles[0]) @ _turn(1, angles[1]) @ _turn(2, angles[2])
        else:
            stretches[self.thick] = -common
            turn = _turn(self.thick, angles[self.thick])
        return turn @ np.diag(np.exp(-(common + stretches)))

    def _centre(self, case: PreparedCase, steps: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Where in the case the window's centre lies, (z, y, x) counted in voxels from the first voxel's centre.

        The window as if not turned: within the case along axes on which it is shorter, else around all of it.
        """
        aimed = generator.random() < FOREGROUND_SHARE
        places = np.argwhere(case.labels > 0) if aimed else np.empty((0, 3))
        aim = places[generator.integers(len(places))] if len(places) else None
        centre = np.empty(3)
        for axis, size in enumerate(case.labels.shape):
            reach = self.window[axis] * steps[axis]
            ends = sorted((reach / 2 - 0.5, size - reach / 2 - 0.5))
            centre[axis] = generator.uniform(*ends)
            if aim is not None and reach < size:
                centre[axis] = np.clip(aim[axis], *ends)
            if axis == self.thick:  # voxels on voxels
                odd = (self.window[axis] - 1) / 2
                centre[axis] = np.rint(centre[axis] - odd) + odd
        return centre


def _turn(axis: int, angle: float) -> np.ndarray:
    """Rotation about a tensor axis."""
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def _sampling_grid(window: Sequence[int], matrix: np.ndarray, centre: np.ndarray, shape: Sequence[int]) -> torch.Tensor:
    """Where each voxel of the window lies in the case, as `grid_sample` counts it: (1, z, y, x, 3), x first."""
    axes = [np.arange(size) - (size - 1) / 2 for size in window]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    places = offsets @ matrix.T + centre
    counted = (2 * places + 1) / np.asarray(shape) - 1
    return torch.from_numpy(np.ascontiguousarray(counted[..., ::-1], np.float32))[None]


def _sampled(volume: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return functional.grid_sample(volume, grid, mode=mode, padding_mode="zeros", align_corners=False)[0]
