"""Further passes over a case, mirrored and shifted: a second look at the error probability.

The segmentation and everything else stay those of the first pass. Every pass says how likely the first segmentation is
wrong; the log-odds of all are averaged.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..io.grid import VoxelGrid
from ..models.bundle import Bundle
from ..models.training_record import read_record
from ..util.plane_files import plane_pieces, room_for
from .finer_grid import chance_of, log_odds, odds_of_class
from .uncertainty_maps import VoxelMaps

PADDING = 4
"""Voxels laid before an image, which moves it by half as many in a window that is larger."""
_SIDE = re.compile(r"(?i)(?<![a-z])(left|right)(?![a-z])")


@dataclass(frozen=True)
class Look:
    """How the image is changed for a pass: mirrored left to right, and so many voxels laid before it."""

    is_mirrored: bool = False
    padding: int = 0

    def moved(
        self, array: np.ndarray, grid: VoxelGrid, orientation: str, window: Sequence[int]
    ) -> tuple[np.ndarray, VoxelGrid]:
        """Change the network's input (channels, z, y, x); its grid changes with it, so that results lie where they did.

        Args:
            orientation: of the array, such as "RAS".
            window: (z, y, x); an axis along which it has one voxel is not shifted.
        """
        first, step = np.zeros(3), np.ones(3)
        if self.is_mirrored:
            side = left_right(orientation)
            array, first[side], step[side] = np.flip(array, 3 - side), grid.size[side] - 1, -1
        gaps = [self.padding if size > 1 else 0 for size in window]
        array = np.pad(array, [(0, 0), *((gap, 0) for gap in gaps)]) if any(gaps) else array
        (i, j, k), origin = array.shape[:0:-1], grid.point((first - step * gaps[::-1]).astype(int).tolist())
        direction = tuple((np.reshape(grid.direction, (3, 3)) * step).ravel().tolist())
        return array, replace(grid, size=(i, j, k), origin=tuple(origin), direction=direction)


def left_right(orientation: str) -> int:
    """Find the axis (x, y, z) that runs from left to right; -1 where axes are taken as stored."""
    return next((axis for axis, letter in enumerate(orientation) if letter in "LR"), -1)


def mirrored_classes(bundle: Bundle) -> np.ndarray | None:
    """Find the class that each class becomes in a mirror; None where the model must not see mirrored images.

    It may where it was trained with them, or where each structure has one of the same name on the other side.
    """
    names = [label.name for label in bundle.labels]
    swapped = [_SIDE.sub(lambda side: "right" if side[1].lower() == "left" else "left", name.lower()) for name in names]
    known = {name.lower(): index for index, name in enumerate(names)}
    if left_right(bundle.input.orientation) < 0:
        return None
    if all(name in known and known[name] != index for index, name in enumerate(swapped) if index):
        return np.asarray([0, *(known[name] for name in swapped[1:])], np.uint8)
    record = read_record(bundle.folder)
    recipe = (record.recipe if record is not None else None) or {}
    is_trained = all((recipe.get(part) or {}).get("mirror") for part in ("backbone_training", "head_training"))
    return np.arange(len(names), dtype=np.uint8) if is_trained and list(known) == swapped else None


def further_looks(bundle: Bundle, passes: int) -> list[Look]:
    """Choose the passes after the first: mirrored and shifted; only shifted where a model forbids mirroring."""
    mirrored = [Look(True, PADDING), Look(True), Look(False, PADDING)]
    shifted = [Look(False, PADDING * number) for number in (1, 2, 3)]
    return (shifted if mirrored_classes(bundle) is None else mirrored)[: passes - 1]


def look_again(
    maps: VoxelMaps, looks: Sequence[Look], run: Callable[[Look], VoxelMaps], bundle: Bundle, folder: Path | None
) -> None:
    """Replace the error probability of the first pass by the mean over all passes, in log-odds.

    Args:
        run: makes the maps of a pass, on the same grid.
        folder: as for `maps_of_blocks`.
    """
    first = maps.error_probability
    assert first is not None
    sums, swapped = room_for(first.shape, np.float32, folder), mirrored_classes(bundle)
    pieces = list(plane_pieces(first.shape))
    for planes in pieces:
        sums[planes] = log_odds(first[planes])
    for look in looks:
        found = run(look)
        assert found.error_probability is not None
        for planes in pieces:
            own, other = found.classes[planes], found.runner_up[planes]
            if look.is_mirrored and swapped is not None:
                own, other = swapped[own], swapped[other]
            odds = odds_of_class(maps.classes[planes], own, other, log_odds(found.error_probability[planes]))
            sums[planes] = sums[planes] + odds
    for planes in pieces:
        first[planes] = chance_of(sums[planes] / np.float32(1 + len(looks)))  # type: ignore[index]
