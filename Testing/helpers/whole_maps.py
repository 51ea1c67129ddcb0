"""Maps of a stitched volume at once, which runs make slab by slab."""

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.engines.base import Engine
from SegWithUCore.inference.grid_blocks import AxisMapping, blocks_on_grid, pieces_of_volume
from SegWithUCore.inference.uncertainty_maps import FittedCalibration, VoxelMaps, maps_of_blocks, second_stage_of
from SegWithUCore.io.grid import VoxelGrid


def maps_on_grid(
    engine: Engine,
    stitched: np.ndarray,
    working: sitk.Image | VoxelGrid,
    target: sitk.Image | VoxelGrid,
    fitted: FittedCalibration | None = None,
    image: np.ndarray | None = None,
) -> VoxelMaps:
    """Segmentation and maps at the voxels of `target`; `image` as the network got it, None leaves second stage out."""
    fitted, own, goal = fitted or FittedCalibration(), VoxelGrid.of(working), VoxelGrid.of(target)
    second, turn = second_stage_of(fitted, image, own, goal), AxisMapping.between(own, goal)
    halo = 0 if second is None else second.halo
    blocks = blocks_on_grid(pieces_of_volume(stitched, turn.slab_axis), own, goal, turn, halo)
    return maps_of_blocks(engine, blocks, goal.shape_zyx, fitted, second=second)
