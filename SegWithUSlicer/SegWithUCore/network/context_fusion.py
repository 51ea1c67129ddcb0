"""Bringing taps together at half resolution: cheap, and the same for every size of window."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from .fusion import CONVOLUTIONS, Fusion, largest, resized

AVERAGES = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
STEPS = 2
DETAIL = 8
"""Channels of what is seen at full resolution; as many as the head has free features."""


class ContextFusion(Fusion):
    """Taps projected and added at half the resolution of the finest, two residual convolutions to look around; beside
    them a thin look at the last tap, the finest, as it is.

    Averaging comes before the projection where a tap is finer and interpolation after it where it is coarser: a 1-wide
    convolution may change places with both, so the order is free and the cheap one is taken (research/uq.md section 6).
    Without any norm, what a voxel gets depends on its surroundings alone (up to 6 voxels away) and not on the window.

    Args:
        tap_channels: channels of each tap.
        features: channels after fusion.
        spatial_dims: 2 or 3.
    """

    def __init__(self, tap_channels: Sequence[int], features: int = 24, spatial_dims: int = 3) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[spatial_dims]
        self.projections = nn.ModuleList(convolution(n, features, 1, bias=False) for n in tap_channels)
        self.bias = nn.Parameter(torch.zeros(features, *(1,) * spatial_dims))
        self.around = nn.ModuleList(convolution(features, features, 3, padding=1) for _ in range(STEPS))
        self.finest = nn.ModuleList(
            [
                convolution(tap_channels[-1], DETAIL, 1),
                convolution(DETAIL, DETAIL, 3, padding=1, groups=DETAIL),
                convolution(DETAIL, DETAIL, 1, bias=False),
            ]
        )
        # At half resolution: every tap averaged, and sum, activation, convolution and result of one step.
        self.live_channels = (sum(tap_channels) + features * (len(tap_channels) + 4)) / 2**spatial_dims + 3 * DETAIL

    def forward(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse taps (batch, channels_i, *spatial_i) to (batch, features, *half of the largest, rounded up)."""
        size = torch.Size(-(-length // 2) for length in largest(taps))
        projected = [self._projected(project, tap, size) for project, tap in zip(self.projections, taps, strict=True)]
        features = torch.stack(projected).sum(0) + self.bias
        for convolution in self.around:
            features = features + convolution(functional.gelu(features))
        return features

    def detail(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the last tap, the finest, shows of a voxel and its neighbours: (batch, DETAIL, *its own grid)."""
        into, neighbours, out = self.finest
        seen = functional.gelu(into(taps[-1]))
        # One convolution a channel: 5 times faster with channels last.
        seen = functional.gelu(neighbours(seen.contiguous(memory_format=CHANNELS_LAST[seen.ndim - 2])))
        detail: torch.Tensor = out(seen)
        return detail

    @staticmethod
    def _projected(project: nn.Module, tap: torch.Tensor, size: torch.Size) -> torch.Tensor:
        if tap.shape[2:].numel() <= size.numel():
            return resized(project(tap), size)
        average = AVERAGES[tap.ndim - 2]
        return resized(project(average(tap, 2, ceil_mode=True, count_include_pad=False)), size)
