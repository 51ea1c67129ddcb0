"""Run a model over the channels of one case: maps slab by slab, so that memory does not grow with the image.

`predict` keeps the logits, too: for fitting and for measuring on cases with references.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..calibration.local_features import Steps
from ..calibration.second_stage import HeadMaps, find_uncertain_voxels, refined
from ..io.grid import VoxelGrid
from ..io.volume import voxel_volume_mm3
from ..models.input_spec import InputSpec
from ..util.progress import Progress, part_of, silent
from .deviation import WARNING, Deviation
from .engines.base import DeviceMemoryError
from .grid_blocks import Turn, blocks_on_grid, pieces_of_slabs
from .model import Model
from .preprocessing import network_input
from .sliding_window import finished_slabs, stitched, window_plan
from .uncertainty_maps import FittedCalibration, VoxelMaps, maps_of_blocks, resample_to_grid, second_stage_of, voxelwise

WINDOWS = (0.02, 0.8)
"""Of a whole run, the part of windows and their maps: 0.4 to 0.7 of the time with small networks, more with large ones
(Testing/Benchmarks/results/large_volumes.json). Regions and files follow."""


@dataclass(frozen=True)
class PreparedInput:
    """What a network segments.

    Attributes:
        array: normalised float32 (channels, z, y, x).
        working: the grid that it lies on.
        target: the grid of the images that it was made from, and of the maps.
    """

    array: np.ndarray
    working: VoxelGrid
    target: VoxelGrid


def prepared_input(images: Sequence[sitk.Image], spec: InputSpec) -> PreparedInput:
    """Prepare the channels of one case; the images are not needed any more then."""
    array, working = network_input(images, spec)
    return PreparedInput(array, VoxelGrid.of(working), VoxelGrid.of(images[0]))


def segment_images(
    images: Sequence[sitk.Image], model: Model, progress: Progress = silent, detail: str = ""
) -> tuple[VoxelMaps, list[Deviation]]:
    """Segmentation and maps of one case in memory, on the grid of its first image; as `segment_prepared`."""
    progress("preparing", 0.01)
    return segment_prepared(prepared_input(images, model.bundle.input), model, progress, detail)


def segment_prepared(
    prepared: PreparedInput,
    model: Model,
    progress: Progress = silent,
    detail: str = "",
    scratch: Path | None = None,
) -> tuple[VoxelMaps, list[Deviation]]:
    """Segmentation and maps of one case, slab by slab.

    Args:
        progress: of the run, of which windows and maps are the part `WINDOWS`.
        detail: said when the network begins.
        scratch: as for `compute_case`.

    Returns:
        The maps, and what the user should know about how they were made.
    """
    progress("segmenting", WINDOWS[0], detail)
    notes: list[Deviation] = []
    try:
        maps = _maps_by_slabs(prepared, model, progress, scratch)
    except DeviceMemoryError:
        sentence = f"The {model.device} device ran out of memory: the CPU was used instead."
        notes.append(Deviation(WARNING, sentence, "memory"))
        progress("segmenting", WINDOWS[0], sentence)
        model.engine.move("cpu")
        maps = _maps_by_slabs(prepared, model, progress, scratch)
    model.engine.move(model.device)
    return maps, notes


def _maps_by_slabs(prepared: PreparedInput, model: Model, progress: Progress, scratch: Path | None) -> VoxelMaps:
    """Sweep along the axis that is the slowest of the images, so that planes are finished as files hold them."""
    working, target, engine = prepared.working, prepared.target, model.engine
    turn = Turn.between(working, target)
    plan = window_plan(prepared.array.shape[1:], model.bundle.input)
    slabs = finished_slabs(engine, prepared.array, plan, part_of(progress, *WINDOWS), turn.swept)
    second = second_stage_of(model.fitted, prepared.array, working, target, scratch)
    halo = 0 if second is None else second.halo
    blocks = blocks_on_grid(pieces_of_slabs(slabs, turn.swept), working, target, turn, halo)
    return maps_of_blocks(engine, blocks, target.shape_zyx, model.fitted, scratch, second)


@dataclass(frozen=True)
class NetworkView:
    """The image as the network got it, on the grid of the maps: what the second stage looks at.

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
        order = Turn.between(VoxelGrid.of(working), VoxelGrid.of(target)).order
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
    doubt = find_uncertain_voxels(logits, slice(None), maps, table, stage.pairs, steps)
    return refined(stage, doubt, view.image, table, steps)


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
