"""Distance to the predicted surface, and the band around it."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt


def boundary_voxels(classes: np.ndarray) -> np.ndarray:
    """Voxels with a 6-neighbour of another class (both sides, inner interfaces included), boolean (z, y, x)."""
    boundary = np.zeros(classes.shape, bool)
    for axis in range(classes.ndim):
        first = tuple(slice(None, -1) if a == axis else slice(None) for a in range(classes.ndim))
        second = tuple(slice(1, None) if a == axis else slice(None) for a in range(classes.ndim))
        differs = classes[first] != classes[second]
        boundary[first] |= differs
        boundary[second] |= differs
    return boundary


def distance_to_boundary(classes: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Distance in mm of each voxel centre to the nearest boundary voxel's; infinite where there is no boundary."""
    boundary = boundary_voxels(classes)
    if not boundary.any():
        return np.full(classes.shape, np.inf)
    distance: np.ndarray = distance_transform_edt(~boundary, sampling=list(spacing_zyx))
    return distance
