"""A total that a bundle declares, an asymmetry and how often intervals held: every consumer of a case has them."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from repository import HELPERS, PACKAGES
from segwithu_command import MODEL, Command, Outcome, changed_description, real_image, refused

from SegWithUCore.case.case_file import read_case, read_description
from SegWithUCore.case.structures_table import short_name
from SegWithUCore.cli.__main__ import main
from SegWithUCore.export.anonymous import anonymous_copy
from SegWithUCore.export.case_export import ExportSettings
from SegWithUCore.models.bundle import read_bundle, write_bundle_json
from SegWithUCore.models.input_spec import Code, Total
from SegWithUCore.report.case_report import write_report
from SegWithUCore.web.case_page import PageCase
from SegWithUCore.web.case_volumes import read_volumes
from SegWithUCore.web.single_file import case_page

NAMES = ("left part", "right part")
HIPPOCAMPUS = Code("SCT", "5366008", "Hippocampus")
INTERVAL = {"factor": 1.1, "half_width": 0.2, "level": 0.9, "cases": 46, "of": "segmented", "least_mm3": 100.0}
TOTAL, ASYMMETRY = "both parts", "asymmetry of part"
HELD, RARELY, NEVER_MEASURED = "held in 37 of 40 real cases", "held in 23 of 40 real cases", "from 46 calibration cases"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model with a total, an asymmetry, and intervals that held often, rarely and nobody knows."""
    folder = tmp_path_factory.mktemp("models") / "parts"
    shutil.copytree(MODEL, folder)
    bundle = read_bundle(folder)
    labels = [replace(label, name=name, modifier=None) for label, name in zip(bundle.labels[1:], NAMES, strict=True)]
    assert bundle.calibration is not None
    measured = ("held", "held_of")
    fitted = {
        name: {key: value for key, value in entry.items() if key not in measured}
        for name, entry in bundle.calibration["volume_interval"].items()
    }
    fitted["1"] |= {"held": 23, "held_of": 40}
    calibration = {
        **bundle.calibration,
        "volume_interval": fitted,
        "totals": {TOTAL: {**INTERVAL, "held": 37, "held_of": 40}},
        "asymmetries": {"part": {"half_width": 12.5, "level": 0.9, "cases": 20, "held": 23, "held_of": 40}},
    }
    totals = (Total(TOTAL, (1, 2), type=HIPPOCAMPUS, is_denominator=True),)
    changed = replace(bundle, labels=(bundle.labels[0], *labels), calibration=calibration, totals=totals)
    write_bundle_json(replace(changed, placement=None), folder)
    return folder


@pytest.fixture(scope="module")
def case(model: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("cases")
    assert main(["segment", str(real_image(data_folder)), "--model", str(model), "--output", str(output)]) == 0
    return output / "hippocampus_319"


def test_a_total_is_the_sum_of_its_members_with_an_interval_of_its_own(case: Path) -> None:
    found = read_case(case)
    (total,), (asymmetry,) = found["totals"], found["asymmetries"]
    left, right = (entry["volume_mm3"] for entry in found["structures"][1:])
    assert total["volume_mm3"] == pytest.approx(left + right)
    assert total["expected_volume_mm3"] == pytest.approx(1.1 * (left + right))
    assert total["expected_interval_mm3"] == pytest.approx([0.9 * (left + right), 1.3 * (left + right)])
    assert (total["held"], total["held_of"], total["calibration_cases"]) == (37, 40, 46)
    assert asymmetry["percent"] == pytest.approx(200 * (left - right) / (left + right))
    assert asymmetry["interval_percent"] == pytest.approx([asymmetry["percent"] - 12.5, asymmetry["percent"] + 12.5])


def terminal(case: Path, tmp_path: Path, run: Callable[..., Outcome]) -> str:
    image = real_image(Path(os.environ["SEGWITHU_TEST_DATA"]))
    lines = run("segment", image, "--model", os.environ["SEGWITHU_TEST_MODEL"], "--output", tmp_path).out.splitlines()
    assert lines[0].startswith(f"{case.name}: ") and lines[1].startswith(f"  {TOTAL}: ") and HELD in lines[1]
    return "\n".join(lines[2:])


def structures_csv(case: Path, _tmp_path: Path, _run: Callable[..., Outcome]) -> str:
    with (case / "structures.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["structure"]: row for row in csv.DictReader(file)}
    assert [(row["held"], row["held_of"]) for row in rows.values()] == [
        ("23", "40"), ("", ""), ("37", "40"), ("23", "40"), ("", "")
    ]  # fmt: skip
    assert rows[TOTAL]["label"] == "" and float(rows[TOTAL]["percent"]) == 100
    low, high = (float(rows[ASYMMETRY][f"percent_{end}"]) for end in ("low", "high"))
    assert high - low == pytest.approx(25, abs=1e-3) and rows[ASYMMETRY]["volume_mm3"] == ""
    return f"{TOTAL} {ASYMMETRY} {HELD} {RARELY} {NEVER_MEASURED}"  # as numbers, above


def report(case: Path, tmp_path: Path, _run: Callable[..., Outcome]) -> str:
    return write_report(case, tmp_path / "report.html").read_text(encoding="utf-8")


def page(case: Path, _tmp_path: Path, _run: Callable[..., Outcome]) -> str:
    found = PageCase(read_volumes(case, read_description(case))).to_json("id")
    assert [entry["name"] for entry in found["wholes"]] == [TOTAL, ASYMMETRY]
    assert all(entry["percent"] > 0 for entry in found["structures"])
    assert found["wholes"][0]["expected_interval_mm3"] and found["wholes"][1]["texts"][0].endswith(" %")
    return json.dumps(found)


def single_file(case: Path, _tmp_path: Path, _run: Callable[..., Outcome]) -> str:
    return case_page(case, ExportSettings())


def anonymous(case: Path, tmp_path: Path, _run: Callable[..., Outcome]) -> str:
    copy = anonymous_copy(case, tmp_path / "copy", "case-001")
    own, kept = read_case(case), read_case(copy)
    assert (kept["totals"], kept["asymmetries"]) == (own["totals"], own["asymmetries"])
    return report(copy, tmp_path, _run)


def bids(case: Path, tmp_path: Path, run: Callable[..., Outcome]) -> str:
    assert run("export", case, "--bids", "--output", tmp_path / "bids").code == 0
    (table,) = (tmp_path / "bids").rglob("*_desc-segwithu_volumes.tsv")
    with table.open(encoding="utf-8", newline="") as file:
        rows = {row["structure"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert rows[TOTAL]["held"] == "37" and rows[TOTAL]["label"] == rows[ASYMMETRY]["volume_mm3"] == "n/a"
    return f"{TOTAL} {ASYMMETRY} {HELD} {RARELY} {NEVER_MEASURED}"  # as numbers, above


PANEL = """
import sys
from pathlib import Path
from unittest.mock import MagicMock
import row_consumers
row_consumers.with_qt()
from SegWithUCore.case.case_file import read_description
from SegWithUSlicerLib.panels import structures_panel
cells = []
structures_panel.put_cell = lambda table, row, column, text, tip="": cells.append(f"{text} {tip}") or MagicMock()
structures_panel.fit_columns = structures_panel.fit_rows = MagicMock()
structures_panel.StructuresPanel(MagicMock()).show(MagicMock(case=read_description(Path(sys.argv[1]))))
print("\\n".join(cells))
"""


def panel(case: Path, _tmp_path: Path, _run: Callable[..., Outcome]) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (PACKAGES, HELPERS)))}
    call = [sys.executable, "-c", PANEL, str(case)]
    return subprocess.run(call, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("consumer", [terminal, structures_csv, report, page, single_file, anonymous, bids, panel])
def test_totals_asymmetries_and_what_held_reach(
    consumer: Callable[..., str],
    case: Path,
    model: Path,
    data_folder: Path,
    tmp_path: Path,
    segwithu: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGWITHU_TEST_DATA", str(data_folder))
    monkeypatch.setenv("SEGWITHU_TEST_MODEL", str(model))
    shown = consumer(case, tmp_path, segwithu)
    for text in (TOTAL, ASYMMETRY, HELD, RARELY, NEVER_MEASURED):
        assert text in shown, f"{consumer.__name__} does not show: {text}"
    assert f"90 %, {RARELY}" not in shown


@pytest.mark.slow
def test_the_page_s_table_has_a_row_for_each(case: Path, tmp_path: Path, chromium: Any) -> None:
    (tmp_path / "page.html").write_text(case_page(case, ExportSettings()), encoding="utf-8")
    window = chromium.new_page()
    window.goto((tmp_path / "page.html").as_uri())
    rows = window.locator("table.structures tbody tr")
    rows.nth(3).wait_for()
    shown = [" ".join(text.split()) for text in rows.all_inner_texts()]
    window.close()
    for name, row in zip((*NAMES, TOTAL, ASYMMETRY), shown, strict=True):
        assert row.startswith(short_name(name))
    for row, text in zip(shown, (RARELY, NEVER_MEASURED, HELD, RARELY), strict=True):
        assert text in row
    (total,), (asymmetry,) = (read_case(case)[key] for key in ("totals", "asymmetries"))
    assert f"{total['volume_mm3']:.0f} mm³ (100 %)" in shown[2] and f"{asymmetry['percent']:+.1f} %" in shown[3]


def test_a_mask_with_one_label_for_a_total_gets_its_interval(
    case: Path, model: Path, data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    mask = sitk.ReadImage(str(case / "segmentation.nii.gz")) > 0
    sitk.WriteImage(mask, str(tmp_path / "mask.nii.gz"))
    call = ["judge", real_image(data_folder), tmp_path / "mask.nii.gz", "--model", model, "--labels", "1=part"]
    assert segwithu(*call, "--output", tmp_path).code == 0
    (entry,) = read_case(tmp_path / case.name)["structures"][1:]
    (total,) = read_case(case)["totals"]
    keys = ("expected_volume_mm3", "expected_interval_mm3", "calibration_cases", "held", "held_of")
    assert {key: entry[key] for key in keys} == {key: total[key] for key in keys}


@pytest.mark.parametrize(
    "totals",
    [
        [{"name": "both", "of": [1, 3]}],
        [{"name": "left part", "of": [1, 2]}],
        [{"name": name, "of": [1, 2], "is_denominator": True} for name in ("one", "other")],
    ],
    ids=["unknown label", "name of a structure", "two denominators"],
)
def test_totals_that_no_case_can_have_are_refused(
    totals: list[dict[str, object]], model: Path, data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    changed_description(folder, "totals", totals)
    outcome = segwithu.segment(real_image(data_folder), model=folder, output=tmp_path / "out")
    refused(outcome, "damaged-bundle", folder)
    assert not (tmp_path / "out").exists()
