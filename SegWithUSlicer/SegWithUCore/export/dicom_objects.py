"""DICOM Segmentations, with who drew each segment, and Parametric Maps (PS3.3, A.75) of the error probability."""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..models.input_spec import Code, Label
from ..util.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


# DICOM's name for UTF-8 (PS3.3, section C.12.1.1.2).
UNICODE = "ISO_IR 192"
MANUFACTURER = "SegWithU for 3D Slicer"
EQUIPMENT = "SegWithU (for research, not for clinical use)"
_MOST_IN_SERIES_NUMBER = 2**31 - 1
# Private coding scheme ("99", PS3.3, section 8.2) for what public schemes lack.
SCHEME = "99SEGWITHU"
SCHEME_NAME = "Structures, measurements and verdicts of SegWithU"
ERROR_PROBABILITY = Code(SCHEME, "ERRORPROBABILITY", "Probability that the voxel's label is wrong")
NO_CATEGORY = Code(SCHEME, "STRUCTURE", "Structure of unspecified kind")
ENTIRE_BODY = Code("SCT", "38266002", "Entire Body")
NO_UNIT = Code("UCUM", "1", "no units")
PROCESSING_EQUIPMENT = Code("DCM", "109102", "Processing Equipment")
NOT_ASSESSED = -1.0
# Longest string or person name, and longest value or scheme of a code.
LONG, SHORT = 64, 16


@dataclass(frozen=True)
class SourceSeries:
    """A DICOM series in the order of the volume's slices.

    Attributes:
        folder: where it lies.
        image: the volume.
        headers: of its slices, without voxels, text decoded and to be written as UTF-8.
    """

    folder: Path
    image: sitk.Image
    headers: Sequence["Dataset"]


class SegmentAlgorithm(Enum):
    """Who drew a segment; values as in DICOM's Segment Algorithm Type (PS3.3, section C.8.20.4)."""

    MODEL = "AUTOMATIC"
    MODEL_AND_REVIEWER = "SEMIAUTOMATIC"
    REVIEWER = "MANUAL"


@dataclass
class Segment:
    """One segment.

    Attributes:
        label: name, colour, codes; its value is that of the case, or the next free one.
        layer, inside: where its voxels are: those of `Segments.layers[layer]` that have the value `inside`.
        made_by: model, reviewer, or both.
        about: what it is, where it is not a structure.
    """

    label: Label
    layer: int
    inside: int
    made_by: SegmentAlgorithm = SegmentAlgorithm.MODEL
    about: str = ""


@dataclass(frozen=True)
class Segments:
    """Segments and their voxels; segments of different layers may overlap.

    Attributes:
        layers: arrays (z, y, x) on the grid of the case.
        entries: in the order in which they are numbered, from 1.
    """

    layers: Sequence[np.ndarray]
    entries: Sequence[Segment]

    def mask(self, segment: Segment) -> np.ndarray:
        """Return the voxels of a segment."""
        return np.asarray(self.layers[segment.layer] == segment.inside)

    def stacked(self) -> np.ndarray:
        """Return segment numbers (z, y, x), or masks (z, y, x, segment) if segments overlap."""
        if len({segment.layer for segment in self.entries}) > 1:
            return np.stack([self.mask(segment) for segment in self.entries], axis=-1).astype(np.uint8)
        numbers = np.zeros(self.layers[0].shape, np.uint8 if len(self.entries) < 256 else np.uint16)
        for number, segment in enumerate(self.entries, start=1):
            numbers[self.mask(segment)] = number
        return numbers


@dataclass(frozen=True)
class ModelProvenance:
    """What made the results.

    Attributes:
        model: name and version.
        software: of this program, "segwithu 1.0.0".
        facts: what else identifies the model and settings, by name: hashes, head.
        weights_sha256: stands as the serial number of the device: equal weights are one device.
        status: what to do with the case, before what the model alone made.
    """

    model: str
    software: str
    facts: Mapping[str, str]
    weights_sha256: str
    status: str = ""

    @classmethod
    def from_case(cls, case: Mapping[str, Any]) -> "ModelProvenance":
        """From the content of `case.json`."""
        model, hashes = case["model"], ("weights_sha256", "calibration_sha256", "network_sha256")
        facts = {key: str(model[key]) for key in ("head", *hashes) if model.get(key)}
        software = f"segwithu {case['versions']['segwithu']}"
        status = f"{case['light']['level'].capitalize()}. " if case.get("light") else ""
        return cls(f"{model['name']} {model['version']}", software, facts, str(model["weights_sha256"]), status)


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


def segmentation_object(
    source: SourceSeries, segments: Segments, origin: ModelProvenance, title: SeriesTitle
) -> "Dataset":
    """Make a Segmentation of binary segments, one for each entry, in that order; empty ones have no frames.

    Raises:
        InputError: the headers of the series do not allow it.
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    with header_errors(source):
        found = Segmentation(
            source_images=source.headers,
            pixel_array=segments.stacked(),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(number, segment, origin) for number, segment in enumerate(segments.entries, start=1)
            ],
            **common_fields(source, origin, title),
        )
    found.SpecificCharacterSet = UNICODE
    return found


def _description(number: int, segment: Segment, origin: ModelProvenance) -> Any:
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    label = segment.label
    found = SegmentDescription(
        segment_number=number,
        segment_label=text(label.name) or f"segment {number}",
        segmented_property_category=concept(label.category or NO_CATEGORY),
        segmented_property_type=concept(type_of(label)),
        algorithm_type=segment.made_by.value,
        algorithm_identification=None if segment.made_by is SegmentAlgorithm.REVIEWER else _algorithm(origin),
        display_color=CIELabColor.from_rgb(*label.color),
    )
    if label.modifiers and label.type is not None:
        kind, codes = found.SegmentedPropertyTypeCodeSequence[0], map(concept, label.modifiers)
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(code) for code in codes]
    by_model = f"Label value {label.value} of the model {text(origin.model)}"
    by_whom = "Added by the reviewer" if segment.made_by is SegmentAlgorithm.REVIEWER else by_model
    found.SegmentDescription = text(segment.about) or by_whom
    return found


def _algorithm(origin: ModelProvenance) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    name, _, version = origin.model.rpartition(" ")
    return AlgorithmIdentificationSequence(
        name=text(name),
        family=codes.DCM.ArtificialIntelligence,
        version=text(version),
        source=MANUFACTURER,
        parameters={key: text(value) for key, value in origin.facts.items()},
    )


def probability_object(
    source: SourceSeries, values: np.ndarray, window: Sequence[float], origin: ModelProvenance, title: SeriesTitle
) -> "Dataset":
    """Make a Parametric Map of the error probability as float32, without slices on which nothing was assessed.

    Only values from 0 to 1 are mapped to real-world values (unit 1); what was not assessed is -1, and marked as
    padding.

    Args:
        values: (z, y, x), -1 if not assessed.
        window: lowest and highest value shown.

    Raises:
        InputError: nothing was assessed, or the headers of the series do not allow it.
    """
    slices = [k for k, values_there in enumerate(values) if (values_there >= 0).any()]
    if not slices:
        raise InputError(f"No voxel of {source.folder} was assessed: there is no error probability to be stored.")
    from highdicom import ContributingEquipment, VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    mapping = RealWorldValueMapping(
        lut_label="ERROR_PROB",
        lut_explanation=text("Probability that the label is wrong; -1 is not assessed"),
        unit=concept(NO_UNIT),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept(ERROR_PROBABILITY),
    )
    facts = ", ".join(f"{key} {value}" for key, value in origin.facts.items())
    # The model as a device: a Parametric Map has no place for an algorithm.
    equipment = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=concept(PROCESSING_EQUIPMENT),
        manufacturer_model_name=text(origin.model),
        software_versions=text(origin.software),
        contribution_description=text(f"Error probability by the model {origin.model}; {facts}", 1024),
    )
    center, width = (window[0] + window[1]) / 2, float(window[1] - window[0])
    with header_errors(source):
        found = ParametricMap(
            voi_lut_transformations=[VOILUTTransformation(center, width, voi_lut_function="LINEAR_EXACT")],
            source_images=[source.headers[k] for k in slices],
            pixel_array=np.ascontiguousarray(values[slices], np.float32),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            contributing_equipment=[equipment],
            **common_fields(source, origin, title),
        )
    found.SpecificCharacterSet = UNICODE
    found.FloatPixelPaddingValue = found.FloatPixelPaddingRangeLimit = NOT_ASSESSED
    found.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_frame_anatomy(source)]
    return _ascending(found)


def _ascending(found: "Dataset") -> "Dataset":
    """With frames that ascend along the normal of rows and columns.

    highdicom lets them descend, which their positions say; but dcmqi, with which Slicer's QuantitativeReporting reads
    parametric maps, takes them for ascending, and would show the map mirrored.
    """
    groups = list(found.PerFrameFunctionalGroupsSequence)
    rows, columns = np.reshape(
        found.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)
    ).astype(float)
    positions = [group.PlanePositionSequence[0].ImagePositionPatient for group in groups]
    order = np.argsort(np.asarray(positions, float) @ np.cross(rows, columns))
    frames = np.frombuffer(found.FloatPixelData, "<f4").reshape(len(groups), -1)
    found.FloatPixelData = frames[order].tobytes()
    for number, index in enumerate(order, start=1):
        groups[index].FrameContentSequence[0].DimensionIndexValues = [number]
    found.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    return found


def _frame_anatomy(source: SourceSeries) -> "Dataset":
    """Region and side as the series names them, else the whole body, which is unpaired.

    The standard does not ask for it, but dcmqi crashes without it.
    """
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset

    first, anatomy = source.headers[0], Dataset()
    regions = first.get("AnatomicRegionSequence") or [CodedConcept.from_code(concept(ENTIRE_BODY))]
    sides = [first.get("ImageLaterality"), first.get("Laterality")]
    anatomy.AnatomicRegionSequence = list(regions[:1])
    anatomy.FrameLaterality = next((side for side in sides if side in ("L", "R", "B", "U")), "U")
    return anatomy


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
        "content_description": text(f"{'' if title.creator else origin.status}With the model {origin.model}"),
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
        message = f"The headers in {source.folder} do not allow DICOM results ({reason}): correct them in the archive."
        raise InputError(message, "unusable-header") from error


def text(value: object, most: int = LONG) -> str:
    r"""Clean a string of control characters and backslashes, which separate values, and limit its length."""
    signs = "".join(" " if unicodedata.category(sign)[0] == "C" else sign for sign in str(value))
    return " ".join(signs.replace("\\", "/").split())[:most].rstrip()


def person(name: str) -> str:
    """Take a name typed in one piece for the family name, as its parts are unknown."""
    clean = text(name.translate({ord(sign): " " for sign in "^="}), LONG - 1)
    return f"{clean}^" if clean else ""


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
        Those of "category", "type" and "modifier" that are there.
    """
    entry = next((tag for tag in tags.split("|") if tag.startswith("TerminologyEntry:")), "")
    parts = entry.removeprefix("TerminologyEntry:").split("~")
    positions = {"category": 1, "type": 2, "modifier": 3}
    found = {}
    for what, index in positions.items():
        code = parts[index].split("^") if index < len(parts) else []
        if len(code) == 3 and all(part.strip() for part in code):
            found[what] = Code(*code)
    return found
