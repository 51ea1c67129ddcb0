"""The table that `segwithu segment` prints: numbers per structure, and words where there are none."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from SegWithUCore.cli.case_summary import next_steps, summary
from SegWithUCore.cohort.one_case import case_facts
from SegWithUCore.inference.deviation import Deviation
from SegWithUCore.inference.structures import StructureMetrics
from SegWithUCore.models.input_spec import Label

OUTSIDE = StructureMetrics(Label(0, "background", (0, 0, 0)), 9000, 9000.0, 8990.0, 12.0, 0.001, 9.0)
LIVER = StructureMetrics(
    *(Label(5, "liver", (1, 2, 3)), 1200, 1234.0, 1240.4, 80.0, 0.05, 61.7, (1100.2, 1400.3), 0.912, True),
    calibration_cases=27,
)


def told(*structures: StructureMetrics, warnings: tuple[Deviation, ...] = (), calibrated: bool = True) -> list[str]:
    maps = SimpleNamespace(error_probability=object() if calibrated else None)
    result: Any = SimpleNamespace(
        structures=structures, warnings=warnings, maps=maps, device="cpu", peak_memory_mb=None
    )
    return summary("case", case_facts(result), Path("out")).splitlines()


def test_expected_volume_comes_with_its_interval_and_the_cases_behind_it() -> None:
    lines = told(OUTSIDE, LIVER)
    row = next(line for line in lines if line.startswith("liver"))
    assert row.endswith("5.0 % = 62 mm3")
    assert "1240 (1100 to 1400)" in row
    assert "0.91" in row
    assert "In brackets the 90 % interval of the true volume, from 27 calibration cases." in lines


def test_what_does_not_beat_a_constant_reads_not_informative() -> None:
    row = told(OUTSIDE, replace(LIVER, predicted_dice=None, predicted_dice_informative=False))[3]
    assert "not informative" in row


def test_models_without_such_numbers_say_so_and_promise_no_interval() -> None:
    plain = replace(LIVER, expected_interval_mm3=None, predicted_dice=None, predicted_dice_informative=None)
    lines = told(OUTSIDE, replace(plain, calibration_cases=None))
    assert "1240 " in lines[3]
    assert "not assessed" in lines[3]
    assert not any("interval" in line for line in lines)
    bare = [StructureMetrics(figures.label, figures.voxels, figures.volume_mm3) for figures in (OUTSIDE, LIVER)]
    uncalibrated = told(*bare, calibrated=False)
    assert uncalibrated[3].count("not calibrated") == 4
    assert "not calibrated" in uncalibrated[-2]


def test_far_from_the_training_cases_every_figure_reads_not_assessed() -> None:
    refused = Deviation("refused", "A whole head.", "field of view")
    lines = told(OUTSIDE, LIVER, warnings=(refused,))
    assert lines[3].count("not assessed") == 4
    assert "1234" in lines[3]
    assert any(line.startswith("Not assessed: the image is too far") for line in lines)


def test_one_case_ends_with_the_commands_that_list_and_review_its_regions(tmp_path: Path) -> None:
    target = tmp_path / "Käthe M"
    target.mkdir()
    (target / "preview.png").touch()
    text = next_steps({"regions": {"count": 15, "expected_wrong_in_regions_mm3": 432.97}}, target)
    for part in ("15", "433 mm3", f"segwithu regions '{target}'", f"segwithu web '{target}' --open"):
        assert part in text
    assert next_steps({"regions": None}, target).split() == ["picture", *str(target / "preview.png").split()]
