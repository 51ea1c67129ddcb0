"""Our own reading of NIfTI files against ITK's (through which Slicer reads) and nibabel's; damage is always noticed."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nifti_files import TYPES, nifti_bytes, quaternion, rotation, srow, voxels, write_nifti

from SegWithUCore.io.volume import check_file, read_file
from SegWithUCore.util.errors import InputError

OBLIQUE = rotation(11, -23, 37)
GRIDS: dict[str, dict[str, Any]] = {
    "no form": {"qform_code": 0},
    "qform": {"qoffset": (5, -6, 7), "pixdim": (1, 0.9, 1.1, 2.5)},
    "qform, left-handed": {"qoffset": (5, -6, 7), "pixdim": (-1, 0.9, 1.1, 2.5)},
    "qform, sign 0": {"pixdim": (0, 1, 1, 1), "quatern": quaternion(OBLIQUE)},
    "qform, oblique": {"quatern": quaternion(OBLIQUE), "pixdim": (-1, 0.9, 1.1, 2.5), "qoffset": (90.5, -126, -72.25)},
    "qform, half a turn": {"quatern": (0, 1, 0), "qoffset": (90, -126, -72)},
    "qform, nearly half a turn": {"quatern": quaternion(rotation(179.99, 0.01, 0))},
    "sform": {"qform_code": 0, "sform_code": 2, "srow": srow(OBLIQUE, (3, 4, 5), (0.9, 1.1, 2.5))}
    | {"pixdim": (1, 0.9, 1.1, 2.5)},
    "sform, left-handed": {"qform_code": 0, "sform_code": 4, "srow": srow(np.diag([-1, 1, 1]), (90, -126, -72))},
    "both, alike": {"qoffset": (5, 6, 7), "sform_code": 1, "srow": srow(None, (5, 6, 7))},
    "both, the sform counts": {"qoffset": (5, 6, 7), "sform_code": 1, "srow": srow(OBLIQUE, (3, 4, 5))},
    "both, the qform counts": {"qoffset": (5, 6, 7), "sform_code": 2, "srow": srow(OBLIQUE, (3, 4, 5))},
    "both, of a template": {"qform_code": 2, "sform_code": 4, "srow": srow(rotation(0, 0, 2), (3, 4, 5))},
    "both, of the scanner and aligned": {"qform_code": 2, "sform_code": 1, "srow": srow(OBLIQUE, (3, 4, 5))},
    "metres": {"xyzt_units": 1, "pixdim": (1, 0.001, 0.002, 0.003), "qoffset": (0.05, 0.06, 0.07)},
    "microns": {"xyzt_units": 3, "pixdim": (1, 700, 800, 900), "qoffset": (5000, 6000, 7000)},
    "units unknown": {"xyzt_units": 0, "qoffset": (1, 2, 3)},
    "negative zero": {"qoffset": (-0.0, -0.0, 0.0)},
}
SCALINGS = {"slope": (0.37, -3.25), "negative": (-2, 10), "tiny": (2.3283064365386963e-10, 0.5), "none": (0, 0)}


def _assert_equal(image: sitk.Image, reference: sitk.Image) -> None:
    assert image.GetPixelID() == reference.GetPixelID()
    assert image.GetSize() == reference.GetSize()
    assert sitk.GetArrayFromImage(image).tobytes() == sitk.GetArrayFromImage(reference).tobytes()
    for of in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        np.testing.assert_allclose(of(image), of(reference), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_in_both_byte_orders_gives_itk_s_voxels(kind: str, order: str, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii.gz", voxels(kind), order=order)
    _assert_equal(read_file(path), sitk.ReadImage(str(path)))


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "i8", "f4", "f8"])
def test_slope_and_intercept_are_applied_as_by_itk(kind: str, scaling: tuple[float, float], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", voxels(kind), scl_slope=scaling[0], scl_inter=scaling[1])
    _assert_equal(read_file(path), sitk.ReadImage(str(path)))


@pytest.mark.parametrize("fields", GRIDS.values(), ids=GRIDS)
def test_grids_are_those_of_itk(fields: dict[str, Any], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", **fields)
    _assert_equal(read_file(path), sitk.ReadImage(str(path)))


def test_random_rotations_give_itk_s_grids(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for number in range(400):
        turn = rotation(*random.uniform(-180, 180, 3))
        spacing, offset = random.uniform(0.3, 6, 3), random.uniform(-300, 300, 3)
        fields: dict[str, Any] = {"pixdim": (1, *spacing), "quatern": quaternion(turn), "qoffset": offset}
        fields |= {"qform_code": number % 3, "sform_code": number // 3 % 3, "srow": srow(turn, offset, spacing)}
        path = write_nifti(tmp_path / "image.nii", voxels("u1"), **fields)
        image, reference = read_file(path), sitk.ReadImage(str(path))
        # Of two forms that differ by rounding alone ITK's choice is not always ours, so the tolerance is that.
        tolerance = 1e-6 if 0 in (number % 3, number // 3 % 3) or number // 3 % 3 == 1 else 1e-3
        for of in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
            np.testing.assert_allclose(of(image), of(reference), rtol=0, atol=tolerance, err_msg=str(fields))


@pytest.mark.parametrize("shape", [(4, 5), (1, 1, 4, 5, 6), (2, 4, 5, 6), (1, 4, 5), (1, 5, 6, 7)], ids=str)
def test_sequences_and_slices_are_refused_and_trailing_ones_are_not(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", np.arange(np.prod(shape), dtype="i2").reshape(shape))
    reference = sitk.ReadImage(str(path))
    if reference.GetDimension() == 3:
        _assert_equal(read_file(path), reference)
        return
    with pytest.raises(InputError, match=f"image.nii is {reference.GetDimension()}D"):
        read_file(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
@pytest.mark.parametrize("big", [False, True])
def test_nifti_2_gives_what_nibabel_gives(suffix: str, big: bool, tmp_path: Path) -> None:
    """ITK 5.4 does not read this version."""
    affine = np.r_[srow(OBLIQUE, (3.25, 4, 5), (0.9, 1.1, 2.5)), [[0, 0, 0, 1]]]
    header = nibabel.Nifti2Header(endianness=">" if big else "<")
    header.set_data_dtype(np.int16)
    written = nibabel.Nifti2Image(voxels().T, affine, header)
    written.header.set_slope_inter(2, 1)
    nibabel.save(written, tmp_path / f"image{suffix}")
    image, reference = read_file(tmp_path / f"image{suffix}"), nibabel.load(tmp_path / f"image{suffix}")
    np.testing.assert_allclose(sitk.GetArrayFromImage(image).T, reference.get_fdata(), rtol=1e-6)
    to_ras = np.diag([-1, -1, 1])
    np.testing.assert_allclose(to_ras @ image.GetOrigin(), reference.affine[:3, 3], atol=1e-9)
    matrix = to_ras @ np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    np.testing.assert_allclose(matrix, reference.affine[:3, :3], atol=1e-9)


def test_an_extension_before_the_voxels_is_passed_over(tmp_path: Path) -> None:
    array = voxels()
    image = nibabel.Nifti1Image(array.T, np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe, 4711"))
    nibabel.save(image, tmp_path / "image.nii.gz")
    read = read_file(tmp_path / "image.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(read), array)
    assert not read.GetMetaDataKeys()


def test_names_do_not_say_whether_a_file_is_compressed(tmp_path: Path) -> None:
    plain = nifti_bytes()
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "PLAIN.NII.GZ").write_bytes(plain)
    for name in ("packed.nii", "PLAIN.NII.GZ"):
        assert np.array_equal(sitk.GetArrayFromImage(read_file(tmp_path / name)), voxels())


def test_several_gzip_streams_and_padding_are_one_file(tmp_path: Path) -> None:
    """As bgzip and pigz write them."""
    plain = nifti_bytes()
    packed = gzip.compress(plain[:200]) + gzip.compress(plain[200:400]) + gzip.compress(plain[400:]) + bytes(1000)
    (tmp_path / "image.nii.gz").write_bytes(packed)
    assert np.array_equal(sitk.GetArrayFromImage(read_file(tmp_path / "image.nii.gz")), voxels())


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def test_every_damage_to_a_compressed_body_is_refused(tmp_path: Path) -> None:
    """Bits, zeroed bytes and cuts all over the file, voxels and checksum; a flag in gzip's own header may be free."""
    packed, path = gzip.compress(nifti_bytes(voxels("f4")), mtime=0), tmp_path / "image.nii.gz"
    places = np.linspace(10, len(packed) - 1, 40).astype(int).tolist()
    damages = [_flipped(packed, at, at % 8) for at in places]
    damages += [packed[:at] + bytes(16) + packed[at + 16 :] for at in places[:-2]]
    damages += [packed[:at] for at in places] + [packed + b"more"]
    for content in damages:
        path.write_bytes(content)
        for read in (read_file, check_file):
            with pytest.raises(InputError, match=r"image\.nii\.gz"):
                read(path)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [">f4", "<f8"])
def test_voxels_that_are_no_numbers_are_counted(kind: str, number: float, tmp_path: Path) -> None:
    array = voxels(kind[1:])
    array[1, 2, 3:5] = number
    path = write_nifti(tmp_path / "image.nii.gz", array, order=kind[0])
    for read in (read_file, check_file):
        with pytest.raises(InputError, match="2 NaN or infinite voxels of 210"):
            read(path)


def test_a_claim_beyond_the_file_takes_no_memory(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii.gz", dim=(3, 30000, 30000, 30000))
    with pytest.raises(InputError, match=r"54000000000000 bytes.*\[truncated-file\]"):
        read_file(path)


def test_a_scaling_that_leaves_the_numbers_is_refused(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii", voxels("u4"), scl_slope=3e38)
    with pytest.raises(InputError, match="NaN or infinite voxels"):
        read_file(path)


def test_large_images_are_read_in_pieces(tmp_path: Path) -> None:
    """Longer than a piece, and no multiple of it."""
    array = np.random.default_rng(0).normal(size=(101, 103, 61)).astype("f4")
    for path in (write_nifti(tmp_path / "image.nii", array), write_nifti(tmp_path / "image.nii.gz", array, order=">")):
        assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), array)
        check_file(path)
    missing = (tmp_path / "image.nii").read_bytes()[:-5]
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(missing, 1))
    with pytest.raises(InputError, match=r"5 of 2538332 bytes.*\[truncated-file\]"):
        read_file(tmp_path / "cut.nii.gz")


def test_a_wrong_length_at_the_end_of_a_stream_is_noticed(tmp_path: Path) -> None:
    plain = nifti_bytes()
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(plain) + packer.flush()
    for crc, length in ((zlib.crc32(plain) ^ 1, len(plain)), (zlib.crc32(plain), len(plain) + 1)):
        content = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + struct.pack("<2I", crc, length)
        (tmp_path / "image.nii.gz").write_bytes(content)
        with pytest.raises(InputError, match="damaged-file"):
            read_file(tmp_path / "image.nii.gz")


def test_a_second_image_behind_the_first_is_refused_though_it_is_the_same(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "image.nii.gz")
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match="damaged-file"):
        read_file(path)
