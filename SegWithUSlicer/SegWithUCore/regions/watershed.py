"""Uncertain voxels split into groups worth one look: a watershed of how much is wrong around each voxel.

Every voxel belongs to the summit that steepest ascent of the density leads to; basins are merged across high saddles
as long as they fit into one look. SimpleITK's watershed from markers floods the background too and needs a queue for
every voxel; this one touches uncertain voxels only (figures in Testing/Benchmarks/results/regions_speed.md).
"""

from collections.abc import Sequence

import numpy as np

from ..review.region_shape import extents
from .uncertain_voxels import UncertainVoxels


def basins(
    voxels: UncertainVoxels,
    density: np.ndarray,
    spacing_zyx: np.ndarray,
    split: float,
    extent_mm: float,
    solid: float = np.inf,
    haze: float = 0.0,
) -> np.ndarray:
    """Group voxels around the summits of the density.

    Args:
        voxels: n of them.
        density: (n,), from `error_density`.
        split: two basins stay apart where the saddle between them is lower than this share of the lower summit.
        extent_mm: and where together they would not fit into a box of this diagonal,
        solid: unless the saddle is higher than this: what is thick all through is one blob, however large.
        haze: basins with lower summits are left out; a thin shell does not hang itself on a blob that it touches.

    Returns:
        The basin (n,) of each voxel, numbered from 0 along the scan order of their summits; -1 for haze.
    """
    basin, summits = _renumbered(_ascend(voxels, density))
    heights = density[summits]
    first, second, saddles = _saddles(voxels, density, basin, split * heights.astype(np.float64))
    boxes = _boxes(voxels, basin, len(summits), spacing_zyx)
    limits = np.where(saddles > solid, np.inf, extent_mm)
    # Merging makes boxes larger only, so most passes need not be tried; a hair is left to rounding.
    tried = _diagonals(boxes, first, second) <= limits * (1 + 1e-9)
    tried &= np.minimum(heights[first], heights[second]) >= haze
    passes = [part[tried].tolist() for part in (first, second, saddles, limits)]
    root = _merged(heights, boxes, list(zip(*passes, strict=True)), split)
    group, _ = _renumbered(np.where(heights >= haze, root, -1))
    return np.where(heights >= haze, group, np.int32(-1))[basin]


def _renumbered(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets that point at themselves numbered from 0: the number (n,) of each one's target, and which they are."""
    itself = target == np.arange(len(target))
    number = np.cumsum(itself, dtype=np.int32) - np.int32(1)
    return number[target], np.flatnonzero(itself)


def _ascend(voxels: UncertainVoxels, density: np.ndarray) -> np.ndarray:
    """The summit that steepest ascent from each voxel leads to, as its place in the list."""
    best, up = density.copy(), np.arange(len(voxels), dtype=np.int32)
    for one, other in voxels.neighbours:
        for here, there in ((one, other), (other, one)):
            height = density[there]
            higher = np.flatnonzero(height > best[here])
            place = here[higher]
            best[place] = height[higher]
            up[place] = there[higher]
    while True:
        further = up[up]
        if np.array_equal(further, up):
            return up
        up = further


def _saddles(
    voxels: UncertainVoxels, density: np.ndarray, basin: np.ndarray, least: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The highest pass between each two touching basins: first < second, height; highest first.

    Args:
        least: how high a pass must be for each basin; of two, the lower figure counts. A summit only grows when basins
            are merged, so lower passes never matter.
    """
    count = max(len(least), 1)
    keys, heights = [np.empty(0, np.int64)], [np.empty(0, density.dtype)]
    for one, other in voxels.neighbours:
        a, b = basin[one], basin[other]
        apart = np.flatnonzero(a != b)
        a, b = a[apart], b[apart]
        height = np.minimum(density[one[apart]], density[other[apart]])
        high = np.flatnonzero(height >= np.minimum(least[a], least[b]))
        a, b = a[high], b[high]
        keys.append(np.minimum(a, b).astype(np.int64) * count + np.maximum(a, b))
        heights.append(height[high])
    key, place = np.unique(np.concatenate(keys), return_inverse=True)
    highest = np.full(len(key), -np.inf, density.dtype)
    np.maximum.at(highest, place, np.concatenate(heights))
    order = np.lexsort((key, -highest))
    return key[order] // count, key[order] % count, highest[order]


def _boxes(voxels: UncertainVoxels, basin: np.ndarray, count: int, spacing_zyx: np.ndarray) -> np.ndarray:
    """The box around each basin in mm, (count, low and high, zyx)."""
    low, high = extents(voxels, basin, count)
    return np.stack([low * spacing_zyx, (high + 1) * spacing_zyx], 1)


def _diagonals(boxes: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Diagonal of the box around each two basins, in mm."""
    low = np.minimum(boxes[first, 0], boxes[second, 0])
    high = np.maximum(boxes[first, 1], boxes[second, 1])
    return np.asarray(np.linalg.norm(high - low, axis=1))


def _merged(
    heights: np.ndarray, boxes: np.ndarray, passes: Sequence[tuple[int, int, float, float]], split: float
) -> np.ndarray:
    """For each basin the highest one that it is merged with.

    Args:
        passes: two basins, height of the saddle, and how large they may be together; from the highest down.
    """
    root = list(range(len(heights)))
    summit = heights.tolist()
    touched = sorted({basin for a, b, *_ in passes for basin in (a, b)})
    edges = dict(zip(touched, boxes[touched].tolist(), strict=True))

    def top(basin: int) -> int:
        while root[basin] != basin:
            root[basin] = root[root[basin]]
            basin = root[basin]
        return basin

    for a, b, saddle, limit in passes:
        one, other = top(a), top(b)
        if one == other or saddle < split * min(summit[one], summit[other]):
            continue
        low = [min(pair) for pair in zip(edges[one][0], edges[other][0], strict=True)]
        high = [max(pair) for pair in zip(edges[one][1], edges[other][1], strict=True)]
        if sum((h - w) ** 2 for h, w in zip(high, low, strict=True)) > limit**2:
            continue
        if summit[one] < summit[other]:
            one, other = other, one
        root[other] = one
        edges[one] = [low, high]
    return np.array([top(basin) for basin in range(len(root))], np.int64)
