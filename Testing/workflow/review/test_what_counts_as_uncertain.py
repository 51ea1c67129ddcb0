"""Changing `UNCERTAIN`, the one constant, changes regions, tables, maps, reports and pages alike."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT

IMAGE = ROOT / "Testing" / "data" / "hippocampus" / "images" / "hippocampus_075.nii.gz"
CHANGED = 0.4
COMMANDS = f"""
import sys
from SegWithUCore.regions import region
region.UNCERTAIN = {CHANGED}
from SegWithUCore.cli.__main__ import main
image, output = sys.argv[1:]
case = output + "/hippocampus_075"
for command in (
    ["segment", image, "--model", "hippocampus", "--output", output, "--engine", "openvino"],
    ["report", case, "--output", output + "/report.html"],
    ["export", case, "--page", "--without-image", "--output", output + "/pages"],
):
    assert main(command) == 0, command
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncertain")
    subprocess.run([sys.executable, "-c", COMMANDS, IMAGE, folder], check=True, capture_output=True, text=True)
    return folder


@pytest.fixture(scope="module")
def uncertain(output: Path) -> np.ndarray:
    image = sitk.ReadImage(str(output / "hippocampus_075" / "error_probability.nii.gz"))
    return sitk.GetArrayFromImage(image) > CHANGED


def test_regions_hold_voxels_above_it_only(output: Path, uncertain: np.ndarray) -> None:
    regions = sitk.GetArrayFromImage(sitk.ReadImage(str(output / "hippocampus_075" / "regions.nii.gz")))
    assert regions.any()
    count = _case(output)["regions"]["count"]
    assert uncertain[(regions > 0) & (regions <= count)].all(), "the blind sample follows"
    assert _case(output)["regions"]["settings"]["threshold"] == CHANGED


def test_tables_count_voxels_above_it(output: Path, uncertain: np.ndarray) -> None:
    segmentation = sitk.ReadImage(str(output / "hippocampus_075" / "segmentation.nii.gz"))
    labels, voxel_mm3 = sitk.GetArrayFromImage(segmentation), np.prod(segmentation.GetSpacing())
    for structure in _case(output)["structures"]:
        found = np.count_nonzero(uncertain & (labels == structure["value"])) * voxel_mm3
        assert structure["uncertain_mm3"] == pytest.approx(found)


def test_maps_begin_their_colours_at_it_also_on_the_page(output: Path) -> None:
    assert _case(output)["maps"]["error_probability"]["lower_threshold"] == CHANGED
    assert _page(output)["maps"]["error_probability"]["lower_threshold"] == CHANGED


def test_report_and_page_show_these_regions(output: Path) -> None:
    count = _case(output)["regions"]["count"]
    assert sum(region["kind"] != "blind sample" for region in _page(output)["regions"]) == count
    assert f"{count} regions" in (output / "report.html").read_text(encoding="utf-8")


def _case(output: Path) -> dict:
    return json.loads((output / "hippocampus_075" / "case.json").read_text(encoding="utf-8"))


def _page(output: Path) -> dict:
    page = next(path for path in (output / "pages").glob("*.html") if path.name != "index.html")
    data = re.search(r'<script type="application/json" id="segwithu-data">(.*?)</script>', page.read_text("utf-8"))
    return json.loads(data[1])["case"]
