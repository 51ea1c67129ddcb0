"""Windows where nnU-Net puts them, weighted as it weights them; sums are kept in float32 (nnU-Net: float16)."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

STEP = 0.5
"""Largest distance of two windows, in windows."""
SIGMA = 1 / 8
"""Of the Gaussian weights, in windows."""


def spread_starts(size: int, window: int) -> list[int]:
    """First voxels of the windows along one axis: evenly spread, the first and the last at the borders."""
    count = int(np.ceil((size - window) / (window * STEP))) + 1
    step = (size - window) / max(1, count - 1)
    return [int(np.round(step * number)) for number in range(count)]


def window_weights(window: Sequence[int]) -> torch.Tensor:
    """Gaussian weights (z, y, x) of a window, 1 in its middle and nowhere 0."""
    peak = np.zeros(window)
    peak[tuple(size // 2 for size in window)] = 1
    weights = ndimage.gaussian_filter(peak, [size * SIGMA for size in window], mode="constant")
    weights /= weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    return torch.from_numpy(weights.astype(np.float32))


def spread_output(
    image: torch.Tensor, window: Sequence[int], run: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> torch.Tensor:
    """Weighted mean of what `run` gives for each window.

    Args:
        image: (channels, z, y, x); padded evenly with zeros where it is smaller than the window.
        window: (z, y, x).
        run: from windows (1, channels, z, y, x) on `device` to (1, outputs, z, y, x).

    Returns:
        (outputs, z, y, x) on the CPU.
    """
    shape = image.shape[1:]
    missing = [max(0, wanted - size) for size, wanted in zip(shape, window, strict=True)]
    margins = [side for gap in reversed(missing) for side in (gap // 2, gap - gap // 2)]
    padded = functional.pad(image, margins)
    weights = window_weights(window)
    starts = [spread_starts(size, wanted) for size, wanted in zip(padded.shape[1:], window, strict=True)]
    total, weight = torch.zeros(0), torch.zeros(padded.shape[1:])
    for corner in product(*starts):
        place = tuple(slice(start, start + size) for start, size in zip(corner, window, strict=True))
        output = run(padded[(slice(None), *place)][None].to(device))[0].float().cpu()
        if not len(total):
            total = torch.zeros((len(output), *padded.shape[1:]))
        total[(slice(None), *place)] += output * weights
        weight[place] += weights
    inside = tuple(slice(gap // 2, gap // 2 + size) for gap, size in zip(missing, shape, strict=True))
    return (total / weight)[(slice(None), *inside)]
