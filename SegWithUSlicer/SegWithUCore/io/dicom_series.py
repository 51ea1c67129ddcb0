"""Reading a DICOM series as one volume.

Order and geometry come from each slice's own position and orientation, never from file names or instance numbers.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError
from .dicom_agreement import ORIGIN, STORAGE, check_agreement, doubts
from .dicom_folder import MAXIMUM_LISTED, DicomFolder, DicomSlice, scan_folder
from .dicom_voxels import check_length, pixel_format, read_voxels
from .grid import VoxelGrid, check_grid
from .volume import Header, Volume, checked_volume

SAME_POSITION_MM = 0.01
"""Slices that are nearer to each other than this have one position: no scanner makes thinner ones."""
OFF_GRID = 0.05
"""How far a slice may lie from its position on an even grid, as a share of the step: headers round positions."""
SHIFTED = 0.1
"""How far slices may be shifted against each other within their plane, as a share of a pixel."""
_NAMED = 3
"""Gaps that a message names one by one."""
SAME = 1e-4
"""Tolerance within which headers of one series agree: direction cosines, and millimetres of a pixel."""
_LEAST_MM, _MOST_MM = 0.001, 100.0
"""Between which distances of pixels and slices lie."""
_FARTHEST_MM = 10_000.0
"""How far from the origin a slice may lie along each axis."""
_TELLING_APART = {
    "TemporalPositionIdentifier": "temporal position",
    "TriggerTime": "trigger time",
    "AcquisitionNumber": "acquisition",
    "ImageType": "image type",
}
"""What distinguishes the volumes of one contrast in a series that holds several."""
Numbers = tuple[float, ...]


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

    def axis_position(self, number: int) -> tuple[str, float]:
        """Letter of the RAS axis nearest to the normal, and the coordinate of a slice's middle on it in mm."""
        axis = int(np.abs(self.normal).argmax())
        middle = self.positions[number].astype(float)
        for step, pixel, count in zip((self.rows, self.columns), self.pixel_mm, self.size, strict=True):
            middle = middle + step * pixel * (count - 1) / 2
        return "RAS"[axis], float(middle[axis] * (-1, -1, 1)[axis])

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


def millimetres(value: float) -> str:
    """Format a position: "12.0", "-3.75"."""
    return f"{round(value, 2) + 0.0:.2f}".removesuffix("0")


def repeated_positions(geometry: SliceGeometry) -> list[tuple[int, int]]:
    """Pairs of neighbouring slices with one position along the normal."""
    order, along = geometry.order(), geometry.along
    return [(a, b) for a, b in pairwise(order) if along[b] - along[a] <= SAME_POSITION_MM]


def uneven_stack(geometry: SliceGeometry) -> str | None:
    """Why the slices, all at different positions, make up no even grid; None if they do.

    Returns:
        The end of a sentence whose subject is the series, with what to do.
    """
    if len(geometry.positions) < 2:
        return None
    order, along = geometry.order(), np.sort(geometry.along)
    steps = np.diff(along)
    step = float(np.sort(steps)[(len(steps) - 1) // 2])
    allowed = max(SAME_POSITION_MM, OFF_GRID * step)
    shift = _largest_shift(geometry)
    if shift > SHIFTED * min(geometry.pixel_mm):
        return (
            f"has slices that are shifted against each other by up to {shift:.2f} mm within their plane (a tilted "
            "gantry): resample it to right angles first, for example in Slicer's DICOM module"
        )
    counts = np.maximum(1, np.rint(steps / step))
    off = np.abs(steps - counts * step)
    if (off > 2 * allowed).any():
        return (
            f"has slices {millimetres(float(steps.min()))} to {millimetres(float(steps.max()))} mm apart: "
            "resample it to even spacing first"
        )
    gaps = [int(n) for n in np.flatnonzero(counts > 1)]
    if gaps:
        return f"has {_missing(geometry, order, gaps)}: copy the whole series"
    ideal = along[0] + np.arange(len(along)) * geometry.step_mm()
    drift = float(np.abs(along - ideal).max())
    if drift > allowed:
        return f"has slices up to {drift:.2f} mm away from even spacing: resample it to even spacing first"
    return None


def _largest_shift(geometry: SliceGeometry) -> float:
    offsets = geometry.positions - geometry.positions[geometry.order()[0]]
    within = offsets - np.outer(offsets @ geometry.normal, geometry.normal)
    return float(np.linalg.norm(within, axis=1).max())


def _missing(geometry: SliceGeometry, order: Sequence[int], gaps: Sequence[int]) -> str:
    named = []
    for gap in gaps[:_NAMED]:
        (letter, a), (_, b) = geometry.axis_position(order[gap]), geometry.axis_position(order[gap + 1])
        named.append(f"between {letter} = {millimetres(min(a, b))} and {millimetres(max(a, b))} mm")
    more = f" and at {len(gaps) - _NAMED} more places" if len(gaps) > _NAMED else ""
    return f"slices missing {', '.join(named)}{more}"


@dataclass(frozen=True)
class _Source:
    """What reads the voxels of a series: its folder, scanned, and its slices."""

    found: DicomFolder
    slices: Sequence[DicomSlice]


def series_header(folder: Path, series: str | None = None) -> Header:
    """Read the headers of the series of a folder: how large its volume will be.

    Args:
        series: UID, or the end of one, of the series to take from a folder with several.

    Raises:
        InputError: no or several series, or a damaged file.
    """
    found = scan_folder(folder)
    source = _Source(found, found.chosen(series))
    columns, rows = (source.slices[0].numbers(keyword) for keyword in ("Columns", "Rows"))
    if not columns or not rows:
        return Header(None, source=source)
    size = (int(columns[0]), int(rows[0]), len(source.slices))
    axes = tuple(np.eye(3).ravel().tolist())
    return Header(VoxelGrid(size, (1.0,) * 3, (0.0,) * 3, axes, placed=False), source=source)


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
    source: _Source = (header or series_header(folder, series)).source
    return read_slices(source.found, source.slices)[0]


def read_slices(found: DicomFolder, slices: Sequence[DicomSlice]) -> tuple[Volume, list[Path]]:
    """Read slices of a folder as one volume, as `read_series`; also returns their files, in the order of the slices.

    Raises:
        InputError: as `read_series`.
    """
    folder = found.folder
    if mosaic := next((one for one in slices if one.is_mosaic), None):
        raise InputError(
            f"{mosaic.file} is a Siemens mosaic, a picture whose tiles are the slices of a volume, which is not read "
            "here: convert the series with dcm2niix.",
            code="siemens-mosaic",
        )
    check_agreement(folder, slices, ORIGIN)
    for one in slices:
        _check_header(one)
    check_agreement(folder, slices, STORAGE)
    found.check_all_here(slices)
    forms = [pixel_format(one) for one in slices]
    geometry = _geometry(folder, slices)
    for one, form in zip(slices, forms, strict=True):
        check_length(one, form)
    if repeated_positions(geometry):
        raise _repeated(folder, slices, geometry)
    if problem := uneven_stack(geometry):
        raise InputError(f"{folder} {problem}.")
    order = geometry.order()
    step = geometry.step_mm() or _thickness_mm(slices[order[0]])
    voxels = np.empty((len(order), forms[0].rows, forms[0].columns), np.float32)
    for index, number in enumerate(order):
        voxels[index] = read_voxels(slices[number], forms[number])
    image = sitk.GetImageFromArray(voxels)
    del voxels  # before checked_volume takes as much again
    image.SetSpacing([*geometry.pixel_mm, step])
    image.SetOrigin(slices[order[0]].numbers("ImagePositionPatient"))
    image.SetDirection(geometry.direction())
    check_grid(folder, image)
    image = checked_volume(folder, image)
    header = Header(VoxelGrid.of(image), notes=(*doubts(slices), *found.unseen))
    return Volume(image, header), [slices[number].file for number in order]


def _geometry(folder: Path, slices: Sequence[DicomSlice]) -> SliceGeometry:
    _check_alike(folder, slices, "sizes", _size, lambda n: f"{n[0]:.0f} x {n[1]:.0f} pixels")
    _check_alike(folder, slices, "pixel spacings", _pixel_mm, lambda n: f"{n[0]:.4g} x {n[1]:.4g} mm")
    _check_alike(folder, slices, "orientations", lambda one: one.numbers("ImageOrientationPatient"), _orientation_words)
    rows, columns = np.reshape(slices[0].numbers("ImageOrientationPatient"), (2, 3))
    lengths = np.linalg.norm([rows, columns], axis=1)
    if not np.allclose(lengths, 1, atol=0.01) or abs(float(rows @ columns)) > 0.01:
        raise InputError(f"{slices[0].file} has rows and columns that are not at right angles: check its origin.")
    width, height = _size(slices[0])
    positions = np.array([one.numbers("ImagePositionPatient") for one in slices])
    return SliceGeometry(
        positions, rows / lengths[0], columns / lengths[1], _pixel_mm(slices[0]), (int(width), int(height))
    )


def _check_header(one: DicomSlice) -> None:
    """Check what positions a slice in space, each value by its own sentence."""
    _check_one_frame(one)
    if one.in_colour:
        found = f"SamplesPerPixel {one.shown('SamplesPerPixel')}, {one.shown('PhotometricInterpretation')}"
        raise InputError(f"{one.file} is a picture in colour ({found}) among slices: take it out.")
    if one.is_picture:
        raise InputError(f"{one.file} is a picture without a position, among slices: take it out.")
    far = f"numbers of at most {_FARTHEST_MM / 1000:.0f} m are expected"
    _check_numbers(one, "ImagePositionPatient", "position", 3, lambda v: abs(v) <= _FARTHEST_MM, far)
    _check_numbers(one, "ImageOrientationPatient", "orientation", 6, lambda v: abs(v) < 2, "cosines are expected")
    near = f"distances from {_LEAST_MM} to {_MOST_MM:.0f} mm are expected"
    _check_numbers(one, "PixelSpacing", "pixel spacing", 2, lambda v: _LEAST_MM <= v <= _MOST_MM, near)


def _check_one_frame(one: DicomSlice) -> None:
    text, numbers = one.text("NumberOfFrames"), one.numbers("NumberOfFrames")
    if not text or numbers == (1,):
        return
    if len(numbers) == 1 and numbers[0].is_integer() and numbers[0] > 1:
        raise InputError(
            f"{one.file} holds {text} slices in one file (enhanced multi-frame DICOM): convert it to NIfTI or "
            "NRRD first, for example in Slicer."
        )
    raise InputError(
        f"{one.file} has NumberOfFrames '{one.shown('NumberOfFrames')}', which is no number of slices: "
        "copy or export it again."
    )


def _check_numbers(
    one: DicomSlice, keyword: str, what: str, count: int, usual: Callable[[float], bool], expected: str
) -> None:
    """Check that a header entry holds `count` numbers, each a usual one; NaN is none."""
    text, numbers = one.text(keyword), one.numbers(keyword)
    if not text:
        raise InputError(f"{one.file} has no {what} in its header: give slices whose place in space is known.")
    if len(numbers) != count or not all(usual(value) for value in numbers):
        raise InputError(
            f"{one.file} has the {what} '{one.shown(keyword)}' ({keyword}), where {count} {expected}: correct its "
            "header, or export the series again.",
            code="unusual-header-numbers",
        )


def _size(one: DicomSlice) -> Numbers:
    """Columns and rows."""
    return one.numbers("Columns") + one.numbers("Rows")


def _pixel_mm(one: DicomSlice) -> tuple[float, float]:
    """Distance between columns (x), and between rows (y); the header has them the other way round."""
    y, x = one.numbers("PixelSpacing")
    return x, y


def _thickness_mm(one: DicomSlice) -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if (numbers := one.numbers(keyword)) and _LEAST_MM <= numbers[0] <= _MOST_MM:
            return numbers[0]
    raise InputError(f"{one.file} is a single slice of unknown thickness: give a whole series.")


def _orientation_words(numbers: Numbers) -> str:
    rows, columns = np.reshape(numbers, (2, 3))
    plane = ("sagittal", "coronal", "axial")[int(np.abs(np.cross(rows, columns)).argmax())]
    return f"{plane} ({', '.join(f'{v + 0.0:.3f}' for v in numbers)})"


def _check_alike(
    folder: Path,
    slices: Sequence[DicomSlice],
    what: str,
    value: Callable[[DicomSlice], Numbers],
    words: Callable[[Numbers], str],
) -> None:
    counts: Counter[Numbers] = Counter()
    for one in slices:
        numbers = value(one)
        if numbers not in counts:  # written otherwise, it may still be the same
            numbers = next((known for known in counts if np.allclose(known, numbers, rtol=0, atol=SAME)), numbers)
        counts[numbers] += 1
    if len(counts) > 1:
        listed = "; ".join(f"{words(numbers)}: {count} slices" for numbers, count in counts.most_common(4))
        raise InputError(
            f"{folder} mixes slices of {len(counts)} {what} in one series ({listed}): keep those that belong together."
        )


def _repeated(folder: Path, slices: Sequence[DicomSlice], geometry: SliceGeometry) -> InputError:
    """Make the error about slices at one position: several volumes if the headers tell them apart, else copies."""
    pairs = repeated_positions(geometry)
    for keyword, what in _TELLING_APART.items():
        counts = Counter(one.shown(keyword) or "none" for one in slices)
        if all(slices[a].text(keyword) != slices[b].text(keyword) for a, b in pairs):
            listed = ", ".join(f"{value}: {count} slices" for value, count in counts.most_common(MAXIMUM_LISTED))
            return InputError(
                f"{folder} holds {len(counts)} volumes in one series, which differ in {what} ({listed}): move the "
                "files of one to a folder of its own (beside this one, not inside).",
                code="several-volumes",
            )
    letter, where = geometry.axis_position(pairs[0][0])
    names = " and ".join(slices[number].file.name for number in pairs[0])
    return InputError(
        f"{folder} has more than one slice at {len(pairs)} place(s), such as {names} at {letter} = "
        f"{millimetres(where)} mm: remove the copies.",
        code="repeated-slices",
    )
