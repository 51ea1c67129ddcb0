"""Reviewed segmentations (`.seg.nrrd`, label volumes): read if they belong to the case, on its grid, and written."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid, turned_like
from ..io.plane_writer import write_nrrd_planes
from ..io.roi import VoxelBox, whole_grid
from ..io.volume import read_file, whole_labels
from ..models.input_spec import Label, terminology_tag
from ..util.errors import InputError
from ..util.plane_files import Planes, plane_pieces
from .case_file import naming_case
from .case_image import ELSEWHERE, OTHER_IMAGE, case_grid, channel_hash

# Header entry: hash of the voxels of the (first) image that was segmented, as `case.json` has it.
IMAGE_KEY = "SegWithU_ImageSHA256"
_SEGMENT = re.compile(r"Segment(\d+)_ID")


def reviewed_name(path: Path) -> str:
    """Return the reviewer's part of a file name; "" if it names no reviewer."""
    return path.name.removeprefix("segmentation_reviewed").removesuffix(".seg.nrrd").removeprefix(".")


@dataclass(frozen=True)
class SegmentFields:
    """The header entry of one segment.

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


def read_reviewed(
    path: Path, grid: sitk.Image | VoxelGrid, case: Mapping[str, Any], any_axes: bool = False
) -> tuple[np.ndarray, str]:
    """Read the label values (z, y, x) of a reviewed segmentation, without segments of other structures.

    Segments are known by their names, else by their label values; where two overlap, the later one counts.

    Args:
        grid: of the case; what the file does not cover is background.
        case: the content of `case.json`.
        any_axes: as `read_segments`.

    Returns:
        The labels, and a note on the file, empty if there is none.

    Raises:
        InputError: the file cannot be read, lies elsewhere, is of another image, or is a label volume with a value that
            the case does not name.
    """
    layers, segments, note = read_segments(path, grid, channel_hash(path.parent, case), any_axes)
    labels = np.zeros(layers[0].shape, np.int16)
    by_name = {str(entry["name"]): int(entry["value"]) for entry in case["structures"] if int(entry["value"])}
    if not segments and (unknown := set(np.unique(whole_labels(path, layers[0])).tolist()) - {0, *by_name.values()}):
        message = f"{path} holds the label {min(unknown)}, which the case does not name: remove it."
        raise InputError(message, "unknown-label")
    found = [(segment.layer, segment.value, by_name[segment.name]) for segment in segments if segment.name in by_name]
    for layer, inside, value in found or [(0, value, value) for value in by_name.values()]:
        labels[layers[layer] == inside] = value
    return labels, note


def own_segments(path: Path, grid: sitk.Image | VoxelGrid, case: Mapping[str, Any]) -> list[str]:
    """List the names of segments that are no structures of the case; raises as `read_segments`."""
    known = {str(entry["name"]) for entry in case["structures"]}
    return [segment.name for segment in read_segments(path, grid)[1] if segment.name not in known]


def check_reviewed(path: Path, folder: Path, case: Mapping[str, Any]) -> str:
    """Check that a reviewed segmentation belongs to a case.

    Args:
        folder: of the case.
        case: the content of its `case.json`.

    Returns:
        A note on the file, empty if there is none.

    Raises:
        InputError: as `read_reviewed`, or the case is damaged.
    """
    with naming_case(folder):
        return read_reviewed(path, case_grid(folder, case), case)[1]


def _image_note(path: Path, image: sitk.Image, voxels_sha256: str) -> str:
    """Compare the image that a segmentation was made on, as its header tells, with the one that it is given for.

    Args:
        image: the segmentation, for its header.
        voxels_sha256: of the image that it is given for.

    Returns:
        A note where the header does not tell, else nothing.

    Raises:
        InputError: it is another image.
    """
    recorded = _field(image, IMAGE_KEY)
    if not recorded:
        return (
            f"{path.name} does not say on which image it was made, as files of version 0.4.0 and before and those that "
            "Slicer saves outside of a review: check that it is of this patient."
        )
    if recorded != voxels_sha256:
        raise InputError(f"{path} was made on another image, as its header says: use it with that.", OTHER_IMAGE)
    return ""


def read_segments(
    path: Path, grid: sitk.Image | VoxelGrid, voxels_sha256: str = "", any_axes: bool = False
) -> tuple[list[np.ndarray], list[SegmentFields], str]:
    """Read the layers (z, y, x) of a segmentation on the grid of its image, and its segments: the one reader of both.

    It may cover a part of its image's grid, as Slicer crops what it saves. Of a left-handed image it may be
    right-handed, with the last axis turned round, as Slicer 5.13 loads and saves such images. A plain label volume has
    one layer and no segments. A segmentation without any label may lie anywhere.

    Args:
        grid: of its image.
        voxels_sha256: of its image, where that is to be compared.
        any_axes: whether its axes may be stored in another order, as other programs do.

    Returns:
        Layers, segments, and a note where the header does not say on which image it was made.

    Raises:
        InputError: its voxels are not those of the grid, or labels lie outside of it; it was made on another image; as
            `segment_fields`; a segment lies in a layer that is not there, or a voxel has a value that no segment has.
    """
    image = read_file(path)
    turned = turned_like(image, grid) if any_axes and image.GetDimension() == 3 else image
    if image.GetDimension() == 3 and _handedness(VoxelGrid.of(grid).direction) < 0 < _handedness(turned.GetDirection()):
        turned = sitk.Flip(turned, (False, False, True))
    layers, segments = _layers_on(path, turned, grid), segment_fields(path, image)
    note = _image_note(path, image, voxels_sha256) if voxels_sha256 else ""
    for each in segments:
        if each.layer >= len(layers):
            found = f"{path} has the segment '{each.name}' in layer {each.layer}, but {len(layers)} layer(s)"
            raise InputError(f"{found}: save it again from Slicer.", "damaged-file")
    for number, layer in enumerate(layers):
        if not segments and not number:  # a plain label volume
            continue
        unnamed = layer[(layer != 0) & ~np.isin(layer, [each.value for each in segments if each.layer == number])]
        if unnamed.size:
            found = f"{path} has {unnamed.size} voxels of the value {unnamed[0]:g}, which no segment has"
            raise InputError(f"{found}: save it again from Slicer, or give a label volume.", "unknown-label")
    return layers, segments, note


def _handedness(direction: Sequence[float]) -> float:
    return float(np.linalg.det(np.reshape(direction, (3, 3))))


def _layers_on(path: Path, image: sitk.Image, grid: sitk.Image | VoxelGrid) -> list[np.ndarray]:
    wanted = VoxelGrid.of(grid)
    if image.GetDimension() != 3:
        raise InputError(f"{path} is {image.GetDimension()}D: save it again from Slicer as a segmentation.")
    own = VoxelGrid.of(image)
    stored = [sitk.GetArrayFromImage(layer) for layer in _layers(image)]
    layers = [_moved(array, own.offset_on(wanted), wanted.shape_zyx) for array in stored]
    if any(np.count_nonzero(before) != np.count_nonzero(after) for before, after in zip(stored, layers, strict=True)):
        places = f"{own.place} instead of {wanted.place}"
        raise InputError(
            f"{path} has labels outside its image ({places}): save it on the grid of that image.", ELSEWHERE
        )
    return layers


def _moved(part: np.ndarray, offset: Sequence[int] | None, shape: Sequence[int]) -> np.ndarray:
    """Put a part (z, y, x) into a whole that is 0 elsewhere.

    Args:
        offset: index (i, j, k) of its first voxel there; None if it has none.
    """
    whole = np.zeros(shape, part.dtype)
    if offset is not None:
        first = np.array(offset[::-1])
        low = np.clip(first, 0, shape)
        high = np.clip(first + part.shape, low, shape)
        there, here = (tuple(map(slice, low - at, high - at)) for at in (0, first))
        whole[there] = part[here]
    return whole


def mark_image(path: Path, voxels_sha256: str) -> None:
    """Write into a segmentation file that Slicer has just saved on which image it was made.

    Args:
        voxels_sha256: of the image, as in `case.json`; empty if that does not say.
    """
    header, end, voxels = path.read_bytes().partition(b"\n\n")
    if end and voxels_sha256:
        path.write_bytes(header + f"\n{IMAGE_KEY}:={voxels_sha256}".encode() + end + voxels)


def segment_fields(path: Path, image: sitk.Image) -> list[SegmentFields]:
    """List the segments that a segmentation file names, whatever their numbers; none for a plain label volume.

    Raises:
        InputError: a label value or a layer is not a whole number that it can be.
    """
    found = []
    for number in sorted(int(match[1]) for match in map(_SEGMENT.fullmatch, image.GetMetaDataKeys()) if match):
        name, tags, color = (_field(image, f"Segment{number}_{key}") for key in ("Name", "Tags", "Color"))
        layer = _whole(path, image, f"Segment{number}_Layer", 0, 0)
        value = _whole(path, image, f"Segment{number}_LabelValue", number + 1, 1)
        found.append(SegmentFields(name, tags, layer, value, _color(color)))
    return found


def _layers(image: sitk.Image) -> list[sitk.Image]:
    """Slicer keeps segments that overlap in several layers, written as several values a voxel."""
    count = image.GetNumberOfComponentsPerPixel()
    return [image] if count == 1 else [sitk.VectorIndexSelectionCast(image, n) for n in range(count)]


def _field(image: sitk.Image, key: str) -> str:
    return str(image.GetMetaData(key)) if image.HasMetaDataKey(key) else ""


def _whole(path: Path, image: sitk.Image, key: str, default: int, least: int) -> int:
    """Return a whole number of the header, `default` where it is absent."""
    text = _field(image, key).strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        message = f"{path} has {key} '{text}' in its header, not a whole number from {least} on: save it again"
        raise InputError(f"{message} from Slicer.", "label-values")
    return int(text)


def _color(text: str) -> tuple[int, int, int] | None:
    """Red, green, blue from shares between 0 and 1."""
    try:
        red, green, blue = (min(255, max(0, round(255 * float(part)))) for part in text.split())
    except ValueError:
        return None
    return red, green, blue


def write_segmentation_nrrd(
    path: Path, values: Planes, box: VoxelBox, grid: VoxelGrid, labels: Sequence[Label], voxels_sha256: str = ""
) -> None:
    """Write a label volume with one segment per label but background, also where a structure is empty.

    Args:
        values: label values (z, y, x) inside `box`.
        grid: of the input.
        labels: background first.
        voxels_sha256: of the image.
    """
    fields = {
        IMAGE_KEY: voxels_sha256,
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
    write_nrrd_planes(path, values, box, grid, fields)


def write_drawn_nrrd(path: Path, drawn: sitk.Image, case: Mapping[str, Any]) -> None:
    """Write label values on the grid of a case as `write_segmentation_nrrd`, with its structures and image.

    Args:
        case: the content of its `case.json`.
    """
    values, grid = np.asarray(sitk.GetArrayViewFromImage(drawn)), VoxelGrid.of(drawn)
    labels = [Label.from_json(entry) for entry in case["structures"]]
    sha256 = str(case["input"]["channels"][0]["voxels_sha256"])
    write_segmentation_nrrd(path, values, whole_grid(grid), grid, labels, sha256)


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
