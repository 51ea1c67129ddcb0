"""Reading a DICOM series as one volume.

SimpleITK's GDCM reads the files; order and geometry come from each slice's own position and orientation, never from
file names or instance numbers.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .dicom_folder import (
    COLUMNS,
    MAXIMUM_LISTED,
    ORIENTATION,
    PIXEL_SPACING,
    POSITION,
    ROWS,
    DicomSlice,
    scan_folder,
    unreadable,
)
from .slice_stack import SliceGeometry, millimetres, repeated_places, uneven_stack
from .volume import checked_volume, itk_messages_kept_off_the_terminal

SAME = 1e-4
"""Tolerance within which headers of one series agree: direction cosines, and millimetres of a pixel."""
_NEEDED = {POSITION: ("position", 3), ORIENTATION: ("orientation", 6), PIXEL_SPACING: ("pixel spacing", 2)}
_SPACING_BETWEEN_SLICES, _SLICE_THICKNESS = "0018|0088", "0018|0050"
_TELLING_APART = {
    "0018|0081": "echo time",
    "0018|0082": "inversion time",
    "0018|9087": "b-value",
    "0020|0100": "temporal position",
    "0018|1060": "trigger time",
    "0020|0012": "acquisition",
    "0008|0008": "image type",
}
"""What tells apart the volumes of a series that holds several."""

Numbers = tuple[float, ...]


def read_series(folder: Path, series: str | None = None) -> sitk.Image:
    """Read the series of a folder as one float32 volume, slope and intercept of every slice applied.

    Slices ascend along the normal, rows x columns; the grid is as exact as the header.

    Args:
        series: UID, or the end of one, of the series to take from a folder with several.

    Raises:
        InputError: no or several series, several volumes in one, missing or doubled slices, slices that make up no
            even grid, damaged files, and what `checked_volume` finds.
    """
    return read_slices(folder, scan_folder(folder).chosen(series))[0]


def read_slices(folder: Path, slices: Sequence[DicomSlice]) -> tuple[sitk.Image, list[Path]]:
    """Read slices as one volume, as `read_series`; also returns their files, in the order of the volume's slices.

    Args:
        folder: where they lie, for messages.

    Raises:
        InputError: as `read_series`.
    """
    geometry = _geometry(folder, slices)
    if repeated_places(geometry):
        raise InputError(_repeated(folder, slices, geometry))
    if problem := uneven_stack(geometry):
        raise InputError(f"{folder} {problem}.")
    ordered = [slices[number] for number in geometry.order()]
    step = geometry.step_mm() or _thickness_mm(ordered[0])
    image = _voxels(ordered)
    image.SetSpacing([*geometry.pixel_mm, step])
    image.SetOrigin(ordered[0].numbers(POSITION))
    image.SetDirection(geometry.direction())
    return checked_volume(folder, image), [one.file for one in ordered]


def _geometry(folder: Path, slices: Sequence[DicomSlice]) -> SliceGeometry:
    for one in slices:
        _check_header(one)
    _check_alike(folder, slices, "sizes", _size, lambda n: f"{n[0]:.0f} x {n[1]:.0f} pixels")
    _check_alike(folder, slices, "pixel spacings", _pixel_mm, lambda n: f"{n[0]:.4g} x {n[1]:.4g} mm")
    _check_alike(folder, slices, "orientations", lambda one: one.numbers(ORIENTATION), _orientation_words)
    rows, columns = np.reshape(slices[0].numbers(ORIENTATION), (2, 3))
    lengths = np.linalg.norm([rows, columns], axis=1)
    if not np.allclose(lengths, 1, atol=0.01) or abs(float(rows @ columns)) > 0.01:
        raise InputError(f"{slices[0].file} has rows and columns that are not at right angles: check its origin.")
    width, height = _size(slices[0])
    positions = np.array([one.numbers(POSITION) for one in slices])
    return SliceGeometry(
        positions, rows / lengths[0], columns / lengths[1], _pixel_mm(slices[0]), (int(width), int(height))
    )


def _check_header(one: DicomSlice) -> None:
    if one.frames > 1:
        raise InputError(
            f"{one.file} holds {one.frames} slices in one file (enhanced multi-frame DICOM): convert it to NIfTI or "
            "NRRD first, for example in Slicer."
        )
    if one.is_picture:
        raise InputError(f"{one.file} is a picture in colour or without a position, among slices: take it out.")
    for tag, (what, count) in _NEEDED.items():
        if len(one.numbers(tag)) != count:
            raise InputError(f"{one.file} has no {what} in its header: give slices whose place in space is known.")


def _size(one: DicomSlice) -> Numbers:
    """Columns and rows."""
    return one.numbers(COLUMNS) + one.numbers(ROWS)


def _pixel_mm(one: DicomSlice) -> tuple[float, float]:
    """Distance between columns (x), and between rows (y); the header has them the other way round."""
    y, x = one.numbers(PIXEL_SPACING)
    return x, y


def _thickness_mm(one: DicomSlice) -> float:
    for tag in (_SPACING_BETWEEN_SLICES, _SLICE_THICKNESS):
        if (numbers := one.numbers(tag)) and numbers[0] > 0:
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
        counts[next((known for known in counts if np.allclose(known, value(one), rtol=0, atol=SAME)), value(one))] += 1
    if len(counts) > 1:
        listed = "; ".join(f"{words(numbers)}: {count} slices" for numbers, count in counts.most_common(4))
        raise InputError(
            f"{folder} mixes slices of {len(counts)} {what} in one series ({listed}): keep those that belong together."
        )


def _repeated(folder: Path, slices: Sequence[DicomSlice], geometry: SliceGeometry) -> str:
    """The sentence about slices at one place: several volumes where the headers tell them apart, else copies."""
    pairs = repeated_places(geometry)
    for tag, what in _TELLING_APART.items():
        counts = Counter(one.header.get(tag, "none") for one in slices)
        if all(slices[a].header.get(tag) != slices[b].header.get(tag) for a, b in pairs):
            listed = ", ".join(f"{value}: {count} slices" for value, count in counts.most_common(MAXIMUM_LISTED))
            return (
                f"{folder} holds {len(counts)} volumes in one series, which differ in {what} ({listed}): move the "
                "files of one to a folder of its own."
            )
    letter, where = geometry.place(pairs[0][0])
    names = " and ".join(slices[number].file.name for number in pairs[0])
    return (
        f"{folder} has more than one slice at {len(pairs)} place(s), such as {names} at {letter} = "
        f"{millimetres(where)} mm: remove the copies."
    )


def _voxels(ordered: Sequence[DicomSlice]) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(one.file) for one in ordered])
    # Else all slices get the voxel type of the first one, which cuts off fractions that other slices' slopes make.
    reader.SetOutputPixelType(sitk.sitkFloat32)
    with itk_messages_kept_off_the_terminal():
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise InputError(unreadable(_damaged_one(ordered))) from error
    for key in image.GetMetaDataKeys():  # it is one slice's, and names the patient
        image.EraseMetaData(key)
    return image


def _damaged_one(ordered: Sequence[DicomSlice]) -> Path:
    for one in ordered:
        try:
            sitk.ReadImage(str(one.file), imageIO="GDCMImageIO")
        except RuntimeError:
            return one.file
    return ordered[0].file
