"""Bringing taps together at half resolution: cheap, and the same for every size of window."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from .fusion import CONVOLUTIONS, Fusion, largest, resized

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
STEPS = 2
DETAIL = 8
"""Channels of what is seen at full resolution; as many as the head has free features."""


class ContextFusion(Fusion):
    """Taps projected and added at half the resolution of the finest, two residual convolutions to look around; beside
    them a thin look at the last tap, the finest, as it is.

    Only axes that the backbone halves, too, are halved (all, where all taps have one size): thick slices stay apart.

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

    def live_channels(self, taps: Sequence[torch.Tensor]) -> float:
        """At half resolution every tap averaged, and sum, activation, convolution and result of one step."""
        channels = sum(tap.shape[1] for tap in taps) + len(self.bias) * (len(taps) + 4)
        return channels / math.prod(_steps(taps)) + 3 * DETAIL

    def forward(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse taps (batch, channels_i, *spatial_i) to (batch, features, *half of the largest, rounded up)."""
        steps = _steps(taps)
        size = torch.Size(-(-length // step) for length, step in zip(largest(taps), steps, strict=True))
        features = self.bias[None]
        for project, tap in zip(self.projections, taps, strict=True):
            features = features + self._projected(project, tap, size, steps)
        for convolution in self.around:
            features = features + convolution(functional.gelu(features))
        return features

    def detail(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the last tap, the finest, shows of a voxel and its neighbours: (batch, DETAIL, *its own grid)."""
        into, neighbours, out = self.finest
        seen = functional.gelu(into(taps[-1]))
        # One convolution a channel: 5 times faster with channels last, and its gradient 4 times faster in float32.
        with torch.autocast(seen.device.type, enabled=False):
            seen = neighbours(seen.float().contiguous(memory_format=CHANNELS_LAST[seen.ndim - 2]))
        # Channels stay last: a product is 2.5 times faster than a convolution, and adding the result 5 times.
        weight = out.get_parameter("weight").flatten(1)
        return functional.linear(functional.gelu(seen).movedim(1, -1), weight).movedim(-1, 1)

    @staticmethod
    def _projected(project: nn.Module, tap: torch.Tensor, size: torch.Size, steps: tuple[int, ...]) -> torch.Tensor:
        if tap.shape[2:].numel() <= size.numel():
            # Channels last: interpolating takes an eighth of the time.
            weight = project.get_parameter("weight").flatten(1)
            return resized(functional.linear(tap.movedim(1, -1), weight).movedim(-1, 1), size).contiguous()
        return resized(project(averaged(tap, steps)), size)


def averaged(tap: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
    """Means of 2 voxels along each axis whose step is 2, in float32; the last voxel of an odd length stands alone.

    Sums of strided views are 2.8 times as fast on the CPU as `avg_pool3d` (32 x 64 x 96 x 96).

    Args:
        tap: (batch, channels, *spatial).
        steps: 1 or 2 for each axis.

    Returns:
        (batch, channels, *spatial / steps, rounded up).
    """
    total = tap
    for axis, step in enumerate(steps, 2):
        if step == 1:
            continue
        first, second = (total[(slice(None),) * axis + (slice(start, None, 2),)] for start in (0, 1))
        if first.shape[axis] > second.shape[axis]:
            second = torch.cat([second, first.narrow(axis, -1, 1)], axis)
        total = first.float() + second
    return total / math.prod(steps)


def _steps(taps: Sequence[torch.Tensor]) -> tuple[int, ...]:
    """By how much each axis is thinned: by 2 where some tap is coarser than the finest, or everywhere if none is."""
    coarser = [min(lengths) < max(lengths) for lengths in zip(*(tap.shape[2:] for tap in taps), strict=True)]
    return tuple(2 if halves or not any(coarser) else 1 for halves in coarser)
