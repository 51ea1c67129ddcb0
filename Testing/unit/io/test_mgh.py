"""FreeSurfer volumes are read as nibabel reads them where they are whole, and refused where they are not."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import real_image

from SegWithUCore.io.volume import check_file, read_file, read_header
from SegWithUCore.util.errors import InputError

KINDS = ("uint8", "int16", "int32", "float32", "uint16")
OBLIQUE = ((-0.8, 0.6, 0, 12), (0, 0, 1.2, -30), (0.6, 0.8, 0, 7.5), (0, 0, 0, 1))
TAGS = struct.pack(">5f", 2300, 0.1, 2.9, 900, 256) + b"\x00\x00\x00\x1erecon-all -all\x07"


def _stored(folder: Path, kind: str = "float32", suffix: str = ".mgz", affine: object = OBLIQUE) -> Path:
    path = folder / f"brain{suffix}"
    image = nibabel.MGHImage(np.arange(60).reshape(3, 4, 5).astype(kind), np.array(affine, float))
    nibabel.save(image, path)
    return path


def _rewritten(path: Path, at: int, form: str, *values: float) -> Path:
    """Write numbers into the header of a file."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(f">{form}", content, at, *values)
    path.write_bytes(gzip.compress(bytes(content)))
    return path


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("kind", KINDS)
def test_voxels_and_place_are_those_of_nibabel(kind: str, suffix: str, tmp_path: Path) -> None:
    path = _stored(tmp_path, kind, suffix)
    known, image = nibabel.load(path), read_file(path)
    assert np.array_equal(sitk.GetArrayFromImage(image).T, np.asarray(known.dataobj))
    for index in ((0, 0, 0), (2, 3, 4), (1, 0, 3)):
        ras = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        assert ras == pytest.approx((known.affine @ [*index, 1])[:3], abs=1e-4)
    check_file(path)


def test_a_head_is_that_of_its_nifti_file(data_folder: Path, tmp_path: Path) -> None:
    source = real_image(data_folder)
    nibabel.save(nibabel.MGHImage.from_image(nibabel.load(source)), tmp_path / "T1.mgz")
    ours, known = read_file(tmp_path / "T1.mgz"), read_file(source)
    assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(known))
    header, expected = read_header(tmp_path / "T1.mgz"), read_header(source)
    assert header.grid is not None and expected.grid is not None
    assert header.grid.origin == pytest.approx(expected.grid.origin, abs=1e-4)
    assert header.grid.direction == pytest.approx(expected.grid.direction, abs=1e-6)


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_tags_may_follow_the_voxels(suffix: str, tmp_path: Path) -> None:
    path = _stored(tmp_path, suffix=suffix)
    before = sitk.GetArrayFromImage(read_file(path))
    content = path.read_bytes()
    path.write_bytes(gzip.compress(gzip.decompress(content) + TAGS) if suffix == ".mgz" else content + TAGS)
    assert np.array_equal(sitk.GetArrayFromImage(read_file(path)), before)


@pytest.mark.parametrize(
    ("at", "form", "value", "code"),
    [(28, "h", 0, "unusable-header"), (20, "i", 9, ""), (0, "i", 2, ""), (4, "i", -3, ""), (30, "f", 0.0, "")],
    ids=["place", "type", "version", "size", "spacing"],
)
def test_headers_that_cannot_be_are_refused(at: int, form: str, value: float, code: str, tmp_path: Path) -> None:
    path = _rewritten(_stored(tmp_path), at, form, value)
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert caught.value.code == code or not code
    assert str(path) in str(caught.value)


def test_an_intent_may_stand_in_the_version(tmp_path: Path) -> None:
    assert read_header(_rewritten(_stored(tmp_path), 0, "i", 257)).grid is not None


def test_frames_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "frames.mgz"
    nibabel.save(nibabel.MGHImage(np.zeros((3, 4, 5, 2), np.float32), np.eye(4)), path)
    with pytest.raises(InputError, match="4D"):
        read_header(path)


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_a_cut_or_damaged_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path = _stored(tmp_path, suffix=suffix)
    content = path.read_bytes()
    for kept in (0, 20, 100, 300 if suffix == ".mgh" else len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(InputError):
            check_file(path)
    if suffix == ".mgz":
        path.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])  # the checksum
        with pytest.raises(InputError) as caught:
            check_file(path)
        assert caught.value.code == "damaged-file"
