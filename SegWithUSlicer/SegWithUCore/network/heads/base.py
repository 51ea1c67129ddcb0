"""What every uncertainty head gives, and the paper's: from fused features and logits to calibration and ranking map.

A head works in two steps. `responses` is linear in the features, so its result may be averaged
over windows; `maps` is not, and is computed once on the stitched volume.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class UncertaintyMaps:
    """The maps of one forward pass, whatever the head; (batch, 1, *any) unless noted otherwise.

    Attributes:
        calibration: U_cal >= 0; tempers the logits.
        ranking: U_rnk, unitless; orders voxels by risk of error.
        epistemic: what the probes reveal, >= 0 (model part).
        aleatoric: softplus of its branch, None without that branch (data part).
        top: indices of the most and the second most probable class, (batch, 2, *any).
    """

    calibration: torch.Tensor
    ranking: torch.Tensor
    epistemic: torch.Tensor
    aleatoric: torch.Tensor | None
    top: torch.Tensor


class UncertaintyHead(nn.Module, ABC):
    """Base of all heads: responses that may be averaged over windows, and maps made of them once.

    Attributes:
        num_classes: classes of the backbone.
        probes: number R of rank-1 probes; their responses come first.
        aleatoric: its branch, None without one.
    """

    num_classes: int
    probes: int
    aleatoric: nn.Linear | None

    @property
    @abstractmethod
    def response_channels(self) -> int:
        """Channels of `responses`."""

    @abstractmethod
    def responses(self, features: torch.Tensor) -> torch.Tensor:
        """Compute what is linear in the fused features (batch, features, *any): (batch, response_channels, *any)."""

    def with_detail(self, responses: torch.Tensor, detail: torch.Tensor | None) -> torch.Tensor:
        """Add what the fusion saw at full resolution to the responses, both on the grid of the logits.

        The responses given may be changed.
        """
        return responses

    @abstractmethod
    def maps(self, logits: torch.Tensor, responses: torch.Tensor) -> UncertaintyMaps:
        """Compute the maps of voxels with logits (batch, classes, *any), responses (batch, response_channels, *any)."""


class HeadLoss(NamedTuple):
    """The loss of one training step.

    Attributes:
        total: scalar to minimise.
        terms: scalars for the log, unweighted.
    """

    total: torch.Tensor
    terms: Mapping[str, torch.Tensor]


class LossFunction(Protocol):
    """What a head type is trained with."""

    def __call__(
        self,
        logits: torch.Tensor,
        maps: UncertaintyMaps,
        labels: torch.Tensor,
        valid: torch.Tensor,
        generator: torch.Generator,
    ) -> HeadLoss:
        """Compute the loss over the voxels of a batch that are not padding.

        Args:
            logits: (batch, classes, *spatial), not tempered.
            maps: of the same voxels, made by a head of this type.
            labels: class of each voxel, (batch, 1, *spatial).
            valid: 0 in padding, same shape as `labels`.
            generator: source of random draws, seeded by recipe, epoch and batch.
        """


def temper_logits(logits: torch.Tensor, calibration: torch.Tensor) -> torch.Tensor:
    """Soften logits by the calibration map, z / max(1, sqrt(1 + U_cal)) (`docs/reference/method.md` section 3.11).

    The order of the classes never changes, so neither does the segmentation.
    """
    return logits / torch.sqrt(1 + calibration).clamp_min(1)


def margin_and_entropy(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the difference of the two largest softmax probabilities, the entropy in nats, and the two classes.

    Args:
        logits: (batch, classes, *any).

    Returns:
        Two tensors (batch, 1, *any), and the indices (batch, 2, *any).
    """
    log_probabilities = torch.log_softmax(logits, 1)
    probabilities = log_probabilities.exp()
    top = two_largest(logits)[1]  # by logits: small probabilities may round to the same
    largest = probabilities.gather(1, top)
    entropy = -(probabilities * log_probabilities).sum(1, keepdim=True)
    return largest[:, :1] - largest[:, 1:], entropy, top


def two_largest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest and the second largest logit and their classes, the lower class of two that tie.

    Use this instead of `topk`, which leaves ties to chance, and logits in bfloat16 do tie.

    Args:
        logits: (batch, classes, *any).

    Returns:
        Values and indices, (batch, 2, *any) each.
    """
    first, first_class = _largest(logits)
    second, second_class = _largest(logits.scatter(1, first_class, -math.inf))
    return torch.cat([first, second], 1), torch.cat([first_class, second_class], 1)


def _largest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return value and index of the largest logit, the first of equal ones, (batch, 1, *any) each.

    The index is the number of classes after which the largest has not come yet: counting is vectorised, and faster on
    the CPU than `max` (`docs/developer/performance.md`).
    """
    so_far = list(itertools.accumulate(logits.unbind(1), torch.maximum))
    largest = so_far[-1]
    index = torch.zeros(largest.shape, dtype=torch.uint8, device=logits.device)
    for value in so_far[:-1]:
        index += (value < largest).to(torch.uint8)
    return largest[:, None], index[:, None].long()


def voxelwise(layer: nn.Linear, tensor: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer over the channel axis, the same at every voxel."""
    return layer(tensor.movedim(1, -1)).movedim(-1, 1)


def uniform(outputs: int, inputs: int) -> torch.Tensor:
    """Draw initial weights of a 1-wide convolution as torch does: uniform within 1 / sqrt(inputs)."""
    bound = 1 / math.sqrt(inputs)
    return torch.empty(outputs, inputs).uniform_(-bound, bound)


CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
LINEAR_MODES = {2: "bilinear", 3: "trilinear"}


def resized(tensor: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Interpolate (batch, channels, *spatial) linearly to `size`; unchanged if it fits already."""
    if tuple(tensor.shape[2:]) == tuple(size):
        return tensor
    return functional.interpolate(tensor, tuple(size), mode=LINEAR_MODES[tensor.ndim - 2], align_corners=False)


def largest(taps: Sequence[torch.Tensor]) -> torch.Size:
    """Return the spatial size of the finest tap."""
    return max((tap.shape[2:] for tap in taps), key=lambda shape: shape.numel())


class Fusion(nn.Module, ABC):
    """Base of all fusions: from taps (batch, channels_i, *spatial_i) to features (batch, features, *spatial)."""

    @abstractmethod
    def live_channels(self, taps: Sequence[torch.Tensor]) -> float:
        """Count floats a voxel of the finest tap that are alive at once besides the taps, to predict memory."""

    def detail(self, taps: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """Compute what is seen at full resolution besides. Returns None if the fused features are all there is."""
        return None


def full_responses(
    fusion: Fusion, head: UncertaintyHead, taps: Sequence[torch.Tensor], size: Sequence[int]
) -> torch.Tensor:
    """Compute the responses of a head on the grid of the logits, what the fusion sees at full resolution included."""
    found, detail = resized(head.responses(fusion(taps)), size), fusion.detail(taps)
    return head.with_detail(found, None if detail is None else resized(detail, size))


class TracedForm:
    """A head as it is. A head type may bring a form that is faster where channels come first (`HeadType`)."""

    def responses(
        self, fusion: Fusion, head: UncertaintyHead, taps: list[torch.Tensor], size: torch.Size
    ) -> tuple[torch.Tensor, ...]:
        """Compute the parts of the responses, which follow each other along the channels, on the grid of the logits.

        Args:
            taps: (1, channels_i, *spatial_i).
            size: of the logits' grid.
        """
        return (full_responses(fusion, head, taps, size),)

    def maps(
        self, head: UncertaintyHead, logits: torch.Tensor, responses: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Compute what `graph_outputs.MAPS` names.

        Args:
            logits, responses: stitched, (channels, voxels).
            scale: by which tempered logits are divided before the softmax, (1,).
        """
        maps = head.maps(logits[None], responses[None])
        classes, runner_up = maps.top[0].to(torch.uint8).unbind(0)
        tempered = torch.softmax(temper_logits(logits[None], maps.calibration) / scale, 1)[0]
        found = (maps.calibration[0, 0], maps.ranking[0, 0], maps.epistemic[0, 0], tempered)
        return (classes, runner_up, *found, *(() if maps.aleatoric is None else (maps.aleatoric[0, 0],)))
