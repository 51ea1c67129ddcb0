"""The thumbnail of a region, from the nodes of the run; only the surroundings of the region are read."""

import math
from typing import TYPE_CHECKING

import numpy as np
import vtk

from SegWithUCore.case.pictures import THUMBNAIL_AROUND, THUMBNAIL_LEAST_MM, THUMBNAIL_PIXELS, Grid, thumbnail
from SegWithUCore.regions.region import Region

from ..scene.case_images import array_of
from ..scene.case_nodes import CaseNodes
from ..scene.review_nodes import RegionMask
from .edits import grid_of, read_labels

if TYPE_CHECKING:
    from .session import ReviewSession

_NUMBERS = np.array([list(f"{value:3d} ".encode()) for value in range(256)], np.uint8)
"""Each grey value as text of one length, so that a picture becomes text in one step."""
_SIDES = (("L", "R"), ("P", "A"), ("I", "S"))


def picture_in_review(
    session: "ReviewSession", region: Region, edge_pixels: int = THUMBNAIL_PIXELS
) -> np.ndarray | None:
    """Draw a region or blind place of a review; see `region_picture`. None also if its voxels are not known."""
    found = session.mask(region)
    return None if found is None else region_picture(session.nodes, region, found, edge_pixels)


def region_picture(
    nodes: CaseNodes, region: Region, found: RegionMask, edge_pixels: int = THUMBNAIL_PIXELS
) -> np.ndarray | None:
    """Draw a region on the first input, with the segmentation as it is now.

    Args:
        found: its voxels.
        edge_pixels: size of the picture, which shows the same in any size.

    Returns:
        RGB, (rows, columns, 3), uint8, square; None if the input was deleted, or is no grey image on the run's grid.
    """
    image = nodes.inputs[0].GetImageData() if nodes.inputs else None
    if image is None or image.GetNumberOfScalarComponents() != 1:
        return None
    shape, matrix = grid_of(nodes)
    voxels = array_of(image)
    if voxels.shape != shape:
        return None
    grid, peak = _grid(matrix), _index(matrix, region.peak_ras_mm, shape)
    box = _around(peak, region, grid, shape)
    corner = np.array([side.start for side in box])
    ids = np.where(_part(found, box), region.id, 0)
    return thumbnail(voxels[box], read_labels(nodes, box), ids, region, (peak - corner).tolist(), grid, edge_pixels)


def as_ppm(picture: np.ndarray) -> bytes:
    """Encode a picture as a text file that Qt reads: PythonQt may take bytes for text that ends at a zero."""
    rows, columns, _ = picture.shape
    return f"P3 {columns} {rows} 255\n".encode() + _NUMBERS[picture].tobytes()


def _grid(ijk_to_ras: vtk.vtkMatrix4x4) -> Grid:
    axes = np.array([[ijk_to_ras.GetElement(row, column) for row in range(3)] for column in (2, 1, 0)])
    k, j, i = np.linalg.norm(axes, axis=1).tolist()
    sides = [_SIDES[int(np.abs(axis).argmax())][int(axis[np.abs(axis).argmax()] > 0)] for axis in axes]
    return Grid((k, j, i), "".join(sides))


def _index(ijk_to_ras: vtk.vtkMatrix4x4, point_ras_mm: tuple[float, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return the voxel (k, j, i) that holds a point."""
    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(ijk_to_ras, inverse)
    i, j, k = inverse.MultiplyPoint([*point_ras_mm, 1.0])[:3]
    found: np.ndarray = np.clip(np.rint([k, j, i]).astype(int), 0, np.array(shape) - 1)
    return found


def _around(peak: np.ndarray, region: Region, grid: Grid, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """Return the part of the grid that a thumbnail can show, and the whole region.

    The peak may lie at the region's end.
    """
    reach_mm = max(THUMBNAIL_LEAST_MM, THUMBNAIL_AROUND * max(region.size_mm))
    sides = []
    for at, spacing, size in zip(peak.tolist(), grid.spacing_zyx, shape, strict=True):
        reach = math.ceil(reach_mm / spacing) + 2
        sides.append(slice(max(0, at - reach), min(size, at + reach + 1)))
    return sides[0], sides[1], sides[2]


def _part(found: RegionMask, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Return the region's voxels within the box."""
    part = np.zeros([side.stop - side.start for side in box], bool)
    voxels = np.argwhere(found.mask) + np.array(found.offset_ijk[::-1]) - [side.start for side in box]
    inside = np.all((voxels >= 0) & (voxels < part.shape), axis=1)
    part[tuple(voxels[inside].T)] = True
    return part
