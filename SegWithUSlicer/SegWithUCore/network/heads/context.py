"""The head that is made here: the ranking map is the log-odds of an error, learnt with proper scores alone."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from . import base
from .paper import INITIAL_SCALE, MINIMUM_SCALE

CONTEXT = 8
HIDDEN = 16
"""On validation cases 16 with ReLU are as good as 24 with GELU, and faster."""
ENERGY_FLOOR = 1e-4
INITIAL_TEMPERING = -2.0


class ContextHead(base.UncertaintyHead):
    """Log-odds of an error and softening of the logits, from probes, surroundings and the competing classes.

    Each voxel is described by the log-odds of an error that the softmax gives, its entropy, the energy with which the
    rank-1 probes shake its probabilities, the aleatoric branch, `CONTEXT` free features, and the pair of predicted and
    second most probable class. One hidden layer makes two numbers of it: a correction of these log-odds, which then are
    the ranking map, and the calibration map before its softplus.

    Args:
        features: channels of the fused features.
        num_classes: classes of the backbone, 2 or more.
        probes: number R of rank-1 probes; 0 leaves their energy out.
        aleatoric: whether there is an aleatoric branch.
    """

    def __init__(self, features: int, num_classes: int, probes: int = 8, aleatoric: bool = True) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"a head needs at least 2 classes, not {num_classes}")
        self.num_classes = num_classes
        self.probes = probes
        self.probe_weight = nn.Parameter(base.uniform(probes, features))
        self.scale = nn.Parameter(torch.full((probes,), math.log(math.expm1(INITIAL_SCALE))))
        self.to_logits = nn.Parameter(base.uniform(num_classes, probes) if probes else torch.empty(num_classes, 0))
        self.aleatoric = nn.Linear(features, 1) if aleatoric else None
        self.context = nn.Linear(features, CONTEXT)
        self.hidden = nn.Linear(2 + bool(probes) + aleatoric + CONTEXT, HIDDEN)
        self.pairs = nn.Embedding(num_classes**2, HIDDEN)
        self.out = nn.Linear(HIDDEN, 2)
        self.gain = nn.Parameter(torch.tensor(1.0))
        nn.init.zeros_(self.pairs.weight)  # a pair that training never shows stays neutral
        nn.init.zeros_(self.out.weight)  # begins as the softmax's own log-odds
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0, INITIAL_TEMPERING]))

    @property
    def response_channels(self) -> int:
        """Channels of `responses`: the probes, one for the aleatoric branch, the free features."""
        return self.probes + (self.aleatoric is not None) + CONTEXT

    def responses(self, features: torch.Tensor) -> torch.Tensor:
        """Probe responses v, the aleatoric pre-activation and the free features, linear in the fused features.

        Args:
            features: (batch, features, *any).

        Returns:
            (batch, response_channels, *any).
        """
        layers = [self.context] if self.aleatoric is None else [self.aleatoric, self.context]
        weight = torch.cat([self.probe_weight, *(layer.weight for layer in layers)])
        bias = torch.cat([self.probe_weight.new_zeros(self.probes), *(layer.bias for layer in layers)])
        # One product, channels last in memory: interpolating that is faster (docs/developer/performance.md).
        return functional.linear(features.movedim(1, -1), weight, bias).movedim(-1, 1)

    def with_detail(self, responses: torch.Tensor, detail: torch.Tensor | None) -> torch.Tensor:
        """Add the detail (batch, CONTEXT, *any) to the free features, in place."""
        if detail is not None:
            responses[:, self.response_channels - CONTEXT :] += detail
        return responses

    def maps(self, logits: torch.Tensor, responses: torch.Tensor) -> base.UncertaintyMaps:
        """Compute all maps of voxels whose logits and responses are known, in any shape.

        Args:
            logits: (batch, classes, *any).
            responses: from `responses`, (batch, response_channels, *any).
        """
        logits = logits.float()
        probabilities = torch.softmax(logits, 1)
        scales = functional.softplus(self.scale) + MINIMUM_SCALE
        odds, top = error_log_odds(logits)
        scaled = responses[:, : self.probes] * scales.reshape(1, -1, *(1,) * (logits.ndim - 2))
        energy = perturbation_energy(probabilities, top[:, :1], scaled, self.to_logits)
        evidence = [odds / 4, entropy(logits, probabilities, odds)]
        if self.probes:
            evidence.append(torch.log(energy + ENERGY_FLOOR) / 4)
        aleatoric = None
        if self.aleatoric is not None:
            aleatoric = functional.softplus(responses[:, self.probes : self.probes + 1])
            evidence.append(torch.log1p(aleatoric))
        described = torch.cat([*evidence, responses[:, self.response_channels - CONTEXT :]], 1)
        pair = self.pairs(top[:, 0] * self.num_classes + top[:, 1]).movedim(-1, 1)
        hidden = functional.relu(base.voxelwise(self.hidden, described) + pair).movedim(1, -1)
        # A product with one vector each is faster than one with a matrix of two columns.
        correction, softening = (hidden @ weight + bias for weight, bias in zip(*self.out.parameters(), strict=True))
        ranking = self.gain * odds + correction[:, None]
        return base.UncertaintyMaps(functional.softplus(softening)[:, None], ranking, energy, aleatoric, top)


def perturbation_energy(
    probabilities: torch.Tensor, best: torch.Tensor, scaled: torch.Tensor, to_logits: torch.Tensor
) -> torch.Tensor:
    """Compute the variance of the probabilities for independent random signs of the probes, to first order.

    The Jacobian of the softmax takes probe r, with W_c[:, r] for the logits, to p (w_r - p . w_r); squares are summed
    over classes and probes. It needs no sign patterns and no further softmax, and is the limit that the paper's
    variance (`docs/reference/method.md` section 3.7) approaches for small, balanced perturbations.

    The most probable class stands apart: where it is nearly certain, w_r - p . w_r is what the others take from it, and
    a difference of large numbers would be rounding, other on each processor.

    Args:
        probabilities: p, (batch, classes, *any).
        best: index of the most probable class, (batch, 1, *any).
        scaled: sigma_r v_r, (batch, R, *any).
        to_logits: W_c, (classes, R).

    Returns:
        (batch, 1, *any), 0 without probes.
    """
    others = probabilities.scatter(1, best, 0)
    squares, own = others.square(), to_logits[best[:, 0]].movedim(-1, 1)
    gain = torch.einsum("cr,bc...->br...", to_logits, others) - own * others.sum(1, keepdim=True)
    mean = own + gain
    first = torch.einsum("cr,bc...->br...", to_logits.square(), squares)
    second = torch.einsum("cr,bc...->br...", to_logits, squares)
    shaken = first - 2 * mean * second + mean.square() * squares.sum(1, keepdim=True)
    shaken = shaken + (probabilities.gather(1, best) * gain).square()
    return (scaled.square() * shaken.clamp_min(0)).sum(1, keepdim=True)


def error_log_odds(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute log((1 - p) / p) for the most probable class's p, exact also where p rounds to 1.

    Args:
        logits: (batch, classes, *any).

    Returns:
        The log-odds, (batch, 1, *any), and the classes of `two_largest`, (batch, 2, *any).
    """
    values, top = base.two_largest(logits)
    best, second = values[:, :1], values[:, 1:]
    # The best class counts 1 here, as the second does: what is left without it is 1 or more, and nothing cancels.
    others = torch.exp((logits - second).clamp_max(0)).sum(1, keepdim=True) - 1
    return torch.log(others) + second - best, top


def entropy(logits: torch.Tensor, probabilities: torch.Tensor, odds: torch.Tensor) -> torch.Tensor:
    """Compute the entropy of the softmax in nats, (batch, 1, *any).

    With z' the largest logit it is log(sum exp(z - z')) + sum p (z' - z), two positive terms: nothing cancels, and the
    first is the softplus of the log-odds.

    Args:
        logits, probabilities: (batch, classes, *any).
        odds: from `error_log_odds`.
    """
    best = logits.amax(1, keepdim=True)
    return functional.softplus(odds) + (probabilities * (best - logits)).sum(1, keepdim=True)


CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
STEPS = 2
DETAIL = 8
"""Channels of what is seen at full resolution; as many as the head has free features."""


class ContextFusion(base.Fusion):
    """Fusion at half the resolution of the finest tap, with a thin branch at full resolution.

    Projected taps are added, and two residual convolutions see the surroundings. The branch (`detail`) sees the last
    tap, the finest, as it is.

    Only axes that the backbone halves, too, are halved (all, where all taps have one size): thick slices stay apart.

    Averaging comes before the projection where a tap is finer and interpolation after it where it is coarser: a 1-wide
    convolution may change places with both, so the order is free and the cheap one is taken.
    Without any norm, what a voxel gets depends on its surroundings alone (up to 6 voxels away) and not on the window.

    Args:
        tap_channels: channels of each tap.
        features: channels after fusion.
        spatial_dims: 2 or 3.
    """

    def __init__(self, tap_channels: Sequence[int], features: int = 24, spatial_dims: int = 3) -> None:
        super().__init__()
        convolution = base.CONVOLUTIONS[spatial_dims]
        self.projections = nn.ModuleList(convolution(n, features, 1, bias=False) for n in tap_channels)
        self.bias = nn.Parameter(torch.zeros(features, *(1,) * spatial_dims))
        self.around = nn.ModuleList(convolution(features, features, 3, padding=1) for _ in range(STEPS))
        self.finest = nn.ModuleList(
            [
                convolution(tap_channels[-1], DETAIL, 1),
                convolution(DETAIL, DETAIL, 3, padding=1, groups=DETAIL),
                convolution(DETAIL, DETAIL, 1, bias=False),
            ]
        )

    def live_channels(self, taps: Sequence[torch.Tensor]) -> float:
        """Count every tap averaged at half resolution, and sum, activation, convolution and result of one step."""
        channels = sum(tap.shape[1] for tap in taps) + len(self.bias) * (len(taps) + 4)
        return channels / math.prod(halving_steps(taps)) + 3 * DETAIL

    def forward(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse taps (batch, channels_i, *spatial_i) to (batch, features, *half of the largest, rounded up)."""
        steps = halving_steps(taps)
        size = torch.Size(-(-length // step) for length, step in zip(base.largest(taps), steps, strict=True))
        features = self.bias[None]
        for project, tap in zip(self.projections, taps, strict=True):
            features = features + self._projected(project, tap, size, steps)
        for convolution in self.around:
            features = features + convolution(functional.gelu(features))
        return features

    def detail(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Describe a voxel and its neighbours by the last tap, the finest: (batch, DETAIL, *its own grid)."""
        into, neighbours, out = self.finest
        seen = functional.gelu(into(taps[-1]) if torch.is_grad_enabled() else _product(into, taps[-1]))
        # One convolution a channel: channels last and float32 are faster (docs/developer/performance.md).
        with torch.autocast(seen.device.type, enabled=False):
            seen = neighbours(seen.float().contiguous(memory_format=CHANNELS_LAST[seen.ndim - 2]))
        # Channels stay last: a product is faster than a convolution, and so is adding the result.
        weight, rows = out.get_parameter("weight").flatten(1), functional.gelu(seen).movedim(1, -1)
        return functional.linear(rows, weight).movedim(-1, 1)

    @staticmethod
    def _projected(project: nn.Module, tap: torch.Tensor, size: torch.Size, steps: tuple[int, ...]) -> torch.Tensor:
        coarse = tap.shape[2:].numel() <= size.numel()
        stays = tap.device.type == "cpu" and not torch.is_grad_enabled()
        if not coarse and not stays:
            return base.resized(project(averaged(tap, steps)), size)
        # Channels last: interpolating is faster, and without gradients they stay so for the convolutions.
        source, weight = tap if coarse else averaged(tap, steps), project.get_parameter("weight").flatten(1)
        found = base.resized(functional.linear(source.movedim(1, -1), weight).movedim(-1, 1), size)
        return found if stays else found.contiguous()


def _product(layer: nn.Module, tap: torch.Tensor) -> torch.Tensor:
    """Apply a 1-wide convolution with a bias as one product, channels first: faster than the convolution."""
    weight, bias = layer.get_parameter("weight").flatten(1), layer.get_parameter("bias")
    return torch.matmul(weight, tap.flatten(2)).add_(bias[:, None]).unflatten(2, tap.shape[2:])


def averaged(tap: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
    """Average 2 voxels along each axis whose step is 2, in float32; the last voxel of an odd length stands alone.

    Sums of strided views are faster on the CPU than `avg_pool3d` (`docs/developer/performance.md`).

    Args:
        tap: (batch, channels, *spatial).
        steps: 1 or 2 for each axis.

    Returns:
        (batch, channels, *spatial / steps, rounded up).
    """
    total = tap
    for axis, step in enumerate(steps, 2):
        if step == 1:
            continue
        first, second = (total[(slice(None),) * axis + (slice(start, None, 2),)] for start in (0, 1))
        if first.shape[axis] > second.shape[axis]:
            second = torch.cat([second, first.narrow(axis, -1, 1)], axis)
        total = first.float() + second
    return total / math.prod(steps)


def halving_steps(taps: Sequence[torch.Tensor]) -> tuple[int, ...]:
    """Return the step of each axis: 2 if some tap is coarser there than the finest, or everywhere if none is."""
    coarser = [min(lengths) < max(lengths) for lengths in zip(*(tap.shape[2:] for tap in taps), strict=True)]
    return tuple(2 if halves or not any(coarser) else 1 for halves in coarser)
