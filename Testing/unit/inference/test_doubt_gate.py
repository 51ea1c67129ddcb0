"""Maps that are exact above a gate and interpolated below: grids, borders, and windows that begin anywhere."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch.nn import functional

from SegWithUCore.calibration.case_level import ProbabilitySums
from SegWithUCore.calibration.gate import Gate
from SegWithUCore.inference import coarse_grid, gated_slabs
from SegWithUCore.inference.coarse_grid import interpolated, pooled, rows_at
from SegWithUCore.inference.engines.base import Engine, Voxelwise, joined_parts
from SegWithUCore.inference.gated_maps import above_gate, coarse_maps, doubt, gated_window, maps_of_gated
from SegWithUCore.inference.gated_slabs import gated_planes, network_answer
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.inference.segment_slabs import segment_images
from SegWithUCore.inference.sliding_window import WindowPlan, stitch
from SegWithUCore.inference.uncertainty_maps import FittedCalibration, voxelwise
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.network.heads.context import error_log_odds

CLASSES, DETAIL, RESPONSES, GAIN = 3, 2, 5, 0.6
EVERYWHERE, NOWHERE = Gate(-1e3, GAIN, 1), Gate(1e3, GAIN, 1)
SPEC = InputSpec(("T1",), "MR", "RAS", (1.0, 1.0, 1.0), (8, 8, 8))


class SmoothEngine(Engine):
    """Logits, detail and responses that follow the image, and maps that are not linear in them."""

    name, device = "smooth", "cpu"
    num_classes, response_channels, has_aleatoric, window_bytes = CLASSES, RESPONSES, True, 0.0

    def __init__(self, steps: tuple[int, int, int] = (2, 2, 2)) -> None:
        self.steps = steps

    def window_parts(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scaled copies of the image."""
        logits = np.stack([image[0] + 1, 0.3 - image[0], 0.5 * image[0]])
        detail = np.stack([0.1 * image[0], -0.2 * image[0]])
        coarse = pooled(image, self.steps or (1, 1, 1))[0]
        return logits, detail, np.stack([coarse * (number + 1) / 4 for number in range(RESPONSES)])

    def window(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All on one grid."""
        assert self.steps is not None
        return joined_parts(*self.window_parts(image), self.steps)

    def maps(self, chunk: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
        """Compute something smooth of all channels."""
        found, responses = doubt(chunk[:CLASSES]), chunk[CLASSES:]
        ranking = GAIN * found.odds + np.tanh(responses).sum(0)
        calibration = np.log1p(np.exp(responses[0] - responses[-1]))
        zeros = np.zeros(CLASSES)
        return Voxelwise(
            found.classes,
            found.runner_up,
            calibration.astype(np.float32),
            ranking.astype(np.float32),
            responses[1] ** 2,
            responses[2] ** 2,
            ProbabilitySums(zeros, zeros, zeros),
        )

    def versions(self) -> dict[str, str]:
        """None."""
        return {}

    def identity(self) -> dict[str, str | None]:
        """None."""
        return {}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("steps", [(2, 2, 2), (1, 2, 2)])
def test_interpolation_is_that_of_torch_in_any_part(
    steps: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = noise(4, 5, 6, 3)
    size = [length * step for length, step in zip(coarse.shape[1:], steps, strict=True)]
    scale = tuple(float(step) for step in steps)
    whole = functional.interpolate(torch.from_numpy(coarse)[None], scale_factor=scale, mode="trilinear")[0].numpy()
    found = interpolated(coarse, steps, (0, 0, 0), [slice(0, length) for length in size])
    np.testing.assert_allclose(found, whole, atol=1e-6)
    cut = (slice(3, 4), slice(2, 9), slice(1, 6))
    np.testing.assert_allclose(interpolated(coarse, steps, (0, 0, 0), cut), whole[(slice(None), *cut)], atol=1e-6)
    voxels = [index.ravel() for index in np.indices(size)]
    rows = rows_at(coarse.reshape(4, -1).T, coarse.shape[1:], steps, (0, 0, 0), voxels)
    np.testing.assert_allclose(rows.T.reshape(whole.shape), whole, atol=1e-6)
    monkeypatch.setattr(coarse_grid, "ROWS", 7)
    np.testing.assert_array_equal(rows_at(coarse.reshape(4, -1).T, coarse.shape[1:], steps, (0, 0, 0), voxels), rows)


def test_log_odds_and_classes_are_the_heads() -> None:
    logits = np.round(noise(5, 400) * 4) / 2  # with ties
    odds, top = error_log_odds(torch.from_numpy(logits)[None])
    found = doubt(logits)
    np.testing.assert_allclose(found.odds, odds[0, 0].numpy(), atol=1e-5)
    np.testing.assert_array_equal(np.stack([found.classes, found.runner_up]), top[0].numpy())


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("log_odds", [-1e3, -8.0, -1.0, 0.5, 1e3])
def test_voxels_above_the_gate_are_those_whose_log_odds_say_so(classes: int, log_odds: float) -> None:
    logits = noise(classes, 4000) * np.float32(20)
    logits[:, :50] = np.float32(3)  # all alike
    odds = doubt(logits).odds
    chosen, found = above_gate(logits, log_odds)
    assert np.array_equal(chosen, np.flatnonzero(odds >= log_odds))
    assert np.array_equal(found, odds[chosen])


def test_maps_are_exact_above_the_gate_and_interpolated_below() -> None:
    engine, image = SmoothEngine(), noise(1, 8, 8, 8)
    logits, detail, responses = engine.window_parts(image)
    exact = voxelwise(engine, np.concatenate(engine.window(image)))
    odds = doubt(logits).odds
    gate = Gate(float(np.median(odds)), GAIN, 1)
    found = maps_of_gated(engine, gate, gated_window(engine, gate, logits, detail, responses), 1.5)
    above = odds >= gate.log_odds
    for name in ("ranking", "calibration", "epistemic", "aleatoric"):
        gap = np.abs(getattr(found, name) - getattr(exact, name))
        assert gap[above].max() < 1e-5, name
        assert gap[~above].max() > 1e-3, name
    low = coarse_maps(engine, gate, pooled(np.concatenate([logits, detail]), (2, 2, 2)), responses)
    correction = interpolated(low, (2, 2, 2), (0, 0, 0), [slice(0, 8)] * 3)[0]
    np.testing.assert_allclose(found.ranking[~above], (GAIN * odds + correction)[~above], atol=1e-5)
    softened = logits / np.sqrt(1 + found.calibration) / 1.5
    chances = np.exp(softened) / np.exp(softened).sum(0)
    np.testing.assert_allclose(found.sums.expected, chances.sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found.sums.ambiguous, (chances * (1 - chances)).sum((1, 2, 3)), rtol=1e-5)
    inside = [chances[number][found.classes == number].sum() for number in range(CLASSES)]
    np.testing.assert_allclose(found.sums.inside, inside, rtol=1e-5)


@pytest.mark.parametrize("shape", [(20, 22, 18), (19, 21, 17), (5, 9, 21)])
@pytest.mark.parametrize("steps", [(2, 2, 2), (1, 2, 2)])
def test_planes_do_not_depend_on_how_the_volume_is_worked_through(
    shape: tuple[int, ...], steps: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of odd starts and volumes of odd sizes included, and volumes smaller than a window."""
    engine, image = SmoothEngine(steps), noise(1, *shape)
    plan = WindowPlan.overlapping(shape, (8, 8, 8))
    expected = None
    for axis, values in ((0, 1 << 22), (0, 2000), (1, 1 << 22), (2, 3000)):
        monkeypatch.setattr(gated_slabs, "PIECE_VALUES", values)
        pieces = list(gated_planes(engine, Gate(-0.7, GAIN, 1), image, plan, axis=axis))
        assert [first for first, _ in pieces] == [0, *np.cumsum([part.shape[1 + axis] for _, part in pieces])[:-1]]
        found = np.concatenate([part for _, part in pieces], 1 + axis)
        expected = found if expected is None else expected
        assert found.shape == (CLASSES + 4, *shape)
        np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(expected[:CLASSES], stitch(engine, image, plan)[:CLASSES], atol=1e-5)


def test_one_window_with_the_gate_open_gives_the_exact_maps() -> None:
    """Also where the window is laid around a smaller volume."""
    engine, image = SmoothEngine(), noise(1, 5, 7, 8)
    exact = voxelwise(engine, network_answer(engine, image, SPEC, None), 1.2)
    found = maps_of_gated(engine, EVERYWHERE, network_answer(engine, image, SPEC, EVERYWHERE), 1.2)
    for name in ("ranking", "calibration", "epistemic", "aleatoric"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), atol=1e-5)
    np.testing.assert_array_equal(found.classes, exact.classes)


def test_several_windows_with_the_gate_open_stay_near_the_exact_maps() -> None:
    """Responses are averaged on the coarse grid then, where weights are a little different."""
    field = np.linspace(-1, 1, 19, dtype=np.float32)
    image = (field[:, None, None] + field[None, :, None] * 0.5 + 0.2 * field[:17]).astype(np.float32)[None]
    engine = SmoothEngine()
    exact = voxelwise(engine, network_answer(engine, image, SPEC, None))
    found = maps_of_gated(engine, EVERYWHERE, network_answer(engine, image, SPEC, EVERYWHERE))
    assert np.abs(found.ranking - exact.ranking).max() < 0.2
    assert np.abs(found.ranking - exact.ranking).mean() < 0.03
    closed = maps_of_gated(engine, NOWHERE, network_answer(engine, image, SPEC, NOWHERE))
    assert np.abs(closed.ranking - exact.ranking).mean() < 0.08


def test_segmenting_and_evaluating_use_the_gate_alike() -> None:
    image = sitk.GetImageFromArray(noise(11, 9, 13))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    rankings = []
    for gate in (Gate(-0.7, GAIN, 1), None):
        bundle, fitted = SimpleNamespace(input=SPEC), FittedCalibration(gate=gate)
        model = cast(Model, SimpleNamespace(bundle=bundle, engine=SmoothEngine(), fitted=fitted, device="cpu"))
        maps, _ = segment_images([image], model)
        rankings.append(np.asarray(maps.ranking))
        np.testing.assert_allclose(rankings[-1], predict([image], model).ranking, atol=1e-4)
    assert np.abs(rankings[0] - rankings[1]).max() > 1e-2
