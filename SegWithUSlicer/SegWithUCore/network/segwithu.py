"""The assembled network: a frozen backbone, taps, fusion and an uncertainty head."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import nn

from ..util.errors import InputError
from .heads import head_type
from .heads.base import UncertaintyMaps, full_responses
from .weights import all_finite

MODULES_SHOWN = 20
"""In a message: the modules of a DynUNet fill a page."""


class SegWithU(nn.Module):
    """Segmentation and uncertainty in one forward pass (arXiv 2604.15271).

    The backbone stays frozen and in eval mode whatever `train` gets; its logits are the same
    with and without the head.

    Args:
        backbone: any module from (batch, channels, *spatial) to logits (batch, classes, *spatial).
        taps: dotted paths of modules whose inputs are read.
        example: an input for the dry run that finds channels and classes, (1, channels, *spatial).
        variant: see `head_type`.
        features: channels after fusion.
        probes, aleatoric: see the variant's head.

    Raises:
        InputError: a tap or the variant does not exist, or the backbone gives no logits a voxel.
        UsageError: the package that brings the variant is damaged.
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
        parts = head_type(variant)
        self.backbone = backbone.eval().requires_grad_(False)
        self.taps = tuple(taps)
        with torch.no_grad(), recorded_taps(self.backbone, self.taps) as recorded:
            logits = self.backbone(example)
        if not isinstance(logits, torch.Tensor) or logits.shape[2:] != example.shape[2:]:
            raise InputError("The backbone does not return one tensor of logits on its input's grid.")
        if logits.shape[1] < 2:
            raise InputError(f"The backbone has {logits.shape[1]} output channel, but must have 2 or more.")
        tapping = checked_taps(recorded, self.taps, example.ndim)
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
        """Compute logits and head responses of one window, all linear in what the network computes last.

        Args:
            image: (batch, channels, *spatial).
            backbone: another network of the same kind in eval mode, as in cross-fitting; None for its own.

        Returns:
            (batch, classes + response channels, *spatial): what may be averaged over windows; see `split`.

        Raises:
            InputError: some of it is not finite, where no gradient is asked for: a class would be chosen all the same.
        """
        return torch.cat(self.window_answer(image, backbone), 1)

    def window_answer(
        self, image: torch.Tensor, backbone: nn.Module | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what `window_output` gives in two parts, without the memory that joining them takes.

        Returns:
            Logits and responses, channels first in memory where no gradient is asked for.

        Raises:
            InputError: as `window_output`.
        """
        backbone = backbone or self.backbone
        with torch.no_grad(), recorded_taps(backbone, self.taps) as recorded:
            logits = backbone(image)
        taps = checked_taps(recorded, self.taps, image.ndim)
        responses = full_responses(self.fusion, self.head, taps, logits.shape[2:])
        if not responses.requires_grad:
            responses = channels_first(responses)
            if not (all_finite(logits) and all_finite(responses)):
                raise InputError("The network gives NaN or infinite values: restore the model.", "unusable-weights")
        return logits, responses

    def split(self, stitched: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split the result of `window_output` into logits and head responses, (batch, channels, *any) each."""
        return stitched[:, : self.num_classes], stitched[:, self.num_classes :]

    def maps(self, stitched: torch.Tensor) -> UncertaintyMaps:
        """Compute the maps of a stitched result, voxel by voxel, in any shape (batch, channels, *any)."""
        return self.head.maps(*self.split(stitched))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, UncertaintyMaps]:
        """Compute logits and maps of one window: (batch, classes, *spatial) and maps of the same grid."""
        output = self.window_output(image)
        return self.split(output)[0], self.maps(output)

    def head_state(self) -> dict[str, torch.Tensor]:
        """Return the trainable tensors, named `fusion.*` and `head.*`."""
        return {name: t for name, t in self.state_dict().items() if not name.startswith("backbone.")}


def channels_first(values: torch.Tensor) -> torch.Tensor:
    """Lay values (batch, channels, *spatial) with channels first in memory.

    Slice by slice this is faster than at once if channels are last (`docs/developer/performance.md`).
    """
    if values.is_contiguous():
        return values
    found = values.new_empty(values.shape)
    for place in range(values.shape[2]):
        found[:, :, place] = values[:, :, place]
    return found


@contextlib.contextmanager
def recorded_taps(backbone: nn.Module, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Record the inputs of the named modules during the block.

    Only passes made by this thread are recorded: another thread may run the same backbone meanwhile.

    Yields:
        A dict that holds, after a forward pass, one tensor (batch, channels, *spatial) per name.

    Raises:
        InputError: a name is not a module of the backbone.
    """
    modules = [find_module(backbone, name) for name in names]
    recorded: dict[str, Any] = {}
    owner = threading.get_ident()

    def hook(name: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if threading.get_ident() == owner:
            recorded[name] = inputs[0] if inputs else None  # called by keyword only: no feature map

    named = zip(names, modules, strict=True)
    handles = [module.register_forward_pre_hook(partial(hook, name)) for name, module in named]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def find_module(backbone: nn.Module, name: str) -> nn.Module:
    """Find the submodule at a dotted path.

    Raises:
        InputError: there is none; the message lists modules.
    """
    try:
        return backbone.get_submodule(name)
    except AttributeError:
        known = [path for path, _ in backbone.named_modules() if path]
        modules = ", ".join(known[:MODULES_SHOWN]) + (", ..." if len(known) > MODULES_SHOWN else "")
        raise InputError(f"The backbone has no module '{name}': choose one of {modules}.", "wrong-recipe") from None


def checked_taps(taps: dict[str, torch.Tensor], names: Sequence[str], ndim: int) -> list[torch.Tensor]:
    """Return the recorded taps in the order of `names`.

    Raises:
        InputError: a tapped module did not run, or was fed something else than a feature map.
    """
    for name in names:
        if name not in taps:
            raise InputError(f"The module '{name}' does not run in a forward pass: choose another tap.")
        if not isinstance(taps[name], torch.Tensor) or taps[name].ndim != ndim:
            raise InputError(f"The module '{name}' is not fed a feature map of {ndim} axes: choose another tap.")
    return [taps[name] for name in names]
