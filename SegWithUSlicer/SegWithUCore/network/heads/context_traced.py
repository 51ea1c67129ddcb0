"""The context head in the form in which a window is traced for other engines: channels first, and no join.

The head itself keeps channels last in memory, which is what makes torch fast and OpenVINO slow
(`docs/developer/performance.md`). Both give the same numbers but for rounding; a test compares them.
"""

from typing import cast

import torch
from torch.nn import functional

from .base import Fusion, TracedForm, UncertaintyHead, largest, resized
from .context import ContextFusion, ContextHead, halving_steps

POOLS = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}


class TracedContext(TracedForm):
    """Responses in two parts, probes with the data part and the free features."""

    def responses(
        self, fusion: Fusion, head: UncertaintyHead, taps: list[torch.Tensor], size: torch.Size
    ) -> tuple[torch.Tensor, ...]:
        """As `TracedForm.responses`."""
        head, fusion = cast(ContextHead, head), cast(ContextFusion, fusion)
        features = _fused(fusion, taps)
        layers = [] if head.aleatoric is None else [head.aleatoric]
        weight = torch.cat([head.probe_weight, *(layer.weight for layer in layers)])
        bias = torch.cat([head.probe_weight.new_zeros(head.probes), *(layer.bias for layer in layers)])
        free = _voxelwise(features, head.context.weight, head.context.bias)
        probes = (resized(_voxelwise(features, weight, bias), size),) if len(weight) else ()
        return (*probes, resized(free, size) + resized(_detail(fusion, taps), size))


def _detail(fusion: ContextFusion, taps: list[torch.Tensor]) -> torch.Tensor:
    into, neighbours, out = fusion.finest
    return out(functional.gelu(neighbours(functional.gelu(into(taps[-1])))))


def _fused(fusion: ContextFusion, taps: list[torch.Tensor]) -> torch.Tensor:
    steps = halving_steps(taps)
    size = torch.Size(-(-int(length) // step) for length, step in zip(largest(taps), steps, strict=True))
    features = fusion.bias[None]
    for project, tap in zip(fusion.projections, taps, strict=True):
        if tap.shape[2:].numel() > size.numel():
            # An odd length's last voxel stands alone, as in `averaged`.
            tap = POOLS[len(size)](tap, steps, ceil_mode=True, count_include_pad=False)
        features = features + resized(project(tap), size)
    for convolution in fusion.around:
        features = features + convolution(functional.gelu(features))
    return features


def _voxelwise(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer over the channels as a 1-wide convolution."""
    axes = features.ndim - 2
    return CONVOLUTIONS[axes](features, weight.reshape(*weight.shape, *(1,) * axes), bias)
