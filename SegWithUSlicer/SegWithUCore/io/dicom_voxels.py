"""The voxels of one DICOM slice (PS3.3, sections C.7.6.3, C.11.1), never more than its file holds.

Uncompressed voxels are taken from the file itself, RLE is unpacked by pydicom, both to a length that is checked: no
decoder's buffer is left half filled. JPEG, JPEG-LS and JPEG 2000 are decoded by GDCM, after a look at the stream.
"""

import math
import struct
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError
from ..util.input_files import is_plain
from .dicom_folder import DicomSlice
from .dicom_header import (
    GE_BIG,
    JPEG_2000,
    NATIVE,
    RLE,
    DamagedHeaderError,
    PixelElement,
    encapsulated_bytes,
    not_parsed,
    voxel_bytes,
)
from .volume import itk_messages_kept_off_the_terminal

_IN_UNITS = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.128": "PET",
}
"""Kinds of image whose numbers are measurements, which no display may turn round."""
_WHOLE_IN_FLOAT32 = 1 << 24
_MAXIMUM_FLOAT32 = float(np.finfo(np.float32).max)
_DAMAGED = "its end is missing or damaged: copy it again"
_INT32, _UINT32 = 1 << 31, 1 << 32
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without a segment (ISO/IEC 10918-1, table B.1)."""
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start of frame, of JPEG (SOF0 to SOF15) and JPEG-LS (SOF55, ISO/IEC 14495-1)."""
_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
_START_2000 = b"\xff\x4f\xff\x51"
"""SOC and SIZ (ISO/IEC 15444-1, annex A)."""


@dataclass(frozen=True)
class PixelFormat:
    """One stored number a pixel.

    Attributes:
        rows, columns: of the slice.
        allocated: bits of a number in the file: 8, 16 or 32.
        stored: how many of these, from the lowest on, hold it.
        signed: whether it is a two's complement.
        inverted: whether low numbers are bright (MONOCHROME1).
        slope, intercept: from stored numbers to values.
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool
    inverted: bool
    slope: float
    intercept: float

    @property
    def bytes(self) -> int:
        """Of the uncompressed voxels."""
        return self.rows * self.columns * self.allocated // 8

    @property
    def words(self) -> str:
        """Size in words: "50 rows x 40 columns x 16 bits"."""
        return f"{self.rows} rows x {self.columns} columns x {self.allocated} bits"

    @property
    def limits(self) -> tuple[int, int]:
        """Lowest and highest stored number."""
        half = 1 << (self.stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """Values of stored numbers, (rows, columns) float32; bits above the stored ones (old overlays) are dropped.

        MONOCHROME1 is turned round within the range of the stored bits, as GDCM and so Slicer have it.
        """
        unused = self.allocated - self.stored
        if unused:
            numbers = (numbers << unused) >> unused  # a signed type carries its sign along
        if self.slope == 1 and not self.inverted and self._whole_in_float32:
            return np.add(numbers, self.intercept, dtype=np.float32, casting="unsafe")
        exact = numbers.astype(np.float64)
        if self.inverted:
            np.subtract(sum(self.limits), exact, out=exact)
        exact *= self.slope
        exact += self.intercept
        return exact.astype(np.float32)

    @property
    def _whole_in_float32(self) -> bool:
        """Whether stored numbers and intercept add up to whole numbers that float32 holds exactly."""
        largest = max(abs(limit) for limit in self.limits) + abs(self.intercept)
        return self.intercept.is_integer() and largest <= _WHOLE_IN_FLOAT32


def pixel_format(one: DicomSlice) -> PixelFormat:
    """Read how a slice stores its voxels.

    Raises:
        InputError: a value is missing, contradicts another, or is none that can be read.
    """
    rows, columns, allocated, stored, representation = (
        _count(one, keyword) for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
    )
    high = _count(one, "HighBit") if one.text("HighBit") else stored - 1
    photometric = one.text("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        samples = one.text("SamplesPerPixel") or "1"
        raise InputError(
            f"{one.file} has PhotometricInterpretation '{photometric[:20]}' with SamplesPerPixel {samples}: give "
            "slices of grey values (MONOCHROME2)."
        )
    if not rows or not columns:
        raise InputError(f"{one.file} has {rows} Rows and {columns} Columns: copy or export it again.")
    if allocated not in (8, 16, 32):
        raise InputError(f"{one.file} has BitsAllocated {allocated}: give slices of 8, 16 or 32 bits a voxel.")
    if not 1 <= stored <= allocated or high != stored - 1 or representation > 1:
        raise InputError(
            f"{one.file} contradicts itself (BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, "
            f"PixelRepresentation {representation}): export the series again."
        )
    inverted = photometric == "MONOCHROME1"
    kind = _IN_UNITS.get(one.text("SOPClassUID"))
    if inverted and kind:
        raise InputError(
            f"{one.file} is a {kind} slice with PhotometricInterpretation MONOCHROME1, of which readers disagree "
            "whether its numbers are turned round: export the series as MONOCHROME2."
        )
    return PixelFormat(rows, columns, allocated, stored, representation == 1, inverted, *_rescale(one))


def _count(one: DicomSlice, keyword: str) -> int:
    numbers = one.numbers(keyword)
    if len(numbers) != 1 or not numbers[0].is_integer() or numbers[0] < 0:
        found = f"has {keyword} '{one.shown(keyword)}'" if one.text(keyword) else f"has no {keyword}"
        raise InputError(f"{one.file} {found} in its header: copy or export it again.", code="no-pixel-count")
    return int(numbers[0])


def _rescale(one: DicomSlice) -> tuple[float, float]:
    """Slope and intercept; absent ones are 1 and 0."""
    if one.header.modality_table:
        raise InputError(
            f"{one.file} maps its voxels by a table (ModalityLUTSequence), which is not read: export the series with "
            "rescale slope and intercept."
        )
    found = []
    for keyword, absent in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        text, numbers = one.text(keyword), one.numbers(keyword)
        value = absent if not text else numbers[0] if len(numbers) == 1 else math.nan
        if not abs(value) < _MAXIMUM_FLOAT32 or (keyword == "RescaleSlope" and value == 0):
            raise InputError(
                f"{one.file} has {keyword} '{one.shown(keyword)}', by which voxels have no value: correct its "
                "header, or export the series again.",
                code="no-rescale-value",
            )
        found.append(value)
    return found[0], found[1]


def read_voxels(one: DicomSlice, form: PixelFormat) -> np.ndarray:
    """Read the values of a slice, (rows, columns) float32, slope and intercept applied.

    Raises:
        InputError: the file holds other voxels than its header says, or they are damaged.
    """
    element, syntax = one.header.voxels, one.header.transfer_syntax
    if element is None:
        raise _refused(one, _DAMAGED)
    try:
        if syntax in NATIVE or not syntax:
            return form.values(_native(one, form, element))
        if element.length is not None:
            raise _refused(one, f"its voxels are not packed as its transfer syntax {syntax} says: export it again")
        frame = _only_frame(one)
        if syntax == RLE:
            return form.values(_run_lengths(one, form))
        _check_stream(one, form, frame)
    except DamagedHeaderError as error:
        raise _refused(one, _DAMAGED) from error
    return _decoded_by_gdcm(one, form)


def _refused(one: DicomSlice, why: str) -> InputError:
    return InputError(f"{one.file} cannot be read as an image: {why}.")


def check_length(one: DicomSlice, form: PixelFormat) -> None:
    """Check that uncompressed voxels are as many as the header says, before any is read.

    One byte more fills up an odd length (PS3.5, section 7.1).

    Raises:
        InputError: they are fewer or more; names both.
    """
    element = one.header.voxels
    if element is None or (one.header.transfer_syntax and one.header.transfer_syntax not in NATIVE):
        return
    if element.length is None:
        raise _refused(
            one, "its voxels are compressed, but its transfer syntax says that they are not: export it again"
        )
    if element.length - form.bytes not in (0, form.bytes % 2):
        less = "fewer" if element.length < form.bytes else "more"
        raise InputError(
            f"{one.file} holds {element.length} bytes of voxels, {less} than the {form.bytes} that its header says "
            f"({form.words}): copy or export it again."
        )


def _native(one: DicomSlice, form: PixelFormat, element: PixelElement) -> np.ndarray:
    check_length(one, form)
    content = voxel_bytes(one.file, element)[: form.bytes]
    if len(content) != form.bytes:
        raise DamagedHeaderError("the file has become shorter")
    big = not element.little_endian or one.header.transfer_syntax == GE_BIG
    return np.frombuffer(content, _stored_type(form, big)).astype(_stored_type(form), copy=False).reshape(form.rows, -1)


def _stored_type(form: PixelFormat, big_endian: bool = False) -> np.dtype:
    return np.dtype(f"{'>' if big_endian else '<'}{'i' if form.signed else 'u'}{form.allocated // 8}")


def _only_frame(one: DicomSlice) -> bytes:
    """Join the fragments of the only frame to one compressed stream."""
    from pydicom.encaps import generate_frames

    try:
        frames = list(generate_frames(encapsulated_bytes(one.file), number_of_frames=1))
    except not_parsed() as error:
        raise DamagedHeaderError(str(error)) from error
    if len(frames) != 1:
        raise _refused(one, f"it holds {len(frames)} compressed frames instead of one: export it again")
    return frames[0]


def _run_lengths(one: DicomSlice, form: PixelFormat) -> np.ndarray:
    """Unpack RLE (PS3.5, annex G); each segment must give each pixel one byte."""
    from pydicom.pixels.decoders import RLELosslessDecoder

    failures: tuple[type[Exception], ...] = (*not_parsed(), RuntimeError, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom warns of segments that are too long
        try:
            array, _ = RLELosslessDecoder.as_array(
                encapsulated_bytes(one.file),
                raw=True,
                decoding_plugin="pydicom",
                rows=form.rows,
                columns=form.columns,
                number_of_frames=1,
                samples_per_pixel=1,
                bits_allocated=form.allocated,
                bits_stored=form.stored,
                pixel_representation=int(form.signed),
                photometric_interpretation=one.text("PhotometricInterpretation"),
                pixel_keyword="PixelData",
            )
        except failures as error:
            raise _refused(one, "its compressed voxels are damaged, or not as many as its header says: copy it again") \
                from error  # fmt: skip
    return np.asarray(array).astype(_stored_type(form), copy=False).reshape(form.rows, form.columns)


def _check_stream(one: DicomSlice, form: PixelFormat, frame: bytes) -> None:
    """Compare what a compressed stream says of itself with the header, and see that it comes to its end."""
    size = jpeg_2000_size(frame) if one.header.transfer_syntax in JPEG_2000 else jpeg_size(frame)
    if size is None:
        raise _refused(one, _DAMAGED)
    expected = StreamSize(form.rows, form.columns, 1, size.bits, size.signed)
    # Else the decoder would fill half of each number, or lose a sign.
    fits = form.allocated - 8 < size.bits <= form.allocated and (size.bits >= form.stored or not form.signed)
    if size != expected or not fits or size.signed not in (None, form.signed):
        raise _refused(
            one,
            f"its compressed voxels are {size.words}, but its header says {form.words}, of which {form.stored} are "
            "used: export it again",
        )


def _decoded_by_gdcm(one: DicomSlice, form: PixelFormat) -> np.ndarray:
    values = [form.slope * limit + form.intercept for limit in form.limits]
    whole = form.slope.is_integer() and form.intercept.is_integer()
    if whole and (min(values) < -_INT32 or max(values) >= (_UINT32 if min(values) >= 0 else _INT32)):
        raise _refused(one, f"its RescaleSlope {form.slope:g} makes values beyond 32 bits: export it uncompressed")
    with itk_messages_kept_off_the_terminal() as messages, tempfile.TemporaryDirectory() as links:
        file = one.file
        if not is_plain(file):  # SimpleITK takes names as UTF-8 and ends the process where one is none
            file = Path(links) / "slice.dcm"
            file.symlink_to(one.file.absolute())
        try:
            image = sitk.ReadImage(str(file), sitk.sitkFloat32, imageIO="GDCMImageIO")
        except RuntimeError as error:
            raise _refused(one, _DAMAGED) from error
        doubts = messages()  # libjpeg says so where it makes up voxels, and goes on
    if doubts:
        raise _refused(one, f"its compressed voxels are damaged ({doubts}): copy it again")
    if image.GetSize() != (form.columns, form.rows, 1) or image.GetNumberOfComponentsPerPixel() != 1:
        raise _refused(
            one, f"it decodes to {image.GetSize()} voxels, but its header says {form.words}: export it again"
        )
    return sitk.GetArrayFromImage(image)[0]


@dataclass(frozen=True)
class StreamSize:
    """Size of a compressed image.

    Attributes:
        rows, columns, samples: samples a pixel.
        bits: of a sample.
        signed: None if the format does not say.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool | None = None

    @property
    def words(self) -> str:
        """Size in words: "50 rows x 40 columns x 12 bits"."""
        samples = "" if self.samples == 1 else f" x {self.samples} samples"
        sign = {None: "", True: " with a sign", False: " without a sign"}[self.signed]
        return f"{self.rows} rows x {self.columns} columns{samples} x {self.bits} bits{sign}"


def jpeg_size(stream: bytes) -> StreamSize | None:
    """Read the size of a JPEG or JPEG-LS image; None if the stream is damaged or does not come to its end."""
    if not stream.startswith(_START) or not stream.rstrip(b"\0").endswith(_END):
        return None
    offset = 2
    while offset + 4 <= len(stream) and stream[offset] == 0xFF:
        marker = stream[offset + 1]
        if marker == 0xFF or marker in _NO_LENGTH:  # 0xFF may be repeated before a marker
            offset += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_MARKERS and offset + 10 <= len(stream):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", stream, offset + 4)
            return StreamSize(rows, columns, samples, bits)
        if marker == _SCAN:
            return None
        offset += 2 + int.from_bytes(stream[offset + 2 : offset + 4], "big")
    return None


def jpeg_2000_size(stream: bytes) -> StreamSize | None:
    """Read the size of a JPEG 2000 image's first component; None if the stream does not come to its end."""
    if not stream.startswith(_START_2000) or len(stream) < 43 or not stream.rstrip(b"\0").endswith(_END):
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", stream, 8)
    samples, depth = struct.unpack_from(">HB", stream, 40)
    return StreamSize(y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1, bool(depth & 0x80))
