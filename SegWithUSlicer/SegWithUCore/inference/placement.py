"""Where a volume stands in the world when it hangs under a linear transform.

The network only needs to know which way is up: nothing is resampled, and results stay on the volume's own grid.
"""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..errors import UsageError

_LPS_RAS = np.diag([-1.0, -1.0, 1.0])


def placed(image: sitk.Image, own_to_world_ras: Sequence[float] | None) -> sitk.Image:
    """The same voxels with the geometry they have in the world.

    Of a transform that scales or shears, the spacing along each axis and the nearest rotation are kept, since an
    image's axes are at right angles.

    Args:
        own_to_world_ras: 4 x 4, row by row, from the volume's own RAS millimetres to the world's; None for none.

    Raises:
        UsageError: not 16 finite numbers, or a transform that flattens space.
    """
    if own_to_world_ras is None:
        return image
    matrix = np.asarray(own_to_world_ras, float)
    if matrix.size != 16 or not np.isfinite(matrix).all():
        raise UsageError("The transform of the volume is not a 4 x 4 matrix of numbers: give it anew.")
    matrix = matrix.reshape(4, 4)
    turn = _LPS_RAS @ matrix[:3, :3] @ _LPS_RAS
    if abs(np.linalg.det(turn)) < 1e-9:
        raise UsageError("The transform of the volume flattens space: choose another transform.")
    axes = turn @ np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    spacing = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / spacing)
    result = sitk.Image(image)
    result.SetSpacing(spacing.tolist())
    result.SetDirection((left @ right).ravel().tolist())
    result.SetOrigin((turn @ np.asarray(image.GetOrigin()) + _LPS_RAS @ matrix[:3, 3]).tolist())
    return result
