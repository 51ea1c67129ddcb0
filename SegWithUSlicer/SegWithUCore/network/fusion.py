"""Bringing taps of several resolutions together (METHOD.md 3.2)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
LINEAR_MODES = {2: "bilinear", 3: "trilinear"}


def resized(tensor: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Linear interpolation of (batch, channels, *spatial) to `size`, unchanged when it fits already."""
    if tuple(tensor.shape[2:]) == tuple(size):
        return tensor
    return functional.interpolate(tensor, tuple(size), mode=LINEAR_MODES[tensor.ndim - 2], align_corners=False)


def largest(taps: Sequence[torch.Tensor]) -> torch.Size:
    """Spatial size of the finest tap."""
    return max((tap.shape[2:] for tap in taps), key=lambda shape: shape.numel())


class Fusion(nn.Module, ABC):
    """What brings taps (batch, channels_i, *spatial_i) to fused features (batch, features, *spatial)."""

    @abstractmethod
    def live_channels(self, taps: Sequence[torch.Tensor]) -> float:
        """Floats a voxel of the finest tap that are alive at once besides the taps, to foretell memory."""

    def detail(self, taps: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """What is seen at full resolution besides, None where the fused features are all there is."""
        return None
