"""What is fitted on calibration cases: isotonic error probability and temperature."""

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from torch.nn import functional

from SegWithUCore.calibration import error_probability
from SegWithUCore.calibration.error_probability import ErrorProbability, fit_error_probability, fit_temperature
from SegWithUCore.util.errors import InputError

Cases = tuple[list[np.ndarray], list[np.ndarray]]


def ranked_cases(size: int, decimals: int | None = None, seed: int = 0) -> Cases:
    """Three cases: rankings as of a real head (most voxels calm), errors that become likely at high ranking."""
    generator = np.random.default_rng(seed)
    rankings, errors = [], []
    for _ in range(3):
        ranking = (0.16 + generator.gamma(0.3, 0.3, size)).astype(np.float32)
        ranking = ranking if decimals is None else np.round(ranking, decimals)
        rankings.append(ranking)
        errors.append(generator.random(size) < np.clip((ranking - 0.2) * 0.4, 0.0005, 0.7))
    return rankings, errors


def scikit_learn(cases: Cases, at: np.ndarray) -> np.ndarray:
    x, y = np.concatenate(cases[0]).astype(float), np.concatenate(cases[1]).astype(float)
    fitted: np.ndarray = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(at)
    return fitted


@pytest.mark.parametrize("decimals", [None, 2])
def test_values_before_thinning_equal_scikit_learn(decimals: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = ranked_cases(600, decimals)
    monkeypatch.setattr(error_probability, "MAXIMUM_KNOTS", 10**10)
    table = fit_error_probability(*cases)
    at = np.unique(np.concatenate(cases[0])).astype(float)
    assert len(table.ranking) == len(at)
    np.testing.assert_allclose(table.probability, scikit_learn(cases, at), atol=1e-9)


def test_thinning_keeps_the_expected_errors_within_a_thousandth_and_few_knots() -> None:
    cases = ranked_cases(60_000)
    table = fit_error_probability(*cases)
    everything = np.concatenate(cases[0])
    exact = scikit_learn(cases, everything.astype(float))
    assert exact.sum() == pytest.approx(np.concatenate(cases[1]).sum(), rel=1e-6)  # isotonic regression keeps the sum
    assert table.table(everything).sum(dtype=np.float64) == pytest.approx(exact.sum(), rel=1e-3)
    assert np.abs(table.table(everything) - exact).mean() < 0.002
    assert len(table.ranking) <= error_probability.MAXIMUM_KNOTS


def test_table_survives_the_bundle_bit_for_bit() -> None:
    table = fit_error_probability(*ranked_cases(2000))
    assert ErrorProbability.from_json(table.to_json()) == table
    assert table.cases == 3


@pytest.mark.parametrize("errors", [np.zeros(10, bool), np.ones(10, bool)])
def test_nothing_to_fit_is_one_clear_sentence(errors: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"wrong voxels of 10.*nothing-to-fit"):
        fit_error_probability([np.arange(10.0)], [errors])


def test_a_constant_ranking_map_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match="nothing-to-fit"):
        fit_error_probability([np.ones(4)], [np.asarray([True, False, False, True])])


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_equals_what_lbfgs_finds(true_temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(3, 4000, generator=generator).double()
    truth = torch.multinomial(torch.softmax(honest, 0).T, 1, generator=generator)[:, 0]
    logits = honest * true_temperature
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(logits.T / log_temperature.exp(), truth)
        loss.backward()
        return loss

    optimiser.step(closure)
    parts = [logits[:, :1000].reshape(3, 10, 100).numpy(), logits[:, 1000:].numpy()]
    found = fit_temperature(parts, [truth[:1000].reshape(10, 100).numpy(), truth[1000:].numpy()])
    assert found == pytest.approx(log_temperature.exp().item(), rel=1e-3)
    assert found == pytest.approx(true_temperature, rel=0.1)
