"""What the image and the score say around a voxel: features of finite reach, the same in a crop as in the whole.

Every feature depends on at most `Steps.halo` voxels to each side, of a volume whose border voxels are repeated outside,
and is added up in a fixed order. So a part of a volume with that many voxels around it gives the values of the whole,
bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 3
"""Smooth copies, each of the one before: a voxel and its neighbours 1, 2 and 4 voxels away, weighted 1, 2, 1.

Like Gaussians of 0.7, 1.6 and 3.2 voxels, with 3 voxels a step ("a trous", Holschneider et al. 1989).
"""
THICK = 2.0
"""An axis whose voxels are more than so many times as long as the shortest is left out: slices stay apart."""
TILE = 64
"""Edge of the blocks within which a box is laid around the uncertain voxels."""
PLANES = 16
"""Smoothed together."""
FLOOR = 1e-6
PER_CHANNEL = ("value", "level 1", "level 2", "level 3", "slope", "bend", "steepness", "contrast")
OF_SCORE = ("score, level 1", "score, level 2", "score, level 3", "rise of score")
OF_SIDE = ("share, level 1", "share, level 2", "share, level 3")
"""Of the predicted class and of the runner-up: their share of the segmentation around the voxel."""
LEAST_SHARE = 0.01
"""Share below which a class is too far away for its grey value to be known."""

Voxels = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Indices along z, y and x."""
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Steps:
    """How far neighbours lie apart in a volume.

    Attributes:
        unit: voxels along z, y and x from a voxel to its nearest neighbour; 0 along an axis that is left out.
    """

    unit: Triple = (1, 1, 1)

    @property
    def halo(self) -> Triple:
        """Voxels along z, y and x that features reach."""
        z, y, x = ((2**LEVELS - 1) * each for each in self.unit)
        return z, y, x

    @classmethod
    def on_grid(cls, axes: Sequence[bool], working_mm: Sequence[float], target_mm: Sequence[float]) -> "Steps":
        """Find the steps in a volume whose voxels are not those that the second stage was fitted on.

        Args:
            axes: along which voxels have neighbours, as in `neighbour_axes`.
            working_mm: spacing of the grid that the network sees, along the same axes.
            target_mm: spacing of the volume.
        """
        z, y, x = (
            max(1, round(wanted / given)) if along else 0
            for along, wanted, given in zip(axes, working_mm, target_mm, strict=True)
        )
        return cls((z, y, x))


def neighbour_axes(spacing_zyx: Sequence[float]) -> tuple[bool, bool, bool]:
    """Return along which axes voxels lie close enough together to be neighbours."""
    z, y, x = (edge <= THICK * min(spacing_zyx) for edge in spacing_zyx)
    return z, y, x


def feature_count(channels: int) -> int:
    """Count the columns of `local_features` for an image of so many channels."""
    return channels * len(PER_CHANNEL) + len(OF_SCORE)


def local_features(
    image: np.ndarray, probability: np.ndarray, voxels: Voxels, normals: np.ndarray, steps: Steps
) -> np.ndarray:
    """Describe voxels by image and score around them.

    Args:
        image: as the network gets it, float32 (channels, z, y, x).
        probability: error probability before the image is seen, (z, y, x).
        normals: of `boundary_normals`, (3, voxels).

    Returns:
        Float32 (voxels, features): `PER_CHANNEL` for each channel of the image, then `OF_SCORE`.
    """
    found = np.empty((voxels[0].size, feature_count(len(image))), np.float32)
    for chosen, box in _boxes(voxels):
        inside = np.stack([each[chosen] - part.start for each, part in zip(voxels, box, strict=True)])
        context = _Context(inside, normals[:, chosen], steps)
        columns = []
        for channel in image:
            columns += _image_columns(extended(channel, box, steps.halo), context)
        columns += _score_columns(extended(probability, box, steps.halo), context)
        found[chosen] = np.stack(columns, 1)
    return found


def mask_feature_count(channels: int) -> int:
    """Count the columns of `mask_features` for an image of so many channels."""
    return 2 * (len(OF_SIDE) + channels)


def mask_features(
    image: np.ndarray, classes: np.ndarray, runner_up: np.ndarray, voxels: Voxels, steps: Steps
) -> np.ndarray:
    """Describe voxels by the shape of the segmentation around them, and by their grey value against both sides.

    Args:
        image: as the network gets it, float32 (channels, z, y, x).
        classes, runner_up: index of the most and second most probable class, (z, y, x).

    Returns:
        Float32 (voxels, features): of the predicted class and then of the runner-up `OF_SIDE`, and for each channel the
        difference of the voxel to the mean of that class around it, 0 where it is not there.
    """
    sides = np.stack([each[voxels] for each in (classes, runner_up)])
    found = np.zeros((2, voxels[0].size, len(OF_SIDE) + len(image)), np.float32)
    for label in np.unique(sides):
        near = np.flatnonzero((sides == label).any(0))
        z, y, x = (each[near] for each in voxels)
        for chosen, box in _boxes((z, y, x)):
            inside = np.stack([each[chosen] - part.start for each, part in zip((z, y, x), box, strict=True)])
            columns = _mask_columns(image, classes, label, box, _Context(inside, np.zeros((3, 1)), steps))
            for side, of_side in enumerate(sides[:, near[chosen]]):
                found[side, near[chosen][of_side == label]] = columns[of_side == label]
    return np.concatenate(found, 1)


def _mask_columns(
    image: np.ndarray, classes: np.ndarray, label: int, box: Sequence[slice], context: "_Context"
) -> np.ndarray:
    """Columns of one class, (voxels, features)."""
    mask = (extended(classes, box, context.steps.halo) == label).astype(np.float32)
    columns = [context.at(*level) for level in context.levels(mask)]
    share = columns[-1]
    for channel in image:
        wide = extended(channel, box, context.steps.halo)
        mean = context.at(*context.levels(mask * wide)[-1]) / np.maximum(share, np.float32(LEAST_SHARE))
        columns.append(np.where(share < LEAST_SHARE, 0, context.at(wide, context.margin(0)) - mean))
    return np.stack(columns, 1)


def boundary_normals(
    logits: np.ndarray, voxels: Voxels, predicted: np.ndarray, runner_up: np.ndarray, steps: Steps
) -> np.ndarray:
    """Find the direction (3, voxels) in which the predicted class gains most on the runner-up; 0 where none does.

    Args:
        logits: float32 (classes, z, y, x).
        predicted, runner_up: class of each voxel.
    """
    normals = np.zeros((3, voxels[0].size), np.float32)
    for axis, unit in enumerate(steps.unit):
        if unit:
            sides = []
            for step in (unit, -unit):
                place = list(voxels)
                place[axis] = np.clip(voxels[axis] + step, 0, logits.shape[1 + axis] - 1)
                sides.append(logits[(predicted, *place)] - logits[(runner_up, *place)])
            normals[axis] = sides[0] - sides[1]
    return normals / np.maximum(_length(normals), np.float32(FLOOR))


def extended(values: np.ndarray, box: Sequence[slice], halo: Triple) -> np.ndarray:
    """Cut a box and `halo` voxels around it out of (z, y, x), float32; beyond the border its voxels continue."""
    wanted = [(part.start - gap, part.stop + gap) for part, gap in zip(box, halo, strict=True)]
    there = tuple(slice(max(0, low), min(high, size)) for (low, high), size in zip(wanted, values.shape, strict=True))
    missing = [(part.start - low, high - part.stop) for (low, high), part in zip(wanted, there, strict=True)]
    return np.pad(np.asarray(values[there], np.float32), missing, mode="edge")


def smoothed(values: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Weigh each voxel of (z, y, x) and its two neighbours along each axis 1, 2, 1.

    The result is shorter by the step to each side; a step of 0 leaves its axis out.
    """
    shape = [size - 2 * step for size, step in zip(values.shape, steps, strict=True)]
    found = np.empty(shape, values.dtype)
    for start in range(0, shape[0], PLANES):  # the copies of a few planes stay in the L2 cache
        stop = min(start + PLANES, shape[0])
        found[start:stop] = _smoothed(values[start : stop + 2 * steps[0]], steps)
    return found


def _smoothed(values: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    share = np.float32(1)
    for axis, step in enumerate(steps):
        if step:
            size = values.shape[axis] - 2 * step
            middle = _part(values, axis, step, size)
            total = _part(values, axis, 0, size) + _part(values, axis, 2 * step, size)
            total += middle
            total += middle
            share *= np.float32(0.25)  # powers of 2 are exact, also once for all axes
            values = total
    return values * share


@dataclass(frozen=True)
class _Context:
    """Voxels of a box, what lies before and behind them, and how far their neighbours are.

    Attributes:
        inside: indices within the box, (3, voxels).
        normals: across the boundary, (3, voxels).
    """

    inside: np.ndarray
    normals: np.ndarray
    steps: Steps

    def margin(self, reach: int) -> np.ndarray:
        """How much larger than the box a level is whose voxels reach so many steps, (3, 1)."""
        unit = np.asarray(self.steps.unit)[:, None]
        return np.asarray((2**LEVELS - 1 - reach) * unit, np.intp)

    def at(self, values: np.ndarray, margin: np.ndarray, offset: np.ndarray | int = 0) -> np.ndarray:
        """Take the voxels, or those `offset` (3, voxels) units away, out of an array that is larger than the box."""
        unit = np.asarray(self.steps.unit, np.intp)[:, None]
        z, y, x = self.inside + margin + unit * offset
        _, rows, columns = values.shape
        return np.take(values, (z * rows + y) * columns + x)

    def slopes(self, values: np.ndarray, margin: np.ndarray) -> np.ndarray:
        """Difference of the two neighbours along each axis, halved, (3, voxels)."""
        found = np.zeros(self.inside.shape, np.float32)
        for axis in np.flatnonzero(self.steps.unit):
            step = np.zeros((3, 1), np.intp)
            step[axis] = 1
            found[axis] = (self.at(values, margin, step) - self.at(values, margin, -step)) / 2
        return found

    def along(self, gradients: np.ndarray) -> np.ndarray:
        """Part of gradients (3, voxels) that points along the normals."""
        products = gradients * self.normals
        return products[0] + products[1] + products[2]

    def levels(self, wide: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return `LEVELS` smooth copies, each with its margin."""
        found, values = [], wide
        for level in range(LEVELS):
            values = smoothed(values, [2**level * each for each in self.steps.unit])
            found.append((values, self.margin(2 ** (level + 1) - 1)))
        return found


def _image_columns(wide: np.ndarray, context: _Context) -> list[np.ndarray]:
    """Columns of one channel, in the order of `PER_CHANNEL`."""
    levels = context.levels(wide)
    columns = [context.at(wide, context.margin(0)), *(context.at(*level) for level in levels)]
    slopes = context.slopes(*levels[0])
    away = np.rint(2 * context.normals).astype(np.intp)
    bend = context.at(*levels[0], away) + context.at(*levels[0], -away) - 2 * columns[1]
    # Squares of what differs from a smooth copy: nothing large cancels.
    cut = [slice(3 * unit, size - 3 * unit) for unit, size in zip(context.steps.unit, wide.shape, strict=True)]
    rest = wide[tuple(cut)] - levels[1][0]
    contrast = context.at(smoothed(rest * rest, [2 * each for each in context.steps.unit]), context.margin(5))
    return [*columns, context.along(slopes), bend, _length(slopes), np.sqrt(contrast)]


def _score_columns(wide: np.ndarray, context: _Context) -> list[np.ndarray]:
    """Columns of the score, in the order of `OF_SCORE`; the first as log-odds of its mean."""
    levels = context.levels(wide)
    means = [np.clip(context.at(*level), FLOOR, 1 - FLOOR) for level in levels]
    return [*(np.log(mean / (1 - mean)) for mean in means), context.along(context.slopes(*levels[0]))]


def _length(vectors: np.ndarray) -> np.ndarray:
    squares = vectors * vectors
    return np.sqrt(squares[0] + squares[1] + squares[2])


def _part(values: np.ndarray, axis: int, start: int, size: int) -> np.ndarray:
    return values[(slice(None),) * axis + (slice(start, start + size),)]


def _boxes(voxels: Voxels) -> Iterator[tuple[np.ndarray, tuple[slice, ...]]]:
    """Yield which of the voxels lie together, and the box around them."""
    number = np.zeros(voxels[0].size, np.intp)
    for each in voxels:
        number = number * (each.max(initial=0) // TILE + 1) + each // TILE
    for tile in np.flatnonzero(np.bincount(number)):
        chosen = np.flatnonzero(number == tile)
        yield chosen, tuple(slice(int(each[chosen].min()), int(each[chosen].max()) + 1) for each in voxels)
