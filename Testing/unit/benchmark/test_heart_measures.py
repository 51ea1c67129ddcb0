"""The heart's figures: errors of a structure, the paper's measures by phase, the ejection fraction and its limits."""

from types import SimpleNamespace

import ejection_fraction
import numpy as np
import paper_measures
import pytest
from baselines.benchmark import structure_metrics


def test_an_error_between_two_structures_is_one_of_each():
    classes, truth = np.array([[[0, 1, 1, 2]]]), np.array([[[0, 1, 2, 2]]])
    case = SimpleNamespace(error=classes != truth, classes=classes, truth=truth)
    score = np.array([[[0.1, 0.3, 0.2, 0.4]]])
    found = structure_metrics(score, case, ["background", "first", "second", "third"])
    assert found["auroc first"] == found["auroc second"] == pytest.approx(1 / 3)
    assert np.isnan(found["auroc third"])


def test_measures_are_means_by_phase_and_structure():
    def entry(value: float) -> dict[str, float]:
        return {f"{metric} {of}": value for metric in ("auroc", "aurc") for of in ("whole", "ventricle")}

    by_case = {
        "a_ed": {"maximum softmax": entry(0.8), "head": entry(0.4)},
        "a_es": {"maximum softmax": entry(0.6), "head": entry(0.3)},
    }
    split = [{"case": f"a_{phase.lower()}", "patient": "a", "phase": phase} for phase in ("ED", "ES")]
    text = paper_measures.measures({"by_case": by_case, "dice": {"ventricle": None}, "model": "toy"}, split)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| head")]
    assert rows[0] == ["head", "0.3500", "0.4000", "0.3000", "0.3500"]
    assert rows[1][1:5] == ["350.0000", "400.0000", "300.0000", "350.0000"]
    assert rows[1][5].startswith("0.50 ")


def test_ejection_fraction_and_its_limits():
    assert ejection_fraction.fraction(120.0, 48.0) == pytest.approx(60.0)
    errors = np.array([-1.0, 0.0, 1.0])
    assert ejection_fraction.limits(errors) == pytest.approx((-1.96, 1.96))
    assert ejection_fraction.held(np.array([0.5, 3.0]), errors) == 1
    # One far off lies outside the limits of the rest, and widens those of each other one.
    assert ejection_fraction.held(np.array([-1.0, 0.0, 1.0, 20.0])) == 3
