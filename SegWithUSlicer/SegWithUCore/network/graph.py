"""A network as two functions that are traced for other engines: a window to logits and responses, a chunk to maps."""

import copy
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from .heads import head_type
from .segwithu import SegWithU, checked_taps, recorded_taps


class WindowGraph(nn.Module):
    """Map one window (1, channels, *spatial) to its logits and responses, concatenated along the channels.

    Args:
        network: in eval mode.
        variant: of its head, see `head_type`.
    """

    def __init__(self, network: SegWithU, variant: str) -> None:
        super().__init__()
        self.network, self.form = with_pooled_norms(network), head_type(variant).traced

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute (1, classes, *spatial), and further (1, channels_i, *spatial)."""
        backbone, names = self.network.backbone, self.network.taps
        with recorded_taps(backbone, names) as recorded:
            logits = backbone(image)
        taps = checked_taps(recorded, names, image.ndim)
        return logits, *self.form.responses(self.network.fusion, self.network.head, taps, logits.shape[2:])


class MapsGraph(nn.Module):
    """From stitched logits and responses (channels, voxels), and the tempering scale (1,), to the maps.

    Args:
        network: in eval mode.
        variant: of its head, see `head_type`.
    """

    def __init__(self, network: SegWithU, variant: str) -> None:
        super().__init__()
        self.network, self.form = network, head_type(variant).traced

    def forward(self, chunk: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute what `graph_outputs.MAPS` names."""
        classes = self.network.num_classes
        return self.form.maps(self.network.head, chunk[:classes], chunk[classes:], scale)


POOLS = {3: functional.avg_pool1d, 4: functional.avg_pool2d, 5: functional.avg_pool3d}
"""By the axes of a tensor (batch, channels, *spatial)."""
NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


class PooledInstanceNorm(nn.Module):
    """Compute an instance norm by pooling: means over all axes but the first, then over the first.

    OpenVINO sums a whole channel one by one in float32, which costs a thousandfold of torch's accuracy and depends on
    the number of threads; it does so for plain means, too. Pooling does not (`docs/developer/performance.md`).

    Args:
        norm: what it computes the same as; without running statistics.
    """

    def __init__(self, norm: nn.InstanceNorm3d | nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Normalise (batch, channels, *spatial)."""
        centred = features - _pooled_mean(features)
        scale = torch.rsqrt(_pooled_mean(centred * centred) + self.eps)
        axes = (1, -1, *(1,) * (features.ndim - 2))
        if self.weight is not None:
            return centred * (scale * self.weight.reshape(axes)) + self.bias.reshape(axes)
        return centred * scale


def _pooled_mean(features: torch.Tensor) -> torch.Tensor:
    first, *others = (int(length) for length in features.shape[2:])
    pool = POOLS[features.ndim]
    return pool(pool(features, (1, *others)), (first, *(1,) * len(others)))


def with_pooled_norms(network: SegWithU) -> SegWithU:
    """Return a copy of a network with `PooledInstanceNorm` in place of its instance norms, under whichever name."""
    found = copy.deepcopy(network)
    for parent in list(found.modules()):
        for name, child in parent.named_children():
            each_alone = isinstance(child, nn.GroupNorm) and child.num_groups == child.num_channels
            if each_alone or (isinstance(child, NORMS) and not child.track_running_stats):
                setattr(parent, name, PooledInstanceNorm(cast(nn.InstanceNorm3d, child)))
    return found
