"""The assembled network: a frozen backbone, taps, fusion and an uncertainty head."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import nn

from ..errors import InputError
from .fusion import resized
from .heads import VARIANTS
from .heads.base import UncertaintyMaps
from .taps import checked_taps, recorded_taps
from .tensor_checks import all_finite


class SegWithU(nn.Module):
    """Segmentation and uncertainty in one forward pass (arXiv 2604.15271).

    The backbone stays frozen and in eval mode whatever `train` is told; its logits are the same
    with and without the head.

    Args:
        backbone: any module from (batch, channels, *spatial) to logits (batch, classes, *spatial).
        taps: dotted paths of modules whose inputs are read.
        example: an input for the dry run that finds channels and classes, (1, channels, *spatial).
        variant: a name in `VARIANTS`.
        features: channels after fusion.
        probes, aleatoric: see the variant's head.

    Raises:
        InputError: a tap or the variant does not exist, or the backbone gives no logits a voxel.
    """

    def __init__(
        self,
        backbone: nn.Module,
        taps: Sequence[str],
        example: torch.Tensor,
        variant: str = "paper",
        features: int = 32,
        probes: int = 8,
        aleatoric: bool = True,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise InputError(f"Unknown head variant '{variant}': this version knows {', '.join(sorted(VARIANTS))}.")
        self.backbone = backbone.eval().requires_grad_(False)
        self.taps = tuple(taps)
        with torch.no_grad(), recorded_taps(self.backbone, self.taps) as recorded:
            logits = self.backbone(example)
        if not isinstance(logits, torch.Tensor) or logits.shape[2:] != example.shape[2:]:
            raise InputError("The backbone does not return one tensor of logits on its input's grid.")
        if logits.shape[1] < 2:
            raise InputError(
                f"The backbone has {logits.shape[1]} output channel: the method needs a softmax over 2 or more classes."
            )
        tapping = checked_taps(recorded, self.taps, example.ndim)
        parts = VARIANTS[variant]
        self.fusion = parts.fusion([tap.shape[1] for tap in tapping], features, example.ndim - 2)
        self.head = parts.head(features, logits.shape[1], probes, aleatoric)
        tapped = sum(tap.numel() for tap in recorded.values()) / example[:, :1].numel()
        self.window_bytes = 4 * (tapped + self.fusion.live_channels(tapping))
        """Peak activations a window voxel: the taps, and what the fusion needs besides."""

    @property
    def num_classes(self) -> int:
        """Classes of the backbone, background included."""
        return self.head.num_classes

    def train(self, mode: bool = True) -> Self:
        """Switch fusion and head; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def window_output(self, image: torch.Tensor, backbone: nn.Module | None = None) -> torch.Tensor:
        """Logits and head responses of one window, all linear in what the network computes last.

        Args:
            image: (batch, channels, *spatial).
            backbone: another network of the same kind in eval mode, as in cross-fitting; None for the own one.

        Returns:
            (batch, classes + response channels, *spatial): what may be averaged over windows; see `split`.

        Raises:
            InputError: some of it is not finite, where no gradient is asked for: a class would be chosen all the same.
        """
        backbone = backbone or self.backbone
        with torch.no_grad(), recorded_taps(backbone, self.taps) as recorded:
            logits = backbone(image)
        taps = checked_taps(recorded, self.taps, image.ndim)
        size = logits.shape[2:]
        responses = resized(self.head.responses(self.fusion(taps)), size)
        detail = self.fusion.detail(taps)
        responses = self.head.with_detail(responses, None if detail is None else resized(detail, size))
        output = beside(logits, responses)
        if not output.requires_grad and not all_finite(output):
            raise InputError(
                "The network gives NaN or infinite values, so its weights are damaged or too large: restore the model "
                "from its source."
            )
        return output

    def split(self, stitched: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and head responses out of the result of `window_output`, (batch, channels, *any) each."""
        return stitched[:, : self.num_classes], stitched[:, self.num_classes :]

    def maps(self, stitched: torch.Tensor) -> UncertaintyMaps:
        """The maps of a stitched result, voxel by voxel, in any shape (batch, channels, *any)."""
        return self.head.maps(*self.split(stitched))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, UncertaintyMaps]:
        """Logits and maps of one window: (batch, classes, *spatial) and maps of the same grid."""
        output = self.window_output(image)
        return self.split(output)[0], self.maps(output)

    def head_state(self) -> dict[str, torch.Tensor]:
        """The trainable tensors, named `fusion.*` and `head.*`."""
        return {name: t for name, t in self.state_dict().items() if not name.startswith("backbone.")}


def beside(logits: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
    """Logits and responses (batch, channels, *spatial) in one tensor with channels first in memory, also if they were
    last in that of the responses: slice by slice that takes a third of the time of `torch.cat`."""
    if responses.requires_grad:  # each slice would be a step of its own for the gradient
        return torch.cat([logits, responses], 1)
    classes, size = logits.shape[1], logits.shape[2:]
    kind = torch.promote_types(logits.dtype, responses.dtype)
    both = logits.new_empty(len(logits), classes + responses.shape[1], *size, dtype=kind)
    both[:, :classes] = logits
    for place in range(size[0]):
        both[:, classes:, place] = responses[:, :, place]
    return both
