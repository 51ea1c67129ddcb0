"""The table that `segwithu segment` prints: metrics per structure, and words where there are none."""

from pathlib import Path
from typing import Any

from review_cases import a_region

from SegWithUCore.case.case_files import file_record
from SegWithUCore.case.region_files import regions_csv
from SegWithUCore.cli.case_summary import next_steps, summary
from SegWithUCore.regions.region import Kind
from SegWithUCore.review.status import with_status

LIVER = {
    "value": 5,
    "name": "liver",
    "volume_mm3": 1234.0,
    "expected_volume_mm3": 1240.4,
    "expected_wrong_mm3": 80.0,
    "expected_interval_mm3": [1100.2, 1400.3],
    "predicted_dice": 0.912,
    "predicted_dice_informative": True,
    "calibration_cases": 27,
}


def lines_of(liver: dict[str, Any], refused: bool = False, calibrated: bool = True) -> list[str]:
    outside = {"value": 0, "name": "background", "volume_mm3": 9000.0, "expected_wrong_mm3": 12.0}
    case: dict[str, Any] = {"name": "case", "structures": [outside, liver], "model": {"calibrated": calibrated}}
    if refused:
        case["ood"] = {"warnings": [{"severity": "refused", "message": "Another organ.", "structure": None}]}
    return summary(with_status(case), Path("out"), refused).splitlines()


def row_of(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("liver"))


def test_expected_volume_comes_with_its_interval_and_the_cases_behind_it() -> None:
    lines = lines_of(LIVER)
    assert lines[0] == "case: not flagged"
    for cell in ("1234", "1240 (1100 to 1400)", "27 calibration cases", "0.91", "80 (6 %)"):
        assert cell in row_of(lines)


def test_what_does_not_beat_a_constant_reads_not_informative() -> None:
    lines = lines_of({**LIVER, "predicted_dice": None, "predicted_dice_informative": False})
    assert "not informative" in row_of(lines)


def test_models_without_such_numbers_say_so_and_promise_no_interval() -> None:
    bare = {name: LIVER[name] for name in ("value", "name", "volume_mm3")}
    lines = lines_of(bare, calibrated=False)
    assert row_of(lines).count("not assessed") == 3
    assert not any("90 %" in line or "cases" in line for line in lines)
    assert "not calibrated" in lines[-2]
    refused = lines_of(bare, refused=True, calibrated=False)
    assert refused[0] == "case: do not use" and "Another organ." in refused
    assert not any("not calibrated" in line for line in refused)


def test_one_case_ends_with_the_commands_that_list_and_review_its_regions(tmp_path: Path) -> None:
    target = tmp_path / "Käthe M"
    target.mkdir()
    (target / "preview.png").touch()
    regions = [a_region(1), a_region(2), a_region(3, structure="cortex", competing=()), a_region(4, kind=Kind.BLIND)]
    (target / "regions.csv").write_text(regions_csv(regions), encoding="utf-8")
    names = ("background", "anterior", "cortex")
    structures = [{"value": value, "name": name} for value, name in enumerate(names)]
    records = {"files": {"regions.csv": file_record(target / "regions.csv")}}
    text = next_steps({"regions": {"count": 3}, "asked": ["anterior"], "structures": structures, **records}, target)
    for part in (
        "2 regions of 1 structure ",
        "15 mm³",
        f"segwithu regions '{target}'",
        f"segwithu web '{target}' --open",
    ):
        assert part in text
    assert next_steps({"regions": None}, target).split() == ["picture", *str(target / "preview.png").split()]
