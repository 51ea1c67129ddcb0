"""Pixel format of a slice: how voxels are stored and what stored values mean (PS3.3, sections C.7.6.3, C.11.1)."""

import math
from dataclasses import dataclass

import numpy as np

from ..util.errors import InputError
from .dicom_folder import DicomSlice

_IN_UNITS = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.128": "PET",
}
"""Kinds of image whose numbers are measurements, which no display may turn round."""
_WHOLE_IN_FLOAT32 = 1 << 24
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
