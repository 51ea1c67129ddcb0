"""The DICOM series that a case was made from, known by its voxels, with the headers that results refer to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from ..case.case_image import OutsideError, series_with_voxels, trusted_source, voxel_hash
from ..errors import InputError
from ..imaging.volume import grid_facts, same_grid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

UNICODE = "ISO_IR 192"
"""DICOM's name for UTF-8 (PS3.3, section C.12.1.1.2)."""
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
"""Attributes that every object must have, but which may be empty (type 2)."""
_SEXES = ("", "M", "F", "O")
_SHARED = {"StudyInstanceUID": "study", "FrameOfReferenceUID": "frame of reference"}
"""What results take over from the series; that all slices say the same was checked when they were read."""


@dataclass(frozen=True)
class SourceSeries:
    """A DICOM series in the order of the volume's slices.

    Attributes:
        folder: where it lies.
        image: the volume.
        headers: of its slices, without voxels, text decoded and to be written as UTF-8.
        further: headers of the other channels' slices, as far as they lie where they were and belong to the study.
        notes: which channels are not among them, one sentence each.
    """

    folder: Path
    image: sitk.Image
    headers: Sequence["Dataset"]
    further: Sequence["Dataset"] = ()
    notes: Sequence[str] = ()


def source_series(folder: Path, case: Mapping[str, Any], moved_to: Path | None = None) -> SourceSeries:
    """The series of a case's first channel, on whose grid all results lie.

    Args:
        folder: the case folder.
        case: the content of its `case.json`.
        moved_to: folder where the series lies now, if it was moved or converted in between.

    Raises:
        InputError: the case was not made from DICOM, the series is gone, holds other voxels or lies elsewhere in space,
            or tells no study or frame of reference.
    """
    channel = case["input"]["channels"][0]
    place = moved_to or _series_place(folder, case)
    if not place.is_dir():
        what = "is no folder" if place.exists() else "is not there"
        raise InputError(
            f"{folder} has no DICOM series to refer to ({place} {what}): give the folder of the series with --source."
        )
    image, files = series_with_voxels(place, channel["voxels_sha256"])
    if voxel_hash(image) != channel["voxels_sha256"]:
        raise InputError(f"{place} holds other voxels than the image of {folder}: give the series that was segmented.")
    if not same_grid(image, _grid(case["input"]["grid"])):
        found, wanted = (facts["origin_lps_mm"] for facts in (grid_facts(image), case["input"]["grid"]))
        raise InputError(
            f"{place} holds the voxels of {folder} at another place in space (origin {found}, not {wanted}): give the "
            "series that was segmented."
        )
    headers = [_header(file) for file in files]
    _check_shared(files, headers)
    for header in headers:
        _set_grid(header, headers[0], float(image.GetSpacing()[2]))
    return SourceSeries(place, image, headers, *_further(folder, case, str(headers[0].StudyInstanceUID)))


def _series_place(folder: Path, case: Mapping[str, Any]) -> Path:
    """Where `case.json` says that the series lies, if that may be followed."""
    try:
        return trusted_source(folder, case)
    except OutsideError as error:
        raise InputError(
            f"The DICOM series of {folder} is said to lie at {error.place}, outside that folder, and this user did not "
            "write so: give the folder of the series with --source."
        ) from error


def _further(folder: Path, case: Mapping[str, Any], study: str) -> tuple[list["Dataset"], list[str]]:
    """Headers of the other channels' slices, and notes on channels that results cannot refer to."""
    found: list[Dataset] = []
    notes = []
    for number, channel in enumerate(case["input"]["channels"][1:], 1):
        try:
            place = trusted_source(folder, case, number)
        except InputError as error:
            notes.append(f"channel {channel['name']} is not named as a source: {error}")
            continue
        headers: list[Dataset] = []
        if place.is_dir():
            image, files = series_with_voxels(place, channel["voxels_sha256"])
            if voxel_hash(image) == channel["voxels_sha256"]:
                headers = [_header(file) for file in files]
        if headers and {str(header.get("StudyInstanceUID")) for header in headers} == {study}:
            found.extend(headers)
        else:
            why = "belongs to another study" if headers else "is not where it was as a DICOM series"
            notes.append(f"channel {channel['name']} is not named as a source, because it {why}.")
    return found, notes


def _grid(facts: Mapping[str, Any]) -> sitk.Image:
    grid = sitk.Image([int(n) for n in facts["size_ijk"]], sitk.sitkUInt8)
    grid.SetSpacing(facts["spacing_mm"])
    grid.SetOrigin(facts["origin_lps_mm"])
    grid.SetDirection(facts["direction_lps"])
    return grid


def _header(file: Path) -> "Dataset":
    """The header of a slice; what may be empty and is absent or not allowed is empty."""
    import pydicom

    header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    header.decode()
    header.SpecificCharacterSet = UNICODE
    for keyword in _MAY_BE_EMPTY:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in _SEXES:
        header.PatientSex = ""
    return header


def _set_grid(header: "Dataset", first: "Dataset", step_mm: float) -> None:
    """One orientation and pixel spacing for all slices, as they were found to agree, and the step between them.

    Headers round these each in their own way, and what they call spacing between slices need not be the step.
    """
    header.ImageOrientationPatient, header.PixelSpacing = first.ImageOrientationPatient, first.PixelSpacing
    header.SpacingBetweenSlices = f"{step_mm:.10g}"
    try:
        thickness = float(header.get("SliceThickness") or 0)
    except ValueError:
        thickness = 0.0
    header.SliceThickness = f"{thickness or step_mm:.10g}"


def _check_shared(files: Sequence[Path], headers: Sequence["Dataset"]) -> None:
    for keyword, what in _SHARED.items():
        if not headers[0].get(keyword):
            raise InputError(f"{files[0]} names no {what} ({keyword}): DICOM results cannot refer to this series.")
