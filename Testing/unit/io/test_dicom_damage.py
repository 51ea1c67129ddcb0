"""DICOM slices whose voxels are not what their header says are refused; no voxel comes from anywhere but their file."""

import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_phantoms import Change, as_mr, packed, write_series
from hippocampi import ct_phantom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    MRImageStorage,
    SegmentationStorage,
)

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.io import dicom_voxels
from SegWithUCore.io.dicom_series import read_series
from SegWithUCore.util.errors import InputError

DAMAGED = 4
"""Number of the slice that the tests damage."""


@pytest.fixture(scope="module")
def ct(data_folder: Path) -> sitk.Image:
    """40 x 30 x 8 voxels of 3 mm."""
    return ct_phantom(data_folder)[:40, :30, 8:16]


def _refused(folder: Path, *words: str) -> str:
    with pytest.raises(InputError) as caught:
        read_series(folder)
    sentence = str(caught.value)
    assert caught.value.code
    for word in (str(folder), *words):
        assert word in sentence, f"'{word}' is missing in: {sentence}"
    return sentence


def _values(**entries: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        with pydicom.config.disable_value_validation():
            for keyword, value in entries.items():
                if value is None:
                    del dataset[keyword]
                else:
                    setattr(dataset, keyword, value)

    return change


def _one(change: Callable[[Dataset], None], number: int = DAMAGED) -> Change:
    return lambda k, dataset: change(dataset) if k == number else None


def _all(change: Callable[[Dataset], None]) -> Change:
    return lambda k, dataset: change(dataset)


def _raw(path: Path, keyword: str, value: bytes) -> None:
    """Replace a value in the file itself, of any text: pydicom would refuse to write it."""
    dataset = pydicom.dcmread(path)
    element = dataset[keyword]
    content = path.read_bytes()
    tag = struct.pack("<HH", element.tag.group, element.tag.element) + element.VR.encode()
    place = content.index(tag)
    (length,) = struct.unpack_from("<H", content, place + 6)
    value += b" " * (len(value) % 2)
    new = tag + struct.pack("<H", len(value)) + value
    path.write_bytes(content[:place] + new + content[place + 8 + length :])


def _cut_rows(rows: int) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[: rows * 40 * 2]

    return change


@pytest.mark.parametrize("rows", [0, 15, 24])
@pytest.mark.parametrize("each", [True, False])
def test_pixel_data_that_are_too_short_are_refused(rows: int, each: bool, ct: sitk.Image, tmp_path: Path) -> None:
    cut = _cut_rows(rows)
    files = write_series(ct, tmp_path / "series", change=_all(cut) if each else _one(cut))
    words = [f"holds {rows * 80} bytes", "instead of the 2400", "30 rows x 40 columns x 16 bits"]
    _refused(tmp_path / "series", (min(files) if each else files[DAMAGED]).name, *words)


@pytest.mark.parametrize("extra", [1, 2, 800])
def test_pixel_data_that_are_too_long_are_refused(extra: int, ct: sitk.Image, tmp_path: Path) -> None:
    def longer(dataset: Dataset) -> None:
        dataset.PixelData += bytes(extra + extra % 2)

    files = write_series(ct, tmp_path / "series", change=_one(longer))
    _refused(tmp_path / "series", files[DAMAGED].name, f"holds {2400 + extra + extra % 2} bytes", "instead of the 2400")


def test_one_byte_may_fill_up_an_odd_number(ct: sitk.Image, tmp_path: Path) -> None:
    odd = sitk.Cast(sitk.Clamp(ct[:39, :29], sitk.sitkInt16, 0, 255), sitk.sitkInt16)

    def as_bytes(dataset: Dataset) -> None:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        stored = np.frombuffer(dataset.PixelData, np.int16).astype(np.uint8).tobytes()
        dataset.PixelData = stored + bytes(len(stored) % 2)
        dataset["PixelData"].VR = "OB"

    write_series(odd, tmp_path / "series", scale=lambda k: (1, 0), change=_all(as_bytes))
    assert np.array_equal(sitk.GetArrayFromImage(read_series(tmp_path / "series").image), sitk.GetArrayFromImage(odd))


def test_no_voxel_of_the_patient_before_is_ever_seen(ct: sitk.Image, tmp_path: Path) -> None:
    """A whole and B cut, in turn in one process: B is refused each time, and A stays what it is."""
    write_series(ct, tmp_path / "A")
    write_series(sitk.Flip(ct, (True, False, False)), tmp_path / "B", change=_all(_cut_rows(24)))
    hashes = set()
    for _ in range(50):
        hashes.add(voxel_hash(read_series(tmp_path / "A").image))
        _refused(tmp_path / "B", "instead of the 2400")
    assert len(hashes) == 1


CONTRADICTIONS = {
    "rows": (_all(_values(Rows=31)), ("instead of the 2480", "31 rows")),
    "8 bits": (_all(_values(BitsAllocated=8, BitsStored=8, HighBit=7)), ("holds 2400 bytes", "instead of the 1200")),
    "32 bits": (_all(_values(BitsAllocated=32, BitsStored=32, HighBit=31)), ("instead of the 4800",)),
    "24 bits": (_all(_values(BitsAllocated=24, BitsStored=24, HighBit=23)), ("BitsAllocated 24", "BitsAllocated 24")),
    "more stored": (_all(_values(BitsStored=17, HighBit=16)), ("BitsAllocated 16, BitsStored 17",)),
    "high bit": (_all(_values(BitsStored=12, HighBit=15)), ("BitsStored 12, HighBit 15",)),
    "no bits": (_all(_values(BitsStored=None)), ("BitsStored", "unusable-slice")),
    "sign": (_all(_values(PixelRepresentation=2)), ("PixelRepresentation 2",)),
    "colour with one sample": (_all(_values(PhotometricInterpretation="RGB")), ("'RGB'", "unusable-slice")),
    "palette": (_one(_values(PhotometricInterpretation="PALETTE COLOR")), ("not-a-slice",)),
    "samples": (_one(_values(SamplesPerPixel=3)), ("not-a-slice",)),
    "one inverted": (
        _one(_values(PhotometricInterpretation="MONOCHROME1")),
        ("mixed-series", "PhotometricInterpretation", "MONOCHROME2: 7 slices", "MONOCHROME1: 1 slices such as"),
    ),
    "stored bits": (
        _one(_values(BitsStored=12, HighBit=11)),
        ("mixed-series", "BitsStored", "16: 7 slices", "12: 1"),
    ),
    "one sign": (_one(_values(PixelRepresentation=0)), ("mixed-series", "PixelRepresentation")),
    "a table": (_one(lambda d: d.add_new("ModalityLUTSequence", "SQ", [Dataset()])), ("ModalityLUTSequence",)),
    "inverted CT": (_all(_values(PhotometricInterpretation="MONOCHROME1")), ("unusable-slice", "MONOCHROME1")),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_headers_that_contradict_the_voxels_or_each_other_are_refused(
    kind: str, ct: sitk.Image, tmp_path: Path
) -> None:
    change, words = CONTRADICTIONS[kind]
    write_series(ct, tmp_path / "series", change=change)
    _refused(tmp_path / "series", *words)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *(("RescaleSlope", value) for value in (b"abc", b"nan", b"inf", b"0", b"0.0", b"1e300", b"1\\2", b"1_0")),
        ("RescaleSlope", "\u0661\u0660".encode()),
        *(("RescaleIntercept", value) for value in (b"nan", b"-inf", b"x")),
        *(
            ("ImagePositionPatient", value)
            for value in (b"nan\\0\\0", b"1e30\\0\\0", b"0\\0", b"a\\b\\c", b"1_0\\0\\0")
        ),
        *(("PixelSpacing", value) for value in (b"0\\0", b"-1\\1", b"nan\\1", b"1e-6\\1", b"1000\\1000", b"3")),
        *(
            ("ImageOrientationPatient", value)
            for value in (b"nan\\0\\0\\0\\1\\0", b"1\\0\\0\\0\\1", b"inf\\0\\0\\0\\1\\0")
        ),
        *(("NumberOfFrames", value) for value in (b"nan", b"-1", b"0", b"1e99", b"two", b"1.5")),
    ],
)
def test_numbers_that_are_none_are_named_with_the_file(
    keyword: str, value: bytes, ct: sitk.Image, tmp_path: Path
) -> None:
    files = write_series(ct, tmp_path / "series", change=_all(_values(NumberOfFrames=1)))
    _raw(files[DAMAGED], keyword, value)
    sentence = _refused(tmp_path / "series", files[DAMAGED].name, value.decode())
    assert "gantry" not in sentence


@pytest.mark.parametrize("syntax", ["x.y", "1.2.840.10008.1.2.4.x", "1.2.3\x1b[31m"])
def test_a_transfer_syntax_that_is_none_is_named(syntax: str, ct: sitk.Image, tmp_path: Path) -> None:
    files = write_series(ct, tmp_path / "series")
    content = files[DAMAGED].read_bytes()
    old = b"1.2.840.10008.1.2.1\0"
    files[DAMAGED].write_bytes(content.replace(old, syntax.encode().ljust(len(old), b"\0"), 1))
    sentence = _refused(tmp_path / "series", files[DAMAGED].name, "an unknown scheme", syntax[:4])
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("keyword", "values", "what"),
    [
        ("PatientID", ("P-1", "P-2"), "mixed-series"),
        ("PatientName", ("Doe^Jane", "Roe^Richard"), "mixed-series"),
        ("PatientBirthDate", ("19531127", "19400101"), "mixed-series"),
        ("PatientSex", ("F", "M"), "mixed-series"),
        ("PatientAge", ("070Y", "083Y"), "mixed-series"),
        ("IssuerOfPatientID", ("Ward-1", "Ward-2"), "mixed-series"),
        ("StudyInstanceUID", ("1.2.3", "1.2.4"), "mixed-series"),
        ("FrameOfReferenceUID", ("1.2.3.1", "1.2.3.2"), "mixed-series"),
    ],
)
def test_a_series_of_several_patients_is_refused_unnamed(
    keyword: str, values: tuple[str, str], what: str, ct: sitk.Image, tmp_path: Path
) -> None:
    def change(number: int, dataset: Dataset) -> None:
        setattr(dataset, keyword, values[number > DAMAGED])

    files = write_series(ct, tmp_path / "mixed", change=change)
    sentence = _refused(tmp_path / "mixed", what, keyword, "5 slices", "3 slices", files[7].name[:2])
    assert not any(re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", sentence) for value in values)
    write_series(ct, tmp_path / "missing", change=_one(_values(**{keyword: ""}), 0))
    if keyword in ("PatientName", "StudyInstanceUID"):  # which the phantom has
        _refused(tmp_path / "missing", keyword, "none: 1 slices")
    write_series(ct, tmp_path / "absent", change=_all(_values(**{keyword: ""})))
    assert read_series(tmp_path / "absent").image.GetSize() == ct.GetSize()


def test_a_name_may_be_written_with_or_without_its_empty_parts(ct: sitk.Image, tmp_path: Path) -> None:
    write_series(ct, tmp_path / "series", change=_one(_values(PatientName="Doe^Jane^^^")))
    assert read_series(tmp_path / "series").image.GetSize() == ct.GetSize()


def _new_frame(change: Callable[[bytes], bytes], scheme: str, folder: Path) -> Change:
    """Compress all slices, and change the stream of one."""

    def pack(number: int, dataset: Dataset) -> None:
        packed(dataset, scheme, folder)
        if number == DAMAGED:
            dataset.PixelData = encapsulate([change(next(generate_frames(dataset.PixelData, number_of_frames=1)))])

    return pack


@pytest.mark.parametrize("scheme", ["RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_compressed_voxels_that_are_cut_are_refused(scheme: str, share: float, ct: sitk.Image, tmp_path: Path) -> None:
    """With and without an end put back on."""
    for name, end in (("cut", b""), ("ended", b"\xff\xd9")):
        change = _new_frame(lambda stream, end=end: stream[: int(len(stream) * share)] + end, scheme, tmp_path)  # type: ignore[misc]
        files = write_series(ct, tmp_path / name, change=change)
        _refused(tmp_path / name, files[DAMAGED].name, "damaged")


def test_voxels_that_libjpeg_makes_up_are_refused(ct: sitk.Image, tmp_path: Path) -> None:
    """Zeros in the middle decode to an image of the right size; libjpeg says so on the terminal only."""

    def emptied(stream: bytes) -> bytes:
        middle = len(stream) // 2
        return stream[:middle] + bytes(100) + stream[middle + 100 :]

    files = write_series(ct, tmp_path / "series", change=_new_frame(emptied, "JPEG", tmp_path))
    _refused(tmp_path / "series", files[DAMAGED].name, "damaged (Corrupt JPEG data")


@pytest.mark.parametrize(("act", "code"), [("os.kill(os.getpid(), 11)", "damaged-file"), ("time.sleep(9)", "too-slow")])
def test_a_slice_that_ends_or_holds_up_the_decoder_is_named(
    act: str, code: str, ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = tmp_path / "decoder.py"
    decoder.write_text(f"import os, sys, time\nsys.stdout.buffer.write(bytes(4800 * 2))\nsys.stdout.flush()\n{act}\n")
    monkeypatch.setattr(dicom_voxels, "_DECODER", decoder)
    monkeypatch.setattr(dicom_voxels, "LIMIT_S", 2.0)
    files = write_series(ct, tmp_path / "series", change=lambda number, dataset: packed(dataset, "JPEG", tmp_path))
    _refused(tmp_path / "series", code, *([files[2].name] if code == "damaged-file" else []))


@pytest.mark.parametrize("scheme", ["RLE", "JPEG", "JPEG2000"])
def test_compressed_voxels_of_another_size_are_refused(scheme: str, ct: sitk.Image, tmp_path: Path) -> None:
    def taller(number: int, dataset: Dataset) -> None:
        packed(dataset, scheme, tmp_path)
        dataset.Rows = 31

    write_series(ct, tmp_path / "series", change=taller)
    words = ("damaged",) if scheme == "RLE" else ("30 x 40", "31 rows x 40 columns")
    _refused(tmp_path / "series", *words)


@pytest.mark.parametrize("is_packed", [True, False])
def test_packing_that_contradicts_the_transfer_syntax_is_refused(
    is_packed: bool, ct: sitk.Image, tmp_path: Path
) -> None:
    syntaxes = [b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"]
    true, claimed = syntaxes[::-1] if is_packed else syntaxes

    def pack(_number: int, dataset: Dataset) -> None:
        if is_packed:
            packed(dataset, "RLE", tmp_path)

    for path in write_series(ct, tmp_path / "series", change=pack):
        path.write_bytes(path.read_bytes().replace(true, claimed, 1))
    words = "are compressed, but its" if is_packed else "are not compressed, but its"
    _refused(tmp_path / "series", words)


def test_slices_that_lost_their_beginning_are_not_left_out(ct: sitk.Image, tmp_path: Path) -> None:
    """At the end of a stack nothing else would show that they are missing."""
    files = write_series(ct, tmp_path / "series")
    last = files[-1]
    content = last.read_bytes()
    for damaged in (b"", content[:100], content[40:], content[:128] + b"DACM" + content[132:]):
        last.write_bytes(damaged)
        _refused(tmp_path / "series", last.name, "not-a-slice")
    last.unlink()
    for suffix in (".dcm", ".dcm.gz", ".IMA.part"):
        named = last.with_suffix(suffix)
        named.write_bytes(b"something else")
        _refused(tmp_path / "series", named.name, "not-a-slice")
        named.unlink()
    last.with_suffix(".csv.gz").write_bytes(b"something else")
    assert read_series(tmp_path / "series").image.GetSize()[2] == len(files) - 1


def test_a_file_of_two_classes_is_refused(ct: sitk.Image, tmp_path: Path) -> None:
    files = write_series(ct, tmp_path / "series")
    _raw(files[-1], "SOPClassUID", SegmentationStorage.encode())
    _refused(tmp_path / "series", files[-1].name, SegmentationStorage, CTImageStorage)


def _stored_as(allocated: int, stored: int, signed: bool, noise: int = 0) -> Change:
    """Store the voxels in other bits; `noise` goes into the unused ones, as overlays do."""
    kind = f"{'i' if signed else 'u'}{allocated // 8}"

    def change(number: int, dataset: Dataset) -> None:
        voxels = np.frombuffer(dataset.PixelData, np.int16).astype(kind)
        unused = (noise << stored) & ((1 << allocated) - 1)
        mask = np.array((1 << stored) - 1, np.int64)
        raw = (voxels.astype(np.int64) & mask) | unused
        dataset.PixelData = raw.astype(f"u{allocated // 8}").tobytes() if unused else voxels.tobytes()
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
        dataset.PixelRepresentation = int(signed)

    return change


@pytest.mark.parametrize(
    ("allocated", "stored", "signed", "noise"),
    [
        (16, 12, False, 0),
        (16, 12, False, 5),
        (16, 13, True, 0),
        (16, 13, True, 3),
        (32, 24, True, 0),
        (32, 32, False, 0),
    ],
)
def test_unused_bits_are_dropped_and_signs_kept(
    allocated: int, stored: int, signed: bool, noise: int, ct: sitk.Image, tmp_path: Path
) -> None:
    values = sitk.Clamp(ct, sitk.sitkInt16, -1000 if signed else 0, 2000)
    change = _stored_as(allocated, stored, signed, noise)
    write_series(values, tmp_path / "series", scale=lambda k: (1, 0), change=change)
    assert np.array_equal(
        sitk.GetArrayFromImage(read_series(tmp_path / "series").image), sitk.GetArrayFromImage(values)
    )


def _big_endian(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    fresh = Dataset()
    fresh.update({tag: dataset[tag] for tag in dataset.keys()})  # noqa: SIM118
    fresh.file_meta = dataset.file_meta
    fresh.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(path, fresh, implicit_vr=False, little_endian=False, enforce_file_format=True)


def test_deflated_files_are_refused(ct: sitk.Image, tmp_path: Path) -> None:
    """They have no checksum, no bounds, and hardly anybody writes them."""
    file = write_series(ct, tmp_path / "series")[DAMAGED]
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file)
    _refused(tmp_path / "series", file.name, "Deflated Explicit VR Little Endian")


def test_big_endian_voxels_are_read(ct: sitk.Image, tmp_path: Path) -> None:
    files = write_series(ct, tmp_path / "series")
    expected = voxel_hash(read_series(tmp_path / "series").image)
    for path in files:
        _big_endian(path)
    assert voxel_hash(read_series(tmp_path / "series").image) == expected
    content = files[DAMAGED].read_bytes()
    files[DAMAGED].write_bytes(content[:-200])
    _refused(tmp_path / "series", files[DAMAGED].name, "is truncated or damaged")


@pytest.mark.parametrize("scheme", ["", "RLE"])
def test_inverted_mr_is_turned_round_as_slicer_has_it(scheme: str, ct: sitk.Image, tmp_path: Path) -> None:
    """By GDCM's rule: within the range of the stored bits."""

    def inverted(number: int, dataset: Dataset) -> None:
        as_mr(PhotometricInterpretation="MONOCHROME1", FrameOfReferenceUID="1.2.7")(number, dataset)
        if scheme:
            packed(dataset, scheme, tmp_path)

    files = write_series(ct, tmp_path / "series", scale=lambda k: (2, 1), change=inverted)
    assert pydicom.dcmread(files[0]).SOPClassUID == MRImageStorage
    read = read_series(tmp_path / "series").image
    by_gdcm = sitk.ReadImage([str(file) for file in files], imageIO="GDCMImageIO")
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(by_gdcm).astype(np.float32))


def test_a_slope_below_zero_is_applied(ct: sitk.Image, tmp_path: Path) -> None:
    write_series(ct, tmp_path / "series", scale=lambda k: (-1, 5))
    assert np.array_equal(sitk.GetArrayFromImage(read_series(tmp_path / "series").image), sitk.GetArrayFromImage(ct))


def test_a_file_that_shrinks_between_scan_and_reading_is_refused(
    ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SegWithUCore.io import dicom_series

    files = write_series(ct, tmp_path / "series")
    scanned = dicom_series.scan_folder(tmp_path / "series")
    monkeypatch.setattr(dicom_series, "scan_folder", lambda folder: scanned)
    shutil.copy(files[DAMAGED], tmp_path / "kept")
    files[DAMAGED].write_bytes(files[DAMAGED].read_bytes()[:-100])
    _refused(tmp_path / "series", files[DAMAGED].name, "is truncated or damaged")
