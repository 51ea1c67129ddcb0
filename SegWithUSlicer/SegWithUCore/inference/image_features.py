"""How an image looks, in a few numbers that no scale or offset of its intensities changes.

All is computed on the image's own voxels, axes as they are stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

CELLS = 8
"""Cells along each axis of the coarse picture: fine enough to know upside from downside, coarse enough to be stable."""
BLOCKS = 3
"""Parts along each axis in which edges are measured: few, so that shading differs from anatomy."""
FAINT = 0.02
"""Of the mean gradient, added before logarithms: an empty part must not stand for a boundless shading."""
PERCENTILES = tuple(float(p) for p in np.arange(2.5, 100, 5))
RANGE_PERCENTILES = (0.5, 99.5)
"""What counts as the range of the intensities: a few hot voxels must not."""
MAXIMUM_SAMPLE = 300_000
"""Voxels that are read; of larger images every s-th along each axis: a 256^3 volume takes a fraction of a second."""
OFF_CENTRE = 0.15
"""Share of each edge by which `random_crop` cuts at most."""


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one channel.

    Attributes:
        flat: practically all voxels are equal; the other features mean nothing then.
        low, high: intensities at `RANGE_PERCENTILES`; their difference is the contrast.
        noise: deviation of the noise as a share of the contrast, None if an axis has less than three voxels.
        quantiles: at `PERCENTILES`, the contrast running from 0 to 1.
        cells: the coarse picture, `CELLS`^3 mean ranks of intensity (0 dark, 1 bright), axes z, y, x as stored.
        sharpness: along z, y, x as stored, mean second difference over mean central difference: 0 for what is smooth,
            above 1 for noise; None if an axis has less than three voxels.
        gradients: logarithms of the mean gradient in `BLOCKS`^3 parts, axes likewise, None likewise; a field that
            multiplies the image adds its logarithm to them.
        blank: share of the voxels that have the lowest intensity exactly.
    """

    flat: bool
    low: float
    high: float
    noise: float | None
    quantiles: tuple[float, ...]
    cells: np.ndarray
    sharpness: tuple[float, float, float] | None = None
    gradients: np.ndarray | None = None
    blank: float = 0.0


def image_features(array: np.ndarray) -> ImageFeatures:
    """Features of one channel.

    Args:
        array: (z, y, x), or with its axes in any other order; any voxel type.
    """
    step = max(1, int(np.ceil((array.size / MAXIMUM_SAMPLE) ** (1 / 3))))
    sample = array[::step, ::step, ::step].astype(np.float64)
    low, high = (float(v) for v in np.percentile(sample, RANGE_PERCENTILES))
    if high <= low:
        return ImageFeatures(True, low, high, None, (0.0,) * len(PERCENTILES), np.zeros((CELLS,) * 3))
    contrast = high - low
    quantiles = np.clip((np.percentile(sample, PERCENTILES) - low) / contrast, 0, 1)
    sharpness, gradients = _edges(array, step, low, high)
    return ImageFeatures(
        flat=False,
        low=low,
        high=high,
        noise=_noise(array, step, low, high),
        quantiles=tuple(float(v) for v in quantiles),
        cells=_cell_means(_ranks(sample), CELLS),
        sharpness=sharpness,
        gradients=gradients,
        blank=float(np.mean(sample == sample.min())),
    )


def random_crop(array: np.ndarray, seed: int) -> np.ndarray:
    """Cut the array by `OFF_CENTRE` along each axis, a random share of it on either side.

    Nobody places a region of interest as exactly as the crops of a training set are cut.
    """
    random = np.random.default_rng(seed)
    slices = []
    for size in array.shape:
        cut = round(OFF_CENTRE * size)
        start = int(random.integers(0, cut + 1))
        slices.append(slice(start, size - cut + start))
    return array[tuple(slices)]


def reorient_cells(cells: np.ndarray, own: str, wanted: str) -> np.ndarray:
    """Turn the axes of a coarse picture from the letters `own` to the letters `wanted`, both in x, y, z order.

    As `SimpleITK.DICOMOrient` would have done with the image before.
    """
    sources = _sources(own, wanted)
    flipped = [own[source] != want for source, want in zip(sources, wanted, strict=True)]
    turned = cells.transpose([2 - source for source in sources[::-1]])
    return np.flip(turned, tuple(axis for axis in range(3) if flipped[2 - axis]))


def _sources(own: str, wanted: str) -> list[int]:
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    return [next(i for i, letter in enumerate(own) if letter in (want, opposite.get(want))) for want in wanted]


def _noise(array: np.ndarray, step: int, low: float, high: float) -> float | None:
    """Immerkaer's estimate in three dimensions: second differences along all axes at once cancel what is smooth.

    The median of their magnitude is no more moved by edges than by a few hot voxels.

    Source: Immerkaer, Fast Noise Variance Estimation, Computer Vision and Image Understanding 64 (1996) 300.
    """
    if min(array.shape) < 3:
        return None
    weights = (1.0, -2.0, 1.0)
    total: Any = 0.0
    for shifts in product(range(3), repeat=3):
        part = array[tuple(slice(s, n - 2 + s, step) for s, n in zip(shifts, array.shape, strict=True))]
        total = total + np.prod([weights[s] for s in shifts]) * np.clip(part.astype(np.float32), low, high)
    unit = 6 ** (3 / 2) * 0.6745  # the deviation, and the median magnitude, that noise of deviation 1 gives
    return float(np.median(np.abs(total))) / unit / (high - low)


def _edges(
    array: np.ndarray, step: int, low: float, high: float
) -> tuple[tuple[float, float, float] | None, np.ndarray | None]:
    """Find `sharpness` and `gradients` of an image, from the neighbours of every `step`-th voxel."""
    if min(array.shape) < 3:
        return None, None
    centre = _neighbours(array, (0, 0, 0), step, low, high)
    sharpness, squares = [], np.zeros_like(centre)
    for axis in range(3):
        before, after = (
            _neighbours(array, tuple(side * (axis == other) for other in range(3)), step, low, high) for side in (-1, 1)
        )
        across = np.abs(after - before)
        sharpness.append(float(np.abs(before + after - 2 * centre).mean() / max(float(across.mean()), 1e-9)))
        squares += across**2
    means = _cell_means(np.sqrt(squares, out=squares), BLOCKS)
    z, y, x = sharpness
    return (z, y, x), np.log(means + FAINT * means.mean() + 1e-12)


def _neighbours(array: np.ndarray, shifts: Sequence[int], step: int, low: float, high: float) -> np.ndarray:
    """Return every `step`-th inner voxel's neighbour at `shifts`, clipped to the range, which is 0 to 1."""
    inner = array[tuple(slice(1 + s, n - 1 + s, step) for s, n in zip(shifts, array.shape, strict=True))]
    return (np.clip(inner.astype(np.float32), low, high) - np.float32(low)) / np.float32(high - low)


def _ranks(sample: np.ndarray) -> np.ndarray:
    """Share of voxels below each voxel, ties in the middle: the image with an even histogram."""
    ordered = np.sort(sample, axis=None)
    below, up_to = (np.searchsorted(ordered, sample.ravel(), side) for side in ("left", "right"))
    return ((below + up_to) / (2 * ordered.size)).reshape(sample.shape)


def _cell_means(array: np.ndarray, count: int) -> np.ndarray:
    for axis in range(3):
        parts = _cell_slices(array.shape[axis], count)
        array = np.stack([array.take(range(*part), axis).mean(axis) for part in parts], axis)
    return array


def _cell_slices(size: int, count: int) -> Sequence[tuple[int, int]]:
    edges = np.linspace(0, size, count + 1)
    return [(int(a), min(size, max(int(np.ceil(b)), int(a) + 1))) for a, b in pairwise(edges)]


def reorient_axes(values: Sequence[float], own: str, wanted: str) -> tuple[float, float, float]:
    """Bring values of the axes z, y, x of the letters `own` to those of `wanted`, as `reorient_cells` does."""
    z, y, x = (float(values[2 - source]) for source in _sources(own, wanted)[::-1])
    return z, y, x
