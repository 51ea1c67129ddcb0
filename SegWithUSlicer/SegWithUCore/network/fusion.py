"""Bringing taps of several resolutions together (METHOD.md 3.2)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
MIXING_COPIES = 3.4
"""Copies of the fused features that are alive at once while mixing. Measured in all, on the CPU: 1310 to 1460 bytes a
voxel for the shipped DynUNet, 330 for a MeshNet of 5 filters with 8 features."""
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


class MultiScaleFusion(Fusion):
    """Project each tap, enlarge all to the largest, mix with two 3-wide convolutions.

    Each projection is a convolution of width 1 without bias; each mixing step is convolution, affine
    InstanceNorm, GELU. Source: the reference's fusion module, METHOD.md 3.2.

    Args:
        tap_channels: channels of each tap.
        features: channels after fusion.
        spatial_dims: 2 or 3.
    """

    def __init__(self, tap_channels: Sequence[int], features: int = 32, spatial_dims: int = 3) -> None:
        super().__init__()
        self.features = features
        convolution, norm = CONVOLUTIONS[spatial_dims], NORMS[spatial_dims]
        self.projections = nn.ModuleList(convolution(n, features, 1, bias=False) for n in tap_channels)
        self.mixing = nn.Sequential(
            convolution(features * len(tap_channels), features, 3, padding=1, bias=False),
            norm(features, affine=True),
            nn.GELU(),
            convolution(features, features, 3, padding=1, bias=False),
            norm(features, affine=True),
            nn.GELU(),
        )

    def live_channels(self, taps: Sequence[torch.Tensor]) -> float:
        """The projections of all taps, enlarged and beside each other, and copies while mixing."""
        return self.features * (2 * len(taps) + MIXING_COPIES)

    def forward(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse taps (batch, channels_i, *spatial_i) to (batch, features, *largest)."""
        size = largest(taps)
        projected = [resized(project(tap), size) for project, tap in zip(self.projections, taps, strict=True)]
        mixed: torch.Tensor = self.mixing(torch.cat(projected, 1))
        return mixed
