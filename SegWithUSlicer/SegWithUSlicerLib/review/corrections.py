"""What corrects a region: giving it to one of two structures, and a brush that is held to unsure voxels. No Qt here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from SegWithUCore.regions.region import Kind, Region
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import parse_json

from ..scene.case_images import array_of
from ..scene.case_nodes import CaseNodes
from ..scene.review_nodes import RegionMask
from ..scene.segmentation import segment_id
from .edits import Box, grid_shift, read_labels


@dataclass(frozen=True)
class Relabelling:
    """What giving a region to one of its two structures would do now.

    Attributes:
        structure: name of the structure that gets the region.
        value, other: label values of that structure, and of the one that loses voxels.
        changed_mm3: volume that changes its structure.
        expected_right_mm3: how much of it the model expects to be right.
    """

    structure: str
    value: int
    other: int
    changed_mm3: float
    expected_right_mm3: float


def relabellings(nodes: CaseNodes, region: Region, found: RegionMask) -> tuple[Relabelling, ...]:
    """Return the two ways to give a region to one structure, the likelier first; none if the kind is another one.

    Args:
        found: the region's voxels.
    """
    pair = _competitors(nodes, region)
    if pair is None or "error_probability" not in nodes.maps:
        return ()
    box = _box(found)
    labels = read_labels(nodes, box)
    original = read_labels(nodes, box, original=True)
    error = array_of(nodes.maps["error_probability"].GetImageData())[box]
    voxel_mm3 = abs(found.ijk_to_ras.Determinant())
    names = {structure.value: structure.name for structure in nodes.case.structures}
    ways = []
    for value, other in (pair, pair[::-1]):
        moved = found.mask & (labels == other)
        # The probability is about what the model drew: a voxel that goes back to it is right unless the model erred.
        right = np.where(original == other, error, np.where(original == value, 1 - error, 0))[moved].sum()
        ways.append(Relabelling(names[value], value, other, float(moved.sum() * voxel_mm3), float(right * voxel_mm3)))
    return tuple(sorted(ways, key=lambda way: -way.expected_right_mm3))


def relabel(nodes: CaseNodes, found: RegionMask, way: Relabelling) -> None:
    """Give the region's voxels of the other structure to this one; undo states are the caller's."""
    if nodes.segmentation is None:
        return
    moved = found.mask & (read_labels(nodes, _box(found)) == way.other)
    if not moved.any():
        return
    # The loser first: where both share a label map, what the winner has got must not be touched again.
    stroke = _stroke(nodes.segmentation, way.other, moved, found)
    voxels = array_of(stroke)
    np.logical_not(voxels, out=voxels)
    _modify(nodes.segmentation, way.other, stroke, _LOGIC.MODE_MERGE_MIN)
    stroke = _stroke(nodes.segmentation, way.value, moved, found)
    _modify(nodes.segmentation, way.value, stroke, _LOGIC.MODE_MERGE_MASK, [segment_id(way.other)])


_LOGIC = slicer.vtkSlicerSegmentationsModuleLogic


def _modify(
    segmentation: "slicer.vtkMRMLSegmentationNode",
    value: int,
    stroke: "slicer.vtkOrientedImageData",
    mode: int,
    overwritten: Sequence[str] = (),
) -> None:
    """Change a segment as Segment Editor's effects do, within the stroke's extent."""
    identifier, extent = segment_id(value), stroke.GetExtent()
    _LOGIC.SetBinaryLabelmapToSegment(stroke, segmentation, identifier, mode, extent, False, list(overwritten))


def _stroke(
    segmentation: "slicer.vtkMRMLSegmentationNode", value: int, moved: np.ndarray, found: RegionMask
) -> "slicer.vtkOrientedImageData":
    """Make an image of 0 and 1 on the grid that the segment has: an edit may have made it finer than the input's."""
    stroke = slicer.vtkOrientedImageData()
    k, j, i = _box(found)
    stroke.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    stroke.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    array_of(stroke)[...] = moved
    stroke.SetImageToWorldMatrix(found.ijk_to_ras)
    segment = segmentation.GetSegmentation().GetSegment(segment_id(value))
    image = segment.GetRepresentation(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())
    if image is None or not image.GetNumberOfPoints() or grid_shift(image, found.ijk_to_ras) is not None:
        return stroke
    finer = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(stroke, image, finer, False, True)
    return finer


def _box(found: RegionMask) -> Box:
    i, j, k = found.offset_ijk
    depth, height, width = found.mask.shape
    return slice(k, k + depth), slice(j, j + height), slice(i, i + width)


def _competitors(nodes: CaseNodes, region: Region) -> tuple[int, int] | None:
    """Return the label values of the two structures that compete most; None where none do or a segment is gone."""
    if region.kind is not Kind.CONFUSION or nodes.segmentation is None:
        return None
    segmentation = nodes.segmentation.GetSegmentation()
    values = {
        structure.name: structure.value
        for structure in nodes.case.structures
        if segmentation.GetSegment(segment_id(structure.value)) is not None
    }
    shares: dict[tuple[int, int], float] = {}
    for pair in region.competing:
        if pair.truth in values and pair.read_as in values:
            low, high = sorted((values[pair.truth], values[pair.read_as]))
            shares[low, high] = shares.get((low, high), 0.0) + pair.share
    return max(shares, key=lambda pair: shares[pair]) if shares else None


BRUSH_RADIUS_MM = 4.0
_HIGHEST = 1.0
_BEFORE, _BRUSH = "SegWithU.BeforeMask", "SegWithU.MaskedBrush"
_BRUSH_NAMES = ("BrushSphere", "BrushDiameterIsRelative", "BrushAbsoluteDiameter", "BrushPixelMode")
"""Attributes of the node that Paint and Erase share."""
_NOTHING: dict[str, Any] = {"mask": False, "range": (0.0, 0.0), "source": "", "brush": {}}
"""Settings of a node that has neither mask nor brush."""
_SPHERE: dict[str, str | None] = dict(zip(_BRUSH_NAMES, ("1", "0", f"{2 * BRUSH_RADIUS_MM:g}", "0"), strict=True))


def is_on(node: "slicer.vtkMRMLSegmentEditorNode") -> bool:
    """Check whether this editor node paints only where the model is unsure."""
    return node.GetAttribute(_BEFORE) is not None


def put_on(node: "slicer.vtkMRMLSegmentEditorNode", error_map: "slicer.vtkMRMLScalarVolumeNode", limit: float) -> None:
    """Paint only where the error probability reaches the limit, with a sphere; the settings of before are kept.

    Called again it changes map and limit. A brush that the user has chosen under the mask comes back the next time.
    """
    was_modifying = node.StartModify()
    try:
        if not is_on(node):
            node.SetAttribute(_BEFORE, json.dumps(_settings(node)))
            _set_brush(node, _kept(node, _BRUSH) or _SPHERE)
        node.SetAndObserveSourceVolumeNode(error_map)
        node.SetSourceVolumeIntensityMaskRange(limit, _HIGHEST)
        node.SetSourceVolumeIntensityMask(True)
    finally:
        node.EndModify(was_modifying)


def take_off(node: "slicer.vtkMRMLSegmentEditorNode") -> None:
    """Give mask, source volume and brush of before back; nothing happens where no mask of ours is on."""
    if not is_on(node):
        return
    before = {**_NOTHING, **_kept(node, _BEFORE)}
    was_modifying = node.StartModify()
    try:
        node.SetSourceVolumeIntensityMask(before["mask"])
        node.SetSourceVolumeIntensityMaskRange(*before["range"])
        scene = node.GetScene()
        source = scene.GetNodeByID(before["source"]) if scene is not None and before["source"] else None
        node.SetAndObserveSourceVolumeNode(source)
        node.SetAttribute(_BRUSH, json.dumps(_brush(node)))
        _set_brush(node, before["brush"])
    finally:
        node.RemoveAttribute(_BEFORE)
        node.EndModify(was_modifying)


def _kept(node: "slicer.vtkMRMLSegmentEditorNode", attribute: str) -> dict[str, Any]:
    """Read what was kept on the node; nothing if it is damaged, for a scene may come from anybody."""
    try:
        kept = parse_json(node.GetAttribute(attribute) or "{}", attribute)
    except InputError:
        return {}
    return kept if isinstance(kept, dict) else {}


def _settings(node: "slicer.vtkMRMLSegmentEditorNode") -> dict[str, Any]:
    source = node.GetSourceVolumeNode()
    return {
        "mask": bool(node.GetSourceVolumeIntensityMask()),
        "range": list(node.GetSourceVolumeIntensityMaskRange()),
        "source": source.GetID() if source is not None else "",
        "brush": _brush(node),
    }


def _brush(node: "slicer.vtkMRMLSegmentEditorNode") -> dict[str, str | None]:
    return {name: node.GetAttribute(name) for name in _BRUSH_NAMES}


def _set_brush(node: "slicer.vtkMRMLSegmentEditorNode", brush: dict[str, str | None]) -> None:
    for name, value in brush.items():
        if value is None:
            node.RemoveAttribute(name)
        else:
            node.SetAttribute(name, value)
    # As effects do: without it their options would go on showing the brush of before.
    node.InvokeCustomModifiedEvent(node.EffectParameterModified)
