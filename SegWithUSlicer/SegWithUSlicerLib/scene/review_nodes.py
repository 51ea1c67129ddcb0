"""The regions of a run and the model's own segmentation as nodes, so that a review resumes after loading an .mrb.

A hidden text node holds the text of `regions.csv`, a hidden label volume (value = id) the voxels, cut to the box that
holds any. Both hang on the run's hub. Which box each region fills is looked up once a volume, not once a click.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import slicer
import vtk

from SegWithUCore.case import region_files
from SegWithUCore.case.region_files import REGION_LABELS_FILE, REGIONS_FILE
from SegWithUCore.regions.region import Region
from SegWithUCore.util.errors import InputError

from ..i18n import _
from .case_images import Box, Volume, array_of, boxes_of_labels, image_from, matrix_of, shifted, union
from .case_nodes import ORIGINAL, REGIONS, REGIONS_ATTRIBUTE, REGIONS_TEXT, RUNNER_UP, CaseNodes, add_hidden_node
from .volume_export import grid_of

_OFFSET_ATTRIBUTE = "SegWithU.RegionsOffset"
_REMEMBERED = 8


class RegionMask(NamedTuple):
    """One region's voxels.

    Attributes:
        mask: booleans in the region's box; axes k, j, i.
        offset_ijk: the box's first voxel on the input's grid.
        ijk_to_ras: from the input's grid to RAS mm of its own space (no parent transform).
    """

    mask: np.ndarray
    offset_ijk: tuple[int, int, int]
    ijk_to_ras: vtk.vtkMatrix4x4


def read_case_regions(case_folder: Path, boxes: Mapping[int, Box] | None) -> str | None:
    """Read the text of a case folder's `regions.csv`; None if regions were not searched for.

    Args:
        boxes: of the labels of the label volume that belongs to it; None if there is none.

    Raises:
        InputError: it is damaged, or names other regions than the label volume holds.
    """
    if boxes is None:
        return None
    path = case_folder / REGIONS_FILE
    ids = {region.id for region in region_files.read_regions(case_folder)}
    odd = ids ^ set(boxes)
    if odd:
        text = _("{file} and {labels} do not hold the same regions (id {id}): make the regions again.")
        raise InputError(text.format(file=path, labels=REGION_LABELS_FILE, id=min(odd)), code="damaged-file")
    return path.read_text(encoding="utf-8")


def put_regions(nodes: CaseNodes, regions_csv: str | None, labels: Volume | None, boxes: Mapping[int, Box]) -> None:
    """Keep the regions with the run, in place of those it had; None leaves it without.

    Args:
        regions_csv: the text of `regions.csv`.
        labels: the whole label volume on the input's grid, value = id.
        boxes: of its labels.
    """
    if regions_csv is None or labels is None:
        _remove(nodes)
        return
    volume = nodes.regions or _hidden(nodes, "vtkMRMLLabelMapVolumeNode", _("{input} regions"))
    text = nodes.regions_text or _hidden(nodes, "vtkMRMLTextNode", _("{input} region table"))
    nodes.remember(REGIONS, volume)
    nodes.remember(REGIONS_TEXT, text)
    box = union(list(boxes.values())) or (slice(0, 1),) * 3
    offset = tuple(side.start for side in box[::-1])
    volume.SetAttribute(REGIONS_ATTRIBUTE, "1")
    volume.SetAttribute(_OFFSET_ATTRIBUTE, " ".join(map(str, offset)))
    volume.SetIJKToRASMatrix(_shifted(labels.ijk_to_ras, offset))
    image = image_from(labels.array[box])
    volume.SetAndObserveImageData(image)
    _remember(image.GetMTime(), {label: shifted(found, offset[::-1]) for label, found in boxes.items()})
    # A file of its own: thousands of regions are too much for an attribute of the scene's XML.
    text.SetForceCreateStorageNode(slicer.vtkMRMLTextNode.CreateStorageNodeAlways)
    text.SetText(regions_csv)


def regions_of(nodes: CaseNodes) -> tuple[Region, ...]:
    """Read the regions of a run in the order of their ranks; none if there are no region nodes."""
    text = _text_of(nodes)
    return _parsed(text) if text else ()


def regions_hash(nodes: CaseNodes) -> str:
    """Return the SHA-256 of the text of `regions.csv`, as the core computes it; "" for a run without regions."""
    text = _text_of(nodes)
    return region_files.regions_hash(text) if text else ""


def region_mask(nodes: CaseNodes, region_id: int) -> RegionMask | None:
    """Return the voxels of one region; None if the user has deleted the label volume.

    Raises:
        KeyError: there is no such region.
    """
    volume = nodes.regions
    if volume is None or volume.GetImageData() is None:
        return None
    box = _boxes(volume.GetImageData())[region_id]
    offset = [int(part) for part in volume.GetAttribute(_OFFSET_ATTRIBUTE).split()]
    first = [side.start + start for side, start in zip(box[::-1], offset, strict=True)]
    return RegionMask(
        array_of(volume.GetImageData())[box] == region_id,
        (first[0], first[1], first[2]),
        _shifted(matrix_of(volume), [-part for part in offset]),
    )


def region_labels(nodes: CaseNodes, shape_kji: Sequence[int], ijk_to_ras: vtk.vtkMatrix4x4) -> np.ndarray:
    """Return the ID of each voxel's region on the whole grid of the input, 0 outside regions; axes k, j, i.

    Args:
        shape_kji, ijk_to_ras: of that grid.
    """
    volume = nodes.regions
    if volume is None or volume.GetImageData() is None:
        return np.zeros(tuple(shape_kji), np.uint16)
    part = array_of(volume.GetImageData())
    # By its place: in a scene of an earlier version, Slicer 5.13 turns left-handed volumes round.
    to_ijk, first = vtk.vtkMatrix4x4(), matrix_of(volume).MultiplyPoint([0.0, 0.0, 0.0, 1.0])
    vtk.vtkMatrix4x4.Invert(ijk_to_ras, to_ijk)
    start = [round(number) for number in to_ijk.MultiplyPoint(first)[2::-1]]
    whole = np.zeros(tuple(shape_kji), part.dtype)
    whole[tuple(slice(first, first + size) for first, size in zip(start, part.shape, strict=True))] = part
    return whole


def file_axes(nodes: CaseNodes) -> tuple[int, ...]:
    """Return the axes (of z, y, x) along which the scene's volumes run against those of the case's files."""
    stored = np.reshape(nodes.case.raw["input"]["grid"]["direction_lps"], (3, 3))
    shown = np.reshape(grid_of(nodes.grid_volume)["direction_lps"], (3, 3))
    return tuple(2 - axis for axis in range(3) if stored[:, axis] @ shown[:, axis] < 0)


def keep_runner_up(nodes: CaseNodes, folder: Path | None) -> None:
    """Keep the runner-up labels of a case with the scene, where they are not there yet.

    Args:
        folder: of the case's files; None where only a saved scene is left.

    Raises:
        InputError: they cannot be read, or an earlier version made the case.
    """
    import SimpleITK as sitk

    from SegWithUCore.case.case_files import case_volume
    from SegWithUCore.case.case_regions import RUNNER_UP_FILE

    if nodes.runner_up is not None or folder is None:
        return
    labels = sitk.GetArrayFromImage(case_volume(folder, nodes.case.raw, RUNNER_UP_FILE))
    title = _("{input} runner-up labels").format(input=nodes.label)
    node = add_hidden_node(nodes.hub.GetScene(), "vtkMRMLLabelMapVolumeNode", title)
    node.SetAttribute(REGIONS_ATTRIBUTE, "1")  # so that selectors leave it out
    node.SetIJKToRASMatrix(matrix_of(nodes.grid_volume))
    node.SetAndObserveImageData(image_from(np.flip(labels, file_axes(nodes))))
    node.SetAndObserveTransformNodeID(nodes.segmentation.GetTransformNodeID())
    nodes.remember(RUNNER_UP, node)


def world_of(nodes: CaseNodes, point_ras_mm: Sequence[float]) -> tuple[float, float, float]:
    """Transform a point of the image's own space (as in `Region`) to world RAS mm, through all parent transforms."""
    world = [float(part) for part in point_ras_mm]
    if nodes.reference is not None:
        nodes.reference.TransformPointToWorld(list(world), world)
    return world[0], world[1], world[2]


def _hidden(nodes: CaseNodes, kind: str, name: str) -> "slicer.vtkMRMLNode":
    return add_hidden_node(nodes.hub.GetScene(), kind, name.format(input=nodes.label))


def _remove(nodes: CaseNodes) -> None:
    for node in (nodes.regions, nodes.regions_text):
        if node is not None:
            nodes.hub.GetScene().RemoveNode(node)


def _shifted(ijk_to_ras: vtk.vtkMatrix4x4, offset_ijk: Sequence[int]) -> vtk.vtkMatrix4x4:
    """Return the matrix of a grid that begins `offset_ijk` voxels further."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(ijk_to_ras)
    for row, part in enumerate(ijk_to_ras.MultiplyPoint([*offset_ijk, 1.0])[:3]):
        matrix.SetElement(row, 3, part)
    return matrix


def _text_of(nodes: CaseNodes) -> str:
    text = nodes.regions_text
    # Slicer's text file may have gone through Windows.
    return "" if text is None else (text.GetText() or "").replace("\r\n", "\n")


@lru_cache(maxsize=_REMEMBERED)
def _parsed(text: str) -> tuple[Region, ...]:
    """Parse the regions once: half a megabyte of text at each click is felt."""
    return region_files.parse_regions(text)


_indexes: dict[int, dict[int, tuple[slice, ...]]] = {}


def _boxes(image: vtk.vtkImageData) -> dict[int, tuple[slice, ...]]:
    """Return the box (slices along k, j, i) of each label, cached by the image's time of change, which is unique."""
    time = image.GetMTime()
    if time not in _indexes:
        _remember(time, boxes_of_labels(array_of(image)))
    return _indexes[time]


def _remember(time: int, boxes: dict[int, tuple[slice, ...]]) -> None:
    if len(_indexes) >= _REMEMBERED:
        _indexes.pop(next(iter(_indexes)))
    _indexes[time] = boxes


def keep_original(nodes: CaseNodes) -> None:
    """Copy the current segmentation, replacing an earlier copy: to be called as soon as it was filled."""
    source = nodes.segmentation
    if source is None:
        return
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(source.GetSegmentation())
    copy.RemoveRepresentation(slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName())
    node = nodes.original
    if node is not None:
        # Exchanged as a whole: Slicer's tree has no item for a hidden node and complains of segments that join it.
        node.SetAndObserveSegmentation(copy)
    else:
        title = _("{input} segmentation (model's own)").format(input=nodes.label)
        node = add_hidden_node(source.GetScene(), "vtkMRMLSegmentationNode", title)
        node.SetAndObserveSegmentation(copy)
        node.CreateDefaultDisplayNodes()  # the reader of a saved scene would make one that is visible
        node.GetDisplayNode().SetVisibility(False)
        nodes.remember(ORIGINAL, node)
    node.SetAndObserveTransformNodeID(source.GetTransformNodeID())


def restore_original(nodes: CaseNodes) -> bool:
    """Restore the model's segmentation but keep current colours. Returns False if no copy exists."""
    node = nodes.segmentation
    if nodes.original is None or node is None:
        return False
    segmentation = node.GetSegmentation()
    colours = {name: segmentation.GetSegment(name).GetColor() for name in segmentation.GetSegmentIDs()}
    with slicer.util.NodeModify(node):
        segmentation.DeepCopy(nodes.original.GetSegmentation())
        for name, colour in colours.items():
            segment = segmentation.GetSegment(name)
            if segment is not None:
                segment.SetColor(*colour)
    return True
