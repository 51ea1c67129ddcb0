"""Tempering and epistemic variance, against their definitions in METHOD.md."""

import pytest
import torch

from SegWithUCore.network.heads.base import temper_logits
from SegWithUCore.network.heads.paper import epistemic_variance, perturbation, sign_patterns


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("classes", [2, 4])
def test_tempering_only_softens_and_never_changes_the_segmentation(classes: int) -> None:
    logits = 5 * noise(2, classes, 8, 9, 10)
    for calibration in (
        noise(2, 1, 8, 9, 10, seed=2).exp(),
        torch.zeros(2, 1, 8, 9, 10),
        torch.full((2, 1, 8, 9, 10), 1e4),
    ):
        softened = temper_logits(logits, calibration)
        assert torch.equal(softened.argmax(1), logits.argmax(1))
        assert (softened.abs() <= logits.abs()).all()
        confident = torch.softmax(softened, 1).amax(1), torch.softmax(logits, 1).amax(1)
        assert (confident[0] <= confident[1] + 1e-6).all()
    assert torch.equal(temper_logits(logits, torch.zeros(2, 1, 8, 9, 10)), logits)
    # A map below zero must not sharpen either (it cannot come from our head, but from another's file).
    assert torch.equal(temper_logits(logits, torch.full((2, 1, 8, 9, 10), -0.5)), logits)


@pytest.mark.parametrize(("classes", "probes"), [(2, 4), (3, 8), (5, 6)])
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_epistemic_variance_equals_the_stacked_definition_in_float64(classes: int, probes: int, size: float) -> None:
    logits, responses = 3 * noise(2, classes, 4, 5, 6), size * noise(2, probes, 4, 5, 6, seed=2)
    scales, weights, signs = noise(probes, seed=3).exp(), noise(classes, probes, seed=4), sign_patterns(probes)
    stacked = []
    for row in signs.double():
        shift = torch.zeros(2, classes, 4, 5, 6, dtype=torch.float64)
        for c in range(classes):
            for r in range(probes):
                shift[:, c] += weights[c, r].double() * scales[r].double() * row[r] * responses[:, r].double()
        stacked.append(torch.softmax(logits.double() + shift, 1))
    expected = torch.stack(stacked).var(0, correction=0).sum(1, keepdim=True)
    found = epistemic_variance(logits, responses, scales, weights, signs)
    assert float(expected.max()) > 1e-9
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6 * float(expected.max()))
    ones = perturbation(responses, scales, weights)
    torch.testing.assert_close(
        ones, torch.einsum("cr,r,brxyz->bcxyz", weights, scales, responses), rtol=1e-5, atol=1e-6
    )
