"""Windows around whole cases, for scoring without a stitcher."""

from collections.abc import Sequence

import numpy as np
import torch

from .cases import PreparedCase

Place = tuple[slice, ...]


def padded_window(case: PreparedCase, window: Sequence[int]) -> tuple[torch.Tensor, Place]:
    """The case centred in the smallest multiple of the window that holds it, padded with zero.

    Returns:
        Float32 (channels, z, y, x) and the slices (z, y, x) where the case lies.
    """
    shape = case.labels.shape
    full = [-(-size // step) * step for size, step in zip(shape, window, strict=True)]
    place = centred(shape, full)
    image = np.zeros((case.image.shape[0], *full), np.float32)
    image[(slice(None), *place)] = case.image
    return torch.from_numpy(image), place


def centred(shape: Sequence[int], full: Sequence[int]) -> Place:
    """Slices of a `shape` in the middle of a larger one."""
    starts = [(whole - size) // 2 for whole, size in zip(full, shape, strict=True)]
    return tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))


def unpad(tensor: torch.Tensor, place: Place) -> torch.Tensor:
    """The part of a (channels, z, y, x) tensor that belongs to the case."""
    return tensor[(slice(None), *place)]
