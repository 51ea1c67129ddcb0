"""The error probability as a DICOM Parametric Map (PS3.3, section A.75)."""

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models.input_spec import Code
from ..util.errors import InputError
from .dicom_objects import (
    ERROR_PROBABILITY,
    MANUFACTURER,
    UNICODE,
    ModelProvenance,
    SeriesTitle,
    SourceSeries,
    common_fields,
    concept,
    header_errors,
    text,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NOT_ASSESSED = -1.0
ENTIRE_BODY = Code("SCT", "38266002", "Entire Body")
NO_UNIT = Code("UCUM", "1", "no units")
PROCESSING_EQUIPMENT = Code("DCM", "109102", "Processing Equipment")


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
    with header_errors(source):
        found = _parametric_map(
            source,
            window,
            source_images=[source.headers[k] for k in slices],
            pixel_array=np.ascontiguousarray(values[slices], np.float32),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[_mapping()],
            contributing_equipment=[_equipment(origin)],
            **common_fields(source, origin, title),
        )
    found.SpecificCharacterSet = UNICODE
    found.FloatPixelPaddingValue = found.FloatPixelPaddingRangeLimit = NOT_ASSESSED
    found.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_frame_anatomy(source)]
    return _ascending(found)


def _parametric_map(source: SourceSeries, window: Sequence[float], **fields: Any) -> "Dataset":
    """Make the object; highdicom before 0.28 takes neither the function of a window nor further source images."""
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap

    center, width = (window[0] + window[1]) / 2, float(window[1] - window[0])
    shown = VOILUTTransformation(center, width, voi_lut_function="LINEAR_EXACT")
    if "voi_lut_transformations" in signature(ParametricMap).parameters:
        return ParametricMap(voi_lut_transformations=[shown], further_source_images=source.further or None, **fields)
    found = ParametricMap(window_center=center, window_width=width, **fields)
    found.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [shown]
    _name_frame_sources(found, fields["source_images"])
    _name_further_sources(found, source.further)
    return found


def _name_frame_sources(found: "Dataset", images: Sequence["Dataset"]) -> None:
    """Name the source image of each frame, as highdicom 0.28 does."""
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    positions = np.asarray([image.ImagePositionPatient for image in images], float)
    for group in found.PerFrameFunctionalGroupsSequence:
        position = np.asarray(group.PlanePositionSequence[0].ImagePositionPatient, float)
        image = images[int(np.linalg.norm(positions - position, axis=1).argmin())]
        item, derivation = Dataset(), Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
        item.SpatialLocationsPreserved = "YES"
        derivation.SourceImageSequence = [item]
        derivation.DerivationCodeSequence = [CodedConcept.from_code(codes.DCM.UnspecifiedMethodOfCalculation)]
        group.DerivationImageSequence = [derivation]


def _name_further_sources(found: "Dataset", images: Sequence["Dataset"]) -> None:
    """Name further source images of the object, as highdicom 0.28 does."""
    from pydicom.dataset import Dataset

    series: dict[str, list[Dataset]] = {}
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        series.setdefault(str(image.SeriesInstanceUID), []).append(item)
        found.SourceImageSequence.append(item)
    for uid, items in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = uid, items
        found.ReferencedSeriesSequence.append(item)


def _mapping() -> Any:
    from highdicom.pm import RealWorldValueMapping

    return RealWorldValueMapping(
        lut_label="ERROR_PROB",
        lut_explanation=text("Probability that the label is wrong; -1 is not assessed"),
        unit=concept(NO_UNIT),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept(ERROR_PROBABILITY),
    )


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


def _equipment(origin: ModelProvenance) -> Any:
    """Describe the model as a device: a Parametric Map has no place for an algorithm."""
    from highdicom import ContributingEquipment

    facts = ", ".join(f"{key} {value}" for key, value in origin.facts.items())
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=concept(PROCESSING_EQUIPMENT),
        manufacturer_model_name=text(origin.model),
        software_versions=text(origin.software),
        contribution_description=text(f"Error probability by the model {origin.model}; {facts}", 1024),
    )


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
