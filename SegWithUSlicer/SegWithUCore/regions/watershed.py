"""Uncertain voxels split into regions to review: a watershed of how much is wrong around each voxel.

Every voxel belongs to the density peak that steepest ascent leads to; basins are merged across high saddles as long
as they fit into one view. SimpleITK's watershed from markers floods the background too and needs a queue for
every voxel; this one touches uncertain voxels only (docs/developer/performance.md).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .uncertain_voxels import UncertainVoxels, extents

_TRUNCATE = 3.0
"""Radius at which Gaussians are cut off, in standard deviations."""
_SLAB_BINS = 1 << 24
"""Bins smoothed at a time, so that memory does not grow with the volume."""
_THREADS = 2


def basins(
    voxels: UncertainVoxels,
    density: np.ndarray,
    spacing_zyx: np.ndarray,
    split: float,
    extent_mm: float,
    solid: float = np.inf,
    min_density: float = 0.0,
) -> np.ndarray:
    """Group voxels around the peaks of the density.

    Args:
        voxels: n of them.
        density: (n,), from `error_density`.
        split: two basins stay apart where the saddle between them is lower than this share of the lower peak.
        extent_mm: and where together they would not fit into a box of this diagonal,
        solid: unless the saddle is higher than this: what is thick all through is one blob, however large.
        min_density: basins with lower peaks are left out, so that thin boundary uncertainty is not merged into a
            neighbouring blob.

    Returns:
        The basin (n,) of each voxel, numbered from 0 along the scan order of their peaks; -1 for low-density voxels.
    """
    basin, peaks = _renumbered(_ascend(voxels, density))
    heights = density[peaks]
    first, second, saddles = _saddles(voxels, density, basin, split * heights.astype(np.float64))
    low, high = extents(voxels, basin, len(peaks))
    boxes = np.stack([low * spacing_zyx, (high + 1) * spacing_zyx], 1)  # in mm: (basins, low and high, zyx)
    limits = np.where(saddles > solid, np.inf, extent_mm)
    # Merging makes boxes larger only, so most saddles need not be tried; a hair is left to rounding.
    tried = _diagonals(boxes, first, second) <= limits * (1 + 1e-9)
    tried &= np.minimum(heights[first], heights[second]) >= min_density
    candidates = [part[tried].tolist() for part in (first, second, saddles, limits)]
    root = _merged(heights, boxes, list(zip(*candidates, strict=True)), split)
    group, _ = _renumbered(np.where(heights >= min_density, root, -1))
    return np.where(heights >= min_density, group, np.int32(-1))[basin]


def _renumbered(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Renumber targets that point at themselves from 0; return each one's target (n,) by number, and which they are."""
    itself = target == np.arange(len(target))
    number = np.cumsum(itself, dtype=np.int32) - np.int32(1)
    return number[target], np.flatnonzero(itself)


def _ascend(voxels: UncertainVoxels, density: np.ndarray) -> np.ndarray:
    """Find the peak that steepest ascent from each voxel leads to, by index."""
    best, up = density.copy(), np.arange(len(voxels), dtype=np.int32)
    for one, other in voxels.neighbours:
        for here, there in ((one, other), (other, one)):
            height = density[there]
            higher = np.flatnonzero(height > best[here])
            index = here[higher]
            best[index] = height[higher]
            up[index] = there[higher]
    while True:
        further = up[up]
        if np.array_equal(further, up):
            return up
        up = further


def _saddles(
    voxels: UncertainVoxels, density: np.ndarray, basin: np.ndarray, least: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the highest saddle between each two touching basins: first < second, height; highest first.

    Args:
        least: how high a saddle must be for each basin; of two, the lower value counts. A peak only grows when basins
            are merged, so lower saddles never matter.
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
    key, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    highest = np.full(len(key), -np.inf, density.dtype)
    np.maximum.at(highest, inverse, np.concatenate(heights))
    order = np.lexsort((key, -highest))
    return key[order] // count, key[order] % count, highest[order]


def _diagonals(boxes: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Measure the diagonal of the box around each two basins, in mm."""
    low = np.minimum(boxes[first, 0], boxes[second, 0])
    high = np.maximum(boxes[first, 1], boxes[second, 1])
    return np.asarray(np.linalg.norm(high - low, axis=1))


def _merged(
    heights: np.ndarray, boxes: np.ndarray, saddles: Sequence[tuple[int, int, float, float]], split: float
) -> np.ndarray:
    """Return for each basin the highest one that it is merged with.

    Args:
        saddles: two basins, height, and how large they may be together; from the highest down.
    """
    root = list(range(len(heights)))
    peak = heights.tolist()
    touched = sorted({basin for a, b, *_ in saddles for basin in (a, b)})
    edges = dict(zip(touched, boxes[touched].tolist(), strict=True))

    def top(basin: int) -> int:
        while root[basin] != basin:
            root[basin] = root[root[basin]]
            basin = root[basin]
        return basin

    for a, b, saddle, limit in saddles:
        one, other = top(a), top(b)
        if one == other or saddle < split * min(peak[one], peak[other]):
            continue
        low = [min(pair) for pair in zip(edges[one][0], edges[other][0], strict=True)]
        high = [max(pair) for pair in zip(edges[one][1], edges[other][1], strict=True)]
        if sum((h - w) ** 2 for h, w in zip(high, low, strict=True)) > limit**2:
            continue
        if peak[one] < peak[other]:
            one, other = other, one
        root[other] = one
        edges[one] = [low, high]
    return np.array([top(basin) for basin in range(len(root))], np.int64)


def error_density(voxels: UncertainVoxels, spacing_zyx: np.ndarray, sigma_mm: float) -> np.ndarray:
    """Compute how much is expected to be wrong around each uncertain voxel, as a share of the volume there.

    A Gaussian mean of the error probability (0 below the threshold). A sheet of thickness h and probability p reaches
    about p * h / (2.5 sigma), a blob wider than 4 sigma reaches p: thin shells come out low. Computed slab by slab,
    so that memory does not grow with the number of slices.

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
    coarse = factor * spacing_zyx
    # Binning and interpolating widen by a sixth of a bin squared, which the Gaussian makes up for.
    sigma = np.sqrt(sigma_mm**2 - np.where(factor > 1, coarse**2 / 6, 0.0)) / coarse
    density = np.empty(len(voxels), np.float32)

    def fill(part: tuple[slice, slice]) -> None:
        here, around = part
        density[here] = _smooth(voxels, here, around, factor, sigma)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, _slabs(voxels, factor, _radius(sigma[0]))))
    return density


def _radius(sigma: float) -> int:
    return int(_TRUNCATE * sigma + 0.5)


def _slabs(voxels: UncertainVoxels, factor: np.ndarray, radius: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of the list: voxels of some successive bins along z, and all that lie near enough to count there."""
    depth = max(2 * radius, int(_SLAB_BINS // np.prod(np.array(voxels.shape_zyx[1:]) // factor[1:] + 1)))
    z = voxels.zyx[:, 0]
    last = int(z[-1])
    for low in range(int(z[0]) // factor[0] * factor[0], last + 1, depth * factor[0]):
        high = low + depth * factor[0]
        reach = (radius + 1) * factor[0]  # one bin more: interpolation needs the next
        start, stop, first, end = np.searchsorted(z, [low, high, low - reach, high + reach]).tolist()
        if start < stop:
            yield slice(start, stop), slice(first, end)


def _smooth(voxels: UncertainVoxels, here: slice, around: slice, factor: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Compute the Gaussian mean at the voxels `here`, of those `around` them, by way of bins of `factor` voxels."""
    from scipy.ndimage import gaussian_filter1d, map_coordinates

    is_binned = bool((factor > 1).any())
    # Interpolation asks for bins beyond the outermost voxels; without bins nothing is asked for out there.
    margin = np.array([_radius(width) for width in sigma]) + 1 if is_binned else np.zeros(3, int)
    low = voxels.zyx[around].min(0) // factor - margin
    bins = voxels.zyx[around] // factor - low
    shape = tuple((bins.max(0) + 1 + margin).tolist())
    if is_binned:
        mass = np.bincount(np.ravel_multi_index(tuple(bins.T), shape), voxels.probability[around], int(np.prod(shape)))
        grid = mass.reshape(shape).astype(np.float32) / np.float32(np.prod(factor))
    else:
        grid = np.zeros(shape, np.float32)
        grid[tuple(bins.T)] = voxels.probability[around]
    for axis in range(3):
        gaussian_filter1d(grid, sigma[axis], axis, output=grid, mode="constant", truncate=_TRUNCATE)
    if not is_binned:
        return np.asarray(grid[tuple((voxels.zyx[here] - low).T)])
    places = (voxels.zyx[here] + 0.5) / factor - 0.5 - low
    return np.asarray(map_coordinates(grid, places.T, np.float32, order=1))
