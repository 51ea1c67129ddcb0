"""Every loss of METHOD.md section 3 against an implementation written voxel by voxel from the text."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from SegWithUCore.network.heads.base import HeadLoss
from SegWithUCore.network.heads.losses import negative_log_likelihood, pairwise_ranking, paper_loss
from SegWithUCore.network.heads.paper import PaperHead, PaperMaps

CLASSES, SHAPE = 3, (2, 1, 4, 5, 6)
USED_MAPS = ("calibration", "ranking", "residual", "ambiguity", "anchor")


class Sample:
    """Random logits, maps, labels and padding of a batch."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(channels: int) -> torch.Tensor:
            return torch.randn(SHAPE[0], channels, *SHAPE[2:], generator=generator)

        self.logits = 2 * draw(CLASSES)
        self.labels = torch.randint(CLASSES, SHAPE, generator=generator).float()
        self.valid = (torch.rand(SHAPE, generator=generator) > 0.3).float()
        one = [draw(1) for _ in range(9)]
        top = self.logits.topk(2, dim=1).indices
        self.maps = PaperMaps(one[0].exp(), one[1], one[2], one[3], top, one[4].square(), one[5], one[6],
                              one[7].sigmoid(), one[8], 0.3 * draw(CLASSES))  # fmt: skip

    def loss(self, seed: int = 0) -> HeadLoss:
        return paper_loss(self.logits, self.maps, self.labels, self.valid, torch.Generator().manual_seed(seed))

    def losses(self, seed: int = 0) -> dict[str, torch.Tensor]:
        return dict(self.loss(seed).terms)

    def voxels(self) -> list[dict[str, np.ndarray | float | int]]:
        """One entry per voxel that is not padding, in float64."""
        found = []
        for place in zip(*np.nonzero(self.valid[:, 0].numpy()), strict=True):
            b, rest = place[0], place[1:]
            at = (b, slice(None), *rest)
            found.append(
                {
                    "z": self.logits[at].double().numpy(),
                    "delta": self.maps.perturbation[at].double().numpy(),
                    "y": int(self.labels[at]),
                    **{name: float(getattr(self.maps, name)[at]) for name in USED_MAPS},
                }
            )
        return found


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    result: np.ndarray = e / e.sum()
    return result


def standardised(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return [(v - mean) / (deviation + 1e-6) for v in values]


def naive(sample: Sample) -> dict[str, float]:
    """All terms but the pairwise one, which draws at random."""
    voxels = sample.voxels()
    error = [int(np.argmax(v["z"]) != v["y"]) for v in voxels]
    ranking = [float(v["ranking"]) for v in voxels]
    u, a = standardised(ranking), standardised([float(v["anchor"]) for v in voxels])
    nll = []
    for v in voxels:
        softened = softmax(np.asarray(v["z"]) / max(1, math.sqrt(1 + v["calibration"])))
        nll.append(-math.log(max(softened[v["y"]], 1e-12)))
    bce = [-(e * math.log(1 / (1 + math.exp(-x))) + (1 - e) * math.log(1 - 1 / (1 + math.exp(-x)))) for x, e in zip(u, error, strict=True)]  # fmt: skip # noqa: E501
    tail = softmax(np.asarray([-r / 0.25 for r in ranking]))
    delta = np.stack([v["delta"] for v in voxels])
    moved = np.stack([softmax(v["z"] + v["delta"]) - softmax(np.asarray(v["z"])) for v in voxels])
    gap = [abs(x - y) for x, y in zip(u, a, strict=True)]
    return {
        "nll": float(np.mean(nll)),
        "error_correlation": float(np.mean(bce)),
        "tail": float(np.dot(tail, error)),
        "trust": float((delta**2).mean() + 0.25 * (moved**2).mean()),
        "anchor": float(np.mean([0.5 * g * g if g < 1 else g - 0.5 for g in gap])),
        "residual": float(np.mean([(1 - v["ambiguity"]) * v["residual"] for v in voxels])),
    }


@pytest.mark.parametrize("term", ["nll", "error_correlation", "tail", "trust", "anchor", "residual"])
@pytest.mark.parametrize("seed", [0, 1])
def test_term_equals_the_text(term: str, seed: int) -> None:
    sample = Sample(seed)
    expected = naive(sample)[term]
    assert expected > 1e-3
    assert float(sample.losses()[term]) == pytest.approx(expected, rel=2e-5)


def test_pairwise_term_estimates_the_mean_over_all_pairs() -> None:
    sample = Sample()
    voxels = sample.voxels()
    error = [int(np.argmax(v["z"]) != v["y"]) for v in voxels]
    u = standardised([float(v["ranking"]) for v in voxels])
    wrong = [x for x, e in zip(u, error, strict=True) if e]
    correct = [x for x, e in zip(u, error, strict=True) if not e]
    exact = np.mean([math.log1p(math.exp(c - w)) for w in wrong for c in correct])
    estimates = [float(sample.losses(seed)["pairwise"]) for seed in range(20)]
    assert np.mean(estimates) == pytest.approx(exact, rel=0.01)
    assert len(set(estimates)) > 1  # pairs are drawn, and by the generator alone
    assert estimates[0] == float(sample.losses(0)["pairwise"])


def test_pairwise_term_prefers_wrong_voxels_above_correct_ones() -> None:
    error = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])
    good, bad = torch.tensor([2.0, 2.0, -1.0, -1.0, -1.0]), torch.tensor([-2.0, -2.0, 1.0, 1.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    assert float(pairwise_ranking(good, error, generator)) == pytest.approx(math.log1p(math.exp(-3)))
    assert float(pairwise_ranking(bad, error, generator)) == pytest.approx(math.log1p(math.exp(3)))


@pytest.mark.parametrize("flaw", [0.0, 1.0])
def test_pairwise_term_is_zero_without_errors_or_without_correct_voxels(flaw: float) -> None:
    standard = torch.randn(10, requires_grad=True)
    loss = pairwise_ranking(standard, torch.full((10,), flaw), torch.Generator())
    assert loss.item() == 0
    loss.backward()
    assert standard.grad is not None
    assert (standard.grad == 0).all()


def test_padding_has_no_influence_on_any_term() -> None:
    sample, spoilt = Sample(), Sample()
    outside = spoilt.valid == 0
    assert outside.any()
    spoilt.labels[outside] = 0
    spoilt.logits[outside.expand_as(spoilt.logits)] = 50
    for field in fields(spoilt.maps):
        tensor = getattr(spoilt.maps, field.name)
        tensor[outside.expand_as(tensor)] = 77
    plain, other = sample.losses(), spoilt.losses()
    for name, value in plain.items():
        assert float(other[name]) == float(value), name


def test_error_uses_untempered_logits_and_ignores_shifts() -> None:
    sample, moved = Sample(), Sample()
    moved.maps.ranking.add_(5)
    plain, shifted = sample.losses(), moved.losses()
    for name in plain:
        assert float(shifted[name]) == pytest.approx(float(plain[name]), rel=1e-4), name


def test_total_weighs_the_terms_as_the_paper_does() -> None:
    total, terms = Sample().loss()
    weights = {"nll": 0.5, "error_correlation": 0.25, "pairwise": 0.25, "tail": 0.25, "trust": 0.05, "anchor": 0.05, "residual": 0.05}  # fmt: skip # noqa: E501
    expected = sum(weights[name] * float(term) for name, term in terms.items())
    assert float(total) == pytest.approx(expected, rel=1e-6)


def test_nll_of_an_impossible_class_is_floored() -> None:
    assert float(negative_log_likelihood(torch.tensor([[0.0, 200.0]]), torch.tensor([0]))) == pytest.approx(
        -math.log(1e-12)
    )


def test_anchor_and_ambiguity_are_targets_that_get_no_gradient_themselves() -> None:
    sample = Sample()
    for name in ("anchor", "ambiguity"):
        getattr(sample.maps, name).requires_grad_(True)
    sample.maps.ranking.requires_grad_(True)
    sample.loss().total.backward()
    assert sample.maps.anchor.grad is None
    assert sample.maps.ambiguity.grad is None
    assert sample.maps.ranking.grad is not None


@pytest.mark.parametrize("aleatoric", [True, False])
def test_losses_of_a_real_head_are_finite_and_reach_every_parameter(aleatoric: bool) -> None:
    torch.manual_seed(0)
    head = PaperHead(6, CLASSES, aleatoric=aleatoric)
    sample = Sample()
    responses = head.responses(torch.randn(SHAPE[0], 6, *SHAPE[2:]))
    maps = head.maps(sample.logits, responses)
    paper_loss(sample.logits, maps, sample.labels, sample.valid, torch.Generator().manual_seed(0)).total.backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # Every loss that sees the ranking map ignores its offset (METHOD.md 3.13).
        assert (parameter.grad.abs().max() > 1e-7) == (name != "offset"), name
