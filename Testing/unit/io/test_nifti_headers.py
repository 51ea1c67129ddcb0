"""Headers that contradict themselves are refused by name; headers as the usual programs round them are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nifti_files import nifti_bytes, quaternion, rotation, srow, voxels, write_nifti

from SegWithUCore.io.volume import check_file, read_file, read_header, read_image, read_labels
from SegWithUCore.util.errors import InputError

BOTH = {"qform_code": 1, "sform_code": 1}
SFORM = {"qform_code": 0, "sform_code": 1}
SHEARED = np.array([[1, 0.3, 0], [0, np.sqrt(1 - 0.09), 0], [0, 0, 1]])
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mirrored sform": (
        BOTH | {"srow": srow(np.diag([-1, 1, 1]))},
        r"RAS \(qform\) and LAS \(sform\), mirror images",
    ),
    "mirrored sform of a template": (BOTH | {"sform_code": 4, "srow": srow(np.diag([-1, 1, 1]))}, "mirror images"),
    "mirrored qform": (BOTH | {"pixdim": (-1, 1, 1, 1), "srow": srow()}, r"RAI \(qform\) and RAS \(sform\)"),
    "sform of 2 mm": (
        BOTH | {"srow": srow(None, (0, 0, 0), (2, 2, 2))},
        r"voxels of 1 x 1 x 1 mm \(pixdim\) and 2 x 2 x 2 mm \(sform\)",
    ),
    "sform alone of 2 mm": (SFORM | {"srow": srow(None, (0, 0, 0), (1, 1, 2))}, r"\(pixdim\) and 1 x 1 x 2 mm \(sform"),
    "sform of 1.002 mm": (SFORM | {"srow": srow(None, (0, 0, 0), (1.002, 1, 1))}, r"1.002 .*\[unusable-header\]"),
    "sforms of 1.002 mm": (BOTH | {"srow": srow(None, (0, 0, 0), (1.002, 1, 1))}, r"1.002 .*\[unusable-header\]"),
    "NaN in the sform": (BOTH | {"srow": srow() * np.nan}, "an sform with NaN"),
    "infinite offset": (SFORM | {"srow": srow(None, (np.inf, 0, 0))}, "an sform with NaN or infinite numbers"),
    "sheared sform": (SFORM | {"srow": srow(SHEARED)}, r"an angle of 72.54 degrees instead of 90 \(sheared\)"),
    "sheared sform beside a qform": (BOTH | {"srow": srow(SHEARED)}, "72.54 degrees"),
    "flat sform": (SFORM | {"srow": np.zeros((3, 4))}, "0 x 0 x 0 mm .sform"),
    "quaternion": ({"quatern": (2, 0, 0)}, r"a qform that is no rotation and place \(2, 0, 0, 0, 0, 0\)"),
    "NaN in the quaternion": ({"quatern": (np.nan, 0, 0)}, "no rotation and place"),
    "NaN in the offset": ({"qoffset": (np.nan, 0, 0)}, "no rotation and place"),
    "negative voxels": ({"pixdim": (1, -1, 1, 1)}, r"pixdim \(-1 x 1 x 1\)"),
    "voxels of 0": ({"pixdim": (1, 1, 0, 1)}, r"pixdim \(1 x 0 x 1\)"),
    "voxels of NaN": ({"pixdim": (1, 1, 1, np.nan)}, r"pixdim \(1 x 1 x nan\)"),
    "NaN for a sign": ({"pixdim": (np.nan, 1, 1, 1)}, "pixdim"),
    "tiny voxels": ({"pixdim": (1, 1e-6, 1e-6, 1e-6)}, "voxel size of 1e-06 x 1e-06 x 1e-06 mm, outside 0.001 to 100"),
    "metres taken for mm": ({"xyzt_units": 1}, "voxel size of 1000 x 1000 x 1000 mm"),
    "far away": ({"qoffset": (2e7, 0, 0)}, "begins 2e.07 mm from the origin"),
    "unknown unit": ({"xyzt_units": 5}, "an unknown unit of length .xyzt_units 5"),
    "codes": ({"qform_code": 77}, r"codes \(77, 0\)"),
    "negative code": ({"sform_code": -1}, r"codes \(1, -1\)"),
    **{
        f"vox_offset {offset}": ({"vox_offset": offset}, rf"vox_offset \({offset:g}\).*\[unusable-header\]")
        for offset in (0.0, -352.0, 348.0, 350.0, np.nan, np.inf, 352.5)
    },
    "vox_offset 368": ({"vox_offset": 368}, r"\[truncated-file\]"),
    "vox_offset 1e20": ({"vox_offset": 1e20}, r"\[truncated-file\]"),
    "sizeof_hdr": ({"sizeof_hdr": 349}, "unusable-header"),
    "sizeof_hdr 0": ({"sizeof_hdr": 0}, "unusable-header"),
    "magic": ({"magic": b"nix\0"}, "the format is unknown"),
    "magic of a pair": ({"magic": b"ni1\0"}, "unusable-header"),
    "size 0": ({"dim": (3, 5, 0, 7)}, r"the size 5 x 0 x 7 \(3D\)"),
    "negative size": ({"dim": (3, 5, 6, -7)}, r"the size 5 x 6 x -7 \(3D\)"),
    "no dimensions": ({"dim": (0, 5, 6, 7)}, r"\(0D\)"),
    "8 dimensions": ({"dim": (8, 5, 6, 7)}, r"\(8D\)"),
    "unknown type": ({"datatype": 1}, "voxels of the type 1, which is not read here"),
    "long double": ({"datatype": 1536, "bitpix": 128}, "voxels of the type 1536"),
    "bits": ({"bitpix": 8}, "8 bits"),
    "half of the voxels unused": (
        {"datatype": 2, "bitpix": 8},
        r"follow the 210 of voxels .*\[damaged-file\]",
    ),
    "a row unused": ({"dim": (3, 5, 6, 6)}, r"\[damaged-file\]"),
    "bytes left": ({"rest": b"x"}, r"\[damaged-file\]"),
    "many zeros left": ({"rest": bytes(512)}, r"\[damaged-file\]"),
    "slope NaN": ({"scl_slope": np.nan}, r"scl_slope or scl_inter \(nan, 0\)"),
    "intercept infinite": ({"scl_inter": np.inf}, r"scl_inter \(1, inf\)"),
    "slope without meaning": ({"scl_slope": 1e-20}, r"scl_slope or scl_inter \(1e-20"),
    "slope 0 with an intercept": ({"scl_slope": 0, "scl_inter": 5}, r"scl_inter \(0, 5\)"),
    "complex": ({"datatype": 32, "bitpix": 64}, "holds complex voxels: give the magnitude image"),
    "colours": ({"datatype": 128, "bitpix": 24}, "holds 3 values a voxel"),
    "vectors": ({"dim": (5, 5, 6, 7, 1, 3), "intent_code": 1007}, "holds 3 values a voxel"),
    "a film": ({"dim": (4, 5, 3, 7, 2)}, r"is 4D \(5 x 3 x 7 x 2\): give one 3D volume"),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED)
def test_a_header_that_cannot_be_right_is_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", **fields)
    for read in (read_file, check_file, read_image, read_labels):
        with pytest.raises(InputError, match=words) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} ")
        assert str(caught.value).endswith((".", "]"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("forms", [BOTH, SFORM], ids=["both", "sform"])
def test_an_sform_that_was_rounded_is_read(forms: dict[str, Any], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", **forms | {"srow": srow(None, (0, 0, 0), (1.0008, 1, 1))})
    assert read_image(path).GetSpacing() == (1, 1, 1)


def _turned_by(number: int) -> np.ndarray:
    return rotation(*np.random.default_rng(number).uniform(-180, 180, 3))


def _dcm2niix(turn: np.ndarray, spacing: np.ndarray, offset: np.ndarray) -> dict[str, Any]:
    """The sform from DICOM's cosines of six decimals, the qform from that; both of the scanner; often left-handed."""
    turn, offset = np.round(turn * [-1, 1, 1], 6), np.round(offset, 4)
    right_handed = turn * [1, 1, -1]
    left, _, right = np.linalg.svd(right_handed)
    fields = {"pixdim": (-1, *spacing), "quatern": quaternion(left @ right), "qoffset": offset, "xyzt_units": 10}
    return fields | {"sform_code": 1, "srow": srow(turn, offset, spacing)}


def _freesurfer(turn: np.ndarray, spacing: np.ndarray, offset: np.ndarray) -> dict[str, Any]:
    """Spacing and cosines in single precision, the offset from the centre c_ras through a product in it."""
    turn, spacing = turn.astype("f4"), spacing.astype("f4")
    matrix = (turn * spacing).astype("f4")
    offset = (offset.astype("f4") - matrix @ np.array([2, 3, 3], "f4")).astype("f4")
    fields = {"pixdim": (1, *spacing), "quatern": quaternion(turn.astype(float)), "qoffset": offset}
    return fields | {"sform_code": 1, "srow": np.c_[matrix, offset], "xyzt_units": 10}


def _spm(turn: np.ndarray, spacing: np.ndarray, offset: np.ndarray) -> dict[str, Any]:
    """As after realignment: a product of many small rotations, both forms aligned (2), pixdim from the norms."""
    for number in range(50):
        turn = (turn.astype("f4") @ rotation(0.01 * number, -0.02, 0.03).astype("f4")).astype(float)
    matrix = (turn * spacing).astype("f4")
    lengths = np.linalg.norm(matrix, axis=0)
    fields = {"pixdim": (1, *lengths), "quatern": quaternion(turn), "qoffset": offset, "qform_code": 2}
    return fields | {"sform_code": 2, "srow": np.c_[matrix, offset], "xyzt_units": 10}


def _ants(turn: np.ndarray, spacing: np.ndarray, offset: np.ndarray) -> dict[str, Any]:
    """ITK's writer: one matrix in single precision for both forms, code 1 each."""
    turn = turn.astype("f4")
    matrix = (spacing.astype("f4") * turn).astype("f4")
    fields = {"pixdim": (1, *spacing), "quatern": quaternion(turn.astype(float)), "qoffset": offset}
    return fields | {"sform_code": 1, "srow": np.c_[matrix, offset], "xyzt_units": 10}


PROGRAMS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, Any]]] = {
    "dcm2niix": _dcm2niix,
    "FreeSurfer": _freesurfer,
    "SPM": _spm,
    "ANTs": _ants,
}


def _head(folder: Path, **fields: Any) -> Path:
    """A file of 260 x 300 x 200 voxels, none of which is on the disk."""
    path = folder / "image.nii"
    path.write_bytes(nifti_bytes(dim=(3, 260, 300, 200), datatype=2, bitpix=8, **fields)[:352])
    with path.open("r+b") as file:
        file.truncate(352 + 260 * 300 * 200)
    return path


@pytest.mark.parametrize("program", PROGRAMS)
def test_headers_as_programs_round_them_pass_without_a_word(program: str, tmp_path: Path) -> None:
    for number in range(200):
        random = np.random.default_rng(number)
        spacing = random.uniform(0.4, 3, 3)
        path = _head(tmp_path, **PROGRAMS[program](_turned_by(number), spacing, random.uniform(-250, 250, 3)))
        assert read_header(path).notes == ()
        grid = read_header(path).grid
        assert grid is not None
        np.testing.assert_allclose(grid.spacing, spacing, rtol=1e-5)
        axes = np.reshape(grid.direction, (3, 3))
        assert np.abs(axes @ axes.T - np.eye(3)).max() < 1e-3


def test_rounding_near_half_a_turn_is_not_taken_for_two_places(tmp_path: Path) -> None:
    """There a qform in single precision is least exact."""
    for number in range(300):
        turn = rotation(180 - 0.0005 * number, 0.02, -0.01)
        assert read_header(_head(tmp_path, **_ants(turn, np.ones(3), np.array([-90.0, 126, 72])))).notes == ()


@pytest.mark.parametrize("shear", [0.0002, 0.0008])
def test_axes_nearly_at_right_angles_are_set_upright(shear: float, tmp_path: Path) -> None:
    """ITK refuses these; the nearest rotation is what it gives in its permissive mode."""
    turn = rotation(5, 6, 7) @ np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]])
    image = read_file(write_nifti(tmp_path / "image.nii", **SFORM, srow=srow(turn)))
    direction = np.reshape(image.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    assert np.abs(np.diag([-1, -1, 1]) @ direction - turn).max() < shear


def test_zeros_that_fill_a_block_may_follow(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", rest=bytes(511))
    assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), voxels())


def test_bits_that_were_never_filled_in_do_not_matter(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", bitpix=0)
    assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), voxels())


def test_a_cut_header_is_damage(tmp_path: Path) -> None:
    for length in (0, 3, 100, 347, 351):
        (tmp_path / "image.nii").write_bytes(nifti_bytes()[:length])
        with pytest.raises(InputError, match="cannot be read as an image"):
            read_image(tmp_path / "image.nii")
