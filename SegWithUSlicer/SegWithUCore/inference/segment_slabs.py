"""Run the network over one case and make its maps, slab by slab, so that memory does not grow with the image."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid
from ..models.input_spec import InputSpec
from ..util.progress import Progress, part_of, silent
from .deviation import WARNING, Deviation
from .engines.base import DeviceMemoryError
from .grid_blocks import Turn, blocks_on_grid, halo_planes, pieces_of_slabs
from .model import Model
from .preprocessing import network_input, working_shape
from .sliding_window import count_windows, finished_slabs, window_plan
from .uncertainty_maps import VoxelMaps, maps_of_blocks, sight_of

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


def predicted_seconds(model: Model, part: VoxelGrid) -> float | None:
    """Predict what a run takes from what windows took in the model's latest one; None before its first.

    Args:
        part: grid of what is segmented, as it lies in the world.
    """
    if model.window_s is None:
        return None
    return model.window_s * windows_of(model, part) / (WINDOWS[1] - WINDOWS[0])


def windows_of(model: Model, part: VoxelGrid) -> int:
    """Count the windows of a run; `part` as for `predicted_seconds`."""
    spec = model.bundle.input
    return count_windows(working_shape(part, spec), spec.window_zyx)


def time_window(model: Model) -> None:
    """Segment one window of zeros, so that the model knows how long a window takes.

    A first pass, not counted, pays for what is set up once.
    """
    spec = model.bundle.input
    size = spec.window_zyx[::-1]
    grid = VoxelGrid((size[0], size[1], size[2]), spec.spacing_mm or (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))
    for _ in range(2):
        segment_prepared(PreparedInput(np.zeros((len(spec.channels), *spec.window_zyx), np.float32), grid, grid), model)


def _maps_by_slabs(prepared: PreparedInput, model: Model, progress: Progress, scratch: Path | None) -> VoxelMaps:
    """Sweep along the axis that is the slowest of the images, so that planes are finished as files hold them."""
    working, target, engine = prepared.working, prepared.target, model.engine
    turn = Turn.between(working, target)
    plan = window_plan(prepared.array.shape[1:], model.bundle.input)
    begun = time.monotonic()
    slabs = finished_slabs(engine, prepared.array, plan, part_of(progress, *WINDOWS), turn.swept)
    sight = sight_of(model.fitted, prepared.array, working, target, scratch)
    halo = max(halo_planes(model.fitted.halo_mm, target), 0 if sight is None else sight.halo)
    blocks = blocks_on_grid(pieces_of_slabs(slabs, turn.swept), working, target, turn, halo)
    maps = maps_of_blocks(engine, blocks, target.shape_zyx, model.fitted, scratch, sight)
    model.window_s = (time.monotonic() - begun) / plan.count
    return maps
