"""Windows over a volume whose head pays only above a gate: sums on two grids, and slabs of what `gated_maps` makes.

Logits and detail are averaged over windows on the network's grid, as in `sliding_window`; responses on the coarse grid
that they are made on. A window that begins within a coarse voxel counts in both that it touches, half in each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..calibration.gate import Gate
from ..models.input_spec import InputSpec
from ..util.progress import Progress, silent
from .coarse_grid import pooled
from .engines.base import Engine
from .gated_maps import Parts, coarse_maps, gated
from .sliding_window import WindowPlan, stitched, window_plan

PIECE_VALUES = 1 << 22
"""Values of logits and detail that are worked on at once: 16 MB, and a few times so much beside them."""


@dataclass(frozen=True)
class _Span:
    """A part of one axis of the padded volume, in whole coarse voxels.

    Attributes:
        step: voxels in a coarse one.
        cells: first coarse voxel and the one behind the last; one more on either side than the volume needs.
        voxels: they hold.
        inside: voxels of the volume.
    """

    step: int
    cells: slice
    voxels: slice
    inside: slice

    @classmethod
    def around(cls, inside: slice, length: int, step: int) -> "_Span":
        """Span the coarse voxels that the volume's are interpolated from, of `length` voxels in all."""
        low, high = max(0, inside.start // step - 1), min(-(-length // step), -(-inside.stop // step) + 1)
        return cls(step, slice(low, high), slice(low * step, min(high * step, length)), inside)


class _Sums:
    """Weighted sums on one grid, for as many planes as a window reaches; the swept axis comes first.

    Args:
        sides: of the padded volume on this grid, without the swept axis.
    """

    def __init__(self, depth: int, sides: Sequence[int]) -> None:
        self.outputs = np.empty(0, np.float32)
        self.weights = np.zeros((depth, *sides), np.float32)
        self._spare = np.empty(0, np.float32)

    def add(self, channels: Sequence[np.ndarray], weights: np.ndarray, corner: Sequence[int]) -> None:
        """Add what a window says, (z, y, x) each with the swept axis first, from the voxel `corner` on."""
        if not self.outputs.size:
            self.outputs = np.zeros((len(channels), *self.weights.shape), np.float32)
        if self._spare.shape != weights.shape:
            self._spare = np.empty(weights.shape, np.float32)
        place = tuple(slice(first, first + size) for first, size in zip(corner, weights.shape, strict=True))
        for number, channel in enumerate(channels):
            total: np.ndarray = self.outputs[number]
            total[place] += np.multiply(channel, weights, out=self._spare)
        self.weights[place] += weights

    def shift(self, planes: int) -> None:
        """Drop the first planes and begin as many new ones."""
        for values in [*self.outputs, self.weights]:  # one after the other: numpy copies what overlaps
            kept = len(values) - planes
            values[:kept] = values[planes:]
            values[kept:] = 0

    def mean(self, planes: slice, sides: Sequence[slice]) -> np.ndarray:
        """Return weighted means, (channels, planes, *sides)."""
        cut = (planes, *sides)
        found: np.ndarray = self.outputs[(slice(None), *cut)] / self.weights[cut]
        return found


class _Windows:
    """Sums of all windows that begin at one plane after the other."""

    def __init__(
        self, engine: Engine, image: np.ndarray, plan: WindowPlan, axis: int, steps: Sequence[int], progress: Progress
    ) -> None:
        self._engine, self._padded, self._plan, self._progress = engine, plan.padded(image), plan, progress
        self._axis, self._steps = axis, steps
        self._weights = {(0, 0, 0): np.ascontiguousarray(np.moveaxis(plan.weights, axis, 0))}
        self._coarse_weights: dict[tuple[int, ...], np.ndarray] = {}
        self._done = 0
        self.lengths = _swept_first(self._padded.shape[1:], axis)
        depth = plan.window[axis]
        sides = [-(-length // step) for length, step in zip(self.lengths[1:], steps[1:], strict=True)]
        self.fine = _Sums(depth, self.lengths[1:])
        self.coarse = _Sums(depth // steps[0] + 1, sides)

    def add_row(self, start: int) -> None:
        """Add the windows that begin at plane `start` of the padded volume, with which both sums begin."""
        window = self._plan.window
        starts = [(start,) if axis == self._axis else each for axis, each in enumerate(self._plan.starts)]
        for corner in product(*starts):
            cut = tuple(slice(first, first + side) for first, side in zip(corner, window, strict=True))
            parts = self._engine.window_parts(np.ascontiguousarray(self._padded[(slice(None), *cut)]))
            logits, detail, responses = (np.moveaxis(part, 1 + self._axis, 1) for part in parts)
            _, *across = turned = _swept_first(corner, self._axis)
            self.fine.add([*logits, *detail], self._weights[0, 0, 0], (0, *across))
            rests = tuple(first % step for first, step in zip(turned, self._steps, strict=True))
            cells = [first // step for first, step in zip(across, self._steps[1:], strict=True)]
            self.coarse.add(list(_moved(responses, rests)), self._coarse(rests), (0, *cells))
            del parts, logits, detail, responses  # before the next window is computed
            self._done += 1
            self._progress("segmenting", self._done / self._plan.count, f"window {self._done} of {self._plan.count}")

    def _coarse(self, rests: tuple[int, ...]) -> np.ndarray:
        """Weights of a window's coarse voxels, of which it fills the outer ones half where it begins within one."""
        if rests not in self._coarse_weights:
            gaps = [(rest, rest) for rest in rests]
            self._coarse_weights[rests] = pooled(np.pad(self._weights[0, 0, 0], gaps)[None], self._steps)[0]
        return self._coarse_weights[rests]

    def shift(self, start: int, following: int) -> None:
        """Go on with the windows that begin at plane `following`."""
        self.fine.shift(following - start)
        self.coarse.shift(following // self._steps[0] - start // self._steps[0])


def _moved(values: np.ndarray, rests: Sequence[int]) -> np.ndarray:
    """Average neighbours along the axes on which a window begins within a coarse voxel."""
    for axis, rest in enumerate(rests, 1):
        if rest:
            before = (slice(None),) * axis
            ends = values[(*before, slice(0, 1))], values[(*before, slice(-1, None))]
            between = (values[(*before, slice(None, -1))] + values[(*before, slice(1, None))]) * np.float32(0.5)
            values = np.concatenate([ends[0], between, ends[1]], axis)
    return values


def gated_planes(
    engine: Engine, gate: Gate, image: np.ndarray, plan: WindowPlan, progress: Progress = silent, axis: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what `gated` gives of a volume, some planes at a time, as soon as no later window reaches them.

    Args:
        engine: has `steps`, which divide the window.
        image: normalised float32 (channels, z, y, x), as for `sliding_window.stitch`.
        axis: 0 to 2, along which the windows are worked through.

    Yields:
        The first plane along that axis, and values (channels, z, y, x).

    Raises:
        DeviceMemoryError, InputError: as the engine does.
    """
    assert engine.steps is not None
    steps = _swept_first(engine.steps, axis)
    windows = _Windows(engine, image, plan, axis, steps, progress)
    inside = _swept_first(plan.inside, axis)
    spans = [_Span.around(*each) for each in zip(inside, windows.lengths, steps, strict=True)]
    maker = _Maker(engine, gate, spans)
    rows = plan.starts[axis]
    for start, following in zip(rows, (*rows[1:], windows.lengths[0]), strict=True):
        windows.add_row(start)
        for first, values in maker.finished(windows, start, following):
            yield first, np.moveaxis(values, 1, 1 + axis)
        if following < windows.lengths[0]:
            windows.shift(start, following)


def network_answer(engine: Engine, image: np.ndarray, spec: InputSpec, gate: Gate | None) -> np.ndarray:
    """Run a network over a volume: logits and responses as `stitched`, or what `gated` gives, (channels, z, y, x)."""
    if gate is None:
        return stitched(engine, image, spec)
    plan = window_plan(image.shape[1:], spec)
    return np.concatenate([values for _, values in gated_planes(engine, gate, image, plan)], 1)


class _Maker:
    """Makes maps of finished planes, and holds back those whose neighbours are not finished yet."""

    def __init__(self, engine: Engine, gate: Gate, spans: Sequence[_Span]) -> None:
        self._engine, self._gate = engine, gate
        self._swept, *self._sides = spans
        self._steps = (spans[0].step, spans[1].step, spans[2].step)
        self._fine_from, self._cells_from = self._swept.voxels.start, self._swept.cells.start
        self._reached = self._fine_from
        nothing: np.ndarray = np.empty((0, 0), np.float32)
        self._fine = self._responses = self._maps = nothing

    def finished(self, windows: _Windows, start: int, following: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield first plane and values of what is complete once windows from `following` on alone are to come."""
        step, end = self._swept.step, self._swept.voxels.stop
        area = max(1, windows.fine.outputs[0, 0].size * len(windows.fine.outputs))
        planes = max(step, PIECE_VALUES // area // step * step)
        stop = min(following, end)
        while self._reached < stop:
            upto = min(self._reached // step * step + planes, stop)
            self._take(windows, start, upto)
            ready = end if upto == end else upto // step * step - (step - 1)
            if ready > self._fine_from:
                first, last = max(self._fine_from, self._swept.inside.start), min(ready, self._swept.inside.stop)
                if last > first:
                    yield first - self._swept.inside.start, self._made(first, last)
                self._drop(ready)

    def _take(self, windows: _Windows, start: int, upto: int) -> None:
        """Take planes up to `upto` over from the sums, and the coarse ones that are complete with them."""
        step = self._swept.step
        sides = [span.voxels for span in self._sides]
        fine = windows.fine.mean(slice(self._reached - start, upto - start), sides)
        self._fine = _joined(self._fine, fine)
        first = self._cells_from + (self._maps.shape[1] if self._maps.size else 0)
        last = self._swept.cells.stop if upto == self._swept.voxels.stop else upto // step
        self._reached = upto
        if last <= first:
            return
        base = start // step
        cells = [span.cells for span in self._sides]
        responses = windows.coarse.mean(slice(first - base, last - base), cells)
        around = self._fine[:, first * step - self._fine_from :][:, : (last - first) * step]
        self._responses = _joined(self._responses, responses)
        maps = coarse_maps(self._engine, self._gate, pooled(around, self._steps), responses)
        self._maps = _joined(self._maps, maps)

    def _made(self, first: int, last: int) -> np.ndarray:
        cut = [slice(s.inside.start - s.voxels.start, s.inside.stop - s.voxels.start) for s in self._sides]
        fine = self._fine[(slice(None), slice(first - self._fine_from, last - self._fine_from), *cut)]
        begin = (self._cells_from, self._sides[0].cells.start, self._sides[1].cells.start)
        corner = (first, self._sides[0].inside.start, self._sides[1].inside.start)
        return gated(self._engine, self._gate, Parts(fine, self._responses, begin, self._steps, corner), self._maps)

    def _drop(self, ready: int) -> None:
        """Keep planes from `ready` on, and the coarse ones that these are interpolated from."""
        self._fine = self._fine[:, ready - self._fine_from :].copy()
        self._fine_from = ready
        gone = max(0, ready // self._swept.step - 1 - self._cells_from)
        self._responses, self._maps = self._responses[:, gone:].copy(), self._maps[:, gone:].copy()
        self._cells_from += gone


def _joined(held: np.ndarray, more: np.ndarray) -> np.ndarray:
    return np.concatenate([held, more], 1) if held.size else more


def _swept_first(values: Sequence, axis: int) -> tuple:  # type: ignore[type-arg]
    """Return one entry an axis with that of the swept one first."""
    return (values[axis], *(each for number, each in enumerate(values) if number != axis))
