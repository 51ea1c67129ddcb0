"""Thumbnails of regions."""

from collections.abc import Sequence

import numpy as np

from ..io.planes import Grid, Plane, cut, grey_window, interpolated, nearest, outline, plane_across, positions, windowed
from ..regions.region import Region

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
        positions(axis, flipped, peak_zyx, grid, edge_mm, edge_pixels)
        for axis, flipped in zip((plane.down, plane.right), plane.flipped, strict=True)
    )
    values, inside = interpolated(cut(image, plane), rows, columns)
    grey = windowed(values, inside, grey_window(values[inside]))
    picture = np.repeat(grey[..., None], 3, axis=2)
    _tint(picture, nearest(cut(region_labels, plane), rows, columns) == region.id)
    picture[outline(nearest(cut(labels, plane), rows, columns))] = CONTOUR
    return picture


def _plane(extent: Sequence[float], peak_zyx: Sequence[int], grid: Grid) -> Plane:
    """Choose the plane across the shortest edge; of equal ones the axial, then the coronal."""
    axis = min(range(3), key=lambda a: (extent[a], "SAR".index(grid.axes[a])))
    return plane_across(axis, int(peak_zyx[axis]), grid)


def _tint(picture: np.ndarray, where: np.ndarray) -> None:
    mixed = picture[where] * (1 - TINT_SHARE) + np.asarray(TINT) * TINT_SHARE
    picture[where] = np.rint(mixed).astype(np.uint8)
