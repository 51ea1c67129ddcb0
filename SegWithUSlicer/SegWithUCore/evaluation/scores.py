"""The scores that are compared on every case, and the regions in which they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..calibration.error_probability import ErrorProbability
from ..inference.prediction import Prediction
from ..models.labels import Label

OUR_SCORE = "error probability"
"""What a user sees; absent without fitted calibration."""
RIVAL_SCORE = "softmax by direction"
"""1 - maximum softmax, made an error probability as ours is: isotonic, then by predicted class and runner-up."""
POOLED_REGIONS = ("whole", "band", "inside")


def scores_of(
    prediction: Prediction,
    probabilities: np.ndarray,
    distance: np.ndarray,
    calibration: Mapping[str, Any] | None,
) -> dict[str, np.ndarray]:
    """Scores by name, higher = riskier, each (z, y, x), float32, so that sorting and counting see the same ties.

    Args:
        probabilities: plain softmax, (classes, z, y, x).
        distance: to the predicted surface; a score that knows geometry alone.
        calibration: block of the bundle.
    """
    scores = {"ranking": prediction.ranking, "softmax": 1 - probabilities.max(0), "distance": -distance}
    if calibration is not None:
        table = ErrorProbability.from_json(calibration["error_probability"])
        scores[OUR_SCORE] = table(prediction.ranking, prediction.classes, prediction.runner_up)
        rival = ErrorProbability.from_json(calibration["rivals"]["maximum_softmax"])
        scores[RIVAL_SCORE] = rival(scores["softmax"], prediction.classes, prediction.runner_up)
    return {name: np.asarray(score, np.float32) for name, score in scores.items()}


def regions_of(
    predicted: np.ndarray, truth: np.ndarray, near: np.ndarray, labels: Sequence[Label]
) -> dict[str, np.ndarray | None]:
    """Regions by name: boolean masks (z, y, x), None for all that is assessed.

    "band" is near the predicted surface and "inside" what is predicted as a structure beyond it: both follow from the
    prediction alone. A structure's own region holds the voxels that the prediction *or* the reference gives to it, so
    that what was missed of it counts.

    Args:
        predicted, truth: class of each voxel.
        near: within the band.
        labels: background first.
    """
    regions: dict[str, np.ndarray | None] = {"whole": None, "band": near, "inside": (predicted > 0) & ~near}
    for index, label in enumerate(labels[1:], 1):
        regions[label.name] = (predicted == index) | (truth == index)
    return regions
