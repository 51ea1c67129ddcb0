"""What trains a head: the paper's seven terms (`docs/reference/method.md`, section 3, "Losses"), or two proper scores.

A voxel is in error where the arg max of the untempered logits differs from the reference.
"""

import torch
from torch.nn import functional

from .base import HeadLoss, UncertaintyMaps, temper_logits
from .paper import PaperMaps

MAXIMUM_PAIRS = 65536
TAIL_TEMPERATURE = 0.25
PROBABILITY_FLOOR = 1e-12


WEIGHTS = {
    "nll": 0.5,
    "error_correlation": 0.25,
    "pairwise": 0.25,
    "tail": 0.25,
    "trust": 0.05,
    "anchor": 0.05,
    "residual": 0.05,
}
"""Of the terms, as in the paper."""


def paper_loss(
    logits: torch.Tensor, maps: UncertaintyMaps, labels: torch.Tensor, valid: torch.Tensor, generator: torch.Generator
) -> HeadLoss:
    """Sum the paper's terms with the paper's weights; see `LossFunction` for the arguments."""
    assert isinstance(maps, PaperMaps)
    inside, z, error, nll = _voxels_of(logits, maps, labels, valid)
    ranking, anchor = maps.ranking.flatten()[inside], maps.anchor.flatten()[inside]
    delta = flat_voxels(maps.perturbation)[inside]
    weight = maps.ambiguity.flatten()[inside].detach()
    standard = z_score(ranking)
    trust = delta.square().mean() + 0.25 * (torch.softmax(z + delta, 1) - torch.softmax(z, 1)).square().mean()
    terms = {
        "nll": nll,
        "error_correlation": functional.binary_cross_entropy_with_logits(standard, error),
        "pairwise": pairwise_ranking(standard, error, generator),
        "tail": (torch.softmax(-ranking / TAIL_TEMPERATURE, 0) * error).sum(),
        "trust": trust,
        "anchor": functional.smooth_l1_loss(standard, z_score(anchor.detach())),
        "residual": ((1 - weight) * maps.residual.flatten()[inside]).mean(),
    }
    return HeadLoss(torch.stack([weight * terms[name] for name, weight in WEIGHTS.items()]).sum(), terms)


def _voxels_of(
    logits: torch.Tensor, maps: UncertaintyMaps, labels: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return which voxels are not padding, their logits, whether they are in error, and the NLL when tempered."""
    inside = valid.flatten() > 0
    z = flat_voxels(logits)[inside]
    truth = labels.flatten()[inside].long()
    softened = temper_logits(z, maps.calibration.flatten()[inside][:, None])
    return inside, z, (z.argmax(1) != truth).float(), negative_log_likelihood(softened, truth)


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


def proper_loss(
    logits: torch.Tensor, maps: UncertaintyMaps, labels: torch.Tensor, valid: torch.Tensor, generator: torch.Generator
) -> HeadLoss:
    """Sum two proper scores: NLL of the tempered probabilities, and cross-entropy of the error probability.

    The log-odds of the error probability are the ranking map. Each score is least where the probability is right
    (Gneiting and Raftery, JASA 2007), over all voxels that are not padding; no weights, pairs or standardised batches
    move that optimum. See `LossFunction` for the arguments; no random draws are needed.
    """
    inside, _, error, nll = _voxels_of(logits, maps, labels, valid)
    terms = {
        "nll": nll,
        "error_cross_entropy": functional.binary_cross_entropy_with_logits(maps.ranking.flatten()[inside], error),
    }
    return HeadLoss(torch.stack(list(terms.values())).sum(), terms)
