"""A network as two functions that are traced for other engines: a window to logits and responses, a chunk to maps."""

import torch
from torch import nn

from .heads import HEADS
from .segwithu import SegWithU, checked_taps, recorded_taps


class WindowGraph(nn.Module):
    """From one window (1, channels, *spatial) to its logits and the parts of its responses, along the channels.

    Args:
        network: in eval mode.
        variant: of its head, a name in `HEADS`.
    """

    def __init__(self, network: SegWithU, variant: str) -> None:
        super().__init__()
        self.network, self.form = network, HEADS[variant].traced

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
        variant: of its head, a name in `HEADS`.
    """

    def __init__(self, network: SegWithU, variant: str) -> None:
        super().__init__()
        self.network, self.form = network, HEADS[variant].traced

    def forward(self, chunk: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute what `graph_outputs.MAPS` names."""
        classes = self.network.num_classes
        return self.form.maps(self.network.head, chunk[:classes], chunk[classes:], scale)
