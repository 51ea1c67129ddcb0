"""Results as DICOM objects that refer to the series they were made from: Segmentation and Parametric Map.

Built with highdicom, which is asked for only here. Both take patient, study and frame of reference from the series and
name, for each of their frames, the slice that it lies on (PS3.3, sections A.51 and A.75).
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, UsageError
from ..models.labels import Code
from .dicom_codes import ERROR_PROBABILITY, SCHEME, SCHEME_NAME, category_of, concept, person, text, type_of
from .dicom_segments import MadeBy, Segment, Segments
from .dicom_source import UNICODE, SourceSeries

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MANUFACTURER = "SegWithU for 3D Slicer"
EQUIPMENT = "SegWithU (for research, not for clinical use)"
ENTIRE_BODY = Code("SCT", "38266002", "Entire Body")
NOT_ASSESSED = -1.0
NO_UNIT = Code("UCUM", "1", "no units")
PROCESSING_EQUIPMENT = Code("DCM", "109102", "Processing Equipment")
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
    """Raise UsageError where highdicom is missing."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"DICOM objects need the package {error.name}, which is not installed: run "
            '`pip install "segwithu-slicer[dicom]"`.'
        ) from error


def segmentation_object(source: SourceSeries, segments: Segments, origin: Origin, title: Title) -> "Dataset":
    """A Segmentation of binary segments, one for each entry, in that order; empty ones have no frames.

    Raises:
        InputError: the headers of the series do not allow it.
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    with _header_errors(source):
        return Segmentation(
            source_images=source.headers,
            pixel_array=segments.stacked(),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(number, segment, origin) for number, segment in enumerate(segments.entries, start=1)
            ],
            **_common(source, origin, title),
        )


def probability_object(
    source: SourceSeries, values: np.ndarray, window: Sequence[float], origin: Origin, title: Title
) -> "Dataset":
    """A Parametric Map of the error probability as float32, without slices on which nothing was assessed.

    Only values from 0 to 1 are mapped to real-world values (unit 1); what was not assessed is -1, and said to be
    padding.

    Args:
        values: (z, y, x), -1 where not assessed.
        window: lowest and highest value shown.

    Raises:
        InputError: nothing was assessed, or the headers of the series do not allow it.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping

    slices = [k for k, values_there in enumerate(values) if (values_there >= 0).any()]
    if not slices:
        raise InputError(f"No voxel of {source.folder} was assessed: there is no error probability to be stored.")
    low, high = (float(value) for value in window)
    with _header_errors(source):
        found = ParametricMap(
            source_images=[source.headers[k] for k in slices],
            pixel_array=np.ascontiguousarray(values[slices], np.float32),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[
                RealWorldValueMapping(
                    lut_label="ERROR_PROB",
                    lut_explanation=text("Probability that the label is wrong; -1 is not assessed"),
                    unit=concept(NO_UNIT),
                    value_range=(0.0, 1.0),
                    quantity_definition=concept(ERROR_PROBABILITY),
                )
            ],
            voi_lut_transformations=[VOILUTTransformation((low + high) / 2, high - low, voi_lut_function="LINEAR_EXACT")],
            contributing_equipment=[_equipment(origin)],
            **_common(source, origin, title),
        )
    found.FloatPixelPaddingValue = found.FloatPixelPaddingRangeLimit = NOT_ASSESSED
    found.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_frame_anatomy(source)]
    return found


def _frame_anatomy(source: SourceSeries) -> "Dataset":
    """Region and side as the series names them, else the whole body, which is unpaired.

    The standard does not ask for it, but dcmqi, with which Slicer reads parametric maps, crashes without it.
    """
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset

    first, anatomy = source.headers[0], Dataset()
    regions = first.get("AnatomicRegionSequence") or [CodedConcept.from_code(concept(ENTIRE_BODY))]
    sides = [first.get("ImageLaterality"), first.get("Laterality")]
    anatomy.AnatomicRegionSequence = list(regions[:1])
    anatomy.FrameLaterality = next((side for side in sides if side in ("L", "R", "B", "U")), "U")
    return anatomy


def _common(source: SourceSeries, origin: Origin, title: Title) -> dict[str, Any]:
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
        "software_versions": (text(origin.software), text(origin.model)),
        "device_serial_number": text(origin.weights_sha256),
        "content_label": title.label,
        "content_description": text(f"{title.series}, model {origin.model}"),
        "content_creator_name": person(title.creator),
        "series_description": text(title.series),
        "coding_schemes": [
            CodingSchemeIdentificationItem(SCHEME, name=SCHEME_NAME, responsible_organization=MANUFACTURER)
        ],
        "specific_character_set": UNICODE,
    }


def _description(number: int, segment: Segment, origin: Origin) -> Any:
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    label = segment.label
    found = SegmentDescription(
        segment_number=number,
        segment_label=text(label.name) or f"segment {number}",
        segmented_property_category=concept(category_of(label)),
        segmented_property_type=concept(type_of(label)),
        algorithm_type=segment.made_by.value,
        algorithm_identification=None if segment.made_by is MadeBy.REVIEWER else _algorithm(origin),
        anatomic_regions=[concept(code) for code in segment.region[:1]] or None,
        display_color=CIELabColor.from_rgb(*label.color),
    )
    if label.modifier is not None and label.type is not None:
        _modify(found.SegmentedPropertyTypeCodeSequence[0], "SegmentedPropertyTypeModifierCodeSequence", label.modifier)
    if len(segment.region) > 1:
        _modify(found.AnatomicRegionSequence[0], "AnatomicRegionModifierSequence", segment.region[1])
    found.SegmentDescription = f"Label value {label.value} of the model {text(origin.model)}"
    return found


def _modify(item: "Dataset", keyword: str, code: Code) -> None:
    from highdicom.sr import CodedConcept

    setattr(item, keyword, [CodedConcept.from_code(concept(code))])


def _algorithm(origin: Origin) -> Any:
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


def _equipment(origin: Origin) -> Any:
    """The model as a device: a Parametric Map has no place for an algorithm."""
    from highdicom import ContributingEquipment

    facts = ", ".join(f"{key} {value}" for key, value in origin.facts.items())
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=concept(PROCESSING_EQUIPMENT),
        manufacturer_model_name=text(origin.model),
        software_versions=text(origin.software),
        contribution_description=text(f"Error probability by the model {origin.model}; {facts}", 1024),
    )


def _series_number(header: "Dataset", offset: int) -> int:
    """The source's number times 100, and the offset: results are listed after their series."""
    try:
        number = 100 * int(header.get("SeriesNumber") or 0) + offset
    except ValueError:
        return offset
    return number if 0 < number <= _MOST_IN_SERIES_NUMBER else offset


@contextmanager
def _header_errors(source: SourceSeries) -> Iterator[None]:
    """One sentence where highdicom does not like what the headers of the series hold; its warnings are silenced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"The headers of the series in {source.folder} do not allow a DICOM object that refers to it "
                f"({reason}): correct them in the archive."
            ) from error
