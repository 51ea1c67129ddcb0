"""What unseen cases say of a model: structures that it does not draw, or too poorly; and what an empty one means."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT

from SegWithUCore.calibration.per_structure import ProbabilitySums
from SegWithUCore.models.bundle import Bundle, bundle_from_json, read_bundle
from SegWithUCore.models.model_card import model_card
from SegWithUCore.models.quality import QUALITY, emptiness, model_warnings, weaknesses
from SegWithUCore.util.errors import InputError
from SegWithULab.calibration.blocks import structure_quality
from SegWithULab.calibration.cases import CaseNumbers

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
FINE = {"cases": 20, "present": 20, "missed": 0, "dice": 0.9}


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    """The model in the box as an older one, without figures of test cases and of unseen ones."""
    bundle = read_bundle(SHIPPED)
    older = {name: block for name, block in (bundle.calibration or {}).items() if name != QUALITY}
    return replace(bundle, metrics=None, calibration=older)


def with_quality(bundle: Bundle, **first: Any) -> Bundle:
    """The bundle with this said of its first structure, and the second fine."""
    return replace(bundle, calibration={**(bundle.calibration or {}), QUALITY: {"1": {**FINE, **first}, "2": FINE}})


def numbers(true: list[int], predicted: list[int], dice: list[float]) -> CaseNumbers:
    return CaseNumbers(ProbabilitySums(*[np.zeros(3)] * 3), np.array(predicted), np.array(true), np.array(dice), 1.0)


def test_unseen_cases_are_counted_by_structure(shipped: Bundle) -> None:
    cases = [numbers([9, 5, 0], [9, 0, 0], [1, 0, np.nan]), numbers([9, 5, 3], [9, 4, 3], [1, 0.8, 1])]
    assert structure_quality(cases, shipped.labels) == {
        "1": {"cases": 2, "present": 2, "missed": 1, "dice": 0.4},
        "2": {"cases": 2, "present": 1, "missed": 0, "dice": 1.0},
    }


def test_a_model_is_warned_of_where_it_draws_nothing_or_too_poorly(shipped: Bundle) -> None:
    assert model_warnings(with_quality(shipped)) == []
    for quality in ({"missed": 20, "dice": 0.0}, {"missed": 11, "dice": 0.4}, {"dice": 0.19}, {"dice": 0.499}):
        (warning,) = model_warnings(with_quality(shipped, **quality))
        assert "anterior" in warning and "posterior" not in warning
    assert model_warnings(with_quality(shipped, dice=0.5, missed=10)) == []
    assert model_warnings(with_quality(shipped, present=0, missed=0)) == []


def test_figures_of_test_cases_count_too(shipped: Bundle) -> None:
    figures = {"table": [{"title": "dice posterior hippocampus", "mean": 0.12, "cases": 4}]}
    (warning,) = model_warnings(replace(with_quality(shipped), metrics=figures))
    assert "posterior" in warning and "0.12" in warning


def test_of_an_older_model_its_mean_dice_is_known_or_nothing(shipped: Bundle) -> None:
    calibration = dict(shipped.calibration or {})
    assert QUALITY not in calibration and model_warnings(shipped) == []
    assert weaknesses(shipped) == []
    weak = {**calibration, "flags": {"metrics": {"wrong_share": [0.3, 0.48, 0.9]}}}
    few = {**(shipped.ood_reference or {}), "cases": 14, "channels": {"T1": None}}
    share, check = weaknesses(replace(shipped, calibration=weak, ood_reference=few))
    assert "48 %" in share and "picture, noise" in check and "14 " in check
    poor = {"1": {**calibration["predicted_dice"]["1"], "mean": 0.19}}
    (warning,) = model_warnings(replace(shipped, calibration={**calibration, "predicted_dice": poor}))
    assert "0.19" in warning
    assert model_warnings(replace(shipped, calibration=None)) == []


def test_a_structure_is_expected_where_nearly_all_cases_have_it(shipped: Bundle) -> None:
    label = shipped.labels[1]
    assert emptiness(with_quality(shipped, present=19), label).expected is True
    assert emptiness(with_quality(shipped, present=18), label).expected is False
    assert emptiness(shipped, label).expected is True  # all its training cases have it
    tumour = {**(shipped.ood_reference or {}), "volumes_mm3": {"1": {"cases": 60, "low": 0.0, "high": 9.0}}}
    assert emptiness(replace(shipped, ood_reference=tumour), label).expected is False
    assert emptiness(replace(shipped, ood_reference=None), label).expected is None


def test_the_card_says_it_first(shipped: Bundle) -> None:
    bundle = with_quality(shipped, missed=20, dice=0.0)
    assert model_card(bundle).split("\n\n")[1] == f"**Warning: {model_warnings(bundle)[0]}**"


@pytest.mark.parametrize("damage", [{"missed": -1}, {"dice": 1.5}, {"share": 1}, {"cases": 0}, {"present": "all"}])
def test_a_damaged_quality_is_refused(shipped: Bundle, damage: dict[str, Any]) -> None:
    data = with_quality(shipped).to_json()
    assert bundle_from_json(data, Path()).calibration is not None
    data = with_quality(shipped, **damage).to_json()
    with pytest.raises(InputError, match="quality"):
        bundle_from_json(data, Path())
