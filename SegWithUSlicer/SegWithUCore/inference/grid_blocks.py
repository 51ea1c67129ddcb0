"""Stitched outputs brought to the input's own grid, some planes at a time, with as many around them as are wanted.

A `Piece` is some planes of the working grid, a `Block` some planes of the input's grid: the last step before the maps.
What needs a neighbourhood of each voxel asks for a halo, and works block by block like all else.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..io.grid import VoxelGrid
from ..util.plane_files import plane_pieces
from .sliding_window import Slab

PIECE_VALUES = 1 << 22
"""Values of all outputs that are worked on at once: 16 MB, and a few times that for copies."""
LEAST_COSINE = 1 - 1e-6
"""Of the angle between axes that belong together: 0.4 voxels in 300 at most."""
_GRID_TOLERANCE = 1e-3
"""Of the smallest spacing: how far corners of equal grids may lie apart."""


@dataclass(frozen=True)
class Piece:
    """Some planes of the working grid.

    Attributes:
        start: the first of them, along the slab axis.
        values: float32 (outputs, z, y, x), axes as those of the working grid.
    """

    start: int
    values: np.ndarray


@dataclass(frozen=True)
class Block:
    """Some planes of the input's own grid.

    Attributes:
        planes: which, along its slowest axis.
        values: logits and responses, float32 (outputs, z, y, x): these planes with a halo around them.
        inner: which planes of `values` they are.
    """

    planes: slice
    values: np.ndarray
    inner: slice

    @property
    def own(self) -> np.ndarray:
        """The values without their halo."""
        return self.values[:, self.inner]


@dataclass(frozen=True)
class AxisMapping:
    """How the axes of one grid lie along those of another.

    Attributes:
        order: for each array axis (z, y, x) of the target, the array axis of the working grid that it runs along.
        flips: for each array axis of the target, whether it runs the other way.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def between(cls, working: VoxelGrid, target: VoxelGrid) -> "AxisMapping":
        """Find the axes that belong together; raises ValueError where they are not parallel."""
        own, wanted = (np.reshape(grid.direction, (3, 3)) for grid in (working, target))
        own, wanted = (axes / np.linalg.norm(axes, axis=0) for axes in (own, wanted))
        along = wanted.T @ own  # how each axis x, y, z of the target runs along each of the working grid
        source = np.abs(along).argmax(1)
        if np.abs(along).max(1).min() < LEAST_COSINE:
            raise ValueError("The axes of both grids must be parallel.")
        flips = tuple(bool(along[axis, source[axis]] < 0) for axis in (2, 1, 0))
        z, y, x = (int(2 - source[axis]) for axis in (2, 1, 0))
        return cls((z, y, x), (flips[0], flips[1], flips[2]))

    def in_order(self, working: VoxelGrid) -> VoxelGrid:
        """Return the working grid with its axes in the order of the target's, none of them turned round."""
        own = [2 - axis for axis in reversed(self.order)]
        direction = np.reshape(working.direction, (3, 3))[:, own].ravel().tolist()
        i, j, k = (working.size[axis] for axis in own)
        return VoxelGrid((i, j, k), tuple(working.spacing[axis] for axis in own), working.origin, tuple(direction))

    @property
    def slab_axis(self) -> int:
        """Axis of the working grid along which the target's planes follow each other."""
        return self.order[0]

    def of(self, values: np.ndarray) -> np.ndarray:
        """View (outputs, z, y, x) with the axes of the target."""
        turned = values.transpose(0, *(1 + axis for axis in self.order))
        return turned[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))]

    def is_all(self, working: VoxelGrid, target: VoxelGrid) -> bool:
        """Whether nothing but the axes differs, so that no value has to be interpolated."""
        shape = tuple(working.shape_zyx[axis] for axis in self.order)
        if shape != target.shape_zyx:
            return False
        corners = [np.zeros(3), *np.diag(np.subtract(shape, 1)), np.subtract(shape, 1)]
        gap = max(float(np.abs(_point(target, c) - _point(working, self._index(c, shape))).max()) for c in corners)
        return gap <= _GRID_TOLERANCE * min(target.spacing)

    def _index(self, index_zyx: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        own = np.empty(3)
        for axis, (source, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            own[source] = shape[axis] - 1 - index_zyx[axis] if flip else index_zyx[axis]
        return own


def pieces_of_slabs(slabs: Iterable[Slab], axis: int) -> Iterator[Piece]:
    """Divide the sums of slabs by their weights, a few planes at a time.

    Args:
        axis: slab axis of the working grid.
    """
    for slab in slabs:
        shape, voxels = np.moveaxis(slab.weights, axis, 0).shape, max(1, PIECE_VALUES // len(slab.sums))
        for planes in plane_pieces(shape, voxels):
            yield Piece(slab.planes.start + planes.start, slab.means(_along(axis, planes)))


def _along(axis: int, cut: slice) -> tuple[slice, ...]:
    """Return the index that cuts an array along one axis."""
    return (*(slice(None),) * axis, cut)


def blocks_on_grid(
    pieces: Iterable[Piece], working: VoxelGrid, target: VoxelGrid, mapping: AxisMapping, halo: int = 0
) -> Iterator[Block]:
    """Bring pieces that follow each other to the target grid: turned, or interpolated linearly where it differs.

    Args:
        pieces: along the axis `mapping.slab_axis`, from its first plane on.
        mapping: between both grids.
        halo: planes of the target on either side of each block, as far as there are so many.
    """
    parts: Iterator[tuple[int, np.ndarray]]
    if mapping.is_all(working, target):
        onwards = slice(None, None, -1 if mapping.flips[0] else 1)  # in the order of the slabs
        parts = ((piece.start, mapping.of(piece.values)[:, onwards]) for piece in pieces)
    else:
        parts = _interpolated(pieces, working, target, mapping)
    count = target.shape_zyx[0]
    for first, values, inner in _with_halo(parts, count, halo):
        size = inner.stop - inner.start
        if mapping.flips[0]:
            around = values.shape[1]
            planes = slice(count - first - size, count - first)
            yield Block(planes, values[:, ::-1], slice(around - inner.stop, around - inner.start))
        else:
            yield Block(slice(first, first + size), values, inner)


def planes_on_grid(volume: np.ndarray, working: VoxelGrid, target: VoxelGrid, planes: slice) -> np.ndarray:
    """Resample planes of the target grid from a volume (outputs, z, y, x) on the working grid; may return a view."""
    mapping = AxisMapping.between(working, target)
    if mapping.is_all(working, target):
        return mapping.of(volume)[:, planes]
    order, neighbours = np.arange(planes.start, planes.stop), _neighbours(working, target, mapping)
    return _at_planes(Piece(0, volume), order, neighbours, mapping)


def _with_halo(
    parts: Iterable[tuple[int, np.ndarray]], count: int, halo: int
) -> Iterator[tuple[int, np.ndarray, slice]]:
    """Hold parts back until the planes behind them are there.

    Args:
        parts: first plane and values (outputs, planes, y, x), one after the other.
        count: of all planes.
        halo: planes wanted on either side.

    Yields:
        The first plane, its values with those around, and which of these are its own.
    """
    if not halo:
        for first, values in parts:
            yield first, values, slice(0, values.shape[1])
        return
    held: np.ndarray = np.empty((0, 0, 0, 0), np.float32)
    begin, done = 0, 0
    for first, values in parts:
        held = values if done == first == begin else np.concatenate([held, values], 1)
        end = begin + held.shape[1]
        ready = count if end == count else end - halo
        if ready <= done:
            continue
        yield done, held, slice(done - begin, ready - begin)
        done = ready
        dropped = max(0, done - halo - begin)
        held, begin = held[:, dropped:].copy(), begin + dropped


def _interpolated(
    pieces: Iterable[Piece], working: VoxelGrid, target: VoxelGrid, mapping: AxisMapping
) -> Iterator[tuple[int, np.ndarray]]:
    """Interpolate at the planes of the target in the order in which pieces come.

    Yields:
        Place of the first plane in that order, and values (outputs, planes, y, x) in it.
    """
    axis, count = mapping.slab_axis, target.shape_zyx[0]
    neighbours = _neighbours(working, target, mapping)
    order = np.arange(count)[:: -1 if mapping.flips[0] else 1]
    lowest, highest = neighbours[0].low[order], neighbours[0].high[order]
    held: Piece | None = None
    done = 0
    for piece in pieces:
        values = piece.values if held is None else np.concatenate([held.values, piece.values], 1 + axis)
        held = Piece(piece.start if held is None else held.start, values)
        waiting = np.flatnonzero(highest[done:] >= held.start + values.shape[1 + axis])
        ready = done + int(waiting[0]) if waiting.size else count
        step = max(1, PIECE_VALUES // max(1, len(values) * math.prod(target.shape_zyx[1:])))
        while done < ready:
            last = min(done + step, ready)
            yield done, _at_planes(held, order[done:last], neighbours, mapping)
            done = last
        if done < count:
            keep = max(0, int(lowest[done:].min()) - held.start)
            held = Piece(held.start + keep, values[_along(1 + axis, slice(keep, None))].copy())


@dataclass(frozen=True)
class _Neighbours:
    """Between which voxels of the working grid those of the target lie, along one axis of the target.

    Attributes:
        low, high: indices along the working grid, kept inside.
        share: of the higher one, float32.
    """

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray

    def between(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Interpolate along an axis of an array."""
        low, high = values.take(self.low, axis), values.take(self.high, axis)
        high -= low
        high *= self.share.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
        low += high
        return low


def _neighbours(working: VoxelGrid, target: VoxelGrid, mapping: AxisMapping) -> list[_Neighbours]:
    """Find the neighbours along the axes (z, y, x) of the target, which run along those of the working grid."""
    count = target.shape_zyx
    first, end = (_continuous_index(working, _point(target, corner)) for corner in (np.zeros(3), np.subtract(count, 1)))
    found = []
    for axis, source in enumerate(mapping.order):
        places, last = np.linspace(first[source], end[source], count[axis]), working.shape_zyx[source] - 1
        low = np.clip(np.floor(places), 0, last).astype(np.intp)
        found.append(_Neighbours(low, np.minimum(low + 1, last), np.clip(places - low, 0, 1).astype(np.float32)))
    return found


def _at_planes(held: Piece, planes: np.ndarray, neighbours: Sequence[_Neighbours], mapping: AxisMapping) -> np.ndarray:
    """Interpolate all outputs at some planes of the target, (outputs, planes, y, x) in the order of `planes`.

    Axis after axis in numpy, which takes a sixth of the time of SimpleITK's filter; the planes one by one at last, for
    they fit the L2 cache.
    """
    z, y, x = neighbours
    low, high = z.low[planes] - held.start, z.high[planes] - held.start
    turned = held.values.transpose(0, *(1 + axis for axis in mapping.order))
    first, last = int(low.min()), int(high.max())
    found = np.empty((len(turned), len(planes), len(y.low), len(x.low)), np.float32)
    for channel, of_channel in zip(turned, found, strict=True):
        around = y.between(x.between(channel[first : last + 1], 2), 1)
        for plane, before, behind, share in zip(of_channel, low - first, high - first, z.share[planes], strict=True):
            np.subtract(around[behind], around[before], out=plane)
            plane *= share
            plane += around[before]
    return found


class Cells:
    """The cells between eight voxels of a working grid in which the voxels of a finer grid lie.

    Args:
        working, target: both grids, their axes in one order.
        planes: of the target that are asked for.

    Attributes:
        around: planes of the working grid between which they lie: all arrays (z, y, x) that are given hold these.
    """

    def __init__(self, working: VoxelGrid, target: VoxelGrid, planes: slice) -> None:
        z, *others = _neighbours(working, target, AxisMapping.between(working, target))
        low, high = z.low[planes], z.high[planes]
        self.around = slice(int(low.min()), int(high.max()) + 1)
        self._axes = (_Neighbours(low - self.around.start, high - self.around.start, z.share[planes]), *others)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Take the nearest of the eight."""
        return values[np.ix_(*(np.where(each.share < 0.5, each.low, each.high) for each in self._axes))]

    def corners(self) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
        """Yield the index of each of the eight, and its share, which add up to 1."""
        for ends in product((False, True), repeat=3):
            sides = [each.high if is_high else each.low for each, is_high in zip(self._axes, ends, strict=True)]
            shares = [each.share if is_high else 1 - each.share for each, is_high in zip(self._axes, ends, strict=True)]
            z, y, x = np.ix_(*shares)
            yield np.ix_(*sides), z * y * x


def _point(grid: VoxelGrid, index_zyx: np.ndarray) -> np.ndarray:
    """Centre (LPS mm) of a voxel."""
    steps = np.asarray(index_zyx, float)[::-1] * grid.spacing
    return np.asarray(grid.origin) + np.reshape(grid.direction, (3, 3)) @ steps


def _continuous_index(grid: VoxelGrid, point: np.ndarray) -> np.ndarray:
    """Index (z, y, x) of a point (LPS mm)."""
    steps = np.linalg.solve(np.reshape(grid.direction, (3, 3)), point - np.asarray(grid.origin))
    return (steps / grid.spacing)[::-1]
