"""A NIfTI header with two places: which one counts, that it is told, and that a region in mm wants to know."""

import gzip
import json
import struct
from pathlib import Path

import pytest
import SimpleITK as sitk
from nifti_files import rotation, srow, write_nifti
from segwithu_command import Command, entries, refused

from SegWithUCore.io.volume import read_volume

REGION = "--roi=20,25,15,12,12,12"


def _hippocampus(data_folder: Path, path: Path, code: int) -> Path:
    """A real image of which the sform was moved by 8 mm to the right, with a code."""
    content = bytearray(gzip.decompress((data_folder / "hippocampus/images/hippocampus_319.nii.gz").read_bytes()))
    assert struct.unpack_from("<2h", content, 252) == (1, 1)
    (across,) = struct.unpack_from("<f", content, 292)
    struct.pack_into("<h", content, 254, code)
    struct.pack_into("<f", content, 292, across + 8)
    path.write_bytes(gzip.compress(bytes(content), 1))
    return path


def _case(folder: Path) -> dict[str, dict[str, list[int]]]:
    return json.loads((folder / "case.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("code", "counts"), [(1, "sform"), (2, "qform"), (4, "qform")])
def test_the_place_is_that_of_slicer_and_both_are_named_once(
    code: int, counts: str, data_folder: Path, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    path = _hippocampus(data_folder, tmp_path / "image.nii.gz", code)
    outcome = segwithu.segment(path, model=tiny, output=tmp_path / "out")
    assert outcome.code == 0
    told = [line for line in outcome.messages if "two places" in line]
    assert len(told) == 1
    assert "(qform)" in told[0] and "(sform), up to 8 mm apart" in told[0]
    assert f"the {counts} counts" in told[0]
    warnings = _case(tmp_path / "out" / "image")["ood"]["warnings"]
    assert [entry["kind"] for entry in warnings if "two places" in entry["message"]] == ["place"]
    assert str(tmp_path) not in json.dumps(warnings)
    results = sitk.ReadImage(str(tmp_path / "out" / "image" / "segmentation.nii.gz"))
    assert results.GetOrigin() == sitk.ReadImage(str(path)).GetOrigin()
    assert not (tmp_path / "out" / "image" / "image.nii.gz").exists()


def test_a_region_is_refused_where_the_place_is_not_clear(
    data_folder: Path, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    two = _hippocampus(data_folder, tmp_path / "two.nii.gz", 2)
    outcome = segwithu.segment(two, REGION, "--unlike-training", model=tiny, output=tmp_path / "out")
    refused(outcome, "two-places", two)
    assert entries(tmp_path / "out") == []


def test_a_header_knows_whether_it_has_two_places(tmp_path: Path) -> None:
    moved = {"sform_code": 2, "srow": srow(rotation(0, 0, 5), (4, 0, 0))}
    two = read_volume(write_nifti(tmp_path / "two.nii", **moved))
    assert two.header.has_two_places and two.image.GetOrigin() == (0, 0, 0)
    one = read_volume(write_nifti(tmp_path / "one.nii", **moved | {"qform_code": 0}))
    assert not one.header.has_two_places and one.image.GetOrigin() == (-4, 0, 0) and not one.header.notes
