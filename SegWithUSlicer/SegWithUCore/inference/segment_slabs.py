"""Run the network over one case and make its maps, slab by slab, so that memory does not grow with the image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..calibration.gate import Gate
from ..imaging.grid import VoxelGrid
from ..models.input_spec import InputSpec
from ..processor import threads_in_use
from ..progress import Progress, silent
from .deviation import WARNING, Deviation
from .engines.base import DeviceMemoryError
from .gated_slabs import gated_planes
from .grid_blocks import Piece, Turn, blocks_on_grid, halo_planes, pieces_of_slabs
from .model import Model
from .preprocessing import network_input
from .run_clock import FilesToWrite, RunClock, SampledEngine
from .sliding_window import WindowPlan, finished_slabs, window_plan
from .uncertainty_maps import VoxelMaps, maps_of_blocks, sight_of


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
    clock = RunClock(progress)
    clock("preparing", 0.01)
    return segment_prepared(prepared_input(images, model.bundle.input), model, clock, detail)


def segment_prepared(
    prepared: PreparedInput,
    model: Model,
    clock: RunClock,
    detail: str = "",
    scratch: Path | None = None,
    written: FilesToWrite | None = None,
) -> tuple[VoxelMaps, list[Deviation]]:
    """Segmentation and maps of one case, slab by slab.

    Args:
        clock: of the run.
        detail: said when the network begins.
        scratch: as for `compute_case`.
        written: files of the case folder that will follow; None where there is none.

    Returns:
        The maps, and what the user should know about how they were made.
    """
    clock("segmenting", 0.02, detail)
    notes: list[Deviation] = []
    try:
        maps = _maps_by_slabs(prepared, model, clock, scratch, written)
    except DeviceMemoryError:
        sentence = f"The {model.device} device ran out of memory: the CPU was used instead."
        notes.append(Deviation(WARNING, sentence, "memory"))
        clock("segmenting", 0.02, sentence)
        model.engine.move("cpu")
        maps = _maps_by_slabs(prepared, model, clock, scratch, written)
    model.engine.move(model.device)
    return maps, notes


def _maps_by_slabs(
    prepared: PreparedInput, model: Model, clock: RunClock, scratch: Path | None, written: FilesToWrite | None
) -> VoxelMaps:
    """Sweep along the axis that is the slowest of the images, so that planes are finished as files hold them."""
    working, target, engine = prepared.working, prepared.target, model.engine
    turn = Turn.between(working, target)
    plan = window_plan(prepared.array.shape[1:], model.bundle.input)
    clock.begin_windows(plan.count, target.voxels, written, threads_in_use() if engine.device == "cpu" else 0)
    pieces = _finished_pieces(SampledEngine(engine, clock), model.fitted.gate, prepared.array, plan, clock, turn.swept)
    timed = clock.timed(pieces, turn.swept, plan.shape[turn.swept])
    sight = sight_of(model.fitted, prepared.array, working, target, scratch)
    if sight is not None:
        clock.count_doubt(sight.sweep)
    halo = max(halo_planes(model.fitted.halo_mm, target), 0 if sight is None else sight.halo)
    blocks = blocks_on_grid(timed, working, target, turn, halo)
    return maps_of_blocks(engine, blocks, target.shape_zyx, model.fitted, scratch, sight, clock.saw)


def _finished_pieces(
    engine: Any, gate: Gate | None, array: np.ndarray, plan: WindowPlan, clock: RunClock, axis: int
) -> Iterator[Piece]:
    """Yield what a network says, a few planes at a time, as soon as no later window reaches them."""
    if gate is None:
        return pieces_of_slabs(finished_slabs(engine, array, plan, clock.window, axis), axis)
    found = gated_planes(engine, gate, array, plan, clock.window, axis)
    return (Piece(first, values) for first, values in found)
