"""Rank voxels by the entropy of the softmax, and learn from the features how far to soften it."""

import torch
from torch import nn
from torch.nn import functional

import segwithu


class EntropyHead(segwithu.UncertaintyHead):
    """Log-odds of an error that are linear in the entropy."""

    def __init__(self, features: int, num_classes: int, probes: int = 0, aleatoric: bool = False) -> None:
        super().__init__()
        self.num_classes, self.probes, self.aleatoric = num_classes, 0, None
        self.softening = nn.Linear(features, 1)
        self.gain, self.offset = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))

    @property
    def response_channels(self) -> int:
        return 1

    def responses(self, features: torch.Tensor) -> torch.Tensor:
        return self.softening(features.movedim(1, -1)).movedim(-1, 1)

    def maps(self, logits: torch.Tensor, responses: torch.Tensor) -> segwithu.UncertaintyMaps:
        _, entropy, top = segwithu.margin_and_entropy(logits)
        ranking = self.gain * entropy + self.offset
        return segwithu.UncertaintyMaps(functional.softplus(responses), ranking, torch.zeros_like(entropy), None, top)


ENTROPY = segwithu.HeadType(
    fusion=segwithu.MultiScaleFusion,
    head=EntropyHead,
    loss=segwithu.proper_loss,
    text=segwithu.HeadText("ranks by the entropy of the softmax", ranking="log-odds, before they are fitted"),
)
