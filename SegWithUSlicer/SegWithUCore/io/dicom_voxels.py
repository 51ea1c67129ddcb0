"""The voxels of DICOM slices (PS3.3, sections C.7.6.3, C.11.1), never more than a file holds.

Uncompressed voxels are read from the file itself and RLE is unpacked by pydicom, both to a length that is checked.
JPEG, JPEG-LS and JPEG 2000 are decoded by GDCM in a process of its own (`dicom_decoder`), after the header of the
compressed stream was compared with that of the slice.
"""

import json
import math
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..util.input_files import is_plain
from .dicom_folder import DAMAGED, EXPLICIT_BIG, JPEG_2000, NATIVE, RLE, DamagedError, DicomSlice, damage_named

_IN_UNITS = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.128"}
"""CT and PET, whose numbers are measurements, which no display may turn round."""
_MAXIMUM_FLOAT32 = float(np.finfo(np.float32).max)
_DECODER = Path(__file__).with_name("dicom_decoder.py")
_AT_ONCE_BYTES = 1 << 28
"""Bytes of decoded voxels for which one process is started."""
LIMIT_S = 1800.0
"""Limit for one process; a network drive may be slow."""
_SCAN, _NO_LENGTH = 0xDA, {0x01, *range(0xD0, 0xD9)}
"""JPEG markers: of the compressed data, and those without a segment (ISO/IEC 10918-1, table B.1)."""
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start of frame, of JPEG (SOF0 to SOF15) and JPEG-LS (SOF55, ISO/IEC 14495-1)."""


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

    def type(self, order: str = "<") -> np.dtype:
        """Return the type of a stored number."""
        return np.dtype(f"{order}{'i' if self.signed else 'u'}{self.allocated // 8}")

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """Values of stored numbers, (rows, columns) float32; bits above the stored ones (old overlays) are dropped.

        MONOCHROME1 is turned round within the range of the stored bits, as GDCM and so Slicer have it.
        """
        numbers = numbers.astype(self.type(), copy=False).reshape(self.rows, self.columns)
        if unused := self.allocated - self.stored:
            numbers = (numbers << unused) >> unused  # a signed type carries its sign along
        exact = numbers.astype(np.float64)
        if self.inverted:
            np.subtract(sum(self.limits), exact, out=exact)
        exact *= self.slope
        exact += self.intercept
        return exact.astype(np.float32)


def pixel_format(one: DicomSlice) -> PixelFormat:
    """Read how a slice stores its voxels, and check that uncompressed ones are as many as its header says.

    Raises:
        InputError: a value is missing, contradicts another, or is none that can be read.
    """
    rows, columns, allocated, stored, representation = (
        _count(one, keyword) for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
    )
    high = _count(one, "HighBit") if one.text("HighBit") else stored - 1
    photometric, kind = one.text("PhotometricInterpretation"), one.text("SOPClassUID")
    bits = f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, PixelRepresentation {representation}"
    inverted = photometric == "MONOCHROME1"
    is_stored = allocated in (8, 16, 32) and 1 <= stored <= allocated and high == stored - 1 and representation <= 1
    problems = {
        f"it has {rows} Rows and {columns} Columns": not rows or not columns,
        f"it has unusual {bits}": not is_stored,
        f"its PhotometricInterpretation is '{photometric[:20]}'": photometric not in ("MONOCHROME1", "MONOCHROME2"),
        "CT and PET as MONOCHROME1 are read differently by programs": inverted and kind in _IN_UNITS,
        "its voxels have a table (ModalityLUTSequence)": one.text("ModalityLUTSequence") != "",
    }
    if problem := next((words for words, is_so in problems.items() if is_so), None):
        raise one.refused(f"{problem}: export the series again", "unusable-slice")
    slope, intercept = _rescale(one, "RescaleSlope", 1.0), _rescale(one, "RescaleIntercept", 0.0)
    form = PixelFormat(rows, columns, allocated, stored, representation == 1, inverted, slope, intercept)
    if one.syntax in NATIVE:
        if one.length is None:
            raise one.refused(f"its voxels are compressed, but its transfer syntax is {one.syntax}: export it again")
        if one.length - form.bytes not in (0, form.bytes % 2):  # PS3.5, section 7.1
            raise one.refused(f"it holds {one.length} bytes of voxels instead of the {form.bytes} of its header "
                              f"({form.words}): copy or export it again", "unusable-slice")  # fmt: skip
    elif one.length is not None:
        raise one.refused(f"its voxels are not compressed, but its transfer syntax is {one.syntax}: export it again")
    return form


def _count(one: DicomSlice, keyword: str) -> int:
    numbers = one.numbers(keyword)
    if len(numbers) != 1 or not numbers[0].is_integer() or numbers[0] < 0:
        raise one.refused(f"it has {keyword} '{one.shown(keyword)}': copy or export it again", "unusable-slice")
    return int(numbers[0])


def _rescale(one: DicomSlice, keyword: str, absent: float) -> float:
    if not one.text(keyword):
        return absent
    numbers = one.numbers(keyword)
    value = numbers[0] if len(numbers) == 1 else math.nan
    if not abs(value) < _MAXIMUM_FLOAT32 or (keyword == "RescaleSlope" and value == 0):
        raise one.refused(f"it has {keyword} '{one.shown(keyword)}', by which voxels have no value: correct its "
                          "header, or export the series again", "unusable-slice")  # fmt: skip
    return value


def read_voxels(slices: Sequence[DicomSlice], forms: Sequence[PixelFormat]) -> Iterator[np.ndarray]:
    """Read the values of slices of one size, each (rows, columns) float32, slope and intercept applied.

    Raises:
        InputError: a file holds other voxels than its header says, or they are damaged.
    """
    waiting: list[tuple[DicomSlice, PixelFormat]] = []
    for one, form in zip(slices, forms, strict=True):
        is_jpeg = one.syntax not in NATIVE and one.syntax != RLE
        if is_jpeg:
            _check_stream(one, form)
            waiting.append((one, form))
        if waiting and (not is_jpeg or len(waiting) * form.rows * form.columns * 4 >= _AT_ONCE_BYTES):
            yield from _decoded(waiting)
            waiting = []
        if not is_jpeg:
            yield form.values(_native(one, form) if one.syntax in NATIVE else _run_lengths(one, form))
    if waiting:
        yield from _decoded(waiting)


def _native(one: DicomSlice, form: PixelFormat) -> np.ndarray:
    with one.file.open("rb") as file:
        file.seek(one.offset or 0)
        content = file.read(form.bytes)
    if len(content) != form.bytes:  # it has become shorter
        raise one.refused(DAMAGED)
    return np.frombuffer(content, form.type(">" if one.syntax == EXPLICIT_BIG else "<"))


def _run_lengths(one: DicomSlice, form: PixelFormat) -> np.ndarray:
    """Unpack RLE (PS3.5, annex G); each segment must give each pixel one byte."""
    from pydicom.pixels import pixel_array

    try:
        with damage_named(), warnings.catch_warnings():
            warnings.simplefilter("error")  # pydicom warns of segments that are too long, and of further frames
            found = np.asarray(pixel_array(one.file, raw=True, decoding_plugin="pydicom"))
    except DamagedError as error:
        raise one.refused(DAMAGED) from error
    if found.shape != (form.rows, form.columns):
        raise one.refused(DAMAGED)
    return found


def _check_stream(one: DicomSlice, form: PixelFormat) -> None:
    """Check that a compressed stream is of the size and type that the header gives, and has an end marker."""
    from pydicom.encaps import generate_frames
    from pydicom.filereader import read_partial

    if not is_plain(one.file):
        raise one.refused("its name is not UTF-8, and its voxels are compressed: rename it")
    tag = 0x7FE00010
    try:
        with damage_named(), one.file.open("rb") as file:
            frames = list(generate_frames(read_partial(file, force=True, specific_tags=[tag])[tag].value,
                                          number_of_frames=1))  # fmt: skip
    except DamagedError as error:
        raise one.refused(DAMAGED) from error
    size = None
    if len(frames) == 1 and frames[0].rstrip(b"\0").endswith(b"\xff\xd9"):
        size = _jpeg_2000_size(frames[0]) if one.syntax in JPEG_2000 else _jpeg_size(frames[0])
    if size is None:
        raise one.refused(DAMAGED)
    *shape, bits, signed = size
    # Otherwise the decoder would fill half of each number, or lose a sign.
    fits = form.allocated - 8 < bits <= form.allocated and (bits >= form.stored or not form.signed)
    if shape != [form.rows, form.columns, 1] or not fits or signed not in (None, form.signed):
        found = f"{' x '.join(map(str, shape))} of {bits} bits"
        raise one.refused(f"its compressed voxels are {found}, but its header says {form.words} ({form.stored} used): "
                          "export it again", "unusable-slice")  # fmt: skip
    lowest, highest = sorted(form.slope * limit + form.intercept for limit in form.limits)
    whole = form.slope.is_integer() and form.intercept.is_integer()
    if whole and (lowest < -(1 << 31) or highest >= 1 << (32 if lowest >= 0 else 31)):
        raise one.refused(f"its RescaleSlope {form.slope:g} makes values beyond 32 bits: export it uncompressed")


def _decoded(waiting: Sequence[tuple[DicomSlice, PixelFormat]]) -> Iterator[np.ndarray]:
    """Decode slices of one size in a process of its own."""
    form = waiting[0][1]
    wanted = {"files": [str(one.file.absolute()) for one, _ in waiting], "size": [form.columns, form.rows]}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(_DECODER)],
            input=json.dumps(wanted).encode(),
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # exists on Windows only
        )
    except subprocess.TimeoutExpired:
        words = f"it was not decoded within {LIMIT_S / 60:.0f} min: check the disk"
        raise waiting[0][0].refused(words, "too-slow") from None
    count, step = len(waiting), form.rows * form.columns * 4
    if done.returncode or len(done.stdout) != count * step:
        reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0] or f"exit status {done.returncode}"
        failed = waiting[min(len(done.stdout) // step, count - 1)][0]
        raise failed.refused(f"its compressed voxels are damaged ({reason[:200]}): copy it again", "damaged-file")
    yield from np.frombuffer(done.stdout, "<f4").reshape(count, form.rows, form.columns)


def _jpeg_size(stream: bytes) -> tuple[int, int, int, int, bool | None] | None:
    """Read rows, columns, samples a pixel and bits of a JPEG or JPEG-LS image; None if the stream is damaged."""
    offset = 2 if stream.startswith(b"\xff\xd8") else len(stream)
    while offset + 10 <= len(stream) and stream[offset] == 0xFF:
        marker = stream[offset + 1]
        if marker == _SCAN:
            break
        if marker in _FRAME_MARKERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", stream, offset + 4)
            return rows, columns, samples, bits, None
        if marker == 0xFF or marker in _NO_LENGTH:  # 0xFF may be repeated before a marker
            offset += 1 if marker == 0xFF else 2
        else:
            offset += 2 + int.from_bytes(stream[offset + 2 : offset + 4], "big")
    return None


def _jpeg_2000_size(stream: bytes) -> tuple[int, int, int, int, bool | None] | None:
    """As `_jpeg_size`, of a JPEG 2000 image (ISO/IEC 15444-1, annex A); also whether it has a sign."""
    if not stream.startswith(b"\xff\x4f\xff\x51") or len(stream) < 43:
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", stream, 8)
    samples, depth = struct.unpack_from(">HB", stream, 40)
    return y1 - y0, x1 - x0, samples, (depth & 0x7F) + 1, bool(depth & 0x80)
