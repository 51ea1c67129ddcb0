"""NRRD and MetaImage files read as ITK reads them where they are valid, and not at all where a byte is wrong."""

import gzip
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import nrrd as pynrrd
import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import real_image, write
from stored_files import assert_same_image, metaimage, nrrd, real_volume, stored_bytes

from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.header_fields import strict_number
from SegWithUCore.io.volume import (
    check_file,
    coarse_notes,
    read_file,
    read_header,
    read_image,
    read_labels,
    stored_header,
)
from SegWithUCore.util.errors import InputError

TYPES = [f"sitk{sign}{bits}" for sign in ("Int", "UInt") for bits in (8, 16, 32, 64)] + ["sitkFloat32", "sitkFloat64"]
SUFFIXES = (".nrrd", ".mha")
SHAPES: dict[str, Callable[[sitk.Image], sitk.Image]] = {
    "3D": lambda image: image,
    "colours": lambda image: sitk.Compose([image, image + 1, image + 2]),
}
DIRECTIONS = "space directions: (0.42,0.56,0) (-0.72,0.54,0) (0,0,2.5)"


@pytest.fixture(scope="module")
def volume(data_folder: Path) -> sitk.Image:
    return real_volume(data_folder)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", TYPES)
def test_what_itk_writes_is_read_as_itk_reads_it(
    kind: str, suffix: str, compressed: bool, volume: sitk.Image, tmp_path: Path
) -> None:
    for name, shaped in SHAPES.items():
        path = write(shaped(sitk.Cast(volume, getattr(sitk, kind))), tmp_path / f"{name}{suffix}", compressed)
        known = sitk.ReadImage(str(path))
        assert_same_image(read_file(path), known)
        assert read_header(path).grid == VoxelGrid.of(read_file(path))
        check_file(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_whole_head_is_read_as_itk_reads_it(suffix: str, data_folder: Path, tmp_path: Path) -> None:
    path = write(sitk.ReadImage(str(real_image(data_folder))), tmp_path / f"head{suffix}")
    assert_same_image(read_file(path), sitk.ReadImage(str(path)))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "LAS"])
def test_what_pynrrd_writes_is_read_as_itk_reads_it(
    space: str, encoding: str, volume: sitk.Image, tmp_path: Path
) -> None:
    facts = {"space": space, "space directions": np.array([[0.42, 0.56, 0], [-0.72, 0.54, 0], [0, 0, 2.5]])}
    facts |= {"space origin": np.array([1.5, -2.25, 3]), "kinds": ["domain"] * 3, "encoding": encoding}
    voxels = sitk.GetArrayFromImage(volume).T
    for order in "<>":
        path = tmp_path / "image.nrrd"
        pynrrd.write(str(path), voxels.astype(f"{order}i2"), dict(facts))
        assert_same_image(read_file(path), sitk.ReadImage(str(path)))


@pytest.mark.parametrize("place", [0, 2, 3])
def test_values_of_a_voxel_may_stand_on_any_axis(place: int, volume: sitk.Image, tmp_path: Path) -> None:
    array = sitk.GetArrayFromImage(volume).T
    voxels = np.stack([array, array + 1, array * 2], axis=place)
    kinds, directions = ["domain"] * 3, [[0.42, 0.56, 0], [-0.72, 0.54, 0], [0, 0, 2.5]]
    kinds.insert(place, "list")
    directions.insert(place, [np.nan] * 3)
    facts = {"space": "RAS", "space directions": directions, "space origin": [1, 2, 3], "kinds": kinds}
    pynrrd.write(str(tmp_path / "layers.nrrd"), voxels, facts)
    read = read_file(tmp_path / "layers.nrrd")
    assert read.GetNumberOfComponentsPerPixel() == 3
    assert_same_image(read, sitk.ReadImage(str(tmp_path / "layers.nrrd")))


VALID_NRRD: dict[str, tuple[list[str], dict[str, str], Callable[[bytes], bytes]]] = {
    "nothing but voxels": ([], {}, bytes),
    "spacings": (["spacings: 0.5 1 2"], {}, bytes),
    "thick slices": (["spacings: 1 1 3", "thicknesses: nan nan 2.5", "centers: cell cell cell"], {}, bytes),
    "comments and units": (["# made by hand", 'units: "mm" "mm" "mm"', "content: a:=b", "number: 3553"], {}, bytes),
    "LPS": (["space: LPS", DIRECTIONS, "space origin: (1,2,-3)"], {}, bytes),
    "RAS": (["space: RAS", DIRECTIONS, "space origin: ( 1, 2, -3)"], {}, bytes),
    "LAS": (["space: LAS", DIRECTIONS, "space origin: (1,2,-3)"], {}, bytes),
    "no origin": (["space: RAS", DIRECTIONS], {}, bytes),
    "frame": (["space: RAS", DIRECTIONS, "measurement frame: (1,0,0) (0,1,0) (0,0,1)"], {}, bytes),
    "gzip": ([], {"encoding": "gzip"}, gzip.compress),
    "two members": (
        [],
        {"encoding": "gz"},
        lambda voxels: gzip.compress(voxels[:99]) + gzip.compress(voxels[99:]),
    ),
    "zeros behind": ([], {"encoding": "gzip"}, lambda voxels: gzip.compress(voxels) + bytes(512)),
}


@pytest.mark.parametrize("kind", VALID_NRRD)
def test_nrrd_written_by_hand_is_read_as_itk_reads_it(kind: str, volume: sitk.Image, tmp_path: Path) -> None:
    lines, changed, stored = VALID_NRRD[kind]
    path = nrrd(tmp_path / "image.nrrd", lines, stored(stored_bytes(volume)), **changed)
    assert_same_image(read_file(path), sitk.ReadImage(str(path)))


CM = 'space units: "cm" "cm" "cm"'
DOUBTFUL: dict[str, tuple[str, list[str]]] = {
    "space in cm": ("unusable-header", ["space: LPS", DIRECTIONS, CM]),
    "space in um": ("unusable-header", ["space: LPS", DIRECTIONS, CM.replace("cm", "um")]),
    "space in m, without quotes": ("unusable-header", ["space: LPS", DIRECTIONS, "space units: m m m"]),
    "one axis in cm": ("unusable-header", ["space: LPS", DIRECTIONS, 'spaceunits: "mm" "mm" "cm"']),
    "spacings in cm": ("unusable-header", ["spacings: 1 1 1", 'units: "cm" "cm" "cm"']),
    "space of no name": ("unusable-header", ["space dimension: 3", DIRECTIONS, "space origin: (1,2,-3)"]),
    "scanner space": ("unusable-header", ["space: scanner-xyz", DIRECTIONS]),
    "space and time": ("unusable-header", ["space: RAST", DIRECTIONS]),
    "voxels elsewhere": ("voxels-in-another-file", ["data file: image.raw"]),
    "bytes to be skipped": ("voxels-in-another-file", ["byte skip: 5"]),
    "lines to be skipped": ("voxels-in-another-file", ["lineskip: 2"]),
    "a field as a key": ("unusable-header", ["spacings:=2 2 2"]),
}
DOUBTFUL_META: dict[str, tuple[str, list[str]]] = {
    "cm": ("unusable-header", ["DistanceUnits = cm"]),
    "um": ("unusable-header", ["DistanceUnits = um"]),
    "bytes to be skipped": ("voxels-in-another-file", ["HeaderSize = 5"]),
    **{
        line: ("unusable-header", [line])
        for line in (
            "elementspacing = 2 2 2",
            "offset = 1 2 3",
            "transformmatrix = 0 1 0 -1 0 0 0 0 1",
            "Transformmatrix = 0 1 0 -1 0 0 0 0 1",
            "Element_Spacing = 2 2 2",
            "distanceunits = cm",
            "BinaryDataByteOrderMsb = True",
        )
    },
}


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_units_keys_and_spaces_that_would_be_passed_over_are_refused(
    suffix: str, volume: sitk.Image, tmp_path: Path
) -> None:
    written, kinds = (nrrd, DOUBTFUL) if suffix == ".nrrd" else (metaimage, DOUBTFUL_META)
    for code, lines in kinds.values():
        path = written(tmp_path / f"image{suffix}", lines, stored_bytes(volume))
        for look in (read_file, read_header):
            with pytest.raises(InputError, match=f"image{suffix}") as refusal:
                look(path)
            assert refusal.value.code == code, lines


def test_units_in_mm_are_read(volume: sitk.Image, tmp_path: Path) -> None:
    for units in ('"mm" "mm" "mm"', '"" "" ""', '"MM" "millimeters" "???"'):
        lines = ["space: LPS", DIRECTIONS, f"space units: {units}"]
        path = nrrd(tmp_path / "image.nrrd", lines, stored_bytes(volume))
        assert_same_image(read_file(path), sitk.ReadImage(str(path)))
    for unit in ("mm", "?"):
        path = metaimage(tmp_path / "image.mha", [f"DistanceUnits = {unit}"], stored_bytes(volume))
        assert_same_image(read_file(path), sitk.ReadImage(str(path)))


@pytest.mark.parametrize("number", ["1_0", "\u0662", "\uff12", "0x2", "1e999", "nan", "inf", "1d0", "", "+", "1.2.3"])
def test_numbers_of_other_scripts_and_languages_are_none(number: str, volume: sitk.Image, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decimal"):
        strict_number(number)
    body = stored_bytes(volume)
    paths = [
        nrrd(tmp_path / "image.nrrd", ["space: LPS", f"space directions: ({number},0,0) (0,1,0) (0,0,1)"], body),
        nrrd(tmp_path / "spacings.nrrd", [f"spacings: 1 1 {number or 'x'}"], body),
        metaimage(tmp_path / "image.mha", [f"ElementSpacing = 1 1 {number}"], body),
    ]
    for path in paths if number != "nan" else []:  # of `spacings`, nan is "unknown"
        with pytest.raises(InputError, match=path.name):
            read_file(path)


def test_voxels_of_a_metre_are_refused_before_memory_is_foreseen_for_them(volume: sitk.Image, tmp_path: Path) -> None:
    path = nrrd(tmp_path / "image.nrrd", ["spacings: 1000 1000 1000"], stored_bytes(volume))
    for look in (read_file, read_header):
        with pytest.raises(InputError, match="1000 x 1000 x 1000 mm"):
            look(path)


def test_usual_numbers_are_read() -> None:
    known = {"1": 1, "-1.50": -1.5, "+.5": 0.5, "2.": 2, "1e-3": 0.001, " 7E+2 ": 700, "007": 7}
    assert {text: strict_number(text) for text in known} == known


VALID_META: dict[str, list[str]] = {
    "nothing but voxels": [],
    "spacing": ["ElementSpacing = 0.5 1 2", "ElementSize = 0.5 1 1.5"],
    "directions": ["TransformMatrix = 0 1 0 -1 0 0 0 0 1", "Offset = 1 2 3", "CenterOfRotation = 0 0 0"],
    "own fields": ["Comment = a = b", "0008|0060 = CT", "Modality = MET_MOD_CT", "AnatomicalOrientation = RAI"],
    "plain intensities": ["ElementToIntensityFunctionSlope = 1", "ElementToIntensityFunctionOffset = 0"],
}


@pytest.mark.parametrize("kind", VALID_META)
def test_metaimage_written_by_hand_is_read_as_itk_reads_it(kind: str, volume: sitk.Image, tmp_path: Path) -> None:
    path = metaimage(tmp_path / "image.mha", VALID_META[kind], stored_bytes(volume))
    assert_same_image(read_file(path), sitk.ReadImage(str(path)))


def test_big_endian_and_long_are_read_as_itk_reads_them(volume: sitk.Image, tmp_path: Path) -> None:
    path = metaimage(tmp_path / "big.mha", ["BinaryDataByteOrderMSB = True"], stored_bytes(volume, ">"))
    assert_same_image(read_file(path), sitk.ReadImage(str(path)))
    whole = sitk.Cast(volume, sitk.sitkInt32)
    path = metaimage(tmp_path / "long.mha", [], stored_bytes(whole), ElementType="MET_LONG")
    assert_same_image(read_file(path), whole_on_plain_grid(whole))


def whole_on_plain_grid(image: sitk.Image) -> sitk.Image:
    """The image where a header says nothing about its place."""
    return sitk.GetImageFromArray(sitk.GetArrayFromImage(image))


def test_compressed_metaimage_that_leaves_its_length_out_holds_the_true_voxels(
    volume: sitk.Image, tmp_path: Path
) -> None:
    """ITK inflates from the beginning of the header then, and gives what the memory held."""
    for body in (zlib.compress(stored_bytes(volume)), gzip.compress(stored_bytes(volume))):
        path = metaimage(tmp_path / "image.mha", ["CompressedData = True"], body)
        assert_same_image(read_file(path), whole_on_plain_grid(volume))


def test_what_is_no_volume_of_three_axes_or_lies_in_two_files_is_refused(volume: sitk.Image, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        for shaped in (volume[:, :, 4], sitk.JoinSeries([volume, volume])):
            with pytest.raises(InputError, match="no-volume"):
                read_file(write(shaped, tmp_path / f"image{suffix}"))
    for suffix in (".nhdr", ".mhd", ".hdr"):
        with pytest.raises(InputError, match="voxels-in-another-file"):
            read_file(write(volume, tmp_path / f"image{suffix}"))


def test_keys_and_values_of_a_segmentation_stay_as_they_are(volume: sitk.Image, tmp_path: Path) -> None:
    fields = {"Segment0_Name": "Größe: x := y", "Segment0_Tags": "Segmentation.Status:done|", "lines": "one\ntwo\\n"}
    for key, value in fields.items():
        volume.SetMetaData(key, value)
    sitk.WriteImage(volume, str(tmp_path / "labels.seg.nrrd"), useCompression=True)
    read, known = read_file(tmp_path / "labels.seg.nrrd"), sitk.ReadImage(str(tmp_path / "labels.seg.nrrd"))
    for key, value in fields.items():
        volume.EraseMetaData(key)
        assert read.GetMetaData(key) == known.GetMetaData(key) == value


def _damaged(whole: bytes, start: int, kind: str, dice: random.Random) -> bytes:
    content, at = bytearray(whole), dice.randrange(start, len(whole))
    if kind == "bit":
        content[at] ^= 1 << dice.randrange(8)
    elif kind == "zeros":
        content[at : at + 256] = bytes(len(content[at : at + 256]))
    else:
        del content[at:]
    return bytes(content)


@pytest.mark.parametrize("damage", ["bit", "zeros", "cut"])
@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".mha", ".nii.gz"])
def test_every_damage_to_a_compressed_body_is_refused(
    suffix: str, damage: str, data_folder: Path, tmp_path: Path
) -> None:
    path = write(sitk.ReadImage(str(real_image(data_folder))), tmp_path / f"image{suffix}")
    whole, start, dice = path.read_bytes(), stored_header(path).body.offset, random.Random(f"{suffix}{damage}")
    for _ in range(60):
        content = _damaged(whole, start, damage, dice)
        if content == whole:  # zeros over zeros
            continue
        path.write_bytes(content)
        for reading in (read_file, check_file):
            with pytest.raises(InputError, match="cannot be read as an image") as caught:
                reading(path)
            assert str(path) in str(caught.value)


def test_labels_that_16_bits_do_not_hold_are_refused_and_not_wrapped(tmp_path: Path) -> None:
    labels = np.zeros((3, 4, 5), np.int32)
    for value, valid in ((32767, True), (-32768, True), (32768, False), (65538, False), (-32769, False)):
        labels[1, 2, 3] = value
        path = write(sitk.GetImageFromArray(labels), tmp_path / "labels.mha")
        if valid:
            assert sitk.GetArrayFromImage(read_labels(path)).flat[np.argmax(labels != 0)] == value
        else:
            with pytest.raises(InputError, match=f"holds the label {value}"):
                read_labels(path)


def test_grey_levels_that_single_precision_drops_are_told(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    levels = random.integers(0, 118, (6, 7, 8))
    lost = {
        "int32": (levels + 10**9).astype(np.int32),
        "uint32": (levels * 9 + 4 * 10**9).astype(np.uint32),
        "float64": levels * 0.01 + 1e6,
    }
    kept = {
        "plain": levels.astype(np.int32),
        "offset": (levels + 10**6).astype(np.int32),
        "uint16": (levels % 11 + 65000).astype(np.uint16),
        "whole range": random.integers(-(2**31), 2**31, (6, 7, 8)).astype(np.int32),
        "CT": random.normal(0, 500, (6, 7, 8)),
    }
    for name, array in {**lost, **kept}.items():
        image = read_image(write(sitk.GetImageFromArray(array), tmp_path / f"{name}.nrrd"))
        assert len(coarse_notes(image)) == (name in lost), name
