"""A calibration says that references were taken by their places; parts of an earlier one take that away."""

from dataclasses import replace
from typing import Any

import pytest
from segwithu_command import MODEL

from SegWithUCore import __version__
from SegWithUCore.models.bundle import check_bundle, read_bundle
from SegWithUCore.models.calibration_origin import FITTED_BY, calibration_doubts, is_by_place, with_origin
from SegWithUCore.models.model_card import calibration_words
from SegWithUCore.util.errors import code_of
from SegWithULab.training.dataset import find_cases


def old() -> dict[str, Any]:
    """A calibration of another model, fitted by 0.4.0."""
    found = {**(read_bundle(MODEL).calibration or {}), "tempering_scale": 1.5}
    found.pop(FITTED_BY)
    return found


def test_the_shipped_model_is_right_and_others_of_its_time_are_named() -> None:
    shipped = read_bundle(MODEL)
    assert calibration_doubts(shipped) == []
    assert calibration_doubts(replace(shipped, calibration=None)) == []
    (doubt,) = calibration_doubts(replace(shipped, calibration=old()))
    assert code_of(doubt) == "calibrate-again" and shipped.default_head.name in doubt
    heads = tuple(head if head.default else replace(head, calibration=old()) for head in shipped.heads)
    (doubt,) = calibration_doubts(replace(shipped, heads=heads))
    assert code_of(doubt) == "calibrate-again" and "paper" in doubt


def test_only_what_is_fitted_wholly_or_on_what_is_right_is_right() -> None:
    shipped = read_bundle(MODEL)
    part = {**(shipped.calibration or {}), "tempering_scale": 1.25}
    assert is_by_place(with_origin(old(), whole=True))
    assert is_by_place(with_origin(part, shipped.calibration))
    assert is_by_place(with_origin(part, with_origin(old(), whole=True)))
    assert not is_by_place(with_origin(part, old())) and not is_by_place(with_origin(part))
    assert not is_by_place(with_origin({**part, FITTED_BY: {"segwithu": "0.5.0"}}, old()))


@pytest.mark.parametrize("stage_two", [True, False])
def test_bundle_and_card_say_by_which_version(stage_two: bool) -> None:
    shipped = read_bundle(MODEL)
    block = {name: value for name, value in old().items() if stage_two or name != "stage_two"}
    found = with_origin(block, whole=True)
    check_bundle(replace(shipped, calibration=found))
    assert found[FITTED_BY] == {"segwithu": __version__}
    assert calibration_words(found).endswith(f"segwithu {__version__}")
    assert "segwithu" not in calibration_words(block)


@pytest.mark.slow
def test_all_references_of_the_shipped_model_lie_on_their_images(data_folder: Any) -> None:
    """Why its calibrations of before count as right."""
    import SimpleITK as sitk

    cases = find_cases(str(data_folder / "hippocampus"))
    assert len(cases) == 217
    for case in cases:
        image, reference = (sitk.ReadImage(str(path)) for path in (case.channels[0], case.reference))
        for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(image, fact)() == getattr(reference, fact)(), case.name
