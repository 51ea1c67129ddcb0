"""Read a DICOM series as one volume.

Order and geometry come from each slice's own position and orientation, never from file names or instance numbers.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError
from ..util.memory import check_memory
from . import dicom_folder as headers
from .dicom_folder import DicomFolder, DicomSlice, scan_folder
from .dicom_voxels import pixel_format, read_voxels
from .grid import VoxelGrid, check_grid
from .volume import Header, Volume, checked_volume

SAME_POSITION_MM = 0.01
"""Slices that are nearer to each other than this have one position: no scanner makes thinner ones."""
OFF_GRID = 0.05
"""How far a slice may lie from its position on an even grid, as a share of the step: headers round positions."""
SHIFTED = 0.1
"""How far slices may be shifted against each other within their plane, as a share of a pixel."""
SAME = 1e-4
"""Tolerance within which headers of one series agree: direction cosines, and millimetres of a pixel."""
SAME_NUMBER = 0.01
"""Share of a number by which roundings of it differ: scanners write the echo time that they reached in each slice."""
_LEAST_MM, _MOST_MM = 0.001, 100.0
"""Between which distances of pixels and slices lie."""
_FARTHEST_MM = 10_000.0
"""How far from the origin a slice may lie along each axis."""
_OVERLAP = 1.5
"""Slices that are thicker than so many steps overlap. Acquisitions that alternate without that are one, interleaved."""
_LISTED = 4
Read = Callable[[DicomSlice, str], object]


def _number(one: DicomSlice, keyword: str) -> object:
    """Read a number; 0 counts as absent, as scanners write it for what was not used."""
    numbers = one.numbers(keyword)
    return (numbers[0] or "") if len(numbers) == 1 else one.text(keyword)


_ONE_ACQUISITION = "check that they are of one acquisition"
_SPLIT = "move the files of each to a folder of its own, or convert the series with dcm2niix"
_READERS: dict[str, Read] = {
    **dict.fromkeys(("EchoTime", "InversionTime", "DiffusionBValue", "KVP", *headers.TIMED), _number),
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept"), lambda one, keyword: one.text(keyword) != ""),
    "PatientName": lambda one, keyword: one.text(keyword).rstrip("^= "),  # PS3.5, 6.2.1.1
    "PatientAge": lambda one, keyword: one.text(keyword).lstrip("0"),
    "SequenceName": lambda one, keyword: re.sub(r"_\d+$", "", one.text(keyword)),  # Siemens counts segments there
    "ImageType": lambda one, keyword: tuple([*one.text(keyword).split("\\"), "", "", ""][:3:2]),
    "ContrastBolusAgent": lambda one, keyword: " ".join(one.text(keyword).casefold().split()),
    "RescaleType": lambda one, keyword: one.text(keyword) or None,
}
"""How the value of a slice is read, where it is not the text; None does not count."""


def _check_agreement(folder: Path, slices: Sequence[DicomSlice]) -> None:
    """Check that all slices say the same; what is absent in all of them is no matter.

    Raises:
        InputError: names what differs, the values unless they are a patient's, how many slices have each, and a file.
    """
    for keyword in headers.SHARED_HIDDEN + headers.SHARED_SHOWN:
        if len(found := _by_value(slices, keyword)) < 2:
            continue
        listed = []
        for one in found[:_LISTED]:
            value = "given" if keyword in headers.SHARED_HIDDEN else one[0].shown(keyword)
            listed.append(f"{value if one[0].text(keyword) else 'none'}: {len(one)} slices such as {one[0].file.name}")
        what = f"slices that differ in {keyword} ({len(found)} values; {'; '.join(listed)})"
        raise InputError(f"{folder} holds one series with {what}: {_SPLIT}.", "mixed-series")


def _by_value(slices: Sequence[DicomSlice], keyword: str) -> list[list[DicomSlice]]:
    """Group slices by a value, the largest group first; numbers that differ by a rounding are one."""
    read, groups = _READERS.get(keyword, DicomSlice.text), dict[object, list[DicomSlice]]()
    for one in slices:
        if (value := read(one, keyword)) is not None:
            groups.setdefault(value, []).append(one)
    for lower, number in pairwise(sorted(value for value in groups if isinstance(value, float))):
        if number <= lower * (1 + SAME_NUMBER):
            groups[number] = groups.pop(lower) + groups[number]
    return sorted(groups.values(), key=len, reverse=True)


def _warnings(slices: Sequence[DicomSlice], step_mm: float) -> list[str]:
    """Return warnings about a series that can be read but may be incomplete or mixed, without the name of a file.

    Args:
        slices: in the order of their positions.
        step_mm: between neighbours.
    """
    found = []
    for keyword in headers.WARNED:
        if len(groups := _by_value(slices, keyword)) > 1:
            values = ", ".join(one[0].shown(keyword) or "none" for one in groups[:_LISTED])
            listed = f" ({values})" if keyword in headers.TIMED else ""
            found.append(f"The slices have {len(groups)} values of {keyword}{listed}: {_ONE_ACQUISITION}.")
    acquisitions = [one.text("AcquisitionNumber") for one in slices]
    alternate = 1 < (count := len(set(acquisitions))) < len(slices) and acquisitions[count:] == acquisitions[:-count]
    thick = [one.numbers("SliceThickness")[:1] for one in slices]
    if alternate and step_mm and all(each and each[0] > _OVERLAP * step_mm for each in thick):
        found.append(f"Slices of {count} values of AcquisitionNumber alternate and overlap: {_ONE_ACQUISITION}.")
    wide = [spacing for one in slices for spacing in one.numbers("SpacingBetweenSlices")[:1]]
    if wide and step_mm and (times := round(min(wide) / step_mm)) > 1 and abs(min(wide) / step_mm / times - 1) < 0.02:
        found.append(f"SpacingBetweenSlices is {times} times the distance of the slices: {_ONE_ACQUISITION}.")
    given = [(one.numbers(keyword), keyword) for keyword in headers.COUNTS for one in slices]
    counts = {numbers[0]: keyword for numbers, keyword in given if len(numbers) == 1}
    if counts and (most := max(counts)) > len(slices):
        expected = f"{counts[most]} gives {most:.0f} images"
        found.append(f"{expected}, but there are {len(slices)} slices: check that none is missing.")
    ordered = sorted(number for one in slices for number in one.numbers("InstanceNumber"))
    if again := len(ordered) - len(set(ordered)):
        found.append(f"{again} slices have the InstanceNumber of another: {_ONE_ACQUISITION}.")
    without_gap = len(ordered) == len(slices) > 1 and all(b == a + 1 for a, b in pairwise(ordered))
    if without_gap and ordered[0] > 1:
        first, last = ordered[0], ordered[-1]
        found.append(f"InstanceNumber runs from {first:.0f} to {last:.0f}: check that earlier slices are not missing.")
    scales = Counter((one.text("RescaleSlope"), one.text("RescaleIntercept")) for one in slices)
    if len(slices) / 2 < (count := max(scales.values())) < len(slices):
        share = f"{len(slices) - count} of {len(slices)} slices"
        found.append(f"{share} have another RescaleSlope or RescaleIntercept: check that their scale is one.")
    if (orders := len({one.text("AccessionNumber") for one in slices})) > 1:
        found.append(f"The slices have {orders} accession numbers: check that they belong to one study.")
    return found


@dataclass(frozen=True)
class SliceGeometry:
    """Where the slices lie.

    Attributes:
        positions: centre of each slice's first pixel, (slices, 3).
        rows, columns: unit vectors along which the column number and the row number grow, (3,).
        pixel_mm: distance between columns, and between rows.
        size: columns and rows of a slice.
    """

    positions: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pixel_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector at right angles to the slices; with rows and columns right-handed."""
        return np.cross(self.rows, self.columns)

    @property
    def along(self) -> np.ndarray:
        """Position of each slice along the normal in mm."""
        return np.asarray(self.positions @ self.normal)

    def order(self) -> list[int]:
        """Slice numbers in ascending order along the normal."""
        return [int(n) for n in np.argsort(self.along, kind="stable")]

    def direction(self) -> list[float]:
        """Compute the nearest rotation to rows, columns and normal, row by row: headers round them to a few digits."""
        left, _, right = np.linalg.svd(np.stack([self.rows, self.columns, self.normal], axis=1))
        return [float(v) for v in (left @ right).ravel()]

    def step_mm(self) -> float:
        """Mean distance between neighbouring slices; 0 for a single one."""
        return float(np.ptp(self.along)) / max(1, len(self.positions) - 1)

    def place(self, number: int) -> str:
        """Where the middle of a slice lies on the RAS axis nearest to the normal: "S = 12.00 mm"."""
        axis = int(np.abs(self.normal).argmax())
        middle = self.positions[number].astype(float)
        for step, pixel, count in zip((self.rows, self.columns), self.pixel_mm, self.size, strict=True):
            middle = middle + step * pixel * (count - 1) / 2
        return f"{'RAS'[axis]} = {float(middle[axis] * (-1, -1, 1)[axis]):.2f} mm"

    def repeated(self) -> list[tuple[int, int]]:
        """Pairs of neighbouring slices with one position along the normal."""
        along = self.along
        return [(a, b) for a, b in pairwise(self.order()) if along[b] - along[a] <= SAME_POSITION_MM]

    def problem(self) -> str:
        """Why the slices, all at different positions, make up no even grid; empty if they do.

        Returns:
            The end of a sentence whose subject is the series, with what to do.
        """
        if len(self.positions) < 2:
            return ""
        order, along = self.order(), np.sort(self.along)
        steps = np.diff(along)
        step = float(np.sort(steps)[(len(steps) - 1) // 2])
        allowed = max(SAME_POSITION_MM, OFF_GRID * step)
        offsets = self.positions - self.positions[order[0]]
        within = offsets - np.outer(offsets @ self.normal, self.normal)
        if (shift := float(np.linalg.norm(within, axis=1).max())) > SHIFTED * min(self.pixel_mm):
            return f"has slices shifted by up to {shift:.2f} mm within their plane (a tilted gantry): resample it first"
        counts = np.maximum(1, np.rint(steps / step))
        gaps = np.flatnonzero(counts > 1)
        if (np.abs(steps - counts * step) <= 2 * allowed).all() and gaps.size:
            first = f"between {self.place(order[gaps[0]])} and {self.place(order[gaps[0] + 1])}"
            return f"has slices missing at {gaps.size} place(s), first {first}: copy the whole series"
        ideal = along[0] + np.arange(len(along)) * self.step_mm()
        if gaps.size or np.abs(steps - step).max() > 2 * allowed or np.abs(along - ideal).max() > allowed:
            return f"has slices {steps.min():.2f} to {steps.max():.2f} mm apart: resample it to even spacing first"
        return ""


def series_header(folder: Path, series: str | None = None) -> Header:
    """Read the headers of the series of a folder: how large its volume will be.

    Args:
        series: UID, or the end of one, of the series to take from a folder with several.

    Raises:
        InputError: no or several series, or a damaged file.
    """
    found = scan_folder(folder)
    slices = found.chosen(series)
    columns, rows = (slices[0].numbers(keyword) for keyword in ("Columns", "Rows"))
    if not columns or not rows:
        return Header(None, source=(found, slices), patient=slices[0].patient)
    size = (int(columns[0]), int(rows[0]), len(slices))
    grid = VoxelGrid(size, (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel().tolist()), placed=False)
    return Header(grid, source=(found, slices), patient=slices[0].patient)


def read_series(folder: Path, series: str | None = None, header: Header | None = None) -> Volume:
    """Read the series of a folder as one float32 volume, slope and intercept of every slice applied.

    Slices ascend along the normal, rows x columns; the grid is as exact as the headers.

    Args:
        series: UID, or the end of one, of the series to take from a folder with several.
        header: of that series, where it was read before.

    Raises:
        InputError: no or several series, several volumes, patients or kinds of voxels in one, missing or doubled
            slices, slices that make up no even grid, damaged files, and what `checked_volume` finds.
    """
    return read_slices(*(header or series_header(folder, series)).source)[0]


def read_slices(found: DicomFolder, slices: Sequence[DicomSlice]) -> tuple[Volume, list[Path]]:
    """Read slices of a folder as one volume, as `read_series`; also returns their files, in the order of the slices.

    Raises:
        InputError: as `read_series`.
    """
    folder = found.folder
    for one in slices:
        _check_kind(one)
    _check_agreement(folder, slices)
    notes = found.check_all_here(slices)
    forms = [pixel_format(one) for one in slices]
    geometry = _geometry(folder, slices)
    if geometry.repeated():
        raise _repeated(folder, slices, geometry)
    if problem := geometry.problem():
        raise InputError(f"{folder} {problem}.", "no-even-grid")
    order = geometry.order()
    first = slices[order[0]]
    step = geometry.step_mm() or _thickness_mm(first)
    needed = 3 * 4 * len(order) * forms[0].rows * forms[0].columns
    check_memory(f"Reading {len(order)} slices", needed, ["give a smaller image"], file=folder)
    voxels = np.empty((len(order), forms[0].rows, forms[0].columns), np.float32)
    for index, values in enumerate(read_voxels([slices[n] for n in order], [forms[n] for n in order])):
        voxels[index] = values
    image = sitk.GetImageFromArray(voxels)
    del voxels  # before checked_volume takes as much again
    image.SetSpacing([*geometry.pixel_mm, step])
    image.SetOrigin(first.numbers("ImagePositionPatient"))
    image.SetDirection(geometry.direction())
    check_grid(folder, image)
    image = checked_volume(folder, image)
    notes += _warnings([slices[n] for n in order], step)
    header = Header(VoxelGrid.of(image), notes=tuple(notes), patient=first.patient)
    return Volume(image, header), [slices[number].file for number in order]


def _check_kind(one: DicomSlice) -> None:
    """Refuse what is no slice in grey values at a known place."""
    if one.is_mosaic:
        raise one.refused("it is a Siemens mosaic, whose tiles are the slices of a volume: convert the series with "
                          "dcm2niix", "several-frames")  # fmt: skip
    if one.text("NumberOfFrames") and one.numbers("NumberOfFrames") != (1,):
        frames = one.shown("NumberOfFrames")
        raise one.refused(f"its NumberOfFrames is '{frames}': convert enhanced multi-frame DICOM to NIfTI or NRRD "
                          "first, for example in Slicer", "several-frames")  # fmt: skip
    if one.is_picture:
        raise one.refused("it is a picture in colour or without a position among slices: take it out", "not-a-slice")
    for keyword, count, least, most in (
        ("ImagePositionPatient", 3, -_FARTHEST_MM, _FARTHEST_MM),
        ("ImageOrientationPatient", 6, -2, 2),
        ("PixelSpacing", 2, _LEAST_MM, _MOST_MM),
    ):
        numbers = one.numbers(keyword)
        if len(numbers) != count or not all(least <= value <= most for value in numbers):
            raise one.refused(f"it has {keyword} '{one.shown(keyword)}', where {count} numbers from {least:g} to "
                              f"{most:g} are expected: export the series again", "unusable-header")  # fmt: skip


def _geometry(folder: Path, slices: Sequence[DicomSlice]) -> SliceGeometry:
    first = slices[0]
    for keyword in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        known = first.numbers(keyword)
        others = [one for one in slices if not np.allclose(known, one.numbers(keyword), rtol=0, atol=SAME)]
        if others:
            values = f"{first.shown(keyword)} in {first.file.name}, {others[0].shown(keyword)} in {others[0].file.name}"
            raise InputError(f"{folder} holds slices that differ in {keyword} ({values}): {_SPLIT}.", "mixed-series")
    rows, columns = np.reshape(first.numbers("ImageOrientationPatient"), (2, 3))
    lengths = np.linalg.norm([rows, columns], axis=1)
    if not np.allclose(lengths, 1, atol=0.01) or abs(float(rows @ columns)) > 0.01:
        raise first.refused("its rows and columns are not at right angles: check its origin", "no-even-grid")
    (width,), (height,) = first.numbers("Columns"), first.numbers("Rows")
    y_mm, x_mm = first.numbers("PixelSpacing")
    positions = np.array([one.numbers("ImagePositionPatient") for one in slices])
    return SliceGeometry(positions, rows / lengths[0], columns / lengths[1], (x_mm, y_mm), (int(width), int(height)))


def _thickness_mm(one: DicomSlice) -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if (numbers := one.numbers(keyword)) and _LEAST_MM <= numbers[0] <= _MOST_MM:
            return numbers[0]
    raise one.refused("it is a single slice of unknown thickness: give a whole series")


def _repeated(folder: Path, slices: Sequence[DicomSlice], geometry: SliceGeometry) -> InputError:
    """Make the error about slices at one position: several volumes if the headers distinguish them, else copies."""
    pairs = geometry.repeated()
    for keyword in headers.DISTINGUISHING:
        if all(slices[a].text(keyword) != slices[b].text(keyword) for a, b in pairs):
            found = f"{len({one.text(keyword) for one in slices})} volumes in one series, which differ in {keyword}"
            return InputError(f"{folder} holds {found}: {_SPLIT}.", "mixed-series")
    names = " and ".join(slices[number].file.name for number in pairs[0])
    place = f"{len(pairs)} place(s), such as {names} at {geometry.place(pairs[0][0])}"
    return InputError(f"{folder} has more than one slice at {place}: remove the copies.", "mixed-series")
