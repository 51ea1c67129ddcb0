"""A NIfTI header with two places: which one counts, that it is told, and that a region in mm wants to know."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_kills import OVERVIEW
from nifti_files import rotation, srow, voxels, write_nifti
from segwithu_command import Command

from SegWithUCore.case.case_image import case_image
from SegWithUCore.io.volume import read_header, read_volume
from SegWithUCore.util.errors import UsageError

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
    qform, sform = "at RAS (17.0, 24.5, 17.5) mm", "at RAS (25.0, 24.5, 17.5) mm"
    assert f"{qform} with axes towards RAS by its qform (code 1)" in told[0]
    assert f"{sform} with axes towards RAS by its sform (code {code}), up to 8 mm apart" in told[0]
    assert f"the {counts} counts" in told[0]
    warnings = _case(tmp_path / "out" / "image")["ood"]["warnings"]
    assert [entry["kind"] for entry in warnings if "two places" in entry["message"]] == ["place"]
    assert str(tmp_path) not in json.dumps(warnings)
    results = sitk.ReadImage(str(tmp_path / "out" / "image" / "segmentation.nii.gz"))
    assert results.GetOrigin() == sitk.ReadImage(str(path)).GetOrigin()
    assert not (tmp_path / "out" / "image" / "image.nii.gz").exists()


def test_a_region_wants_the_form_and_goes_by_it(
    data_folder: Path, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    """In a cohort, whose other image has one place; with --resume the other form is another case."""
    images = tmp_path / "images"
    images.mkdir()
    two = _hippocampus(data_folder, images / "two.nii.gz", 2)
    one = data_folder / "hippocampus/images/hippocampus_319.nii.gz"
    (images / "one.nii.gz").write_bytes(one.read_bytes())
    call = ("segment", images, "--each", "--model", tiny, REGION, "--unlike-training")
    outcome = segwithu(*call, "--output", tmp_path / "unclear")
    assert outcome.code == 1
    refused = [line for line in outcome.messages if "so a region in mm is not clear" in line]
    assert len(refused) == 1
    assert str(two) in refused[0]
    assert "--form qform" in refused[0]
    assert {path.name for path in (tmp_path / "unclear").iterdir()} == {"one", *OVERVIEW}
    first = {}
    for form in ("qform", "sform"):
        assert segwithu(*call, "--form", form, "--output", tmp_path / form).code == 0
        first[form] = _case(tmp_path / form / "two")["assessed"]["index_ijk"]
        assert _case(tmp_path / form / "one")["assessed"]["index_ijk"] == first["qform"]
    assert np.subtract(first["qform"], first["sform"]).tolist() == [8, 0, 0]
    again = segwithu(*call, "--form", "qform", "--output", tmp_path / "sform", "--resume")
    assert again.code == 1
    assert "lies on another grid than" in again.err
    # Slicer would show the file at its qform, so the image lies beside results that do not.
    inside = {form: (tmp_path / form / "two" / "image.nii.gz").is_file() for form in first}
    assert inside == {"qform": False, "sform": True}
    folder = tmp_path / "sform" / "two"
    for image in (case_image(folder, _case(folder)), case_image(folder, _case(folder), two)):
        np.testing.assert_allclose(image.GetOrigin(), _case(folder)["input"]["grid"]["origin_lps_mm"], atol=1e-5)


def test_a_form_that_does_not_exist_is_refused(
    data_folder: Path, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    path = _hippocampus(data_folder, tmp_path / "image.nii.gz", 2)
    outcome = segwithu.segment(path, "--form", "both", model=tiny, output=tmp_path / "out")
    assert outcome.code == 2
    assert "'both'" in outcome.err


def test_the_form_decides_only_where_there_are_two(tmp_path: Path) -> None:
    moved = {"sform_code": 2, "srow": srow(rotation(0, 0, 5), (4, 0, 0))}
    two = write_nifti(tmp_path / "two.nii", **moved)
    volume = read_volume(two)
    assert volume.on_form(None) is volume
    assert volume.on_form("qform").image.GetOrigin() == (0, 0, 0)
    assert volume.on_form("sform").image.GetOrigin() == (-4, 0, 0)
    assert volume.image.GetOrigin() == (0, 0, 0)
    header = read_header(two)
    assert (header.differs_from_slicer("sform"), header.differs_from_slicer("qform")) == (True, False)
    with pytest.raises(UsageError, match="--form qform or --form sform"):
        header.check_form(two, None)
    header.check_form(two, "sform")
    one = read_volume(write_nifti(tmp_path / "one.nii", **moved | {"qform_code": 0}))
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(tmp_path / "image.nrrd"))
    for volume in (one, read_volume(tmp_path / "image.nrrd")):
        assert volume.on_form("qform") is volume
        assert not volume.header.differs_from_slicer("qform")
        volume.header.check_form(two, None)
    assert one.image.GetOrigin() == (-4, 0, 0)
    assert one.header.notes_by(None) == one.header.notes_by("qform") == []
