"""Maps made on the working grid, brought to the grid of an image that is finer.

A finer grid has many times the voxels and no more to say: the network saw the working grid. Labels are those of the
interpolated logits, which are smooth. The error probability is that of the label drawn: in a cell between eight voxels
of the working grid, each gives the log-odds that this label is wrong there, and these are interpolated linearly. So it
is highest where two labels meet. As much volume is expected to be wrong as on the working grid.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..io.grid import VoxelGrid
from ..util.plane_files import PlaneFile, Planes, plane_pieces
from .grid_blocks import AxisMapping, Cells

LEAST_FINER = 2.0
"""Voxels of an image in one of the working grid from which on its maps are made there: fewer would save little."""
AS_COARSE = 1.01
"""Edge of a voxel over that of the working grid up to which an axis counts as no coarser."""
NEITHER = 0.99
"""Error probability of a class that is neither the most nor the second most probable one (judge.md)."""
FLOOR = 1e-6
SLOPES = np.linspace(1, 2.5, 151)
"""By which interpolated log-odds, which are flatter than those of the working grid, are multiplied: one a case."""
MOST_ODDS, BINS_A_UNIT = 14.0, 32
"""Beyond the largest log-odds that `FLOOR` leaves; bins of them."""
PIECE_VOXELS = 1 << 18
"""Of the finer grid, brought there together: what is computed of them stays in the cache."""


def maps_grid(working: VoxelGrid, target: VoxelGrid) -> VoxelGrid:
    """Return the grid that the maps of a target are made on: itself, or if it is finer, the working grid.

    It is finer if it is no coarser along any axis. The axes have the order of the target's.
    """
    turned = AxisMapping.between(working, target).in_order(working)
    edges = [own / wanted for own, wanted in zip(turned.spacing, target.spacing, strict=True)]
    is_finer = min(edges) * AS_COARSE >= 1 and voxel_ratio(working, target) >= LEAST_FINER
    return turned if is_finer else target


def two_largest(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of the largest and the second largest logit, uint8; the lower class of two that tie.

    Args:
        logits: (classes, *any).
    """
    first, other = np.zeros((2, *logits.shape[1:]), np.uint8)
    best, second = logits[0].copy(), np.full(logits.shape[1:], -np.inf, np.float32)
    for number, values in enumerate(logits[1:], 1):
        counts = values > second
        if not counts.any():
            continue
        is_best = values > best
        np.copyto(other, np.uint8(number), where=counts)
        np.copyto(other, first, where=is_best)
        np.copyto(first, np.uint8(number), where=is_best)
        np.maximum(second, np.minimum(best, values), out=second)
        np.maximum(best, values, out=best)
    return first, other


def log_odds(chance: np.ndarray) -> np.ndarray:
    """Log-odds of error probabilities, float32, finite."""
    clipped = np.clip(chance, np.float32(FLOOR), np.float32(1 - FLOOR))
    return np.asarray(np.log(clipped / (1 - clipped)))


def chance_of(odds: np.ndarray) -> np.ndarray:
    """Return the error probabilities of log-odds, float32."""
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)


def odds_of_class(classes: np.ndarray, own: np.ndarray, other: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Log-odds that classes are wrong where the most and second most probable ones are others.

    Args:
        classes: in question.
        own, other: most and second most probable class.
        odds: that `own` is wrong.
    """
    neither = np.float32(math.log(NEITHER / (1 - NEITHER)))
    return np.where(own == classes, odds, np.where(other == classes, -odds, neither))


def spread_chance(
    found: np.ndarray | PlaneFile, of_network: Sequence[Planes], drawn: Planes, working: VoxelGrid, target: VoxelGrid
) -> None:
    """Fill in the error probability of the labels drawn on a finer grid.

    The log-odds are sharpened so far that as much volume is expected to be wrong as on the working grid.

    Args:
        found: of the target, to be filled.
        of_network: error probability, most and second most probable class on the working grid.
        drawn: classes on the target.
        working: its axes in the order of the target's.
    """
    pieces = list(plane_pieces(target.shape_zyx, PIECE_VOXELS))
    middles = np.arange(-MOST_ODDS, MOST_ODDS, 1 / BINS_A_UNIT) + 0.5 / BINS_A_UNIT
    counts = np.zeros(len(middles))
    for planes in pieces:
        cells = Cells(working, target, planes)
        chance, own, other = (each[cells.around] for each in of_network)
        odds, classes = np.zeros(drawn[planes].shape, np.float32), drawn[planes]
        for corner, share in cells.corners():
            odds += share * odds_of_class(classes, own[corner], other[corner], log_odds(chance)[corner])
        counts += np.bincount(((odds + MOST_ODDS) * BINS_A_UNIT).astype(np.intp).ravel(), minlength=len(counts))
        found[planes] = odds
    sums = (float(of_network[0][part].sum(dtype=np.float64)) for part in plane_pieces(of_network[0].shape))
    excess = chance_of(SLOPES[:, None] * middles) @ counts - sum(sums) * voxel_ratio(working, target)
    slope = np.float32(SLOPES[np.abs(excess).argmin()])
    for planes in pieces:
        found[planes] = chance_of(slope * found[planes])


def voxel_ratio(working: VoxelGrid, target: VoxelGrid) -> float:
    """Return how many voxels of a target one of the working grid holds."""
    return math.prod(working.spacing) / math.prod(target.spacing)
