"""`fit-judge`: masks of one source, corrected, teach a model without a network where such masks are wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from judged_balls import table_of, write_case
from segwithu_command import Command, refused

pytestmark = pytest.mark.slow

NAMES = ("--labels", "5=left ball", "9=right ball")


def test_a_judge_of_masks_is_fitted_and_finds_the_errors_of_a_new_mask(segwithu: Command, tmp_path: Path) -> None:
    table = table_of([write_case(tmp_path, number) for number in range(6)], tmp_path / "table.csv")
    outcome = segwithu("fit-judge", table, *NAMES, "--name", "balls", "-o", tmp_path / "balls", "--threads", "1")
    assert outcome.code == 0, outcome.err
    image, mask, reference = write_case(tmp_path, 7)
    call = ("judge", image, mask, *NAMES, "--model", tmp_path / "balls", "-o", tmp_path / "out", "--threads", "1")
    outcome = segwithu(*call)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "image_7"
    given, truth, error = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        for file in (mask, reference, folder / "error_probability.nii.gz")
    )
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "segmentation.nii.gz"))), given)
    seen, wrong = error >= 0, given != truth
    assert not wrong[~seen].any()
    assert 0.7 < error[seen].sum() / wrong.sum() < 1.4
    assert error[seen & wrong].mean() > 5 * error[seen & ~wrong].mean()
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in case["structures"][1:]] == ["left ball", "right ball"]
    assert case["engine"]["name"] == "mask"
    assert case["model"]["calibrated_with_image"]
    assert "calibration" not in case["maps"]
    assert case["regions"]["count"] > 0
    refused(segwithu("segment", image, "--model", tmp_path / "balls", "-o", tmp_path / "s"), "needs-mask", "balls")
    assert segwithu("models", "verify", tmp_path / "balls").code == 0


def test_too_few_patients_and_labels_without_a_name_are_refused(segwithu: Command, tmp_path: Path) -> None:
    rows = [write_case(tmp_path, number) for number in range(3)]
    few, target = table_of(rows[:2], tmp_path / "few.csv"), tmp_path / "m"
    refused(segwithu("fit-judge", few, "-o", target), "too-few-patients", "few.csv")
    table = table_of(rows, tmp_path / "table.csv")
    refused(segwithu("fit-judge", table, "--labels", "7=ball", "-o", target), "unknown-label", "5, 9")
    assert not target.exists()


def test_labels_without_a_name_are_background_and_unclear_ones_are_not_judged(
    segwithu: Command, tmp_path: Path
) -> None:
    rows = [write_case(tmp_path, number) for number in range(4)]
    for row in rows:  # a slab of the left ball is unclear in every mask and reference
        for file in row[1:]:
            array = sitk.GetArrayFromImage(sitk.ReadImage(file))
            array[18:22][array[18:22] == 5] = 30
            sitk.WriteImage(sitk.GetImageFromArray(array), file)
    names = tmp_path / "names.csv"
    names.write_text("label,structure\n5,left ball\n30,\n", encoding="utf-8")
    table = table_of(rows[:3], tmp_path / "table.csv")
    options = ("--labels", names, "-o", tmp_path / "m", "--threads", "1", "--json")
    (made,) = [each for each in segwithu("fit-judge", table, *options).events if "messages" in each]
    assert [" 9." in message for message in made["messages"]] == [True]
    call = ("judge", *rows[3][:2], "--labels", names, "-m", tmp_path / "m", "-o", tmp_path / "out", "--threads", "1")
    outcome = segwithu(*call)
    assert outcome.code == 0, outcome.err
    error = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "image_3" / "error_probability.nii.gz")))
    given = sitk.GetArrayFromImage(sitk.ReadImage(rows[3][1]))
    assert (given == 30).any()
    assert not error[given == 30].any()


def test_images_with_other_voxels_are_warned_of(segwithu: Command, tmp_path: Path) -> None:
    table = table_of([write_case(tmp_path, number) for number in range(3)], tmp_path / "table.csv")
    assert segwithu("fit-judge", table, "-o", tmp_path / "m", "--threads", "1").code == 0
    files = write_case(tmp_path, 7)[:2]
    for file in files:
        image = sitk.ReadImage(file)
        image.SetSpacing((2.5, 2.5, 2.5))
        sitk.WriteImage(image, file)
    assert segwithu("judge", *files, "-m", tmp_path / "m", "-o", tmp_path / "out", "--threads", "1").code == 0
    case = json.loads((tmp_path / "out" / "image_7" / "case.json").read_text(encoding="utf-8"))
    assert "spacing" in {each["kind"] for each in case["ood"]["warnings"]}
