"""Where moved images are looked for; needs no Slicer."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.io.volume import grid_facts
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import path_mac
from SegWithUSlicerLib.cases.moved_images import ImageMissingError, MovedImages


def _case(folder: Path, image: Path) -> dict[str, Any]:
    """A case folder, and what its `case.json` says of its image."""
    folder.mkdir(parents=True)
    read = sitk.ReadImage(str(image))
    voxels = voxel_hash(read)
    channel = {"name": "T1", "file": str(image), "file_mac": path_mac(str(image), voxels), "voxels_sha256": voxels}
    return {"input": {"channels": [channel], "grid": grid_facts(read)}}


@pytest.fixture
def archive(data_folder: Path, tmp_path: Path) -> Path:
    """Two real images below one folder."""
    for place, name in (("a/one", "hippocampus_319"), ("a/two", "hippocampus_320")):
        (tmp_path / "old" / place).mkdir(parents=True)
        shutil.copy(data_folder / "hippocampus" / "images" / f"{name}.nii.gz", tmp_path / "old" / place / "t1.nii.gz")
    return tmp_path / "old"


def test_one_answer_serves_all_images_below_the_folder_that_was_moved(archive: Path, tmp_path: Path) -> None:
    first = _case(tmp_path / "cases" / "first", archive / "a" / "one" / "t1.nii.gz")
    second = _case(tmp_path / "cases" / "second", archive / "a" / "two" / "t1.nii.gz")
    archive.rename(tmp_path / "new")
    moved = MovedImages()
    with pytest.raises(ImageMissingError, match=r"first is not at .* any more"):
        moved.image(tmp_path / "cases" / "first", first)
    moved.learn(tmp_path / "cases" / "first", first, tmp_path / "new" / "a" / "one" / "t1.nii.gz")
    place = tmp_path / "new" / "a" / "two" / "t1.nii.gz"
    assert moved.find(tmp_path / "cases" / "second", second) == place
    assert voxel_hash(moved.image(tmp_path / "cases" / "second", second)) == voxel_hash(sitk.ReadImage(str(place)))


def test_an_image_that_was_renamed_is_found_alone(archive: Path, tmp_path: Path) -> None:
    first = _case(tmp_path / "first", archive / "a" / "one" / "t1.nii.gz")
    second = _case(tmp_path / "second", archive / "a" / "two" / "t1.nii.gz")
    (archive / "a" / "one" / "t1.nii.gz").rename(tmp_path / "x.nii.gz")
    (archive / "a" / "two" / "t1.nii.gz").unlink()
    moved = MovedImages()
    moved.learn(tmp_path / "first", first, tmp_path / "x.nii.gz")
    assert moved.find(tmp_path / "first", first) == tmp_path / "x.nii.gz"
    assert moved.find(tmp_path / "second", second) is None


def test_a_guess_with_other_voxels_is_no_answer(archive: Path, tmp_path: Path) -> None:
    first = _case(tmp_path / "first", archive / "a" / "one" / "t1.nii.gz")
    second = _case(tmp_path / "second", archive / "a" / "two" / "t1.nii.gz")
    archive.rename(tmp_path / "new")
    shutil.copy(tmp_path / "new" / "a" / "one" / "t1.nii.gz", tmp_path / "new" / "a" / "two" / "t1.nii.gz")
    moved = MovedImages()
    moved.learn(tmp_path / "first", first, tmp_path / "new" / "a" / "one" / "t1.nii.gz")
    with pytest.raises(ImageMissingError, match="second is not at"):
        moved.image(tmp_path / "second", second)
    with pytest.raises(InputError, match="other voxels"):
        moved.learn(tmp_path / "second", second, tmp_path / "new" / "a" / "two" / "t1.nii.gz")


def test_a_case_that_does_not_name_its_image_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not say which image"):
        MovedImages().image(tmp_path, {"input": {"channels": []}})


def test_a_path_named_by_others_is_confirmed_for_its_folder(archive: Path, tmp_path: Path) -> None:
    image = archive / "a" / "one" / "t1.nii.gz"
    case = _case(tmp_path / "cases" / "first", image)
    case["input"]["channels"][0]["file_mac"] = "0" * 64
    folder, moved = tmp_path / "cases" / "first", MovedImages()
    with pytest.raises(ImageMissingError, match="somebody else"):
        moved.image(folder, case)
    assert moved.find(folder, case) is None
    moved.learn(folder, case, image)
    assert moved.find(folder, case) == image
    other = _case(tmp_path / "cases" / "second", archive / "a" / "two" / "t1.nii.gz")
    other["input"]["channels"][0]["file_mac"] = None
    with pytest.raises(ImageMissingError, match="somebody else"):
        moved.image(tmp_path / "cases" / "second", other)
