"""How much is expected to be wrong around each uncertain voxel."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates

from ..regions.uncertain_voxels import UncertainVoxels

_TRUNCATE = 3.0
_SLAB_BINS = 1 << 24
_THREADS = 2


def error_density(voxels: UncertainVoxels, spacing_zyx: np.ndarray, sigma_mm: float) -> np.ndarray:
    """How much is expected to be wrong around each uncertain voxel, as a share of the volume there.

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
        smooth = _smooth_binned if (factor > 1).any() else _smooth
        density[here] = smooth(voxels, here, around, factor, sigma)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, _slabs(voxels, factor, _radius(sigma[0]))))
    return density


def _radius(sigma: float) -> int:
    return int(_TRUNCATE * sigma + 0.5)


def _slabs(voxels: UncertainVoxels, factor: np.ndarray, radius: int) -> Iterator[tuple[slice, slice]]:
    """Parts of the list: voxels of some successive bins along z, and all that lie near enough to count there."""
    depth = max(2 * radius, int(_SLAB_BINS // np.prod(np.array(voxels.shape_zyx[1:]) // factor[1:] + 1)))
    z = voxels.zyx[:, 0]
    last = int(z[-1])
    for low in range(int(z[0]) // factor[0] * factor[0], last + 1, depth * factor[0]):
        high = low + depth * factor[0]
        reach = (radius + 1) * factor[0]  # one bin more: interpolation needs the next
        start, stop, first, end = np.searchsorted(z, [low, high, low - reach, high + reach]).tolist()
        if start < stop:
            yield slice(start, stop), slice(first, end)


def _smooth(voxels: UncertainVoxels, here: slice, around: slice, _factor: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Gaussian mean at the voxels `here`, which are no finer than the Gaussian needs.

    The axes lie in the order x, y, z, so that the first two passes run along memory; the third only makes the values
    that are asked for. Same arithmetic as `scipy.ndimage.gaussian_filter`.
    """
    radius = _radius(sigma[2])
    low = voxels.zyx[around].min(0)
    high = voxels.zyx[around].max(0)
    depth, height, width = (high - low + 1).tolist()
    shape = (width + 2 * radius, height, depth)
    grid = np.zeros(shape, np.float32)
    z, y, x = (voxels.zyx[around] - low).T
    grid[x + radius, y, z] = voxels.probability[around]
    inner = grid[radius : radius + width]
    for axis, sigma_bins in ((2, sigma[0]), (1, sigma[1])):
        gaussian_filter1d(inner, sigma_bins, axis, output=inner, mode="constant", truncate=_TRUNCATE)
    z, y, x = (voxels.zyx[here] - low).T
    places = np.ravel_multi_index((x + radius, y, z), shape)
    flat, stride = grid.ravel(), height * depth
    weights = _weights(sigma[2], radius)
    total = flat[places].astype(np.float64) * weights[0]
    for step in range(radius, 0, -1):
        pair = flat[places - step * stride].astype(np.float64) + flat[places + step * stride]
        total += pair * weights[step]
    return total.astype(np.float32)


def _weights(sigma: float, radius: int) -> np.ndarray:
    """Of a Gaussian cut off at `radius`, from its middle outwards; with its mirror image the sum is 1."""
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / sigma**2 * steps**2)
    return np.asarray((weights / weights.sum())[radius:])


def _smooth_binned(
    voxels: UncertainVoxels, here: slice, around: slice, factor: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """Gaussian mean at the voxels `here` by way of larger bins."""
    margin = np.array([_radius(width) for width in sigma]) + 1
    low = voxels.zyx[around].min(0) // factor - margin
    bins = voxels.zyx[around] // factor - low
    shape = tuple((bins.max(0) + 1 + margin).tolist())
    mass = np.bincount(np.ravel_multi_index(tuple(bins.T), shape), voxels.probability[around], int(np.prod(shape)))
    grid = mass.reshape(shape).astype(np.float32) / np.float32(np.prod(factor))
    for axis in range(3):
        gaussian_filter1d(grid, sigma[axis], axis, output=grid, mode="constant", truncate=_TRUNCATE)
    places = (voxels.zyx[here] + 0.5) / factor - 0.5 - low
    return np.asarray(map_coordinates(grid, places.T, np.float32, order=1))
