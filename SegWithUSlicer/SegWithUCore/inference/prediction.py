"""Predict one case and keep its logits, for fitting and for measuring on cases with references."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import SimpleITK as sitk

from ..calibration.local_features import Steps
from ..calibration.per_structure import ProbabilitySums
from ..calibration.second_stage import HeadMaps, find_uncertain_voxels, refined
from ..io.grid import VoxelGrid
from .finer_grid import maps_grid, spread_chance, voxel_ratio
from .model import Model
from .preprocessing import engine_input
from .sliding_window import stitched
from .uncertainty_maps import FittedCalibration, resample_to_grid, steps_on_grid, voxelwise


@dataclass(frozen=True)
class NetworkView:
    """The image as the network got it, on the grid of the maps: what the second stage reads.

    Attributes:
        image: normalised float32 (channels, z, y, x).
        working: grid that the network worked on.
        target: grid of the maps.
    """

    image: np.ndarray
    working: VoxelGrid
    target: VoxelGrid

    @classmethod
    def of(cls, array: np.ndarray, working: sitk.Image, target: sitk.Image | VoxelGrid) -> "NetworkView":
        """Bring the network's input (channels, z, y, x) on the grid `working` to the grid `target`."""
        return cls(resample_to_grid(array, working, target), VoxelGrid.of(working), VoxelGrid.of(target))

    def steps(self, axes: Sequence[bool]) -> Steps:
        """Find the steps to neighbours; `axes` are those of the working grid that have any."""
        return steps_on_grid(axes, self.working, self.target)


def error_probability(
    fitted: FittedCalibration, view: NetworkView, logits: np.ndarray, maps: HeadMaps
) -> np.ndarray | None:
    """Error probability of a whole case, float32 (z, y, x), before lines by structure; None without calibration."""
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
class Prediction(HeadMaps):
    """The network's output for one case, on the grid of its image; arrays (z, y, x).

    Attributes:
        logits: (classes, z, y, x), not tempered.
        voxel_mm3: volume of one voxel.
        error_probability: as the model's calibration has it, float32; None without.
        view: the image as the network got it; None for a prediction that was made up.
        sums: of the tempered probabilities as `segment` has them, if the image is finer than the working grid.
    """

    logits: np.ndarray
    voxel_mm3: float
    error_probability: np.ndarray | None = None
    view: NetworkView | None = None
    sums: ProbabilitySums | None = None


def predict(images: Sequence[sitk.Image], model: Model, mask: np.ndarray | None = None) -> Prediction:
    """Run the network the way `segment` does and keep the logits; `mask` as for `engine_input`."""
    spec = model.bundle.input
    array, working = engine_input(images, model.bundle, mask)
    raw, target = stitched(model.engine, array, spec), VoxelGrid.of(images[0])
    array = array[: len(spec.channels)]  # the second stage sees no mask
    output = resample_to_grid(raw, working, target)
    found = voxelwise(model.engine, output)
    logits = output[: model.engine.num_classes].copy()  # a view would keep the responses of the head in memory, too
    del output
    view = NetworkView.of(array, working, target)
    maps = {each.name: getattr(found, each.name) for each in fields(HeadMaps)}
    grid, sums = maps_grid(VoxelGrid.of(working), target), None
    if grid is target:
        chance = error_probability(model.fitted, view, logits, found)
    else:
        output = resample_to_grid(raw, working, grid)
        own = voxelwise(model.engine, output, model.fitted.tempering_scale)
        seen, ratio = NetworkView.of(array, working, grid), voxel_ratio(grid, target)
        sums = ProbabilitySums(*(ratio * each for each in astuple(own.sums)))
        chance = error_probability(model.fitted, seen, output[: len(logits)], own)
        if chance is not None:
            of_network, chance = (chance, own.classes, own.runner_up), np.empty_like(found.ranking)
            spread_chance(chance, of_network, found.classes, grid, target)
    if chance is not None:
        chance = model.fitted.by_structure(chance, found.classes, found.runner_up)
    voxel_mm3 = float(np.prod(images[0].GetSpacing()))
    return Prediction(**maps, logits=logits, voxel_mm3=voxel_mm3, error_probability=chance, view=view, sums=sums)


def tempered_logits(prediction: Prediction, scale: float = 1.0, planes: slice = slice(None)) -> np.ndarray:
    """Logits of some planes softened by calibration map and fitted scale, z / (scale sqrt(1 + U_cal)), float64."""
    calibration = prediction.calibration[planes].astype(np.float64)
    return prediction.logits[:, planes] / (scale * np.maximum(1.0, np.sqrt(1 + calibration)))
