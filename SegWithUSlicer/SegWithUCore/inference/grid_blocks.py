"""Stitched outputs brought to the input's own grid, some planes at a time, with as many around them as are wanted.

A `Piece` is some planes of the working grid, a `Block` some planes of the input's grid: the last step before the maps.
What needs a neighbourhood of each voxel asks for a halo, and works block by block like all else.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid
from .sliding_window import Slab

PIECE_VALUES = 1 << 24
"""Values of all outputs that are worked on at once: 64 MB, and a few times that for copies."""
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
        """Find the nearest axes."""
        own, wanted = (np.reshape(grid.direction, (3, 3)) for grid in (working, target))
        along = wanted.T @ own  # how each axis x, y, z of the target runs along each of the working grid
        source = np.abs(along).argmax(1)
        flips = tuple(bool(along[axis, source[axis]] < 0) for axis in (2, 1, 0))
        z, y, x = (int(2 - source[axis]) for axis in (2, 1, 0))
        return cls((z, y, x), (flips[0], flips[1], flips[2]))

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
        for piece in pieces_of_volume(slab.sums, axis):
            planes = slice(piece.start, piece.start + piece.values.shape[1 + axis])
            yield Piece(slab.planes.start + piece.start, piece.values / slab.weights[_along(axis, planes)])


def pieces_of_volume(stitched: np.ndarray, axis: int) -> Iterator[Piece]:
    """Cut (outputs, z, y, x) along an axis so that no piece holds more than `PIECE_VALUES`, or is one plane."""
    size = stitched.shape[1 + axis]
    step = max(1, PIECE_VALUES * size // max(1, stitched.size))
    for start in range(0, size, step):
        yield Piece(start, stitched[_along(1 + axis, slice(start, min(start + step, size)))])


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
    order = np.arange(planes.start, planes.stop)
    needed = np.array([_needed_planes(plane, working, target, mapping.slab_axis) for plane in order])
    return _at_planes(Piece(0, volume), needed, order, working, target, mapping.slab_axis)


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
    order = np.arange(count)[:: -1 if mapping.flips[0] else 1]
    needed = np.array([_needed_planes(plane, working, target, axis) for plane in order])
    held: Piece | None = None
    done = 0
    for piece in pieces:
        values = piece.values if held is None else np.concatenate([held.values, piece.values], 1 + axis)
        held = Piece(piece.start if held is None else held.start, values)
        end = held.start + values.shape[1 + axis]
        waiting = np.flatnonzero(needed[done:, 1] >= end)
        ready = done + int(waiting[0]) if waiting.size else count
        step = max(1, PIECE_VALUES // max(1, len(values) * math.prod(target.shape_zyx[1:])))
        while done < ready:
            last = min(done + step, ready)
            yield done, _at_planes(held, needed[done:last], order[done:last], working, target, axis)
            done = last
        if done < count:
            keep = max(0, int(needed[done:, 0].min()) - held.start)
            held = Piece(held.start + keep, values[_along(1 + axis, slice(keep, None))].copy())


def _needed_planes(plane: int, working: VoxelGrid, target: VoxelGrid, axis: int) -> tuple[int, int]:
    """Return the first and last plane of the working grid that a target plane is interpolated from."""
    _, height, width = target.shape_zyx
    corners = [np.array([plane, y, x]) for y in (0, height - 1) for x in (0, width - 1)]
    places = [_continuous_index(working, _point(target, corner))[axis] for corner in corners]
    last = working.shape_zyx[axis] - 1
    low, high = math.floor(min(places) - 1e-6), math.floor(max(places) + 1e-6) + 1
    return min(max(low, 0), last), min(max(high, 0), last)


def _at_planes(
    held: Piece, needed: np.ndarray, planes: np.ndarray, working: VoxelGrid, target: VoxelGrid, axis: int
) -> np.ndarray:
    """Interpolate all outputs at some planes of the target, (outputs, planes, y, x) in the order of `planes`."""
    first, last = int(needed[:, 0].min()), int(needed[:, 1].max())
    within = _along(axis, slice(first - held.start, last + 1 - held.start))
    origin = np.zeros(3)
    origin[axis] = first
    source = replace(working, origin=tuple(_point(working, origin).tolist()))
    width, height, _ = target.size
    low = int(planes.min())
    grid = sitk.Image([width, height, len(planes)], sitk.sitkUInt8)
    replace(target, origin=tuple(_point(target, np.array([low, 0, 0])).tolist())).put_on(grid)
    found = np.empty((len(held.values), len(planes), height, width), np.float32)
    for number, channel in enumerate(held.values):
        part = source.put_on(sitk.GetImageFromArray(np.ascontiguousarray(channel[within])))
        result = sitk.Resample(part, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)
        found[number] = sitk.GetArrayViewFromImage(result)  # a view, which holds no longer than the image
    return found if len(planes) < 2 or planes[0] < planes[1] else found[:, ::-1]


def _point(grid: VoxelGrid, index_zyx: np.ndarray) -> np.ndarray:
    """Centre (LPS mm) of a voxel."""
    steps = np.asarray(index_zyx, float)[::-1] * grid.spacing
    return np.asarray(grid.origin) + np.reshape(grid.direction, (3, 3)) @ steps


def _continuous_index(grid: VoxelGrid, point: np.ndarray) -> np.ndarray:
    """Index (z, y, x) of a point (LPS mm)."""
    steps = np.linalg.solve(np.reshape(grid.direction, (3, 3)), point - np.asarray(grid.origin))
    return (steps / grid.spacing)[::-1]
