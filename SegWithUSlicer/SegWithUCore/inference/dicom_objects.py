"""What all results stored as DICOM objects say of themselves and of the series they were made from.

They are built with highdicom, which takes patient, study and frame of reference from the series and names, for each
frame, the slice that it lies on.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UsageError
from ..export.dicom_objects import UNICODE, SourceSeries
from .dicom_codes import SCHEME, SCHEME_NAME, person, text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MANUFACTURER = "SegWithU for 3D Slicer"
EQUIPMENT = "SegWithU (for research, not for clinical use)"
LEAST_RELEASE = (0, 28)
REQUIREMENT = "highdicom>=0.28"
_MOST_IN_SERIES_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Origin:
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
    def from_case(cls, case: Mapping[str, Any]) -> "Origin":
        """From the content of `case.json`."""
        model, hashes = case["model"], ("weights_sha256", "calibration_sha256", "network_sha256")
        facts = {key: str(model[key]) for key in ("head", *hashes) if model.get(key)}
        software = f"segwithu-slicer {case['versions']['segwithu-slicer']}"
        return cls(f"{model['name']} {model['version']}", software, facts, str(model["weights_sha256"]))


@dataclass(frozen=True)
class Title:
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
    except ImportError as error:
        raise UsageError(
            f'DICOM objects need the package {error.name}, which is not installed: run `pip install "{REQUIREMENT}"`.'
        ) from error
    release = tuple(int(part) for part in highdicom.__version__.split(".")[:2])
    if release < LEAST_RELEASE:
        raise UsageError(
            f'DICOM objects need a newer highdicom than {highdicom.__version__}: run `pip install "{REQUIREMENT}"`.'
        )


def common_fields(source: SourceSeries, origin: Origin, title: Title) -> dict[str, Any]:
    """What both kinds of object say of themselves."""
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
        "specific_character_set": UNICODE,
    }


def _series_number(header: "Dataset", offset: int) -> int:
    """The source's number times 100, and the offset: results are listed after their series."""
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
