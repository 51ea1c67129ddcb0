"""How long a run will take on this computer, predicted from headers and one timed window."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..imaging.grid import VoxelGrid
from ..imaging.header_peek import FileGrid
from ..imaging.roi import RegionOfInterest, voxel_box
from ..imaging.volume import apply_transform, reorient
from ..models.input_spec import InputSpec
from .gated_maps import gated_window, maps_of_gated
from .model import Model
from .preprocessing import working_size
from .sliding_window import count_windows
from .uncertainty_maps import voxelwise

WRITE_S_PER_GRID_VOXEL = 1.2e-7
"""Compressing the four volumes outside the region of interest, where they are constant (measured)."""
WRITE_S_PER_ASSESSED_VOXEL = 6e-7
"""Compressing three noisy float maps inside it (measured)."""


@dataclass(frozen=True)
class Pace:
    """Seconds that one window, and the maps of one voxel, take on this device."""

    window_s: float
    voxel_s: float


def timed_pace(model: Model) -> Pace:
    """Run one window of zeros; a first pass, not counted, pays for what is set up once."""
    spec = model.bundle.input
    window = np.zeros((len(spec.channels), *spec.window_zyx), np.float32)
    engine, gate = model.engine, model.fitted.gate
    run = engine.window if gate is None else engine.window_parts
    run(window)
    begun = time.perf_counter()
    parts = run(window)
    window_s = time.perf_counter() - begun
    begun = time.perf_counter()
    if gate is None:
        voxelwise(engine, np.concatenate(parts))
    else:
        logits, detail, responses = parts
        maps_of_gated(engine, gate, gated_window(engine, gate, logits, detail, responses))
    return Pace(window_s, (time.perf_counter() - begun) / window[0].size)


def predicted_seconds(whole: VoxelGrid, part: VoxelGrid, spec: InputSpec, pace: Pace) -> float:
    """Predict what a run takes.

    Args:
        whole: grid of the images.
        part: grid of what is segmented, as it lies in the world.
    """
    windows = count_windows(working_shape(part, spec), spec.window_zyx)
    seconds = windows * pace.window_s + part.voxels * (pace.voxel_s + WRITE_S_PER_ASSESSED_VOXEL)
    return seconds + whole.voxels * WRITE_S_PER_GRID_VOXEL


def seconds_from_header(claim: FileGrid, region: RegionOfInterest | None, spec: InputSpec, pace: Pace) -> float:
    """Predict what a run takes from the header of its first image; as a whole if the region lies outside."""
    try:
        part = part_grid(claim.grid, region)
    except InputError:  # the run itself will say so
        part = claim.grid
    return predicted_seconds(claim.grid, part, spec, pace)


def part_grid(
    whole: VoxelGrid, region: RegionOfInterest | None, own_to_world_ras: Sequence[float] | None = None
) -> VoxelGrid:
    """Return the grid of the part within the region, oriented as in the world; its origin has no meaning.

    Raises:
        InputError: the region lies outside.
    """
    part = voxel_box(region, whole).crop_grid(whole) if region else whole
    return part.axes_after(lambda image: apply_transform(image, own_to_world_ras))


def working_shape(part: sitk.Image | VoxelGrid, spec: InputSpec) -> tuple[int, ...]:
    """Return the size (z, y, x) that `preprocessing.to_working_grid` would give, without resampling anything."""
    upright = VoxelGrid.of(part).axes_after(lambda image: reorient(image, spec.orientation))
    return working_size(upright, spec)[0][::-1]
