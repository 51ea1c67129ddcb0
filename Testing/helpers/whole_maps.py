"""Maps of a stitched volume at once, which runs make slab by slab."""

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference import grid_blocks
from SegWithUCore.inference.engines.base import Engine
from SegWithUCore.inference.grid_blocks import AxisMapping, Piece, blocks_on_grid
from SegWithUCore.inference.uncertainty_maps import FittedCalibration, VoxelMaps, maps_of_blocks, second_stage_of
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.util.plane_files import plane_pieces


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


def pieces_of_volume(stitched: np.ndarray, axis: int) -> Iterator[Piece]:
    """Cut (outputs, z, y, x) along an axis as a slab is cut."""
    turned = np.moveaxis(stitched, 1 + axis, 1)
    for planes in plane_pieces(turned.shape[1:], max(1, grid_blocks.PIECE_VALUES // len(turned))):
        yield Piece(planes.start, np.moveaxis(turned[:, planes], 1, 1 + axis))
