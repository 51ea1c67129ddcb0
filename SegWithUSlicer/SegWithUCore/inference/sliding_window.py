"""Running the network window by window and stitching what may be averaged."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Protocol

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from scipy import ndimage
from torch import nn
from torch.nn import functional

from ..models.input_spec import InputSpec
from ..progress import Progress, silent

OVERLAP = 0.5


class WindowNetwork(Protocol):
    """A network that can be run window by window, such as `SegWithU`."""

    def window_output(self, image: torch.Tensor) -> torch.Tensor:
        """Compute what may be averaged over windows, (batch, channels, *spatial), of an image of that shape."""


class BackboneAlone:
    """A backbone in the place of a network with a head: its windows give logits and nothing else."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone

    def window_output(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of one window, (batch, classes, *spatial)."""
        with torch.no_grad():
            logits: torch.Tensor = self.backbone(image)
        return logits


def count_windows(shape: Sequence[int], window: Sequence[int], overlap: float = OVERLAP) -> int:
    """Count the windows that cover a volume of `shape`, both (z, y, x)."""
    padded = [max(size, wanted) for size, wanted in zip(shape, window, strict=True)]
    steps = [_step(size, wanted, overlap) for size, wanted in zip(padded, window, strict=True)]
    return len(dense_patch_slices(padded, list(window), steps))


def _step(size: int, window: int, overlap: float) -> int:
    return window if size == window else max(1, int(window * (1 - overlap)))


def stitched_output(
    network: WindowNetwork,
    image: np.ndarray,
    window: Sequence[int],
    device: torch.device,
    progress: Progress = silent,
    overlap: float = OVERLAP,
    spread: bool = False,
    precision: str = "float32",
) -> np.ndarray:
    """Logits and head responses of a whole volume, Gaussian-averaged over overlapping windows.

    Only what is linear in the network's last features is averaged; the maps, which are not, follow
    once on the result. Windows run on `device`, sums are kept on the CPU in float32. Volumes
    smaller than the window are padded with zero, the mean of a normalised image.

    Args:
        image: normalised float32 (channels, z, y, x).
        window: (z, y, x).
        spread: place and weight the windows as nnU-Net does, see `nnunet_windows`.
        precision: of the network, see `InputSpec`; the maps are made in float32 of either.

    Returns:
        Float32 (channels, z, y, x): for `SegWithU` those of classes and responses.
    """
    total = count_windows(image.shape[1:], window, overlap)
    done = 0

    def run(windows: torch.Tensor) -> torch.Tensor:
        nonlocal done
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            output = network.window_output(windows).float()
        done += len(windows)
        progress("segmenting", done / total, f"window {done} of {total}")
        return output

    if spread:
        with torch.inference_mode():
            even: np.ndarray = spread_output(torch.from_numpy(image), window, run, device).numpy()
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
            sw_device=device,
            device=torch.device("cpu"),
        )
    result: np.ndarray = whole[0].numpy()
    return result


def stitched(
    network: WindowNetwork, image: np.ndarray, spec: InputSpec, device: torch.device, progress: Progress = silent
) -> np.ndarray:
    """`stitched_output` in the windows and the precision that a model's input asks for."""
    spread = spec.nnunet is not None
    return stitched_output(network, image, spec.window_zyx, device, progress, spread=spread, precision=spec.precision)


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
