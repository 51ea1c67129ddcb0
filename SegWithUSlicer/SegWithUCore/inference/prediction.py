"""Predictions of cases with references, kept in memory: for fitting and for measuring."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..imaging.volume import voxel_volume_mm3
from .gated_slabs import network_answer
from .model import Model
from .preprocessing import network_input
from .uncertainty_maps import maps_of_values, resample_to_grid


@dataclass(frozen=True)
class Prediction:
    """The network's output for one case, on the grid of its image; arrays (z, y, x).

    Attributes:
        logits: (classes, z, y, x), not tempered.
        classes, runner_up: index of the most and second most probable class.
        calibration, ranking: the two maps.
        epistemic, aleatoric: model and data part; the latter None if the head has no such branch.
        voxel_mm3: volume of one voxel.
    """

    logits: np.ndarray
    classes: np.ndarray
    runner_up: np.ndarray
    calibration: np.ndarray
    ranking: np.ndarray
    epistemic: np.ndarray
    aleatoric: np.ndarray | None
    voxel_mm3: float


def predict(images: Sequence[sitk.Image], model: Model) -> Prediction:
    """Run the network the way `segment` does and keep the logits."""
    spec = model.bundle.input
    array, working = network_input(images, spec)
    gate = model.fitted.gate
    output = resample_to_grid(network_answer(model.engine, array, spec, gate), working, images[0])
    found = maps_of_values(model.engine, output, gate)
    return Prediction(
        output[: model.engine.num_classes],
        found.classes,
        found.runner_up,
        found.calibration,
        found.ranking,
        found.epistemic,
        found.aleatoric,
        voxel_volume_mm3(images[0]),
    )


def tempered_logits(prediction: Prediction, scale: float = 1.0) -> np.ndarray:
    """Logits softened by the calibration map and a fitted scale, z / (scale sqrt(1 + U_cal)), float64."""
    return prediction.logits / (scale * np.maximum(1.0, np.sqrt(1 + prediction.calibration.astype(np.float64))))
