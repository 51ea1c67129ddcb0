"""One check of grids for files of every kind and DICOM; what a header does not say about the place is told."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_phantoms import write_series
from nifti_files import rotation, voxels, write_nifti
from pydicom.dataset import Dataset
from segwithu_command import write

from SegWithUCore.io.dicom_series import read_series
from SegWithUCore.io.grid import VoxelGrid, check_geometry, check_grid
from SegWithUCore.io.volume import read_header, read_image
from SegWithUCore.util.errors import InputError

FILE = Path("somewhere/image.nrrd")


def _image(
    direction: np.ndarray | None = None, spacing: tuple[float, ...] = (1, 1, 1), origin: tuple[float, ...] = (0, 0, 0)
) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels())
    image.SetDirection(np.ravel(np.eye(3) if direction is None else direction).tolist())
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def _notes(path: Path) -> list[str]:
    return list(read_header(path).notes)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (_image(np.array([[1, 0.3, 0], [0, np.sqrt(0.91), 0], [0, 0, 1]])), "an angle of 72.54 degrees instead of 90"),
        (_image(np.eye(3) + np.diag([0.002, 0], 1)), "at an angle of 89.89 degrees"),
        (_image(np.diag([2, 1, 1])), "directions have the lengths 2 x 1 x 1 instead of 1"),
        (_image(np.full((3, 3), np.nan)), "as its direction, which are not all numbers"),
        (_image(spacing=(1, 1, 0.0009)), "voxel size of 1 x 1 x 0.0009 mm, outside 0.001 to 100 mm"),
        (_image(spacing=(1, 101, 1)), "voxel size of 1 x 101 x 1 mm"),
        (_image(spacing=(1, float("inf"), 1)), r"\(1, inf, 1\) as its voxel size, which are not all numbers"),
        (_image(origin=(6000, 6000, 6000)), "begins 1.039e.04 mm from the origin, not within 10000"),
        (_image(origin=(1e300, 0, 0)), r"begins 1e\+300 mm"),
        (_image(origin=(0, float("nan"), 0)), "as its origin, which are not all numbers"),
    ],
)
def test_a_grid_that_cannot_be_right_is_refused(image: sitk.Image, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_grid(FILE, image)
    assert str(caught.value).startswith(f"{FILE} ")
    assert "export or convert the image again" in str(caught.value)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(InputError, match="has 5 x 0 x 7 voxels"):
        check_geometry(FILE, (5, 0, 7), (1, 1, 1), (0, 0, 0), np.eye(3))


@pytest.mark.parametrize(
    "image",
    [
        _image(np.diag([-1.0, 1, 1])),  # left-handed
        _image(rotation(10, 20, 30) @ np.diag([1, 1, -1])),
        _image(rotation(10, 20, 30).astype("f4").astype(float)),
        _image(np.round(rotation(10, 20, 30), 4)),  # a header of four decimals
        _image(spacing=(0.001, 100, 1), origin=(-5000, 5000, 5000)),
        sitk.JoinSeries([_image(), _image()], 1e9, 1e9),  # the fourth axis is no place
        sitk.Image([5, 6], sitk.sitkUInt8),
    ],
)
def test_unusual_grids_pass(image: sitk.Image) -> None:
    check_grid(FILE, image)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_files_of_every_format_are_checked(suffix: str, tmp_path: Path) -> None:
    path = write(_image(origin=(2e4, 0, 0)), tmp_path / f"image{suffix}", compressed=False)
    with pytest.raises(InputError, match=r"begins 2e\+04 mm"):
        read_image(path)


@pytest.mark.parametrize(
    ("suffix", "old", "new", "words"),
    [
        (".nrrd", b"(0,1,0)", b"(0.3,1,0)", "at an angle of 73.3 degrees"),
        (".mha", b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0 0 0.3 1 0", "at an angle of 73.3 degrees"),
    ],
)
def test_sheared_text_headers_are_refused(suffix: str, old: bytes, new: bytes, words: str, tmp_path: Path) -> None:
    path = write(_image(), tmp_path / f"image{suffix}", compressed=False)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(InputError, match=words):
        read_image(path)


def test_dicom_is_checked_too(tmp_path: Path) -> None:
    def put_far_away(_number: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = ["9000", "9000", dataset.ImagePositionPatient[2]]

    image = sitk.GetImageFromArray(voxels("u1").astype("i2"))
    write_series(image, tmp_path / "near")
    write_series(image, tmp_path / "far", change=put_far_away)
    assert read_series(tmp_path / "near").image.GetSize() == image.GetSize()
    with pytest.raises(InputError, match=r"far begins 1\.273e\+04 mm from the origin"):
        read_series(tmp_path / "far")


def _edited(path: Path, *changes: tuple[bytes, bytes]) -> Path:
    content = path.read_bytes()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new, 1)
    path.write_bytes(content)
    return path


def test_a_place_that_a_header_does_not_give_is_told(tmp_path: Path) -> None:
    nrrd = write(_image(), tmp_path / "whole.nrrd", compressed=False)
    mha = write(_image(), tmp_path / "whole.mha", compressed=False)
    assert _notes(nrrd) == _notes(mha) == []
    copies = {name: tmp_path / name for name in ("a.nrrd", "b.nrrd", "a.mha", "b.mha")}
    for name, copy in copies.items():
        copy.write_bytes((nrrd if name.endswith("nrrd") else mha).read_bytes())
    directions = b"space directions: (1,0,0) (0,1,0) (0,0,1)"
    place, size = "has no axes", "has no voxel size: 1 mm is taken"
    spacing = b"spacings: 1 1 1"
    found = _notes(
        _edited(
            copies["a.nrrd"],
            (directions, spacing),
            (b"space: left-posterior-superior\n", b""),
            (b"space origin: (0,0,0)\n", b""),
        )
    )
    assert [place in note for note in found] == [True]
    assert "whereas Slicer takes right, front and up" in found[0]
    _edited(copies["b.nrrd"], (directions, b""), (b"space: left-posterior-superior\n", b""))
    found = _notes(_edited(copies["b.nrrd"], (b"\nkinds", b"kinds"), (b"space origin: (0,0,0)\n", b"")))
    assert [place in found[0], size in found[1]] == [True, True]
    found = _notes(_edited(copies["a.mha"], (b"TransformMatrix = 1 0 0 0 1 0 0 0 1\n", b"")))
    assert [place in note for note in found] == [True]
    found = _notes(_edited(copies["b.mha"], (b"ElementSpacing = 1 1 1\n", b"")))
    assert [size in note for note in found] == [True]
    for whole, line in ((nrrd, b"space origin: (0,0,0)\n"), (mha, b"Offset = 0 0 0\n")):
        assert len(_notes(_edited(whole, (line, b"")))) == 1
        assert read_image(whole).GetOrigin() == (0, 0, 0)
    found = _notes(write_nifti(tmp_path / "image.nii", qform_code=0))
    assert [place in note and "as in Slicer" in note for note in found] == [True]


OBLIQUE = VoxelGrid((5, 6, 7), (0.5, 1.0, 2.0), (10.0, -20.0, 30.0), tuple(rotation(10, 20, 30).ravel().tolist()))


def _grid(**changes: tuple[float, ...]) -> VoxelGrid:
    keys = {"size": "size_ijk", "spacing": "spacing_mm", "origin": "origin_lps_mm", "direction": "direction_lps"}
    return VoxelGrid.of_facts(OBLIQUE.facts() | {keys[key]: list(value) for key, value in changes.items()})


def test_a_part_of_a_grid_knows_its_offset() -> None:
    part = _grid(size=(2, 1, 3), origin=OBLIQUE.point((1, 2, 4)))
    assert part.offset_on(OBLIQUE) == (1, 2, 4)
    assert OBLIQUE.offset_on(part) == (-1, -2, -4)
    assert not part.is_at(OBLIQUE)
    assert _grid().is_at(OBLIQUE)


@pytest.mark.parametrize(
    "other",
    [
        _grid(spacing=(0.5, 1.0, 2.1)),
        _grid(spacing=(0.51, 1.0, 2.0)),
        _grid(direction=tuple((rotation(10, 20, 30) @ np.diag([-1, 1, 1])).ravel().tolist())),
        _grid(direction=tuple(rotation(10, 20, 32).ravel().tolist())),
        _grid(origin=(10.0, -20.0, 30.4)),
        _grid(size=(1, 1, 1), direction=tuple((rotation(10, 20, 30) @ np.diag([1, 1, -1])).ravel().tolist())),
    ],
)
def test_other_voxels_have_no_offset(other: VoxelGrid) -> None:
    assert other.offset_on(OBLIQUE) is None
    assert not other.is_at(OBLIQUE)


def test_rounding_is_no_other_place_and_another_size_is() -> None:
    rounded = np.round(OBLIQUE.direction, 5)
    assert _grid(origin=(10.001, -20.0, 30.0), direction=tuple(rounded.tolist())).is_at(OBLIQUE)
    assert not _grid(size=(5, 6, 8)).is_at(OBLIQUE)
    with pytest.raises(ValueError, match="reshape"):
        _grid(origin=(1.0, 2.0))
