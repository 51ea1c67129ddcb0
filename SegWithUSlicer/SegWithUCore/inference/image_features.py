"""How an image looks, in a few numbers that no scale or offset of its intensities changes.

Numpy alone, because Slicer's window asks too. All is computed on the image's own voxels, axes as they are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

CELLS = 8
"""Cells along each axis of the coarse picture: fine enough to know upside from downside, coarse enough to be calm."""
PERCENTILES = tuple(float(p) for p in np.arange(2.5, 100, 5))
RANGE_PERCENTILES = (0.5, 99.5)
"""What counts as the range of the intensities: a few hot voxels must not."""
MAXIMUM_SAMPLE = 300_000
"""Voxels looked at; of larger images every s-th along each axis: a 256^3 volume takes a fraction of a second."""
OFF_CENTRE = 0.15
"""Share of each edge by which `random_crop` cuts at most."""


@dataclass(frozen=True)
class ImageFeatures:
    """Features of one channel.

    Attributes:
        flat: practically all voxels are equal; the other features mean nothing then.
        low, high: intensities at `RANGE_PERCENTILES`; their difference is the contrast.
        noise: deviation of the noise as a share of the contrast, None if an axis has less than three voxels.
        middle_half: distance of the quartiles as a share of the contrast.
        quantiles: at `PERCENTILES`, the contrast running from 0 to 1.
        cells: the coarse picture, `CELLS`^3 mean ranks of intensity (0 dark, 1 bright), axes z, y, x as stored.
    """

    flat: bool
    low: float
    high: float
    noise: float | None
    middle_half: float
    quantiles: tuple[float, ...]
    cells: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """For a request to the worker."""
        return {**self.__dict__, "quantiles": list(self.quantiles), "cells": self.cells.ravel().round(4).tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ImageFeatures":
        """Build from what `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        cells = np.asarray(data["cells"], float).reshape((CELLS,) * 3)
        quantiles = tuple(float(value) for value in data["quantiles"])
        if len(quantiles) != len(PERCENTILES):
            raise ValueError(f"{len(quantiles)} quantiles instead of {len(PERCENTILES)}")
        noise = None if data["noise"] is None else float(data["noise"])
        low, high, half = (float(data[key]) for key in ("low", "high", "middle_half"))
        return cls(bool(data["flat"]), low, high, noise, half, quantiles, cells)


def image_features(array: np.ndarray) -> ImageFeatures:
    """Features of one channel.

    Args:
        array: (z, y, x), or with its axes in any other order; any voxel type.
    """
    step = max(1, int(np.ceil((array.size / MAXIMUM_SAMPLE) ** (1 / 3))))
    sample = array[::step, ::step, ::step].astype(np.float64)
    low, high = (float(v) for v in np.percentile(sample, RANGE_PERCENTILES))
    if high <= low:
        return ImageFeatures(True, low, high, None, 0.0, (0.0,) * len(PERCENTILES), np.zeros((CELLS,) * 3))
    contrast = high - low
    quantiles = np.clip((np.percentile(sample, PERCENTILES) - low) / contrast, 0, 1)
    first, third = np.percentile(sample, (25, 75))
    return ImageFeatures(
        flat=False,
        low=low,
        high=high,
        noise=_noise(array, step, low, high),
        middle_half=float((third - first) / contrast),
        quantiles=tuple(float(v) for v in quantiles),
        cells=_cell_means(_ranks(sample)),
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
    """Turn the axes of the coarse picture from the letters `own` to the letters `wanted`, both in x, y, z order.

    As `SimpleITK.DICOMOrient` would have done with the image before.
    """
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    sources = [next(i for i, letter in enumerate(own) if letter in (want, opposite[want])) for want in wanted]
    flipped = [own[source] != want for source, want in zip(sources, wanted, strict=True)]
    turned = cells.transpose([2 - source for source in sources[::-1]])
    return np.flip(turned, tuple(axis for axis in range(3) if flipped[2 - axis]))


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


def _ranks(sample: np.ndarray) -> np.ndarray:
    """Share of voxels below each voxel, ties in the middle: the image with an even histogram."""
    ordered = np.sort(sample, axis=None)
    below, up_to = (np.searchsorted(ordered, sample.ravel(), side) for side in ("left", "right"))
    return ((below + up_to) / (2 * ordered.size)).reshape(sample.shape)


def _cell_means(array: np.ndarray) -> np.ndarray:
    for axis in range(3):
        parts = _cell_slices(array.shape[axis])
        array = np.stack([array.take(range(*part), axis).mean(axis) for part in parts], axis)
    return array


def _cell_slices(size: int) -> Sequence[tuple[int, int]]:
    edges = np.linspace(0, size, CELLS + 1)
    return [(int(a), min(size, max(int(np.ceil(b)), int(a) + 1))) for a, b in pairwise(edges)]
