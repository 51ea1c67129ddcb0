"""Reviewed segmentations (`.seg.nrrd`, label volumes): read on the grid of the case, and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..imaging.grid import VoxelGrid
from ..imaging.plane_writer import Listener, write_nrrd_planes
from ..imaging.roi import VoxelBox
from ..imaging.volume import read_file
from ..models.input_spec import Code, Label
from ..plane_files import Planes, plane_pieces

REVIEWED_PATTERN = "segmentation_reviewed*.seg.nrrd"
_TERMINOLOGY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_ANATOMY_CONTEXT = "Anatomic codes - DICOM master list"


def reviewed_name(path: Path) -> str:
    """Return the reviewer's part of a file name; "" if it names no reviewer."""
    return path.name.removeprefix("segmentation_reviewed").removesuffix(".seg.nrrd").removeprefix(".")


@dataclass(frozen=True)
class SegmentFields:
    """What a segmentation file says of one segment.

    Attributes:
        name, tags: "" where they are not given.
        layer, value: the segment's voxels have this value in this layer.
        color: red, green, blue, 0 to 255.
    """

    name: str
    tags: str
    layer: int
    value: int
    color: tuple[int, int, int] | None


def read_reviewed(path: Path, grid: sitk.Image, structures: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Read the label values (z, y, x) of a reviewed segmentation, without segments that are no structure of the case.

    Segments are known by their names, else by their label values; where two overlap, the later one counts.

    Args:
        grid: of the case; what the file does not cover is background.
        structures: entries of `case.json`.

    Raises:
        InputError: the file cannot be read.
    """
    image, layers = read_layers(path, grid)
    labels = np.zeros(layers[0].shape, np.int16)
    by_name = {str(entry["name"]): int(entry["value"]) for entry in structures if int(entry["value"])}
    found = [
        (segment.layer, segment.value, by_name[segment.name])
        for segment in segment_fields(image)
        if segment.name in by_name
    ]
    for layer, inside, value in found or [(0, value, value) for value in by_name.values()]:
        if layer < len(layers):
            labels[layers[layer] == inside] = value
    return labels


def read_layers(path: Path, grid: sitk.Image) -> tuple[sitk.Image, list[np.ndarray]]:
    """Read a segmentation file as it is, for its header, and its layers (z, y, x) on the grid of the case.

    Raises:
        InputError: the file cannot be read.
    """
    image = read_file(path)
    if image.GetDimension() != 3:
        raise InputError(f"{path} is {image.GetDimension()}D: save it again from Slicer as a segmentation.")
    return image, [_on_grid(layer, grid) for layer in _layers(image)]


def segment_fields(image: sitk.Image) -> list[SegmentFields]:
    """List the segments that a segmentation file names; none for a plain label volume."""
    keys, found, number = set(image.GetMetaDataKeys()), [], 0
    while f"Segment{number}_ID" in keys:
        segment = {
            key: _field(image, f"Segment{number}_{key}") for key in ("Name", "LabelValue", "Layer", "Tags", "Color")
        }
        layer, value = (_whole(segment[key], default) for key, default in (("Layer", 0), ("LabelValue", number + 1)))
        found.append(SegmentFields(segment["Name"], segment["Tags"], layer, value, _color(segment["Color"])))
        number += 1
    return found


def _layers(image: sitk.Image) -> list[sitk.Image]:
    """Slicer keeps segments that overlap in several layers, written as several values a voxel."""
    count = image.GetNumberOfComponentsPerPixel()
    return [image] if count == 1 else [sitk.VectorIndexSelectionCast(image, n) for n in range(count)]


def _on_grid(layer: sitk.Image, grid: sitk.Image) -> np.ndarray:
    resampled = sitk.Resample(layer, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    array: np.ndarray = sitk.GetArrayFromImage(resampled)
    return array


def _field(image: sitk.Image, key: str) -> str:
    return str(image.GetMetaData(key)) if image.HasMetaDataKey(key) else ""


def _whole(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default


def _color(text: str) -> tuple[int, int, int] | None:
    """Red, green, blue from shares between 0 and 1."""
    try:
        red, green, blue = (min(255, max(0, round(255 * float(part)))) for part in text.split())
    except ValueError:
        return None
    return red, green, blue


def terminology_tag(label: Label) -> str | None:
    """Write a label's codes as Slicer stores them: context ~ category ~ type ~ modifier ~ anatomic context ~ ~."""
    if label.category is None or label.type is None:
        return None
    parts = [_TERMINOLOGY_CONTEXT, _code(label.category), _code(label.type), _code(label.modifier)]
    return "~".join([*parts, _ANATOMY_CONTEXT, _code(None), _code(None)])


def _code(code: Code | None) -> str:
    return "^^" if code is None else f"{code.scheme}^{code.value}^{code.meaning}"


def write_segmentation_nrrd(
    path: Path,
    values: Planes,
    box: VoxelBox,
    grid: VoxelGrid,
    labels: Sequence[Label],
    listener: Listener | None = None,
) -> None:
    """Write a label volume with one segment per label but background, also where a structure is empty.

    Args:
        values: label values (z, y, x) inside `box`.
        grid: of the input.
        labels: background first.
        listener: told of each piece that was written.
    """
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segmentation_ConversionParameters": "",
    }
    extents = _extents(values, box, [label.value for label in labels[1:]])
    for number, (label, extent) in enumerate(zip(labels[1:], extents, strict=True)):
        prefix = f"Segment{number}_"
        fields |= {
            f"{prefix}ID": f"Segment_{label.value}",
            f"{prefix}Name": label.name,
            f"{prefix}NameAutoGenerated": "0",
            f"{prefix}Color": " ".join(f"{value / 255:.6g}" for value in label.color),
            f"{prefix}ColorAutoGenerated": "0",
            f"{prefix}LabelValue": str(label.value),
            f"{prefix}Layer": "0",
            f"{prefix}Extent": extent,
        }
        if tag := terminology_tag(label):
            fields[f"{prefix}Tags"] = f"TerminologyEntry:{tag}|"
    write_nrrd_planes(path, values, box, grid, fields, listener)


def _extents(values: Planes, box: VoxelBox, wanted: Sequence[int]) -> list[str]:
    """First and last index along i, j, k of each label in the whole grid; "0 -1" along each for an empty one."""
    shape = values.shape
    seen = [[np.zeros(size, bool) for size in shape] for _ in wanted]
    for planes in plane_pieces(shape):
        part = values[planes]
        present = set(np.flatnonzero(np.bincount(part.ravel())).tolist())
        for value, (z, y, x) in zip(wanted, seen, strict=True):
            if value in present:
                mask = part == value
                z[planes] |= mask.any((1, 2))
                y |= mask.any((0, 2))
                x |= mask.any((0, 1))
    return [_extent(axes[::-1], box.index) for axes in seen]


def _extent(seen: Sequence[np.ndarray], start: Sequence[int]) -> str:
    """Write where a label was seen along i, j, k."""
    pairs = []
    for along, first in zip(seen, start, strict=True):
        indices = np.flatnonzero(along) + first
        pairs.append(f"{indices[0]} {indices[-1]}" if indices.size else "0 -1")
    return " ".join(pairs)
