"""What a head of ours is trained with: two proper scores and nothing else."""

import torch
from torch.nn import functional

from ..network.heads.base import UncertaintyMaps, tempered
from .losses import flat_voxels, negative_log_likelihood


def proper_scores(
    logits: torch.Tensor, maps: UncertaintyMaps, labels: torch.Tensor, valid: torch.Tensor
) -> dict[str, torch.Tensor]:
    """NLL of the tempered probabilities, and cross-entropy of the error probability whose log-odds is the ranking map.

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
    softened = tempered(z, maps.calibration.flatten()[inside][:, None])
    return {
        "nll": negative_log_likelihood(softened, truth),
        "error_cross_entropy": functional.binary_cross_entropy_with_logits(maps.ranking.flatten()[inside], error),
    }
