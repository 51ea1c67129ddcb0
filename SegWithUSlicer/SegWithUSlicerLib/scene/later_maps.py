"""Maps of a large image that are loaded when they are chosen, and let go when they are not wanted any more.

Where the case lies in a lasting folder, they are read from it, in a later session too. The files of a run in the
temporary folder are kept, apart from what is in the scene already, until the run goes, the scene is closed or Slicer
quits; a saved scene holds those maps that were loaded.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import numpy as np
import slicer
import vtk

from SegWithUCore.case.case_file import CASE_FILE, CaseDescription, read_description
from SegWithUCore.util.errors import InputError

from ..i18n import _
from .case_images import Volume, array_of
from .case_nodes import CaseNodes, find_cases, remove_node
from .load_case import follow_parent_transform, put_in_folder
from .map_display import drawn_as
from .near_mask import boxes_steps, masked_steps, near_steps
from .put_maps import put_map, put_near
from .read_case import geometry_of, read_map_steps
from .segmentation import labelmap_of
from .steps import STEP_BYTES, Steps, finish

_TOKEN = "files"


class Folder(Protocol):
    """A temporary folder that somebody must remove."""

    path: Path

    def remove(self) -> bool:
        """Remove it."""


_kept: dict[str, tuple[Folder, Path]] = {}
"""By a parameter of the run: the folder, and the case in it. A saved scene holds only the parameter."""


def keep_files(nodes: CaseNodes, folder: Folder, case_folder: Path) -> bool:
    """Take a temporary folder over if maps of the run are still to be read from it; False if it is not needed."""
    release(nodes)
    if not nodes.later:
        return False
    needed = {CASE_FILE, *(nodes.case.maps[name].file for name in nodes.later)}
    for path in sorted(folder.path.rglob("*"), reverse=True):
        if path.is_file() and not (path.parent == case_folder and path.name in needed):
            with contextlib.suppress(OSError):  # goes with the folder
                path.unlink()
    token = uuid4().hex
    nodes.hub.SetParameter(_TOKEN, token)
    _kept[token] = folder, case_folder
    return True


def release(nodes: CaseNodes) -> None:
    """Remove the files of a run that were kept."""
    kept = _kept.pop(nodes.hub.GetParameter(_TOKEN) or "", None)
    if kept is not None:
        kept[0].remove()


def release_gone(scene: "slicer.vtkMRMLScene | None") -> None:
    """Remove the files of runs that are not in the scene any more; of all runs without a scene."""
    if not _kept:
        return
    runs = [] if scene is None else find_cases(scene)
    there = {nodes.hub.GetParameter(_TOKEN) for nodes in runs}
    for token in [token for token in _kept if token not in there]:
        _kept.pop(token)[0].remove()


def source_folder(nodes: CaseNodes) -> Path | None:
    """Return the case folder that maps are read from; None if there is none, as in a scene from elsewhere."""
    kept = _kept.get(nodes.hub.GetParameter(_TOKEN) or "")
    return nodes.case_folder if kept is None else kept[1]


def loadable(nodes: CaseNodes) -> list[str]:
    """List the maps that are not loaded and can be."""
    folder = source_folder(nodes) if nodes.later else None
    if folder is None:
        return []
    return [name for name in nodes.later if (folder / nodes.case.maps[name].file).is_file()]


def load_map(nodes: CaseNodes, name: str) -> None:
    """Load a map that was put off; nothing happens where it is loaded already."""
    finish(load_map_steps(nodes, name))


def load_map_steps(nodes: CaseNodes, name: str) -> Steps[None]:
    """Do what `load_map` does in steps; the scene is touched in the last one.

    Raises:
        InputError: its file is gone or damaged, or is of another run by now.
    """
    if name in nodes.maps:
        return
    folder = source_folder(nodes)
    info = nodes.case.maps[name]
    if folder is None:
        raise InputError(_("The file of '{map}' is gone: segment the image again.").format(map=info.title))
    case: CaseDescription = read_description(folder)
    if case.raw.get("created") != nodes.case.raw.get("created"):
        text = _("{folder} holds another run by now, so its '{map}' is not shown: open the case again.")
        raise InputError(text.format(folder=folder, map=info.title))
    entry = yield from read_map_steps(folder / info.file, info, _reference(nodes))
    if nodes.hub.GetScene() is not None and name not in nodes.maps:
        put_map(nodes, entry)
        _settle(nodes)


def make_near_steps(nodes: CaseNodes, name: str) -> Steps[None]:
    """Make the masked copy of a loaded map where that was put off; the scene is touched in the last step."""
    distance = nodes.near_later_mm
    if distance is None or name in nodes.near or name not in nodes.maps:
        return
    whole = nodes.maps[name]
    volume = geometry_of(whole)
    entry = drawn_as(whole, nodes.case.maps[name], volume)
    other = next(iter(nodes.near.values()), None)
    if other is not None:  # masked already, and the distance is the same
        mask = array_of(other.GetImageData()) > np.float32(drawn_as(other, entry.info, volume).floor)
        yield float(mask.size)
    else:
        labelled = yield from _labelled(nodes, volume)
        mask = yield from near_steps(labelled, volume.spacing_kji, distance, (yield from boxes_steps(labelled)))
    image = yield from masked_steps(volume.array, mask, entry.below)
    if whole.GetScene() is not None and name not in nodes.near:
        put_near(nodes, entry, Volume(image, volume.ijk_to_ras))
        _settle(nodes)


def free_maps(nodes: CaseNodes, but: str | None) -> None:
    """Take maps that can be loaded again, and masked copies that can be made again, out of the scene.

    Args:
        but: the map that is shown and stays.
    """
    for name in freeable(nodes, but):
        for node in (nodes.near.get(name), nodes.maps.get(name)):
            if node is not None:
                remove_node(node)


def freeable(nodes: CaseNodes, but: str | None) -> list[str]:
    """List the loaded maps that `free_maps` would take out; the error probability stays, for the review needs it."""
    folder, first = source_folder(nodes), next(iter(nodes.case.maps), None)
    if nodes.near_later_mm is None or folder is None:
        return []
    files = {name: folder / nodes.case.maps[name].file for name in nodes.maps if name in nodes.case.maps}
    return [name for name, file in files.items() if name not in (but, first) and file.is_file()]


def map_bytes(nodes: CaseNodes) -> float:
    """Return how much reading a map is, as the steps count it."""
    image = None if nodes.reference is None else _reference(nodes).image
    return 1.0 if image is None else 4.0 * image.GetNumberOfPoints()


def _settle(nodes: CaseNodes) -> None:
    follow_parent_transform(nodes)
    put_in_folder(nodes)


def _reference(nodes: CaseNodes) -> Volume:
    """Return the grid of the run: of its input or, where that is gone, of a map that is loaded."""
    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode] = [*nodes.inputs, *nodes.maps.values()]
    if not volumes:
        raise InputError(_("The image of this run is gone: load it and segment it again."))
    return geometry_of(volumes[0])


def _labelled(nodes: CaseNodes, grid: Volume) -> Steps[np.ndarray]:
    """Return the model's own segmentation on the whole grid as 0 and 1, whatever was edited since."""
    node = nodes.original or nodes.segmentation
    labelled = np.zeros(grid.array.shape, np.uint8)
    if node is None:
        return labelled
    segmentation = node.GetSegmentation()
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        image = labelmap_of(segment)
        if image is not None:
            yield from _add(labelled, image, segment.GetLabelValue(), grid)
    return labelled


def _add(labelled: np.ndarray, image: "slicer.vtkOrientedImageData", value: int, grid: Volume) -> Steps[None]:
    """Set the voxels of a segment, some planes at a time; what lies outside the grid is left out."""
    to_grid, matrix = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(grid.ijk_to_ras, to_grid)
    image.GetImageToWorldMatrix(matrix)
    corner = to_grid.MultiplyPoint(matrix.MultiplyPoint([*image.GetExtent()[::2], 1.0]))
    first, array = [round(part) for part in corner[2::-1]], array_of(image)
    sides = []
    for axis, start in enumerate(first):
        low, high = max(0, start), min(start + array.shape[axis], labelled.shape[axis])
        sides.append((low, max(low, high)))
    (top, bottom), *across = sides
    inside = [slice(low, high) for low, high in across]
    part = [slice(low - start, high - start) for (low, high), start in zip(across, first[1:], strict=True)]
    planes = max(1, STEP_BYTES // max(1, labelled[:1].nbytes))
    for begin in range(top, bottom, planes):
        end = min(begin + planes, bottom)
        mask = array[(slice(begin - first[0], end - first[0]), *part)] == value
        labelled[(slice(begin, end), *inside)] |= mask
        yield float(mask.size)
