"""How well two segmentations coincide."""

import numpy as np


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
