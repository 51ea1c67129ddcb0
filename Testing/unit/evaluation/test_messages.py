"""What `evaluate` and `models show` say of figures, and that another organ is told before anything is measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from evaluated_cases import evaluated

from SegWithUCore.inference.deviation import NOTE, WARNING, Deviation
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.util.errors import InputError
from SegWithULab.evaluation.evaluate import check_like_training, ood_check, summary
from SegWithULab.evaluation.report import messages, report_tables
from SegWithULab.training.dataset import Case

MODEL = Path(__file__).resolve().parents[3] / "Resources" / "Models" / "hippocampus"


def made_case(folder: Path, name: str, size: int, spacing: float) -> Case:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 20, (size,) * 3).astype(np.float32))
    image.SetSpacing((spacing,) * 3)
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(image, str(path))
    return Case(name, (path,), path, None)


def test_a_calibrated_model_that_draws_nothing_is_not_called_uncalibrated() -> None:
    table = [
        {"title": "auroc whole ranking", "mean": 0.99, "cases": 3},
        {"title": "error probability ece band", "mean": None, "cases": 0},
        {"title": "error probability brier", "mean": 0.1, "cases": 3},
    ]
    lines = messages({"cases": 3, "table": table, "comparisons": {"wrong voxels, expected / true": 1.008}})
    assert "Not calibrated" not in lines[-1] and "1.01" in lines[-1]
    assert "Not calibrated" in messages({"cases": 3, "table": table[:1], "comparisons": {}})[-1]


def test_another_organ_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    bundle = read_bundle(MODEL)
    hearts = [made_case(tmp_path, f"heart{number}", 50, 5.0) for number in range(3)]
    with pytest.raises(InputError) as error:
        check_like_training(hearts, bundle)
    assert error.value.code == "out-of-distribution"
    small = made_case(tmp_path, "small", 40, 1.0)
    assert any(note.startswith("heart0: ") for note in check_like_training([small, small, hearts[0]], bundle))


def test_cases_out_of_distribution_are_counted_and_named() -> None:
    bundle = read_bundle(MODEL)
    warning, note = Deviation(WARNING, "Noisy.", "noise"), Deviation(NOTE, "Smooth.", "noise")
    check = ood_check({"one": [note, warning], "two": [note], "three": []}, bundle)
    assert check is not None
    assert (check["cases"], check["out_of_distribution"], check["noted"]) == (3, ["one"], ["two"])
    assert [entry["message"] for entry in check["found"]["one"]] == ["Smooth.", "Noisy."]
    said = messages({"cases": 3, "table": [], "comparisons": {}, "ood_check": check})[1]
    assert "1 of 3 cases (one)" in said and "notes on 1 more" in said
    assert ood_check({"one": []}, replace(bundle, ood_reference=None)) is None


def test_an_evaluation_lists_in_its_report_what_the_ood_check_found() -> None:
    result = summary(*evaluated(range(2)))  # noise, which no brain looks like
    assert result["ood_check"]["out_of_distribution"] == ["case0", "case1"]
    table = next(table for table in report_tables(result) if table.title == "OOD check")
    assert table.note.startswith("2 of 2 cases")
    assert {row[0] for row in table.rows} == {"case0", "case1"}
    assert table.rows[0][1] != "note"
