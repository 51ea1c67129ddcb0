"""A small U-Net for large windows: skips are added, not joined, and few convolutions run at the full resolution.

On a CPU most of a U-Net's time goes where voxels are many and channels few. Added skips and one convolution each way
there took 0.8 s a training step at 2 mm, joined skips and two convolutions 3.9 s (a whole brain, one thread, bfloat16).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class UNet(nn.Module):
    """Logits (batch, classes, z, y, x) of an image (batch, in_channels, z, y, x).

    Args:
        filters: channels a level, from full resolution down; each level halves the image once more.
        full_resolution: convolutions each way at full resolution; all other levels have two.
    """

    def __init__(self, in_channels: int, num_classes: int, filters: Sequence[int], full_resolution: int = 1) -> None:
        super().__init__()
        counts = [full_resolution] + [2] * (len(filters) - 1)
        above = [in_channels, *filters]
        self.down = nn.ModuleList(_blocks(above[level], width, counts[level]) for level, width in enumerate(filters))
        self.reduce = nn.ModuleList(nn.Conv3d(below, width, 1) for width, below in pairwise(filters))
        self.up = nn.ModuleList(_blocks(width, width, counts[level]) for level, width in enumerate(filters[:-1]))
        self.head = nn.Conv3d(filters[0], num_classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Run all levels; sizes are multiples of 2 ** (levels - 1)."""
        found, skips = image, []
        for level, blocks in enumerate(self.down):
            found = blocks(functional.max_pool3d(found, 2) if level else found)
            skips.append(found)
        for level in reversed(range(len(self.up))):
            coarse = functional.interpolate(self.reduce[level](found), scale_factor=2, mode="nearest")
            found = self.up[level](skips[level] + coarse)
        logits: torch.Tensor = self.head(found)
        return logits


def _blocks(channels: int, width: int, count: int) -> nn.Sequential:
    """Chain convolutions of 3, each with a norm of every channel by itself (InstanceNorm, slower under that name)."""
    return nn.Sequential(
        *(
            nn.Sequential(
                nn.Conv3d(channels if first else width, width, 3, padding=1, bias=False),
                nn.GroupNorm(width, width),
                nn.LeakyReLU(0.01, inplace=True),
            )
            for first in [True] + [False] * (count - 1)
        )
    )
