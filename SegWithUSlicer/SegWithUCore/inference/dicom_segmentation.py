"""Segments as a DICOM Segmentation (PS3.3, section A.51)."""

from typing import TYPE_CHECKING, Any

from ..export.dicom_objects import SourceSeries
from ..export.dicom_seg import MadeBy, Segment, Segments
from ..models.labels import Code
from .dicom_codes import category_of, concept, text, type_of
from .dicom_objects import MANUFACTURER, Origin, Title, common_fields, header_errors

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def segmentation_object(source: SourceSeries, segments: Segments, origin: Origin, title: Title) -> "Dataset":
    """A Segmentation of binary segments, one for each entry, in that order; empty ones have no frames.

    Raises:
        InputError: the headers of the series do not allow it.
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    with header_errors(source):
        return Segmentation(
            source_images=source.headers,
            pixel_array=segments.stacked(),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(number, segment, origin) for number, segment in enumerate(segments.entries, start=1)
            ],
            further_source_images=source.further or None,
            **common_fields(source, origin, title),
        )


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
    by_model = f"Label value {label.value} of the model {text(origin.model)}"
    found.SegmentDescription = "Added by the reviewer" if segment.made_by is MadeBy.REVIEWER else by_model
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
