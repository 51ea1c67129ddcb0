"""The context head in the form that is traced for other engines: channels first, no join, products instead of moves.

The head itself keeps channels last in memory, which is what makes torch fast and OpenVINO slow
(`docs/developer/performance.md`). Both give the same numbers but for rounding; a test compares them.
"""

from typing import cast

import torch
from torch.nn import functional

from .base import Fusion, TracedForm, UncertaintyHead, largest, resized
from .context import CONTEXT, ENERGY_FLOOR, ContextFusion, ContextHead, halving_steps
from .paper import MINIMUM_SCALE

FEW_PAIRS = 64
"""Up to so many pairs of classes a product with zeros and ones is faster than looking up their rows."""
POOLS = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}
LOWEST = -3.0e38


class TracedContext(TracedForm):
    """Responses in two parts, probes with the data part and the free features; maps row by row.

    Every quantity of the maps is (rows, voxels), and linear layers are products from the left.
    """

    def responses(
        self, fusion: Fusion, head: UncertaintyHead, taps: list[torch.Tensor], size: torch.Size
    ) -> tuple[torch.Tensor, ...]:
        """As `TracedForm.responses`."""
        head, fusion = cast(ContextHead, head), cast(ContextFusion, fusion)
        features = _fused(fusion, taps)
        layers = [] if head.aleatoric is None else [head.aleatoric]
        weight = torch.cat([head.probe_weight, *(layer.weight for layer in layers)])
        bias = torch.cat([head.probe_weight.new_zeros(head.probes), *(layer.bias for layer in layers)])
        free = _voxelwise(features, head.context.weight, head.context.bias)
        probes = (resized(_voxelwise(features, weight, bias), size),) if len(weight) else ()
        return (*probes, resized(free, size) + resized(_detail(fusion, taps), size))

    def maps(
        self, head: UncertaintyHead, logits: torch.Tensor, responses: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """As `TracedForm.maps`."""
        head = cast(ContextHead, head)
        best, second, first_class, second_class = _two_largest(logits)
        probabilities = _softmax(logits, best)
        others = torch.exp((logits - second).clamp_max(0)).sum(0, keepdim=True) - 1
        odds = torch.log(others) + second - best
        entropy = functional.softplus(odds) + (probabilities * (best - logits)).sum(0, keepdim=True)
        energy = _energy(head, probabilities, first_class, responses[: head.probes])
        evidence, data = [odds / 4, entropy], list[torch.Tensor]()
        if head.probes:
            evidence.append(torch.log(energy + ENERGY_FLOOR) / 4)
        if head.aleatoric is not None:
            aleatoric = _softplus(responses[head.probes : head.probes + 1])
            evidence.append(torch.log1p(aleatoric))
            data.append(aleatoric[0])
        described = torch.cat([*evidence, responses[head.response_channels - CONTEXT :]], 0)
        pairs = _pairs(head, first_class, second_class)
        hidden = functional.relu(head.hidden.weight @ described + head.hidden.bias[:, None] + pairs)
        correction, softening = (head.out.weight @ hidden + head.out.bias[:, None]).split(1)
        calibration = _softplus(softening)
        tempered = logits / torch.sqrt(1 + calibration).clamp_min(1) / scale
        return (
            first_class[0].to(torch.uint8),
            second_class[0].to(torch.uint8),
            calibration[0],
            (head.gain * odds + correction)[0],
            energy[0],
            _softmax(tempered, tempered.amax(0, keepdim=True)),
            *data,
        )


def _detail(fusion: ContextFusion, taps: list[torch.Tensor]) -> torch.Tensor:
    into, neighbours, out = fusion.finest
    return out(functional.gelu(neighbours(functional.gelu(into(taps[-1])))))


def _fused(fusion: ContextFusion, taps: list[torch.Tensor]) -> torch.Tensor:
    steps = halving_steps(taps)
    size = torch.Size(-(-int(length) // step) for length, step in zip(largest(taps), steps, strict=True))
    features = fusion.bias[None]
    for project, tap in zip(fusion.projections, taps, strict=True):
        if tap.shape[2:].numel() > size.numel():
            # An odd length's last voxel stands alone, as in `averaged`.
            tap = POOLS[len(size)](tap, steps, ceil_mode=True, count_include_pad=False)
        features = features + resized(project(tap), size)
    for convolution in fusion.around:
        features = features + convolution(functional.gelu(features))
    return features


def _voxelwise(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer over the channels as a 1-wide convolution."""
    axes = features.ndim - 2
    return CONVOLUTIONS[axes](features, weight.reshape(*weight.shape, *(1,) * axes), bias)


def _softmax(logits: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
    """Softmax over rows whose largest is known; faster than the operation of that name along the slowest axis."""
    raised = torch.exp(logits - best)
    return raised / raised.sum(0, keepdim=True)


def _softplus(values: torch.Tensor) -> torch.Tensor:
    """Softplus that is never below 0: OpenVINO's goes to -2e-6."""
    return functional.softplus(values).clamp_min(0)


def _two_largest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the largest and second largest of the rows and their numbers as floats, (1, voxels) each; see `base`."""
    found = []
    for _ in range(2):
        best, place = logits[:1], torch.zeros_like(logits[:1])
        for number in range(1, len(logits)):
            larger = logits[number : number + 1] > best
            place = torch.where(larger, torch.full_like(place, float(number)), place)
            best = torch.maximum(best, logits[number : number + 1])
        found.append((best, place))
        rows = [torch.where(place == number, LOWEST, logits[number : number + 1]) for number in range(len(logits))]
        logits = torch.cat(rows, 0)
    (best, first_class), (second, second_class) = found
    return best, second, first_class, second_class


def _energy(
    head: ContextHead, probabilities: torch.Tensor, first_class: torch.Tensor, responses: torch.Tensor
) -> torch.Tensor:
    """As `perturbation_energy`, (1, voxels)."""
    if not head.probes:
        return torch.zeros_like(probabilities[:1])
    is_best = (torch.arange(head.num_classes)[:, None] == first_class).to(probabilities.dtype)
    others, weight = probabilities * (1 - is_best), head.to_logits.T
    squares, own = others * others, weight @ is_best
    gain = weight @ others - own * others.sum(0, keepdim=True)
    mean, certain = own + gain, probabilities.amax(0, keepdim=True) * gain
    shaken = (weight * weight) @ squares - 2 * mean * (weight @ squares) + mean * mean * squares.sum(0, keepdim=True)
    shaken = shaken + certain * certain
    scaled = responses * (functional.softplus(head.scale) + MINIMUM_SCALE)[:, None]
    return (scaled * scaled * shaken.clamp_min(0)).sum(0, keepdim=True)


def _pairs(head: ContextHead, first_class: torch.Tensor, second_class: torch.Tensor) -> torch.Tensor:
    """Return what the hidden layer gets of predicted class and runner-up, (hidden, voxels)."""
    pair, table = first_class * head.num_classes + second_class, head.pairs.weight
    if len(table) > FEW_PAIRS:
        return functional.embedding(pair[0].long(), table).T
    chosen = torch.cat([(pair == number).to(table.dtype) for number in range(len(table))], 0)
    return table.T @ chosen
