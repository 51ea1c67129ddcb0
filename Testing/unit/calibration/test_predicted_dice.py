"""Predicted Dice: one slope for all structures, shrunk to the mean, judged on all of them together."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from SegWithUCore.calibration.per_structure import MINIMUM_CASES, PredictedDice, fit_predicted_dice
from SegWithUCore.util.strict_json import typed

Pair = tuple[list[float], list[float]]


def following(count: int, seed: int, noise: float = 0.01, slope: float = 0.5, base: float = 0.4) -> Pair:
    """Cases whose Dice follows the soft Dice."""
    random = np.random.default_rng(seed)
    soft = random.uniform(0.7, 0.95, count)
    return (soft.tolist(), (base + slope * soft + random.normal(0, noise, count)).tolist())


def saying_nothing(count: int, seed: int) -> Pair:
    random = np.random.default_rng(seed)
    return (random.normal(0.9, 0.02, count).tolist(), random.normal(0.88, 0.03, count).tolist())


def test_a_line_without_noise_comes_back_for_each_structure() -> None:
    found = fit_predicted_dice({1: following(27, 0, 0.0), 5: following(27, 1, 0.0, base=0.2)})
    for key, base in ((1, 0.4), (5, 0.2)):
        line = found.lines[key]
        assert line(0.8) == pytest.approx(base + 0.5 * 0.8, abs=2e-3)
        assert line.informative and line.structures == 2 and line.cases == 27
        assert line.shrinkage == pytest.approx(1, abs=0.01)
    assert 0 <= found.lines[1](-3) <= found.lines[1](3) <= 1


def test_a_structure_is_shown_only_where_its_own_line_beats_its_mean() -> None:
    """It shares the slope of the others, and what they gain is no figure of its own."""
    strong, weak = following(40, 2), following(12, 3, noise=0.05)
    assert not fit_predicted_dice({2: weak}).lines[2].informative
    absent = [float("nan")] * 28
    weak = ([*weak[0], *absent], [*weak[1], *absent])
    together = fit_predicted_dice({1: strong, 2: weak}).lines
    assert together[1].informative and not together[2].informative


def test_what_says_nothing_is_shrunk_to_the_mean_and_called_informative_by_chance_only() -> None:
    wrong, slopes = 0, []
    for seed in range(100):
        line = fit_predicted_dice({1: saying_nothing(27, seed)}).lines[1]
        wrong += line.informative
        slopes.append(line.slope * 0.02 / 0.03)
    assert wrong <= 6  # one side of a 95 % interval is 2.5 %
    assert np.median(slopes) == 0


def test_a_falling_line_is_never_held_against_a_case() -> None:
    pairs = (np.linspace(0.8, 0.9, 20).tolist(), np.linspace(0.9, 0.8, 20).tolist())
    line = fit_predicted_dice({1: pairs}).lines[1]
    assert (line.slope, line.shrinkage, line.informative) == (0, 0, False)
    assert line(0.8) == line(0.9) == pytest.approx(0.85)


def test_absent_structures_and_few_cases_give_no_line() -> None:
    few = [0.9] * (MINIMUM_CASES - 1)
    assert fit_predicted_dice({1: ([*few, np.nan], [*few, np.nan])}).lines == {}
    found = fit_predicted_dice({1: ([*few, 0.8, np.nan], [*few, 0.8, np.nan])})
    assert found.lines[1].cases == MINIMUM_CASES
    assert np.isnan(found.errors[1][-1])
    assert fit_predicted_dice({}).lines == {}


def test_each_case_is_predicted_without_its_patient() -> None:
    """An independent count with numpy's least squares, one structure, so that weights by variance fall away."""
    pairs, patients = following(24, 4, noise=0.05), [str(case // 2) for case in range(24)]
    x, y = np.asarray(pairs[0]), np.asarray(pairs[1])
    found = fit_predicted_dice({1: pairs}, patients)
    means, steps = np.empty(24), np.empty(24)
    for case in range(24):
        rest = [other for other in range(24) if patients[other] != patients[case]]
        slope, _ = np.polyfit(x[rest], y[rest], 1)
        means[case], steps[case] = y[rest].mean(), max(slope, 0) * (x[case] - x[rest].mean())
    for case in range(24):
        rest = [other for other in range(24) if patients[other] != patients[case]]
        kept = minimize_scalar(
            lambda part: float(np.sum((means[rest] + part * steps[rest] - y[rest]) ** 2)),  # noqa: B023
            bounds=(0, 1), method="bounded", options={"xatol": 1e-9},
        ).x  # fmt: skip
        assert found.predictions[1][case] == pytest.approx(means[case] + kept * steps[case], abs=1e-6)
    np.testing.assert_allclose(found.errors_of_mean[1], np.abs(means - y))
    assert found.lines[1].error == pytest.approx(np.abs(found.predictions[1] - y).mean())


def test_a_weight_of_two_is_a_case_twice() -> None:
    pairs = following(20, 6, noise=0.05)
    weights = np.where(np.arange(20) < 8, 2.0, 1.0)
    order = [*range(20), *range(8)]
    twice = ([pairs[0][case] for case in order], [pairs[1][case] for case in order])
    by_weight = fit_predicted_dice({1: pairs}, [str(case) for case in range(20)], weights.tolist()).lines[1]
    by_copy = fit_predicted_dice({1: twice}, [str(case) for case in order]).lines[1]
    for name in ("slope", "intercept", "mean", "shrinkage"):
        assert getattr(by_weight, name) == pytest.approx(getattr(by_copy, name))


def test_a_model_of_before_keeps_its_lines() -> None:
    earlier = {
        "intercept": 0.1, "slope": 0.9, "mean": 0.88, "lowest": 0.8, "error": 0.02, "error_of_mean": 0.03,
        "difference_low": -0.02, "difference_high": -0.001, "cases": 27, "informative": True,
    }  # fmt: skip
    line = typed(PredictedDice, earlier)
    assert (line(0.8), line.informative, line.structures) == (pytest.approx(0.82), True, 1)


def test_what_holds_of_other_networks_only_is_not_called_informative() -> None:
    """Fold networks whose soft Dice follows their Dice, beside a network whose soft Dice says nothing."""
    found = []
    for own in (saying_nothing, following):
        count = 0
        for seed in range(20):
            parts = [own(27, seed), *(following(42, 100 * seed + fold) for fold in (1, 2, 3))]
            both = [np.concatenate([part[place] for part in parts]).tolist() for place in range(2)]
            networks = [None] * 27 + [f"fold{fold}" for fold in (1, 2, 3) for _ in range(42)]
            weights = [1.0 if network is None else 0.5 for network in networks]
            line = fit_predicted_dice({1: both}, None, weights, networks).lines[1]
            assert line.informative == (line.difference_high < 0)
            count += line.informative
        found.append(count)
    assert found[0] <= 5 and found[1] == 20
