"""The head that is made here: its formulas, and that its responses may be averaged over windows."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from toy_models import ToyBackbone

from SegWithUCore.models.graphs import MAPS
from SegWithUCore.network.heads.base import UncertaintyHead, two_largest
from SegWithUCore.network.heads.context import (
    CONTEXT,
    ContextFusion,
    ContextHead,
    averaged,
    entropy,
    error_log_odds,
    perturbation_energy,
)
from SegWithUCore.network.heads.context_traced import TracedContext
from SegWithUCore.network.heads.losses import proper_loss
from SegWithUCore.network.heads.paper import MINIMUM_SCALE, PaperHead, PaperMaps, epistemic_variance
from SegWithUCore.network.segwithu import SegWithU, channels_first

CLASSES, PROBES, VOXELS = 4, 5, 50


@pytest.fixture
def drawn() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "logits": 3 * torch.randn(1, CLASSES, VOXELS, generator=generator, dtype=torch.float64),
        "probes": torch.randn(1, PROBES, VOXELS, generator=generator, dtype=torch.float64),
        "to_logits": torch.randn(CLASSES, PROBES, generator=generator, dtype=torch.float64),
        "scales": 1e-4 * torch.rand(PROBES, generator=generator, dtype=torch.float64),
    }


def energy_of(logits: torch.Tensor, scaled: torch.Tensor, to_logits: torch.Tensor) -> torch.Tensor:
    return perturbation_energy(torch.softmax(logits, 1), two_largest(logits)[1][:, :1], scaled, to_logits)


def test_the_energy_is_the_variance_over_all_signs_of_small_perturbations(drawn: dict[str, torch.Tensor]) -> None:
    every_sign = torch.tensor(list(itertools.product([1.0, -1.0], repeat=PROBES)), dtype=torch.float64)
    variance = epistemic_variance(drawn["logits"], drawn["probes"], drawn["scales"], drawn["to_logits"], every_sign)

    scaled = drawn["probes"] * drawn["scales"][None, :, None]
    energy = energy_of(drawn["logits"], scaled, drawn["to_logits"])

    torch.testing.assert_close(energy, variance, rtol=1e-3, atol=0)


def test_the_energy_is_the_squared_jacobian_of_the_softmax(drawn: dict[str, torch.Tensor]) -> None:
    scaled = drawn["probes"] * 0.7
    energy = energy_of(drawn["logits"], scaled, drawn["to_logits"])
    for voxel in range(5):
        z = drawn["logits"][0, :, voxel]
        jacobian = torch.autograd.functional.jacobian(lambda values: torch.softmax(values, 0), z)
        moved = jacobian @ drawn["to_logits"] * scaled[0, :, voxel]
        assert float(energy[0, 0, voxel]) == pytest.approx(float(moved.square().sum()), rel=1e-9)


@pytest.mark.parametrize("lead", [0.0, 3.0, 9.0, 20.0])
def test_the_energy_keeps_its_digits_however_certain_the_class_is(lead: float, drawn: dict[str, torch.Tensor]) -> None:
    """The second stage reads its logarithm: rounding to 1e-6 of it made error probabilities differ by 2.5e-3."""
    head = ContextHead(3, CLASSES, PROBES)
    head.load_state_dict(head.state_dict() | {"to_logits": drawn["to_logits"]})
    logits, responses = drawn["logits"].float(), torch.zeros(1, head.response_channels, VOXELS)
    logits[:, 1] = logits.amax(1) + lead
    logits[:, 2, :9] = logits[:, 1, :9] - lead  # ties, without a lead
    responses[:, :PROBES] = drawn["probes"]
    with torch.no_grad():
        single = head.maps(logits, responses).epistemic[0, 0]
        traced = TracedContext().maps(head, logits[0], responses[0], torch.ones(1))[MAPS.index("epistemic")]
        weight, scales = head.to_logits.double()[:, :, None], functional.softplus(head.scale.double()) + MINIMUM_SCALE
    chances = torch.softmax(logits[0].double(), 0)[:, None]
    moved = chances * (weight - (chances * weight).sum(0)) * scales[:, None] * responses[0, :PROBES]
    for found in (single, traced):
        torch.testing.assert_close(found.double(), moved.square().sum((0, 1)), rtol=1e-4, atol=0)


def test_log_odds_of_an_error_stay_exact_where_the_probability_rounds_to_one() -> None:
    logits = torch.tensor([[[60.0], [0.0], [-1.0]]])
    assert float(error_log_odds(logits)[0]) == pytest.approx(math.log(1 + math.exp(-1)) - 60, rel=1e-6)


def test_log_odds_of_an_error_are_those_of_the_softmax(drawn: dict[str, torch.Tensor]) -> None:
    best = torch.softmax(drawn["logits"], 1).amax(1, keepdim=True)
    torch.testing.assert_close(error_log_odds(drawn["logits"])[0], torch.log((1 - best) / best))


@pytest.mark.parametrize("classes", [2, 3, 4, 9])
def test_the_two_largest_are_the_first_of_a_stable_sort_also_where_logits_tie(classes: int) -> None:
    logits = torch.randint(-2, 3, (2, classes, 500), generator=torch.Generator().manual_seed(classes)).float()
    values, found = two_largest(logits)
    expected = np.argsort(-logits.numpy(), axis=1, kind="stable")[:, :2]
    assert np.array_equal(found.numpy(), expected)
    assert torch.equal(values, logits.gather(1, found))


@pytest.mark.parametrize("steepness", [0.1, 3.0, 30.0])
def test_entropy_is_exact_in_single_precision(steepness: float) -> None:
    logits = steepness * torch.randn(1, CLASSES, 1000, generator=torch.Generator().manual_seed(5))
    found = entropy(logits, torch.softmax(logits, 1), error_log_odds(logits)[0])
    exact = torch.log_softmax(logits.double(), 1)
    expected = -(exact.exp() * exact).sum(1, keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=1e-12)


def test_an_untrained_head_ranks_as_the_softmax_does(drawn: dict[str, torch.Tensor]) -> None:
    head = ContextHead(6, CLASSES, PROBES)
    logits = drawn["logits"].float()
    maps = head.maps(logits, torch.randn(1, head.response_channels, VOXELS))
    torch.testing.assert_close(maps.ranking, error_log_odds(logits)[0])
    assert bool((maps.calibration > 0).all())


@pytest.mark.parametrize("aleatoric", [True, False])
@pytest.mark.parametrize("probes", [0, 3, 8])
@pytest.mark.parametrize("spatial", [(7, 9), (7, 9, 6)])
def test_a_head_of_any_size_gives_maps_of_the_grid(spatial: tuple[int, ...], probes: int, aleatoric: bool) -> None:
    fusion = ContextFusion([3, 5], 6, len(spatial))
    head = ContextHead(6, CLASSES, probes, aleatoric)
    coarse = [-(-length // 4) for length in spatial]
    features = fusion([torch.randn(2, 3, *spatial), torch.randn(2, 5, *coarse)])
    assert tuple(features.shape) == (2, 6, *(-(-length // 2) for length in spatial))

    maps = head.maps(torch.randn(2, CLASSES, *features.shape[2:]), head.responses(features))

    assert not isinstance(maps, PaperMaps)
    assert (maps.aleatoric is not None) == aleatoric
    for values in (maps.calibration, maps.ranking, maps.epistemic):
        assert values.shape == (2, 1, *features.shape[2:])
    assert bool((maps.epistemic >= 0).all()) and bool((maps.epistemic == 0).all()) == (probes == 0)


def test_averaging_then_projecting_is_projecting_then_averaging() -> None:
    fusion = ContextFusion([5], 4)
    tap = torch.randn(1, 5, 8, 6, 10)
    projected = torch.nn.functional.avg_pool3d(fusion.projections[0](tap), 2)
    found = fusion._projected(fusion.projections[0], tap, torch.Size((4, 3, 5)), (2, 2, 2))
    torch.testing.assert_close(found, projected)


@pytest.mark.parametrize("steps", [(2, 2, 2), (1, 2, 2), (2, 2), (1, 1, 1)])
def test_averages_are_those_of_pooling_also_of_odd_lengths(steps: tuple[int, ...]) -> None:
    tap = torch.randn(2, 3, *(7, 6, 5)[: len(steps)])
    pool = torch.nn.functional.avg_pool2d if len(steps) == 2 else torch.nn.functional.avg_pool3d
    expected = pool(tap, steps, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(averaged(tap, steps), expected)


def test_averages_of_half_precision_are_rounded_once() -> None:
    tap = torch.randn(1, 4, 8, 8, 8).bfloat16()
    assert torch.equal(averaged(tap, (2, 2, 2)), averaged(tap.float(), (2, 2, 2)))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(5, 4), (5, 4, 3)])
def test_responses_get_channels_first_however_they_lie_in_memory(size: tuple[int, ...], last: bool) -> None:
    responses = torch.randn(2, *size, 6).movedim(-1, 1) if last else torch.randn(2, 6, *size)
    found = channels_first(responses)
    assert torch.equal(found, responses) and found.is_contiguous()


def test_what_a_voxel_gets_depends_on_its_surroundings_and_not_on_the_window() -> None:
    fusion = ContextFusion([3], 4).eval()
    tap = torch.randn(1, 3, 32, 32, 32)
    whole, part = fusion([tap]), fusion([tap[..., 8:, :, :]])
    torch.testing.assert_close(whole[:, :, 6:], part[:, :, 2:], rtol=1e-5, atol=1e-6)


def test_detail_at_full_resolution_reaches_the_free_features_alone() -> None:
    head = ContextHead(6, CLASSES, PROBES)
    responses = torch.randn(1, head.response_channels, 4, 5, 6)
    detail = torch.randn(1, CONTEXT, 4, 5, 6)
    with_detail = head.with_detail(responses.clone(), detail)
    torch.testing.assert_close(with_detail - responses, torch.cat([torch.zeros(1, PROBES + 1, 4, 5, 6), detail], 1))
    assert head.with_detail(responses, None) is responses


def test_a_voxel_of_the_finest_tap_is_seen_at_its_place() -> None:
    fusion = ContextFusion([3], 4)
    tap, touched = torch.zeros(1, 3, 12, 12, 12), torch.zeros(1, 3, 12, 12, 12)
    touched[0, :, 5, 6, 7] = 1
    changed = (fusion.detail([touched]) - fusion.detail([tap])).abs().sum(1)[0] > 0
    assert changed[4:7, 5:8, 6:9].all() and int(changed.sum()) == 27


@pytest.mark.parametrize("size", [(12, 8, 6), (7, 9, 5)])
def test_features_and_detail_are_the_same_without_gradients(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    half = tuple(-(-length // 2) for length in size)
    taps = [torch.randn(2, 5, *half), torch.randn(2, 3, *size)]
    fusion = ContextFusion([5, 3], 4)
    features, detail = fusion(taps), fusion.detail(taps)
    with torch.no_grad():
        torch.testing.assert_close(fusion(taps), features)
        torch.testing.assert_close(fusion.detail(taps), detail)


@pytest.mark.parametrize("head", [ContextHead(6, CLASSES, 4), PaperHead(6, CLASSES, 4)])
def test_of_classes_that_tie_every_head_takes_the_first(head: UncertaintyHead) -> None:
    logits = torch.zeros(1, CLASSES, 5)
    logits[0, 1:3, 1] = 2  # the most probable two
    logits[0, 2, 2] = 1  # all others
    logits[0, -1, 3] = -1
    logits[0, :, 4] = torch.arange(CLASSES)
    top = head.maps(logits, torch.randn(1, head.response_channels, 5)).top
    assert top[0].T.tolist() == [[0, 1], [1, 2], [2, 0], [0, 1], [CLASSES - 1, CLASSES - 2]]
    assert torch.equal(top, two_largest(logits)[1])


def test_maps_of_chunks_are_the_maps_of_the_whole() -> None:
    torch.manual_seed(0)
    network = SegWithU(ToyBackbone(looking=True), ["output"], torch.zeros(1, 1, 16, 16, 16), "context", 6)
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        stitched = network.window_output(torch.randn(1, 1, 16, 16, 16)).flatten(2)
        whole = network.maps(stitched)
        parts = [network.maps(stitched[..., at : at + 1000]) for at in range(0, stitched.shape[2], 1000)]
    for name in ("ranking", "calibration", "epistemic", "aleatoric"):
        torch.testing.assert_close(torch.cat([getattr(part, name) for part in parts], 2), getattr(whole, name))


def test_a_pair_that_training_never_showed_stays_neutral() -> None:
    head = ContextHead(6, 3, 4)
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.05)
    logits = torch.tensor([4.0, 1.0, -3.0]).reshape(1, 3, 1).repeat(1, 1, 40) + 0.1 * torch.randn(1, 3, 40)
    labels = torch.randint(2, (1, 1, 40))
    for _ in range(20):
        maps = head.maps(logits, head.responses(torch.randn(1, 6, 40)))
        loss = proper_loss(logits, maps, labels, torch.ones_like(labels), torch.Generator()).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    changed = head.pairs.weight.detach().abs().sum(1) > 0
    assert changed.tolist() == [number == 1 for number in range(9)]


def test_proper_scores_are_nll_and_binary_cross_entropy_without_padding(drawn: dict[str, torch.Tensor]) -> None:
    from sklearn.metrics import log_loss

    head = ContextHead(6, CLASSES, PROBES)
    logits = drawn["logits"].float()
    maps = head.maps(logits, torch.randn(1, head.response_channels, VOXELS))
    labels = torch.randint(CLASSES, (1, 1, VOXELS))
    valid = torch.ones_like(labels)
    valid[..., 40:] = 0

    found = proper_loss(logits, maps, labels, valid, torch.Generator()).terms

    softened = (logits / torch.sqrt(1 + maps.calibration)).softmax(1)[0, :, :40].T.detach().double().numpy()
    truth = labels[0, 0, :40].numpy()
    assert float(found["nll"]) == pytest.approx(log_loss(truth, softened, labels=range(CLASSES)), rel=1e-5)
    wrong = logits[0, :, :40].argmax(0).numpy() != truth
    chance = torch.sigmoid(maps.ranking[0, 0, :40]).detach().double().numpy()
    assert float(found["error_cross_entropy"]) == pytest.approx(log_loss(wrong, chance), rel=1e-5)
    assert np.isfinite(chance).all()
