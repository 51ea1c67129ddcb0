"""A small picture of a region: image, region tinted, contour of the prediction; in the true proportions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..atomic_files import whole_file
from ..errors import OutputError
from ..regions.region import Region
from ..report.thumbnail import Grid, Plane, cut, grey_window, interpolated, nearest, plane_across, positions, windowed

__all__ = ["Grid", "thumbnail", "write_png"]

EDGE_PIXELS = 96
AROUND = 1.8
"""Edge of what is shown, as a multiple of the region's larger extent in the plane."""
LEAST_MM = 24.0
"""Smallest edge shown, so that a tiny region is seen with its surroundings."""
TINT, TINT_SHARE = (255, 140, 0), 0.35
CONTOUR = (0, 230, 230)


def thumbnail(
    image: np.ndarray,
    labels: np.ndarray,
    region_labels: np.ndarray,
    region: Region,
    peak_zyx: Sequence[int],
    grid: Grid,
    edge_pixels: int = EDGE_PIXELS,
) -> np.ndarray:
    """Draw a region in the plane in which it extends most, through its peak. Takes as long for any size of image.

    Args:
        image: intensities, (z, y, x) like all arrays here.
        labels: predicted label values, outlined.
        region_labels: region id of each voxel; those of `region` are tinted.
        peak_zyx: index of the voxel in the middle of the picture, the region's peak.

    Returns:
        RGB, (rows, columns, 3), uint8, `edge_pixels` square.
    """
    extent = region.size_mm[::-1]
    plane = _plane(extent, peak_zyx, grid)
    edge_mm = max(LEAST_MM, AROUND * max(extent[plane.down], extent[plane.right]))
    rows, columns = (
        positions(axis, turned, peak_zyx, grid, edge_mm, edge_pixels)
        for axis, turned in zip((plane.down, plane.right), plane.turned, strict=True)
    )
    values, inside = interpolated(cut(image, plane), rows, columns)
    grey = windowed(values, inside, grey_window(values[inside]))
    picture = np.repeat(grey[..., None], 3, axis=2)
    _tint(picture, nearest(cut(region_labels, plane), rows, columns) == region.id)
    picture[_outline(nearest(cut(labels, plane), rows, columns))] = CONTOUR
    return picture


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write an RGB picture (rows, columns, 3), uint8, whole or not at all.

    Raises:
        OutputError: the place cannot be written to, or the disk is full.
    """
    import SimpleITK as sitk  # Slicer's window must be able to do without it until it is needed

    with whole_file(path) as work:
        try:
            sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(work))
        except RuntimeError as error:
            raise OutputError(f"Cannot write {path}: free some space or choose another place.") from error


def _plane(extent: Sequence[float], peak_zyx: Sequence[int], grid: Grid) -> Plane:
    """The plane across the shortest edge; of equal ones the axial, then the coronal."""
    axis = min(range(3), key=lambda a: (extent[a], "SAR".index(grid.axes[a])))
    return plane_across(axis, int(peak_zyx[axis]), grid)


def _tint(picture: np.ndarray, where: np.ndarray) -> None:
    mixed = picture[where] * (1 - TINT_SHARE) + np.asarray(TINT) * TINT_SHARE
    picture[where] = np.rint(mixed).astype(np.uint8)


def _outline(labels: np.ndarray) -> np.ndarray:
    """Pixels at the inner side of a structure's edge."""
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge: np.ndarray = (middle > 0) & np.logical_or.reduce([middle != other for other in neighbours])
    return edge
