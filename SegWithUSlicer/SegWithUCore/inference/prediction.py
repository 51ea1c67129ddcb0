"""Predictions of cases with references, kept in memory: for fitting and for measuring."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..calibration.stage_two import HeadMaps
from ..io.volume import voxel_volume_mm3
from .model import Model
from .network_view import NetworkView, error_probability
from .preprocessing import network_input
from .sliding_window import stitched
from .uncertainty_maps import resample_to_grid, voxelwise


@dataclass(frozen=True)
class Prediction:
    """The network's output for one case, on the grid of its image; arrays (z, y, x).

    Attributes:
        logits: (classes, z, y, x), not tempered.
        classes, runner_up: index of the most and second most probable class.
        calibration, ranking: the two maps.
        epistemic, aleatoric: model and data part; the latter None if the head has no such branch.
        voxel_mm3: volume of one voxel.
        error_probability: as the model's calibration has it, float32; None without.
        view: the image as the network got it; None for a prediction that was made up.
    """

    logits: np.ndarray
    classes: np.ndarray
    runner_up: np.ndarray
    calibration: np.ndarray
    ranking: np.ndarray
    epistemic: np.ndarray
    aleatoric: np.ndarray | None
    voxel_mm3: float
    error_probability: np.ndarray | None = None
    view: NetworkView | None = None

    @property
    def head_maps(self) -> HeadMaps:
        """What stage two of the error probability reads."""
        return HeadMaps(self.classes, self.runner_up, self.ranking, self.calibration, self.epistemic, self.aleatoric)


def predict(images: Sequence[sitk.Image], model: Model) -> Prediction:
    """Run the network the way `segment` does and keep the logits."""
    spec = model.bundle.input
    array, working = network_input(images, spec)
    output = resample_to_grid(stitched(model.engine, array, spec), working, images[0])
    found = voxelwise(model.engine, output)
    logits, view = output[: model.engine.num_classes], NetworkView.of(array, working, images[0])
    prediction = Prediction(
        logits,
        found.classes,
        found.runner_up,
        found.calibration,
        found.ranking,
        found.epistemic,
        found.aleatoric,
        voxel_volume_mm3(images[0]),
        view=view,
    )
    chance = error_probability(model.fitted, view, logits, prediction.head_maps)
    return replace(prediction, error_probability=chance)


def tempered_logits(prediction: Prediction, scale: float = 1.0) -> np.ndarray:
    """Logits softened by the calibration map and a fitted scale, z / (scale sqrt(1 + U_cal)), float64."""
    return prediction.logits / (scale * np.maximum(1.0, np.sqrt(1 + prediction.calibration.astype(np.float64))))
