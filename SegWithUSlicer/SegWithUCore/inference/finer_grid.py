"""Maps made on the working grid, brought to the grid of an image that is finer.

A finer grid has many times the voxels and no more to say: the network saw the working grid. Labels are those of the
interpolated logits, which are smooth. The error probability is that of the label drawn: in a cell between eight voxels
of the working grid, each gives the log-odds that this label is wrong there, and these are interpolated linearly. So it
is highest where two labels meet.
"""

import math

import numpy as np

from ..io.grid import VoxelGrid
from .grid_blocks import AxisMapping, Cells

LEAST_FINER = 2.0
"""Voxels of an image in one of the working grid from which on its maps are made there: fewer would save little."""
AS_COARSE = 1.01
"""Edge of a voxel over that of the working grid up to which an axis counts as no coarser."""
NEITHER = 0.99
"""Error probability of a class that is neither the most nor the second most probable one (judge.md)."""
FLOOR = 1e-6


def maps_grid(working: VoxelGrid, target: VoxelGrid) -> VoxelGrid:
    """Return the grid that the maps of a target are made on: itself, or if it is finer, the working grid.

    It is finer if it is no coarser along any axis. The axes have the order of the target's.
    """
    mapping = AxisMapping.between(working, target)
    turned = mapping.in_order(working)
    edges = [own / wanted for own, wanted in zip(turned.spacing, target.spacing, strict=True)]
    return turned if min(edges) * AS_COARSE >= 1 and math.prod(edges) >= LEAST_FINER else target


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


def spread_odds(chance: np.ndarray, own: np.ndarray, other: np.ndarray, drawn: np.ndarray, cells: Cells) -> np.ndarray:
    """Log-odds that the labels drawn in some planes of a finer grid are wrong, float32 (z, y, x).

    Args:
        chance, own, other: error probability, most and second most probable class, of the planes `cells.around`.
        drawn: classes of the planes.
    """
    odds, mixed = log_odds(chance), cells.mixed(own)
    found, classes, total = cells.interpolated(odds), drawn[mixed], np.zeros(len(mixed[0]), np.float32)
    for place, share in cells.corners(mixed):
        total += share * odds_of_class(classes, own[place], other[place], odds[place])
    found[mixed] = total
    return found
