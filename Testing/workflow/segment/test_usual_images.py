"""The same voxels give the same result whatever file, voxel type, axes or path they come in. On a real abdominal CT."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hippocampi import ct_phantom
from segwithu_command import Command, write

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.io.volume import read_image

TYPES = {
    "uint8": sitk.sitkUInt8,
    "int8": sitk.sitkInt8,
    "uint16": sitk.sitkUInt16,
    "int16": sitk.sitkInt16,
    "uint32": sitk.sitkUInt32,
    "int32": sitk.sitkInt32,
    "uint64": sitk.sitkUInt64,
    "int64": sitk.sitkInt64,
    "float32": sitk.sitkFloat32,
    "float64": sitk.sitkFloat64,
}
FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")


@pytest.fixture(scope="module")
def ct(data_folder: Path) -> sitk.Image:
    """A part of a CT, 32 x 30 x 14 voxels of int16, axes towards R, A, S; taken for 1 mm, to fit into one window."""
    image = ct_phantom(data_folder)[4:36, 8:38, 8:22]
    array = sitk.GetArrayViewFromImage(image)
    assert array.min() < -900
    assert array.max() > 100
    image.SetSpacing((1, 1, 1))
    return image


def _result(folder: Path) -> tuple[np.ndarray, np.ndarray, str]:
    facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{n}.nii.gz"))) for n in ("segmentation", "ranking")]
    return arrays[0], arrays[1], facts["input"]["channels"][0]["voxels_sha256"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", TYPES)
def test_every_voxel_type_in_every_format_reads_as_the_same_voxels(
    kind: str, suffix: str, ct: sitk.Image, tmp_path: Path
) -> None:
    """Within 0 to 127, which all types hold; the hash is that of the numbers themselves."""
    whole = sitk.Cast(sitk.Clamp(ct, lowerBound=0, upperBound=127), sitk.sitkFloat32)
    path = write(sitk.Cast(whole, TYPES[kind]), tmp_path / f"image{suffix}", compressed=suffix == ".nii.gz")
    read = read_image(path)
    assert read.GetPixelID() == sitk.sitkFloat32
    assert voxel_hash(read) == voxel_hash(whole)


@pytest.mark.parametrize("kind", ["int16", "int32", "int64", "float32", "float64"])
def test_negative_values_survive_every_signed_type(kind: str, ct: sitk.Image, tmp_path: Path) -> None:
    read = read_image(write(sitk.Cast(ct, TYPES[kind]), tmp_path / "image.nii.gz"))
    assert np.array_equal(sitk.GetArrayViewFromImage(read), sitk.GetArrayFromImage(ct))


def test_slope_and_intercept_of_a_nifti_header_are_honoured(ct: sitk.Image, tmp_path: Path) -> None:
    path = write(ct, tmp_path / "image.nii", compressed=False)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, 0.5, -3.25)  # scl_slope and scl_inter
    path.write_bytes(content)
    expected = sitk.GetArrayFromImage(ct).astype(np.float32) * 0.5 - 3.25
    assert np.array_equal(sitk.GetArrayViewFromImage(read_image(path)), expected)


def test_any_path_and_type_give_the_identical_result(
    ct: sitk.Image, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    places = {
        "plain": write(ct, tmp_path / "plain.nii.gz"),
        "Bauch groß 1": write(sitk.Cast(ct, sitk.sitkFloat64), tmp_path / "Ärzte & Söhne" / "Bauch groß 1.nrrd"),
        "腹部 CT": write(sitk.Cast(ct, sitk.sitkInt32), tmp_path / "データ" / "腹部 CT.mha"),
    }
    output = tmp_path / "Ergebnisse – neu"
    assert segwithu.segment(*places.values(), model=tiny, output=output).code == 0
    results = [_result(output / name) for name in places]
    for classes, ranking, digest in results[1:]:
        assert np.array_equal(classes, results[0][0])
        assert np.array_equal(ranking, results[0][1])
        assert digest == results[0][2]


def test_axes_towards_lps_give_the_result_of_those_towards_ras(
    ct: sitk.Image, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    places = [write(sitk.DICOMOrient(ct, axes), tmp_path / f"{axes}.nii.gz") for axes in ("RAS", "LPS", "SAL")]
    assert segwithu.segment(*places, model=tiny, output=tmp_path / "results").code == 0
    first = None
    for path in places:
        images = [tmp_path / "results" / path.name[:3] / f"{name}.nii.gz" for name in ("segmentation", "ranking")]
        arrays = [sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(image)), "RAS")) for image in images]
        first = first or arrays
        assert np.array_equal(arrays[0], first[0])
        np.testing.assert_allclose(arrays[1], first[1], rtol=1e-6, atol=1e-6)
    assert len(np.unique(first[0] if first else [])) > 1
