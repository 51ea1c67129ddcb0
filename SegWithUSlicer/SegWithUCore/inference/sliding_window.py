"""Running the network window by window and stitching what may be averaged."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from scipy import ndimage
from torch.nn import functional

from ..models.input_spec import InputSpec
from ..progress import Progress, silent
from .engines.base import WindowRunner

OVERLAP = 0.5


def count_windows(shape: Sequence[int], window: Sequence[int], overlap: float = OVERLAP) -> int:
    """Count the windows that cover a volume of `shape`, both (z, y, x)."""
    padded = [max(size, wanted) for size, wanted in zip(shape, window, strict=True)]
    steps = [_step(size, wanted, overlap) for size, wanted in zip(padded, window, strict=True)]
    return len(dense_patch_slices(padded, list(window), steps))


def _step(size: int, window: int, overlap: float) -> int:
    return window if size == window else max(1, int(window * (1 - overlap)))


def stitched_output(
    runner: WindowRunner,
    image: np.ndarray,
    window: Sequence[int],
    progress: Progress = silent,
    overlap: float = OVERLAP,
    spread: bool = False,
) -> np.ndarray:
    """Logits and head responses of a whole volume, Gaussian-averaged over overlapping windows.

    Only what is linear in the network's last features is averaged; the maps, which are not, follow
    once on the result. Sums are kept in this computer's own memory in float32. Volumes
    smaller than the window are padded with zero, the mean of a normalised image.

    Args:
        runner: such as an engine.
        image: normalised float32 (channels, z, y, x).
        window: (z, y, x).
        spread: place and weight the windows as nnU-Net does, see `nnunet_windows`.

    Returns:
        Float32 (channels, z, y, x): for an engine those of classes and responses.

    Raises:
        DeviceMemoryError, InputError: as the runner does.
    """
    total = count_windows(image.shape[1:], window, overlap)
    done = 0

    def run(windows: torch.Tensor) -> torch.Tensor:
        nonlocal done
        parts = [torch.from_numpy(part)[None] for part in runner.window(windows[0].numpy())]
        done += len(windows)
        progress("segmenting", done / total, f"window {done} of {total}")
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    if spread:
        with torch.inference_mode():
            even: np.ndarray = spread_output(torch.from_numpy(image), window, run).numpy()
        return even
    with torch.inference_mode():
        whole = sliding_window_inference(
            torch.from_numpy(image)[None],
            roi_size=tuple(window),
            sw_batch_size=1,
            predictor=run,
            overlap=overlap,
            mode="gaussian",
            padding_mode="constant",
            cval=0.0,
        )
    result: np.ndarray = whole[0].numpy()
    return result


def stitched(runner: WindowRunner, image: np.ndarray, spec: InputSpec, progress: Progress = silent) -> np.ndarray:
    """`stitched_output` in the windows that a model's input asks for."""
    return stitched_output(runner, image, spec.window_zyx, progress, spread=spec.nnunet is not None)


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
    image: torch.Tensor, window: Sequence[int], run: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Weighted mean of what `run` gives for each window.

    Args:
        image: (channels, z, y, x); padded evenly with zeros where it is smaller than the window.
        window: (z, y, x).
        run: from windows (1, channels, z, y, x) to (1, outputs, z, y, x).

    Returns:
        (outputs, z, y, x).
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
        output = run(padded[(slice(None), *place)][None])[0]
        if not len(total):
            total = torch.zeros((len(output), *padded.shape[1:]))
        total[(slice(None), *place)] += output * weights
        weight[place] += weights
    inside = tuple(slice(gap // 2, gap // 2 + size) for gap, size in zip(missing, shape, strict=True))
    return (total / weight)[(slice(None), *inside)]
