"""What DICOM objects share: the source series and its headers, provenance, codes and text values."""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from ..case.case_image import OutsideError, checked_image, series_with_voxels, trusted_source, voxel_hash
from ..models.input_spec import Code, Label
from ..util.errors import InputError, UsageError

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
MANUFACTURER = "SegWithU for 3D Slicer"
EQUIPMENT = "SegWithU (for research, not for clinical use)"
LEAST_RELEASE = "0.27"
"""Of highdicom: the release that Slicer brings."""
REQUIREMENT = f"highdicom>={LEAST_RELEASE}"
_MOST_IN_SERIES_NUMBER = 2**31 - 1
SCHEME = "99SEGWITHU"
"""Coding scheme of what no public one has; "99" marks private schemes (PS3.3, section 8.2)."""
SCHEME_NAME = "Names of structures in SegWithU models"
ERROR_PROBABILITY = Code(SCHEME, "ERRORPROBABILITY", "Probability that the voxel's label is wrong")
NO_CATEGORY = Code(SCHEME, "STRUCTURE", "Structure of unspecified kind")
LONG, SHORT = 64, 16
"""Characters of a long string or person name, and of a code's value or scheme."""


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
    """Read the series of a case's first channel, on whose grid all results lie.

    Args:
        folder: the case folder.
        case: the content of its `case.json`.
        moved_to: folder where the series lies now, if it was moved or converted in between.

    Raises:
        InputError: the case was not made from DICOM, the series is gone, holds other voxels or lies elsewhere in space,
            or names no study or frame of reference.
    """
    channel = case["input"]["channels"][0]
    path = moved_to or _series_path(folder, case)
    if not path.is_dir():
        what = "is no folder" if path.exists() else "is not there"
        raise InputError(
            f"{folder} has no DICOM series to refer to ({path} {what}): give the folder of the series with --source."
        )
    image, files = series_with_voxels(path, channel["voxels_sha256"])
    image = checked_image(path, image, folder, case)
    headers = [_header(file) for file in files]
    _check_shared(files, headers)
    for header in headers:
        _set_grid(header, headers[0], float(image.GetSpacing()[2]))
    return SourceSeries(path, image, headers, *_further(folder, case, str(headers[0].StudyInstanceUID)))


def _series_path(folder: Path, case: Mapping[str, Any]) -> Path:
    """Where `case.json` says that the series lies, if that may be followed."""
    try:
        return trusted_source(folder, case)
    except OutsideError as error:
        raise InputError(
            f"The DICOM series of {folder} is said to lie at {error.path}, outside that folder, and this user did not "
            "write so: give the folder of the series with --source."
        ) from error


def _further(folder: Path, case: Mapping[str, Any], study: str) -> tuple[list["Dataset"], list[str]]:
    """Headers of the other channels' slices, and notes on channels that results cannot refer to."""
    found: list[Dataset] = []
    notes = []
    for number, channel in enumerate(case["input"]["channels"][1:], 1):
        try:
            path = trusted_source(folder, case, number)
        except InputError as error:
            notes.append(f"channel {channel['name']} is not named as a source: {error}")
            continue
        headers: list[Dataset] = []
        if path.is_dir():
            image, files = series_with_voxels(path, channel["voxels_sha256"])
            if voxel_hash(image) == channel["voxels_sha256"]:
                headers = [_header(file) for file in files]
        if headers and {str(header.get("StudyInstanceUID")) for header in headers} == {study}:
            found.extend(headers)
        else:
            why = "belongs to another study" if headers else "is not where it was as a DICOM series"
            notes.append(f"channel {channel['name']} is not named as a source, because it {why}.")
    return found, notes


def _header(file: Path) -> "Dataset":
    """Read the header of a slice; what may be empty and is absent or not allowed is empty."""
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


@dataclass(frozen=True)
class ModelProvenance:
    """What made the results.

    Attributes:
        model: name and version.
        software: of this program, "segwithu-slicer 1.0.0".
        facts: what else identifies the model and settings, by name: hashes, head.
        weights_sha256: stands as the serial number of the device: equal weights are one device.
    """

    model: str
    software: str
    facts: Mapping[str, str]
    weights_sha256: str

    @classmethod
    def from_case(cls, case: Mapping[str, Any]) -> "ModelProvenance":
        """From the content of `case.json`."""
        model, hashes = case["model"], ("weights_sha256", "calibration_sha256", "network_sha256")
        facts = {key: str(model[key]) for key in ("head", *hashes) if model.get(key)}
        software = f"segwithu-slicer {case['versions']['segwithu-slicer']}"
        return cls(f"{model['name']} {model['version']}", software, facts, str(model["weights_sha256"]))


@dataclass(frozen=True)
class SeriesTitle:
    """What a viewer shows of an object.

    Attributes:
        label: upper case, at most 16 characters.
        series: description of its series.
        number: of its series within the study, relative to that of the source.
        creator: the reviewer, "" for what a model made alone.
    """

    label: str
    series: str
    number: int
    creator: str = ""


def check_installed() -> None:
    """Raise UsageError where highdicom is missing or too old."""
    try:
        import highdicom
        from packaging.version import Version
    except ImportError as error:
        raise UsageError(
            f'DICOM objects need the package {error.name}, which is not installed: run `pip install "{REQUIREMENT}"`.'
        ) from error
    if Version(highdicom.__version__) < Version(LEAST_RELEASE):
        raise UsageError(
            f'DICOM objects need a newer highdicom than {highdicom.__version__}: run `pip install "{REQUIREMENT}"`.'
        )


def common_fields(source: SourceSeries, origin: ModelProvenance, title: SeriesTitle) -> dict[str, Any]:
    """Make the fields that both kinds of object share."""
    from highdicom import UID
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return {
        "series_instance_uid": UID(),
        "series_number": _series_number(source.headers[0], title.number),
        "sop_instance_uid": UID(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": EQUIPMENT,
        "software_versions": [text(origin.software), text(origin.model)],
        "device_serial_number": text(origin.weights_sha256),
        "content_label": title.label,
        "content_description": text(f"By the model {origin.model}"),
        "content_creator_name": person(title.creator),
        "series_description": text(title.series),
        "coding_schemes": [
            CodingSchemeIdentificationItem(SCHEME, name=SCHEME_NAME, responsible_organization=MANUFACTURER)
        ],
    }


def _series_number(header: "Dataset", offset: int) -> int:
    """Compute a series number, 100 times the source's, plus the offset: results are listed after their series."""
    try:
        number = 100 * int(header.get("SeriesNumber") or 0) + offset
    except ValueError:
        return offset
    return number if 0 < number <= _MOST_IN_SERIES_NUMBER else offset


@contextmanager
def header_errors(source: SourceSeries) -> Iterator[None]:
    """One sentence where highdicom does not like what the headers of the series hold."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"The headers of the series in {source.folder} do not allow a DICOM object that refers to it "
            f"({reason}): correct them in the archive."
        ) from error


def text(value: object, most: int = LONG) -> str:
    r"""Clean a string of control characters and backslashes, which separate values, and limit its length."""
    signs = "".join(" " if unicodedata.category(sign)[0] == "C" else sign for sign in str(value))
    return " ".join(signs.replace("\\", "/").split())[:most].rstrip()


def person(name: str) -> str:
    """Take a name typed in one piece for the family name, as its parts are unknown."""
    clean = text(name.translate({ord(sign): " " for sign in "^="}), LONG - 1)
    return f"{clean}^" if clean else ""


def category_of(label: Label) -> Code:
    """Return the code for the kind of thing that a structure is."""
    return label.category or NO_CATEGORY


def type_of(label: Label) -> Code:
    """Return the code for a structure; where it has none, one made from its name: equal names have equal codes."""
    if label.type is not None:
        return label.type
    mark = hashlib.sha256(label.name.strip().casefold().encode()).hexdigest()
    return Code(SCHEME, mark[:SHORT].upper(), text(label.name) or "unnamed")


def concept(code: Code) -> Any:
    """Convert a code for highdicom."""
    from pydicom.sr.coding import Code as DicomCode

    return DicomCode(text(code.value), text(code.scheme, SHORT), text(code.meaning))


def terminology(tags: str) -> Mapping[str, Code]:
    """Parse the codes that Slicer keeps with a segment.

    Args:
        tags: the segment's "Tags", such as "TerminologyEntry:context~category~type~modifier~...|", where a code is
            "scheme^value^meaning".

    Returns:
        Those of "category", "type", "modifier", "region" and "region_modifier" that are there.
    """
    entry = next((tag for tag in tags.split("|") if tag.startswith("TerminologyEntry:")), "")
    parts = entry.removeprefix("TerminologyEntry:").split("~")
    positions = {"category": 1, "type": 2, "modifier": 3, "region": 5, "region_modifier": 6}
    found = {}
    for what, index in positions.items():
        code = parts[index].split("^") if index < len(parts) else []
        if len(code) == 3 and all(part.strip() for part in code):
            found[what] = Code(*code)
    return found
