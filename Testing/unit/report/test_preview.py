"""What lies in a case folder to be looked at first, and beside the cases of a run: previews, tables, the page."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SegWithUCore.case.pictures import (
    GAP,
    LINE,
    PREVIEW_PIXELS,
    Grid,
    Shown,
    preview,
    write_png,
)
from SegWithUCore.case.structures_table import COLUMNS, OUTSIDE, structure_rows
from SegWithUCore.models.input_spec import Label
from SegWithUCore.report.case_report import write_cohort_overview

LABELS = (Label(0, "background", (0, 0, 0)), Label(3, "organ", (10, 200, 30)), Label(7, "other", (200, 10, 250)))
STRUCTURES = dict(enumerate(LABELS))


def shown(size: int = 24, towards: str = "SPL", risk: bool = True) -> Shown:
    image = np.zeros((size,) * 3, np.float32)
    classes = np.zeros((size,) * 3, np.uint8)
    low, high = size // 3, size - size // 3
    classes[low:high, low:high, low:high] = 1
    classes[low : (low + high) // 2, low:high, low:high] = 2
    image[:, :, : size // 2] = 100  # low indices of the last axis are bright
    chance = np.full((size,) * 3, 0.4, np.float32) if risk else None
    return Shown(image, classes, chance, STRUCTURES, Grid((2.0, 2.0, 2.0), towards))


def panel(picture: np.ndarray, column: int, row: int = 0) -> np.ndarray:
    step = PREVIEW_PIXELS + GAP
    top, left = LINE + row * step, GAP + column * step
    return picture[top : top + PREVIEW_PIXELS, left : left + PREVIEW_PIXELS]


def test_contours_have_the_colours_of_the_structures() -> None:
    coronal = panel(preview(shown()), 1)
    for label in LABELS[1:]:
        assert (coronal == np.asarray(label.color)).all(-1).any(), label.name


def test_the_legend_has_all_structures_of_the_picture_and_only_those() -> None:
    colours = [(20 + 7 * number, 240 - 7 * number, 120) for number in range(31)]
    labels = {n: Label(n, f"left structure with a long name {n}", colours[n]) for n in range(1, 31)}
    labels |= {
        n: replace(labels[n], name=labels[n].name.replace("left", "right"), color=colours[n - 1]) for n in (2, 4)
    }
    given = shown(size=64)
    classes = np.zeros((64, 64, 64), np.uint8)
    classes[20:50, 20:50, 20:50] = np.arange(50 - 20)[:, None, None] + 1
    classes[classes == 30] = 0
    picture = preview(replace(given, segmentation=classes, structures={0: LABELS[0], **labels}))
    legend = picture[LINE + 2 * (PREVIEW_PIXELS + GAP) :]
    swatches = {colour: int((legend == colour).all(-1).sum()) for colour in colours[1:]}
    assert {colour for colour, pixels in swatches.items() if pixels > 80} == {
        label.color for value, label in labels.items() if value != 30
    }
    assert max(swatches.values()) < 200, "both sides have one swatch"


@pytest.mark.parametrize(("towards", "bright_left"), [("SPL", True), ("SAR", False), ("IPL", True)])
def test_the_patient_s_right_is_at_the_left(towards: str, bright_left: bool) -> None:
    """Low indices of an axis that runs towards left are the patient's right."""
    axial = panel(preview(shown(towards=towards)), 0).astype(int).sum(-1)
    middle = PREVIEW_PIXELS // 2
    left, right = axial[:, 40 : middle - 20].mean(), axial[:, middle + 20 : -40].mean()
    assert (left > right) == bright_left


def test_without_calibration_there_is_no_row_of_error_probabilities() -> None:
    whole, bare = preview(shown()), preview(shown(risk=False))
    assert whole.shape[0] - bare.shape[0] == PREVIEW_PIXELS + GAP


@pytest.mark.parametrize("size", [1, 5])
def test_the_smallest_images_are_drawn(size: int, tmp_path: Path) -> None:
    tiny = Shown(np.zeros((size,) * 3), np.zeros((size,) * 3, np.uint8), None, STRUCTURES, Grid((1.0, 1.0, 1.0), "SPL"))
    write_png(preview(tiny), tmp_path / "preview.png")
    assert (tmp_path / "preview.png").stat().st_size > 0


def case(name: str, wrong: float) -> dict[str, Any]:
    return {
        "format": "segwithu-case",
        "format_version": 1,
        "name": name,
        "model": {"name": "m", "version": "1.0.0", "flags": {"rules": {}}},
        "structures": [
            {"value": 0, "name": "background", "color": [0, 0, 0], "volume_mm3": 9.0, "expected_wrong_mm3": 1},
            {"value": 3, "name": "organ", "color": [9, 9, 9], "voxels": 100, "volume_mm3": 100.0,
             "expected_wrong_mm3": wrong, "expected_volume_mm3": 101.5, "expected_interval_mm3": [90.0, 113.0]},
        ],
        "ood": {"warnings": [{"severity": "warning", "message": "Low <b>.", "kind": "volume", "structure": 3}]},
        "flags": [{"rule": "predicted Dice", "structure": "organ", "value": 1, "limit": 2, "message": "Low <b>."}],
    }  # fmt: skip


def test_a_row_a_structure_and_one_for_missed_tissue() -> None:
    organ, outside = (dict(zip(COLUMNS, row, strict=True)) for row in structure_rows(case("a", 5.0)))
    assert (organ["structure"], organ["expected_low_mm3"], organ["flags"]) == ("organ", 90.0, "predicted Dice")
    assert (outside["structure"], outside["volume_mm3"], outside["expected_wrong_mm3"]) == (OUTSIDE, "", 1)


def test_a_folder_of_cases_gets_a_table_and_a_page(tmp_path: Path) -> None:
    for folder, content in (("one", case("one", 5.0)), ("<two>", case("=<two>", 50.0)), ("broken", {"format": "?"})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "case.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "<two>" / "preview.png").write_bytes(b"PNG")
    (trouble,) = write_cohort_overview(tmp_path)
    assert "broken" in trouble
    with (tmp_path / "structures.csv").open(encoding="utf-8", newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["'=<two>", "'=<two>", "one", "one"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.index("&lt;two&gt;") < page.index(">one<"), "the largest expected wrong share comes first"
    assert 'src="%3Ctwo%3E/preview.png"' in page
    assert "Low &lt;b&gt;." in page
    assert page.count("status look-at-it") == 2


def test_a_folder_without_cases_gets_nothing(tmp_path: Path) -> None:
    assert write_cohort_overview(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
