"""The head of the paper, arXiv 2604.15271: taps mixed, rank-1 probes, calibration and ranking map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ...util.errors import InputError
from . import base

# Row k (from 1) is the sign of cos(pi k (r + 1/2) / R). The last row is exactly zero in exact
# arithmetic, so its signs are float32 round-off of the reference; they are fixed here as literals
# (and so are the maps, on any device and in any precision): docs/reference/method.md section 3.6.
_SIGNS = {
    4: ("++--", "+--+", "+-+-", "-+-+"),
    6: ("+++---", "+---++", "+--++-", "+-++-+", "+-+-+-", "-+++++"),
    8: ("++++----", "++----++", "+---+++-", "+--++--+", "+-++--+-", "+-+--+-+", "+-+-+-+-", "-+-+-+-+"),
}


def sign_patterns(probes: int) -> torch.Tensor:
    """Return the deterministic sign patterns S, float32 (patterns, probes) with entries +1 and -1."""
    if probes in _SIGNS:
        return torch.tensor([[1.0 if sign == "+" else -1.0 for sign in row] for row in _SIGNS[probes]])
    k = torch.arange(1, probes + 1, dtype=torch.float32)[:, None]
    r = torch.arange(probes, dtype=torch.float32)[None]
    return torch.where(torch.cos(torch.pi * k * (r + 0.5) / probes) >= 0, 1.0, -1.0)


def perturbation(responses: torch.Tensor, scales: torch.Tensor, to_logits: torch.Tensor) -> torch.Tensor:
    """Compute the change of the logits delta(s) (`docs/reference/method.md` section 3.5).

    Args:
        responses: s * v, already multiplied by their signs, (batch, R, *any).
        scales: sigma, (R,).
        to_logits: W_c, (classes, R).

    Returns:
        (batch, classes, *any).
    """
    return torch.einsum("cr,br...->bc...", to_logits * scales, responses)


def epistemic_variance(
    logits: torch.Tensor, responses: torch.Tensor, scales: torch.Tensor, to_logits: torch.Tensor, signs: torch.Tensor
) -> torch.Tensor:
    """Sum the variance of the perturbed probabilities over classes (`docs/reference/method.md` section 3.7).

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


MINIMUM_SCALE = 1e-6

INITIAL_SCALE = 0.1


@dataclass(frozen=True)
class PaperMaps(base.UncertaintyMaps):
    """The maps of the paper's head and what its losses need; (batch, 1, *any) unless noted otherwise.

    Attributes:
        epistemic: variance of the perturbed probabilities, summed over classes.
        residual: mean over classes of the squared unsigned perturbation.
        margin: difference of the two largest probabilities.
        entropy: of the softmax, in nats.
        ambiguity: exp(-gamma margin).
        anchor: the fixed combination that the ranking map stays close to.
        perturbation: delta(1), (batch, classes, *any).
    """

    residual: torch.Tensor
    margin: torch.Tensor
    entropy: torch.Tensor
    ambiguity: torch.Tensor
    anchor: torch.Tensor
    perturbation: torch.Tensor


class PaperHead(base.UncertaintyHead):
    """The head of the paper, arXiv 2604.15271, as its reference code computes it.

    Formulas: `docs/reference/method.md` sections 3.3 to 3.13.

    Args:
        features: channels of the fused features.
        num_classes: classes of the backbone, 2 or more.
        probes: number R of rank-1 probes.
        aleatoric: whether there is an aleatoric branch.
        margin_gamma: steepness of the ambiguity weight.
    """

    def __init__(
        self, features: int, num_classes: int, probes: int = 8, aleatoric: bool = True, margin_gamma: float = 4.0
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a head needs at least 2 classes, not {num_classes}")
        if probes < 2:
            raise InputError(f"The paper's head needs at least 2 probes, not {probes}: their variance is its signal.")
        self.num_classes = num_classes
        self.probes = probes
        self.margin_gamma = margin_gamma
        self.probe_weight = nn.Parameter(base.uniform(probes, features))
        self.scale = nn.Parameter(torch.full((probes,), math.log(math.expm1(INITIAL_SCALE))))
        self.to_logits = nn.Parameter(base.uniform(num_classes, probes))
        self.aleatoric = nn.Linear(features, 1) if aleatoric else None
        self.calibration = nn.Linear(3 if aleatoric else 2, 1)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(0.0))
        self.ambiguity_weight = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("signs", sign_patterns(probes), persistent=False)
        self.signs: torch.Tensor

    @property
    def response_channels(self) -> int:
        """Channels of `responses`: the probes, and one for the aleatoric branch."""
        return self.probes + (self.aleatoric is not None)

    def responses(self, features: torch.Tensor) -> torch.Tensor:
        """Compute probe responses v and the aleatoric pre-activation, linear in the features.

        Args:
            features: (batch, features, *any).

        Returns:
            (batch, response_channels, *any).
        """
        probes = torch.einsum("rf,bf...->br...", self.probe_weight, features)
        return probes if self.aleatoric is None else torch.cat([probes, base.voxelwise(self.aleatoric, features)], 1)

    def maps(self, logits: torch.Tensor, responses: torch.Tensor) -> PaperMaps:
        """Compute all maps of voxels whose logits and responses are known, in any shape.

        Args:
            logits: (batch, classes, *any).
            responses: from `responses`, (batch, response_channels, *any).
        """
        probes = responses[:, : self.probes]
        scales = functional.softplus(self.scale) + MINIMUM_SCALE
        epistemic = epistemic_variance(logits, probes, scales, self.to_logits, self.signs)
        shift = perturbation(probes, scales, self.to_logits)
        residual = shift.square().mean(1, keepdim=True)
        aleatoric = None if self.aleatoric is None else functional.softplus(responses[:, self.probes :])
        margin, entropy, top = base.margin_and_entropy(logits)
        ambiguity = torch.exp(-self.margin_gamma * margin.detach())

        evidence = [torch.log1p(epistemic + residual)]
        if aleatoric is not None:
            evidence.append(torch.log1p(aleatoric))
        calibration = functional.softplus(base.voxelwise(self.calibration, torch.cat([*evidence, margin], 1)))

        share_of_entropy = entropy / max(math.log(self.num_classes), 1.0)
        anchor = torch.log1p(epistemic) + 0.5 * torch.log1p(residual) + 0.25 * torch.log1p(calibration)
        anchor = anchor + 0.25 * share_of_entropy + ambiguity
        gain = 1 + 0.1 * torch.tanh(self.gain)
        ranking = gain * anchor + self.offset + functional.softplus(self.ambiguity_weight) * ambiguity
        return PaperMaps(
            calibration, ranking, epistemic, aleatoric, top, residual, margin, entropy, ambiguity, anchor, shift
        )


MIXING_COPIES = 3.4
"""Copies of the fused features that are alive at once while mixing. Measured in all, on the CPU: 1310 to 1460 bytes a
voxel for the shipped DynUNet, 330 for a MeshNet of 5 filters with 8 features."""


class MultiScaleFusion(base.Fusion):
    """Project each tap, enlarge all to the largest, mix with two 3-wide convolutions.

    Each projection is a convolution of width 1 without bias; each mixing step is convolution, affine
    InstanceNorm, GELU. Source: the reference's fusion module, `docs/reference/method.md`
    section 3.2.

    Args:
        tap_channels: channels of each tap.
        features: channels after fusion.
        spatial_dims: 2 or 3.
    """

    def __init__(self, tap_channels: Sequence[int], features: int = 32, spatial_dims: int = 3) -> None:
        super().__init__()
        self.features = features
        convolution, norm = base.CONVOLUTIONS[spatial_dims], base.NORMS[spatial_dims]
        self.projections = nn.ModuleList(convolution(n, features, 1, bias=False) for n in tap_channels)
        self.mixing = nn.Sequential(
            convolution(features * len(tap_channels), features, 3, padding=1, bias=False),
            norm(features, affine=True),
            nn.GELU(),
            convolution(features, features, 3, padding=1, bias=False),
            norm(features, affine=True),
            nn.GELU(),
        )

    def live_channels(self, taps: Sequence[torch.Tensor]) -> float:
        """Count the projections of all taps, enlarged and joined, and copies while mixing."""
        return self.features * (2 * len(taps) + MIXING_COPIES)

    def forward(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse taps (batch, channels_i, *spatial_i) to (batch, features, *largest)."""
        size = base.largest(taps)
        projected = [base.resized(project(tap), size) for project, tap in zip(self.projections, taps, strict=True)]
        return self.mixing(torch.cat(projected, 1))
