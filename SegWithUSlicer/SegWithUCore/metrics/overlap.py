"""How well two segmentations coincide: Dice and surface Dice."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_surface_dice


def dice_of(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Dice coefficient of two boolean masks of one shape; NaN when both are empty.

    Source: Dice, Ecology 26 (1945) 297. Equals `monai.metrics.DiceMetric` case by case.
    """
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2 * int(np.count_nonzero(prediction & reference)) / total if total else float("nan")


def class_dice(prediction: np.ndarray, reference: np.ndarray, num_classes: int) -> list[float]:
    """Dice of each foreground class of two integer volumes; NaN for classes absent from both."""
    return [dice_of(prediction == c, reference == c) for c in range(1, num_classes)]


def mean_dice(prediction: np.ndarray, reference: np.ndarray, num_classes: int) -> float:
    """Mean over the foreground classes present in either volume; NaN when there is none."""
    values = [value for value in class_dice(prediction, reference, num_classes) if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


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
