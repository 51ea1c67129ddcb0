"""Rank-1 posterior probes: signed perturbations of the logits and what they reveal.

Everything here acts voxel by voxel: tensors are (batch, channels, *any), with any number of
trailing axes, so that maps can be computed on a whole volume in chunks.
"""

import torch

# Row k (from 1) is the sign of cos(pi k (r + 1/2) / R). The last row is exactly zero in exact
# arithmetic, so its signs are float32 round-off of the reference; they are fixed here as literals
# (and so are the maps, on any device and in any precision). METHOD.md 3.6.
_SIGNS = {
    4: ("++--", "+--+", "+-+-", "-+-+"),
    6: ("+++---", "+---++", "+--++-", "+-++-+", "+-+-+-", "-+++++"),
    8: ("++++----", "++----++", "+---+++-", "+--++--+", "+-++--+-", "+-+--+-+", "+-+-+-+-", "-+-+-+-+"),
}


def sign_patterns(probes: int) -> torch.Tensor:
    """The deterministic sign patterns S, float32 (patterns, probes) with entries +1 and -1."""
    if probes in _SIGNS:
        return torch.tensor([[1.0 if sign == "+" else -1.0 for sign in row] for row in _SIGNS[probes]])
    k = torch.arange(1, probes + 1, dtype=torch.float32)[:, None]
    r = torch.arange(probes, dtype=torch.float32)[None]
    return torch.where(torch.cos(torch.pi * k * (r + 0.5) / probes) >= 0, 1.0, -1.0)


def perturbation(responses: torch.Tensor, scales: torch.Tensor, to_logits: torch.Tensor) -> torch.Tensor:
    """The change of the logits delta(s) for responses already multiplied by their signs (METHOD.md 3.5).

    Args:
        responses: s * v, (batch, R, *any).
        scales: sigma, (R,).
        to_logits: W_c, (classes, R).

    Returns:
        (batch, classes, *any).
    """
    return torch.einsum("cr,br...->bc...", to_logits * scales, responses)


def epistemic_variance(
    logits: torch.Tensor, responses: torch.Tensor, scales: torch.Tensor, to_logits: torch.Tensor, signs: torch.Tensor
) -> torch.Tensor:
    """Sum over classes of the variance of the perturbed probabilities (METHOD.md 3.7).

    The perturbed softmaxes are streamed: memory is O(classes) a voxel whatever the number of
    patterns. Deviations from the unperturbed probabilities are summed, so that the small variance
    is not lost in round-off.

    Args:
        logits: (batch, classes, *any).
        responses: v, (batch, R, *any).
        signs: (patterns, R).

    Returns:
        (batch, 1, *any), population variance over the patterns.
    """
    plain = torch.softmax(logits, 1)
    total = torch.zeros_like(plain)
    squares = torch.zeros_like(plain)
    for row in signs:
        change = torch.softmax(logits + perturbation(responses, scales * row, to_logits), 1) - plain
        total = total + change
        squares = squares + change.square()
    variance = squares / len(signs) - (total / len(signs)).square()
    return variance.clamp_min(0).sum(1, keepdim=True)
