"""The voxels of DICOM slices (PS3.3, sections C.7.6.3, C.11.1), never more than a file holds.

Uncompressed voxels are taken from the file itself, RLE is unpacked by pydicom, both to a length that is checked. Other
compressed voxels are refused: their decoders can crash, and make up voxels of damaged streams.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .dicom_folder import DAMAGED, EXPLICIT_BIG, NATIVE, DamagedError, DicomSlice, damage_named

_IN_UNITS = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.128"}
"""CT and PET, whose numbers are measurements, which no display may turn round."""
_MAXIMUM_FLOAT32 = float(np.finfo(np.float32).max)


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
        raise one.refused(f"{problem}: export the series again", "pixel-format")
    slope, intercept = _rescale(one, "RescaleSlope", 1.0), _rescale(one, "RescaleIntercept", 0.0)
    form = PixelFormat(rows, columns, allocated, stored, representation == 1, inverted, slope, intercept)
    if one.syntax in NATIVE:
        if one.length is None:
            raise one.refused(f"its voxels are compressed, unlike its transfer syntax {one.syntax}: export it again")
        if one.length - form.bytes not in (0, form.bytes % 2):  # PS3.5, section 7.1
            raise one.refused(f"it holds {one.length} bytes of voxels instead of the {form.bytes} of its header "
                              f"({form.words}): copy or export it again", "pixel-bytes")  # fmt: skip
    elif one.length is not None:
        raise one.refused(f"its voxels are not compressed, unlike its transfer syntax {one.syntax}: export it again")
    return form


def _count(one: DicomSlice, keyword: str) -> int:
    numbers = one.numbers(keyword)
    if len(numbers) != 1 or not numbers[0].is_integer() or numbers[0] < 0:
        raise one.refused(f"it has {keyword} '{one.shown(keyword)}': copy or export it again", "no-pixel-count")
    return int(numbers[0])


def _rescale(one: DicomSlice, keyword: str, absent: float) -> float:
    if not one.text(keyword):
        return absent
    numbers = one.numbers(keyword)
    value = numbers[0] if len(numbers) == 1 else math.nan
    if not abs(value) < _MAXIMUM_FLOAT32 or (keyword == "RescaleSlope" and value == 0):
        raise one.refused(f"it has {keyword} '{one.shown(keyword)}', by which voxels have no value: correct its "
                          "header, or export the series again", "no-rescale-value")  # fmt: skip
    return value


def read_voxels(slices: Sequence[DicomSlice], forms: Sequence[PixelFormat]) -> Iterator[np.ndarray]:
    """Read the values of slices of one size, each (rows, columns) float32, slope and intercept applied.

    Raises:
        InputError: a file holds other voxels than its header says, or they are damaged.
    """
    for one, form in zip(slices, forms, strict=True):
        yield form.values(_native(one, form) if one.syntax in NATIVE else _run_lengths(one, form))


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
