"""Predict one case and keep its logits, for fitting and for measuring on cases with references."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..calibration.local_features import Steps
from ..calibration.second_stage import HeadMaps, find_uncertain_voxels, refined
from ..io.grid import VoxelGrid
from .grid_blocks import AxisMapping
from .model import Model
from .preprocessing import network_input
from .sliding_window import stitched
from .uncertainty_maps import FittedCalibration, resample_to_grid, voxelwise


@dataclass(frozen=True)
class NetworkView:
    """The image as the network got it, on the grid of the maps: what the second stage reads.

    Attributes:
        image: normalised float32 (channels, z, y, x).
        order: for each array axis (z, y, x), the array axis of the working grid that runs along it.
        working_mm: spacing of the working grid along its own axes (z, y, x).
        spacing_mm: of the maps, (z, y, x).
    """

    image: np.ndarray
    order: tuple[int, ...]
    working_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]

    @classmethod
    def of(cls, array: np.ndarray, working: sitk.Image, target: sitk.Image) -> "NetworkView":
        """Bring the network's input (channels, z, y, x) on the grid `working` to the grid `target`."""
        image = resample_to_grid(array, working, target)
        order = AxisMapping.between(VoxelGrid.of(working), VoxelGrid.of(target)).order
        return cls(image, order, working.GetSpacing()[::-1], target.GetSpacing()[::-1])

    def steps(self, axes: Sequence[bool]) -> Steps:
        """Find the steps to neighbours; `axes` are those of the working grid that have any."""
        return Steps.on_grid(
            [axes[source] for source in self.order], [self.working_mm[source] for source in self.order], self.spacing_mm
        )


def error_probability(
    fitted: FittedCalibration, view: NetworkView, logits: np.ndarray, maps: HeadMaps
) -> np.ndarray | None:
    """Error probability of a whole case, float32 (z, y, x); None without fitted calibration."""
    if fitted.error_probability is None:
        return None
    table = fitted.error_probability(maps.ranking, maps.classes, maps.runner_up)
    stage = fitted.second_stage
    if stage is None:
        return table
    steps = view.steps(stage.axes)
    uncertain = find_uncertain_voxels(logits, slice(None), maps, table, stage.pairs, steps, stage.looks_above)
    return refined(stage, uncertain, view.image, table, steps, (maps.classes, maps.runner_up))


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
        """What second stage of the error probability reads."""
        return HeadMaps(self.classes, self.runner_up, self.ranking, self.calibration, self.epistemic, self.aleatoric)


def predict(images: Sequence[sitk.Image], model: Model) -> Prediction:
    """Run the network the way `segment` does and keep the logits."""
    spec = model.bundle.input
    array, working = network_input(images, spec)
    output = resample_to_grid(stitched(model.engine, array, spec), working, images[0])
    found = voxelwise(model.engine, output)
    logits = output[: model.engine.num_classes].copy()  # a view would keep the responses of the head in memory, too
    view = NetworkView.of(array, working, images[0])
    prediction = Prediction(
        logits,
        found.classes,
        found.runner_up,
        found.calibration,
        found.ranking,
        found.epistemic,
        found.aleatoric,
        float(np.prod(images[0].GetSpacing())),
        view=view,
    )
    chance = error_probability(model.fitted, view, logits, prediction.head_maps)
    return replace(prediction, error_probability=chance)


def tempered_logits(prediction: Prediction, scale: float = 1.0, planes: slice = slice(None)) -> np.ndarray:
    """Logits of some planes softened by calibration map and fitted scale, z / (scale sqrt(1 + U_cal)), float64."""
    calibration = prediction.calibration[planes].astype(np.float64)
    return prediction.logits[:, planes] / (scale * np.maximum(1.0, np.sqrt(1 + calibration)))
