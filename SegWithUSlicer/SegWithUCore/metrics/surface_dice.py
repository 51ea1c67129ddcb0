"""How well two surfaces coincide, by MONAI."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_surface_dice


def class_surface_dice(
    prediction: np.ndarray,
    reference: np.ndarray,
    num_classes: int,
    tolerance_mm: float,
    spacing_zyx: Sequence[float],
) -> list[float]:
    """Surface Dice of each foreground class: share of both surfaces within `tolerance_mm` of the other one.

    NaN for classes absent from both, 0 for those absent from one.

    Args:
        prediction, reference: integer volumes, (z, y, x).

    Source: Nikolov et al., arXiv 1809.04430, with the edge voxels of MONAI as surface.
    """
    values = []
    for index in range(1, num_classes):
        first, second = (torch.from_numpy(volume == index)[None, None] for volume in (prediction, reference))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI warns of absent classes, which are NaN or 0 here by definition
            found = compute_surface_dice(
                first, second, [tolerance_mm], include_background=True, spacing=[float(step) for step in spacing_zyx]
            )
        values.append(float(found[0, 0]))
    return values
