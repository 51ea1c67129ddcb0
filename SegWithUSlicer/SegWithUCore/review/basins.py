"""Uncertain voxels split into groups worth one look: a watershed of how much is wrong around each voxel.

Every voxel belongs to the summit that steepest ascent of the density leads to; basins are merged across high saddles
as long as they fit into one look. SimpleITK's watershed from markers floods the background too and needs a queue for
every voxel; this one touches uncertain voxels only (figures in Testing/Benchmarks/results/regions.md).
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from .uncertain_voxels import HALF_OF_26, UncertainVoxels

_TRUNCATE = 3.0


def error_density(voxels: UncertainVoxels, spacing_zyx: np.ndarray, sigma_mm: float) -> np.ndarray:
    """How much is expected to be wrong around each uncertain voxel, as a share of the volume there.

    A Gaussian mean of the error probability (0 below the threshold). A sheet of thickness h and probability p reaches
    about p * h / (2.5 sigma), a blob wider than 4 sigma reaches p: thin shells come out low.

    Args:
        voxels: n of them.
        spacing_zyx: in mm.
        sigma_mm: of the Gaussian.

    Returns:
        (n,) float32 in 0 to 1.
    """
    if not len(voxels):
        return np.empty(0, np.float32)
    # Fine voxels are binned to about half of sigma first: 8 times less to smooth at 0.7 mm.
    factor = np.maximum(1, np.floor(sigma_mm / (1.05 * spacing_zyx))).astype(int)
    margin = np.ceil(_TRUNCATE * sigma_mm / (factor * spacing_zyx)).astype(int)
    low = voxels.zyx.min(0) // factor - margin
    bins = voxels.zyx // factor - low
    shape = bins.max(0) + 1 + margin
    mass = np.bincount(np.ravel_multi_index(tuple(bins.T), tuple(shape)), voxels.probability, int(np.prod(shape)))
    grid = mass.reshape(shape).astype(np.float32) / np.float32(np.prod(factor))
    coarse = factor * spacing_zyx
    # Binning and interpolating widen by a sixth of a bin squared, which the Gaussian makes up for.
    variance = sigma_mm**2 - np.where(factor > 1, coarse**2 / 6, 0.0)
    smooth = gaussian_filter(grid, np.sqrt(variance) / coarse, truncate=_TRUNCATE, mode="constant")
    if (factor == 1).all():
        return smooth[tuple(bins.T)]
    places = (voxels.zyx + 0.5) / factor - 0.5 - low
    return map_coordinates(smooth, places.T, np.float32, order=1)


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
    summits, basin = np.unique(_ascend(voxels, density), return_inverse=True)
    heights = density[summits]
    first, second, saddles = _saddles(voxels, density, basin)
    high = np.minimum(heights[first], heights[second]) >= haze
    first, second, saddles = first[high], second[high], saddles[high]
    boxes = _boxes(voxels, basin, len(summits), spacing_zyx)
    limits = np.where(saddles > solid, np.inf, extent_mm)
    root = _merged(
        heights, boxes, list(zip(*(part.tolist() for part in (first, second, saddles, limits)), strict=True)), split
    )
    kept = np.unique(root[heights >= haze])
    group = np.where(heights >= haze, np.searchsorted(kept, root), -1)
    return group[basin]


def _ascend(voxels: UncertainVoxels, density: np.ndarray) -> np.ndarray:
    """The summit that steepest ascent from each voxel leads to, as its place in the list."""
    best, up = density.copy(), np.arange(len(voxels))
    for offset in HALF_OF_26:
        one, other = voxels.pairs(offset)
        for here, there in ((one, other), (other, one)):
            higher = density[there] > best[here]
            best[here[higher]] = density[there[higher]]
            up[here[higher]] = there[higher]
    while True:
        further = up[up]
        if np.array_equal(further, up):
            return up
        up = further


def _saddles(
    voxels: UncertainVoxels, density: np.ndarray, basin: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The highest pass between each two touching basins: first < second, height; highest first."""
    count = int(basin.max(initial=-1)) + 1
    keys, heights = [np.empty(0, np.int64)], [np.empty(0, density.dtype)]
    for offset in HALF_OF_26:
        one, other = voxels.pairs(offset)
        a, b = basin[one], basin[other]
        apart = a != b
        low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
        keys.append(low.astype(np.int64) * count + high)
        heights.append(np.minimum(density[one], density[other])[apart])
    key, height = np.concatenate(keys), np.concatenate(heights)
    order = np.lexsort((key, -height))
    _, place = np.unique(key[order], return_index=True)
    chosen = order[np.sort(place)]
    return key[chosen] // max(count, 1), key[chosen] % max(count, 1), height[chosen]


def _boxes(voxels: UncertainVoxels, basin: np.ndarray, count: int, spacing_zyx: np.ndarray) -> np.ndarray:
    """The box around each basin in mm, (count, low and high, zyx)."""
    boxes = np.empty((count, 2, 3))
    boxes[:, 0], boxes[:, 1] = np.inf, -np.inf
    for axis in range(3):
        np.minimum.at(boxes[:, 0, axis], basin, voxels.zyx[:, axis] * spacing_zyx[axis])
        np.maximum.at(boxes[:, 1, axis], basin, (voxels.zyx[:, axis] + 1) * spacing_zyx[axis])
    return boxes


def _merged(
    heights: np.ndarray, boxes: np.ndarray, passes: Sequence[tuple[int, int, float, float]], split: float
) -> np.ndarray:
    """For each basin the highest one that it is merged with.

    Args:
        passes: two basins, height of the saddle, and how large they may be together; from the highest down.
    """
    root = list(range(len(heights)))
    summit, edges = heights.tolist(), boxes.tolist()

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
