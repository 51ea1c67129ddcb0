"""DICOM Segmentations: segments of the model and of each reviewer, with who drew each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE
from ..case.segmentation_file import image_note, read_layers, segment_fields
from ..io.labels import read_labels
from ..io.volume import same_grid
from ..models.input_spec import Code, Label
from ..util.errors import InputError
from .dicom_objects import (
    MANUFACTURER,
    UNICODE,
    ModelProvenance,
    SeriesTitle,
    SourceSeries,
    category_of,
    common_fields,
    concept,
    header_errors,
    terminology,
    text,
    type_of,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


_GREY = (128, 128, 128)


class SegmentAlgorithm(Enum):
    """Who drew a segment; values as in DICOM's Segment Algorithm Type (PS3.3, section C.8.20.4)."""

    MODEL = "AUTOMATIC"
    MODEL_AND_REVIEWER = "SEMIAUTOMATIC"
    REVIEWER = "MANUAL"


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        label: name, colour, codes; its value is that of the case, or the next free one.
        layer, inside: where its voxels are: those of `Segments.layers[layer]` that have the value `inside`.
        made_by: model, reviewer, or both.
        region: where in the body it lies, and a further word about that.
    """

    label: Label
    layer: int
    inside: int
    made_by: SegmentAlgorithm = SegmentAlgorithm.MODEL
    region: Sequence[Code] = ()


@dataclass(frozen=True)
class Segments:
    """Segments and their voxels; segments of different layers may overlap.

    Attributes:
        layers: arrays (z, y, x) on the grid of the case.
        entries: in the order in which they are numbered, from 1.
    """

    layers: Sequence[np.ndarray]
    entries: Sequence[Segment] = field(default_factory=list)

    def mask(self, segment: Segment) -> np.ndarray:
        """Return the voxels of a segment."""
        return np.asarray(self.layers[segment.layer] == segment.inside)

    def stacked(self) -> np.ndarray:
        """Numbers of the segments (z, y, x); where they lie in several layers, masks (z, y, x, segment)."""
        if len({segment.layer for segment in self.entries}) > 1:
            return np.stack([self.mask(segment) for segment in self.entries], axis=-1).astype(np.uint8)
        numbers = np.zeros(self.layers[0].shape, np.uint8 if len(self.entries) < 256 else np.uint16)
        for number, segment in enumerate(self.entries, start=1):
            numbers[self.mask(segment)] = number
        return numbers


def model_segments(folder: Path, case: Mapping[str, Any], grid: sitk.Image) -> Segments:
    """Read the model's own segments, empty ones too.

    Raises:
        InputError: the segmentation is missing, damaged, or not on the grid.
    """
    path = folder / SEGMENTATION_FILE
    if not path.is_file():
        raise InputError(f"{path} is missing: segment the case again.")
    labels = read_labels(path)
    if not same_grid(labels, grid):
        raise InputError(f"{path} is not on the grid of the image: segment the case again.")
    entries = [Segment(label, 0, label.value) for label in _structures(case)]
    return Segments([sitk.GetArrayFromImage(labels)], entries)


def reviewed_segments(
    path: Path, case: Mapping[str, Any], grid: sitk.Image, model: Segments, notes: list[str]
) -> Segments:
    """Read a reviewer's segments: the structures of the case and those that the reviewer added.

    Args:
        path: of the reviewed segmentation.
        model: the model's segments.
        notes: one on the file is added where there is any.

    Raises:
        InputError: the file cannot be read, lies elsewhere or was made on another image.
    """
    image, layers = read_layers(path, grid)
    if note := image_note(path, image, case):
        notes.append(note)
    structures = {label.name: label for label in _structures(case)}
    free = max([label.value for label in structures.values()], default=0) + 1
    found: list[Segment] = []
    for number, segment in enumerate(segment_fields(image)):
        if segment.layer >= len(layers):
            continue
        known = structures.get(segment.name)
        codes = dict(terminology(segment.tags))
        label = known or _added(segment.name or f"segment {number + 1}", segment.color, free, codes)
        free += known is None
        region = [codes[key] for key in ("region", "region_modifier") if key in codes] if "region" in codes else []
        found.append(Segment(label, segment.layer, segment.value, SegmentAlgorithm.REVIEWER, region))
    if not found:  # a plain label volume
        found = [Segment(label, 0, label.value) for label in structures.values()]
    return _compared(Segments(layers, sorted(found, key=lambda segment: segment.label.value)), model)


def _compared(reviewed: Segments, model: Segments) -> Segments:
    """With each segment's origin: untouched ones are the model's."""
    own = {segment.label.name: model.mask(segment) for segment in model.entries}
    entries = []
    for segment in reviewed.entries:
        before = own.get(segment.label.name)
        if before is None:
            made_by = SegmentAlgorithm.REVIEWER
        else:
            same = np.array_equal(reviewed.mask(segment), before)
            made_by = SegmentAlgorithm.MODEL if same else SegmentAlgorithm.MODEL_AND_REVIEWER
        entries.append(Segment(segment.label, segment.layer, segment.inside, made_by, segment.region))
    return Segments(reviewed.layers, entries)


def _structures(case: Mapping[str, Any]) -> list[Label]:
    """Return the labels of the case without the background."""
    labels = [Label.from_json(entry) for entry in case["structures"]]
    return [label for label in labels if label.value]


def _added(name: str, color: Sequence[int] | None, value: int, codes: Mapping[str, Code]) -> Label:
    red, green, blue = color or _GREY
    return Label(value, name, (red, green, blue), codes.get("category"), codes.get("type"), codes.get("modifier"))


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
            further_source_images=source.further or None,
            **common_fields(source, origin, title),
        )
    found.SpecificCharacterSet = UNICODE
    return found


def _description(number: int, segment: Segment, origin: ModelProvenance) -> Any:
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    label = segment.label
    found = SegmentDescription(
        segment_number=number,
        segment_label=text(label.name) or f"segment {number}",
        segmented_property_category=concept(category_of(label)),
        segmented_property_type=concept(type_of(label)),
        algorithm_type=segment.made_by.value,
        algorithm_identification=None if segment.made_by is SegmentAlgorithm.REVIEWER else _algorithm(origin),
        anatomic_regions=[concept(code) for code in segment.region[:1]] or None,
        display_color=CIELabColor.from_rgb(*label.color),
    )
    if label.modifier is not None and label.type is not None:
        _modify(found.SegmentedPropertyTypeCodeSequence[0], "SegmentedPropertyTypeModifierCodeSequence", label.modifier)
    if len(segment.region) > 1:
        _modify(found.AnatomicRegionSequence[0], "AnatomicRegionModifierSequence", segment.region[1])
    by_model = f"Label value {label.value} of the model {text(origin.model)}"
    found.SegmentDescription = "Added by the reviewer" if segment.made_by is SegmentAlgorithm.REVIEWER else by_model
    return found


def _modify(item: "Dataset", keyword: str, code: Code) -> None:
    from highdicom.sr import CodedConcept

    setattr(item, keyword, [CodedConcept.from_code(concept(code))])


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
