"""What trains a head: the paper's seven terms (`docs/reference/method.md`, section 3, "Losses"), or two proper scores.

A voxel is in error where the arg max of the untempered logits differs from the reference.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch.nn import functional

from .base import HeadLoss, UncertaintyMaps, temper_logits
from .paper import PaperMaps

MAXIMUM_PAIRS = 65536
TAIL_TEMPERATURE = 0.25
PROBABILITY_FLOOR = 1e-12


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term; the defaults are the paper's."""

    nll: float = 0.5
    error_correlation: float = 0.25
    pairwise: float = 0.25
    tail: float = 0.25
    trust: float = 0.05
    anchor: float = 0.05
    residual: float = 0.05


def paper_loss(
    logits: torch.Tensor,
    maps: UncertaintyMaps,
    labels: torch.Tensor,
    valid: torch.Tensor,
    generator: torch.Generator,
) -> HeadLoss:
    """Sum the paper's terms with the paper's weights; see `LossFunction` for the arguments."""
    terms = paper_terms(logits, cast(PaperMaps, maps), labels, valid, generator)
    return HeadLoss(weighted_sum(terms, LossWeights()), terms)


def proper_loss(
    logits: torch.Tensor,
    maps: UncertaintyMaps,
    labels: torch.Tensor,
    valid: torch.Tensor,
    generator: torch.Generator,
) -> HeadLoss:
    """Sum the two proper scores, which need no random draws; see `LossFunction` for the arguments."""
    terms = proper_scores(logits, maps, labels, valid)
    return HeadLoss(torch.stack(list(terms.values())).sum(), terms)


def paper_terms(
    logits: torch.Tensor,
    maps: PaperMaps,
    labels: torch.Tensor,
    valid: torch.Tensor,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Compute every term, unweighted, over the voxels of a batch that are not padding.

    Args:
        logits: (batch, classes, *spatial), not tempered.
        maps: of the same voxels.
        labels: class of each voxel, (batch, 1, *spatial).
        valid: 0 in padding, same shape as `labels`.
        generator: draws the pairs.

    Returns:
        One scalar per field of `LossWeights`.
    """
    inside = valid.flatten() > 0
    z = flat_voxels(logits)[inside]
    truth = labels.flatten()[inside].long()
    error = (z.argmax(1) != truth).float()
    ranking, anchor = maps.ranking.flatten()[inside], maps.anchor.flatten()[inside]
    softened = temper_logits(z, maps.calibration.flatten()[inside][:, None])
    delta = flat_voxels(maps.perturbation)[inside]
    weight = maps.ambiguity.flatten()[inside].detach()
    standard = z_score(ranking)
    return {
        "nll": negative_log_likelihood(softened, truth),
        "error_correlation": functional.binary_cross_entropy_with_logits(standard, error),
        "pairwise": pairwise_ranking(standard, error, generator),
        "tail": (torch.softmax(-ranking / TAIL_TEMPERATURE, 0) * error).sum(),
        "trust": delta.square().mean() + 0.25 * (torch.softmax(z + delta, 1) - torch.softmax(z, 1)).square().mean(),
        "anchor": functional.smooth_l1_loss(standard, z_score(anchor.detach())),
        "residual": ((1 - weight) * maps.residual.flatten()[inside]).mean(),
    }


def weighted_sum(terms: Mapping[str, torch.Tensor], weights: LossWeights) -> torch.Tensor:
    """Add up the terms, each times its weight."""
    return torch.stack([weight * terms[name] for name, weight in asdict(weights).items()]).sum()


def negative_log_likelihood(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log softmax(logits) at the true class, probabilities floored at 1e-12."""
    probability = torch.softmax(logits, 1).gather(1, truth[:, None])
    return -probability.clamp_min(PROBABILITY_FLOOR).log().mean()


def pairwise_ranking(standard: torch.Tensor, error: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mean the softplus of (correct - wrong) over random pairs of a wrong and a correct voxel; 0 without both."""
    wrong, correct = torch.nonzero(error > 0).flatten(), torch.nonzero(error == 0).flatten()
    pairs = min(MAXIMUM_PAIRS, len(wrong) * len(correct))
    if not pairs:
        return standard.sum() * 0
    i = wrong[torch.randint(len(wrong), (pairs,), generator=generator)]
    j = correct[torch.randint(len(correct), (pairs,), generator=generator)]
    return functional.softplus(standard[j] - standard[i]).mean()


def z_score(values: torch.Tensor) -> torch.Tensor:
    """Shift and scale to zero mean and unit population deviation over all given voxels."""
    return (values - values.mean()) / (values.std(correction=0) + 1e-6)


def flat_voxels(tensor: torch.Tensor) -> torch.Tensor:
    """Reshape (batch, channels, *spatial) to (voxels, channels)."""
    return tensor.movedim(1, -1).flatten(0, -2)


def proper_scores(
    logits: torch.Tensor, maps: UncertaintyMaps, labels: torch.Tensor, valid: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Compute the NLL of the tempered probabilities and the cross-entropy of the error probability.

    The log-odds of the error probability are the ranking map.

    Each is least where the probability is right (Gneiting and Raftery, JASA 2007), over all voxels that are not
    padding; no weights, pairs or standardised batches move that optimum.

    Args:
        logits: (batch, classes, *spatial), not tempered.
        maps: of the same voxels.
        labels: class of each voxel, (batch, 1, *spatial).
        valid: 0 in padding, same shape as `labels`.
    """
    inside = valid.flatten() > 0
    z = flat_voxels(logits)[inside]
    truth = labels.flatten()[inside].long()
    error = (z.argmax(1) != truth).float()
    softened = temper_logits(z, maps.calibration.flatten()[inside][:, None])
    return {
        "nll": negative_log_likelihood(softened, truth),
        "error_cross_entropy": functional.binary_cross_entropy_with_logits(maps.ranking.flatten()[inside], error),
    }
