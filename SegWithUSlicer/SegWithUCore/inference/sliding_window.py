"""Windows over a volume, and the weighted mean of what a network says in them; numpy only.

As MONAI's `sliding_window_inference` (mode "gaussian") and as nnU-Net: the same windows in the same order, sums in
float32. `finished_slabs` keeps the sums of those planes alone that a later window may still reach.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product

import numpy as np

from ..models.input_spec import InputSpec
from ..util.progress import Progress, silent
from .engines.base import WindowRunner

OVERLAP = 0.5
"""Of neighbouring windows, in windows."""
SIGMA = 1 / 8
"""Of the Gaussian weights, in windows."""
LEAST_WEIGHT = 1e-3
"""Of MONAI's weights, for the corners of a window."""


@dataclass(frozen=True)
class WindowPlan:
    """Where the windows of a volume lie and how their voxels weigh.

    Attributes:
        shape: of the volume, (z, y, x).
        window: (z, y, x); larger than the volume, it is laid around it evenly.
        starts: first voxels of the windows along each axis, in the padded volume.
        weights: float32, of the shape of a window, nowhere 0.
    """

    shape: tuple[int, ...]
    window: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    weights: np.ndarray

    @classmethod
    def overlapping(cls, shape: Sequence[int], window: Sequence[int]) -> "WindowPlan":
        """Lay the windows as MONAI does: one step apart, the last ones pushed back to the border."""
        starts = tuple(overlapping_starts(*edge) for edge in zip(shape, window, strict=True))
        return cls(tuple(shape), tuple(window), starts, gaussian_weights(window))

    @classmethod
    def evenly_spread(cls, shape: Sequence[int], window: Sequence[int]) -> "WindowPlan":
        """Lay the windows as nnU-Net does: evenly spread between the borders."""
        starts = tuple(spread_starts(*edge) for edge in zip(shape, window, strict=True))
        return cls(tuple(shape), tuple(window), starts, nnunet_weights(window))

    @property
    def count(self) -> int:
        """Number of windows."""
        return math.prod(len(each) for each in self.starts)

    @property
    def inside(self) -> tuple[slice, ...]:
        """Where the volume lies in the padded one."""
        before = [max(0, wanted - size) // 2 for size, wanted in zip(self.shape, self.window, strict=True)]
        return tuple(slice(gap, gap + size) for gap, size in zip(before, self.shape, strict=True))

    def padded(self, image: np.ndarray) -> np.ndarray:
        """Return (channels, z, y, x) with zeros around it where the window is larger."""
        gaps = [max(0, wanted - size) for size, wanted in zip(self.shape, self.window, strict=True)]
        if not any(gaps):
            return image
        return np.pad(image, [(0, 0), *((gap // 2, gap - gap // 2) for gap in gaps)])


def count_windows(shape: Sequence[int], window: Sequence[int]) -> int:
    """Count the windows that cover a volume of `shape`, both (z, y, x)."""
    return math.prod(len(overlapping_starts(*edge)) for edge in zip(shape, window, strict=True))


def overlapping_starts(size: int, window: int) -> tuple[int, ...]:
    """First voxels of the windows along one axis: one step apart, the last one pushed back to the border."""
    step, last = max(1, int(window * (1 - OVERLAP))), max(0, size - window)
    return tuple(min(n * step, last) for n in range(math.ceil(last / step) + 1))


def spread_starts(size: int, window: int) -> tuple[int, ...]:
    """First voxels of nnU-Net's windows along one axis: evenly spread, the first and the last at the borders."""
    last = max(0, size - window)
    count = math.ceil(last / (window * (1 - OVERLAP))) + 1
    step = last / max(1, count - 1)
    return tuple(int(np.round(step * number)) for number in range(count))


def gaussian_weights(window: Sequence[int]) -> np.ndarray:
    """Gaussian weights (z, y, x) of a window as MONAI computes them, float32.

    Those of MONAI differ in the last bit: the exponential function of torch does so between processors.
    """
    weights = np.ones((), np.float32)
    for size in window:
        offsets = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        exponents = offsets * offsets / np.float32(-2 * (size * SIGMA) ** 2)
        weights = weights[..., None] * np.exp(exponents.astype(np.float64)).astype(np.float32)
    return np.maximum(weights, np.float32(max(float(weights.min()), LEAST_WEIGHT)))


def nnunet_weights(window: Sequence[int]) -> np.ndarray:
    """Gaussian weights (z, y, x) of a window as nnU-Net computes them, float32: 1 in its middle and nowhere 0."""
    from scipy import ndimage  # not needed by most models

    peak = np.zeros(window)
    peak[tuple(size // 2 for size in window)] = 1
    weights: np.ndarray = ndimage.gaussian_filter(peak, [size * SIGMA for size in window], mode="constant")
    weights /= weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    return weights.astype(np.float32)


class _Sums:
    """Weighted sums of what a network says in the windows of a volume, for some of its planes.

    Args:
        depth: number of planes.
        axis: of the volume, which the planes follow each other along.

    Attributes:
        outputs: float32 (outputs, depth, the two other axes); empty before the first window.
        weights: float32 (depth, the two other axes).
    """

    def __init__(
        self, runner: WindowRunner, image: np.ndarray, plan: WindowPlan, depth: int, axis: int, progress: Progress
    ) -> None:
        self._runner, self._padded, self._plan, self._progress = runner, plan.padded(image), plan, progress
        self._axis, self._window_weights = axis, np.moveaxis(plan.weights, axis, 0)
        self._spare = np.empty(self._window_weights.shape, np.float32)
        self._done = 0
        self.outputs = np.empty(0, np.float32)
        _, *sides = np.moveaxis(self._padded[0], axis, 0).shape
        self.weights = np.zeros((depth, *sides), np.float32)

    def add_row(self, start: int, plane: int) -> None:
        """Add the windows that begin at plane `start` of the padded volume, where it is plane `plane` of the sums."""
        window = self._plan.window
        starts = [(start,) if axis == self._axis else each for axis, each in enumerate(self._plan.starts)]
        for corner in product(*starts):
            cut = tuple(slice(first, first + side) for first, side in zip(corner, window, strict=True))
            parts = self._runner.window(np.ascontiguousarray(self._padded[(slice(None), *cut)]))
            if not self._done:
                self.outputs = np.zeros((sum(map(len, parts)), *self.weights.shape), np.float32)
            across = (each for axis, each in enumerate(cut) if axis != self._axis)
            place = (slice(plane, plane + window[self._axis]), *across)
            for number, channel in enumerate(chain.from_iterable(parts)):
                total: np.ndarray = self.outputs[number]
                turned = np.moveaxis(channel, self._axis, 0)
                total[place] += np.multiply(turned, self._window_weights, out=self._spare)
            del parts, channel, turned  # before the next window is computed
            self.weights[place] += self._window_weights
            self._done += 1
            done, count = self._done, self._plan.count
            self._progress("segmenting", done / count, f"window {done} of {count}")

    def shift(self, planes: int) -> None:
        """Drop the first planes and begin as many new ones."""
        buffers: list[np.ndarray] = [*self.outputs, self.weights]
        for values in buffers:  # one after the other: numpy copies what overlaps
            kept = len(values) - planes
            values[:kept] = values[planes:]
            values[kept:] = 0


def stitch(
    runner: WindowRunner, image: np.ndarray, plan: WindowPlan, progress: Progress = silent, axis: int = 0
) -> np.ndarray:
    """Weighted mean of what a network says in each window of a volume.

    Only what is linear in the network's last features is averaged; the maps, which are not, follow once on the result.

    Args:
        runner: such as an engine.
        image: normalised float32 (channels, z, y, x); zero, the mean, is laid around it where the window is larger.
        axis: 0 to 2, along which the windows are worked through; MONAI and nnU-Net have the first.

    Returns:
        Float32 (outputs, z, y, x): for an engine those of classes and responses.

    Raises:
        DeviceMemoryError, InputError: as the runner does.
    """
    sums = _Sums(runner, image, plan, max(plan.shape[axis], plan.window[axis]), axis, progress)
    for start in plan.starts[axis]:
        sums.add_row(start, start)
    np.divide(sums.outputs, sums.weights, out=sums.outputs)
    return np.moveaxis(sums.outputs, 1, 1 + axis)[(slice(None), *plan.inside)]


@dataclass(frozen=True)
class Slab:
    """Planes of a volume that no later window reaches.

    Attributes:
        planes: which planes of the volume, along the axis that was swept.
        sums: weighted sums, float32 (outputs, z, y, x); they change once the next slab is asked for.
        weights: sums of weights, float32 (z, y, x); likewise.
    """

    planes: slice
    sums: np.ndarray
    weights: np.ndarray


def finished_slabs(
    runner: WindowRunner, image: np.ndarray, plan: WindowPlan, progress: Progress = silent, axis: int = 0
) -> Iterator[Slab]:
    """Yield the planes of `stitch` as they are finished, before they are divided, and keep no more than a window's.

    Sums are those of `stitch` bit by bit. Between axes the order of additions differs, and with it the last bits.

    Args:
        runner: such as an engine.
        image, axis: as for `stitch`.
    """
    sums = _Sums(runner, image, plan, plan.window[axis], axis, progress)
    inside = plan.inside[axis]
    sides = [each for number, each in enumerate(plan.inside) if number != axis]
    rows = plan.starts[axis]
    for start, following in zip(rows, (*rows[1:], max(plan.shape[axis], plan.window[axis])), strict=True):
        sums.add_row(start, 0)
        first, last = max(start, inside.start), min(following, inside.stop)
        cut = (slice(first - start, last - start), *sides)
        planes = slice(first - inside.start, last - inside.start)
        outputs = np.moveaxis(sums.outputs[(slice(None), *cut)], 1, 1 + axis)
        yield Slab(planes, outputs, np.moveaxis(sums.weights[cut], 0, axis))
        if following < plan.shape[axis]:
            sums.shift(following - start)


def window_plan(shape: Sequence[int], spec: InputSpec) -> WindowPlan:
    """Plan the windows of a volume of `shape` (z, y, x) as a model's input asks for."""
    if spec.nnunet is not None:
        return WindowPlan.evenly_spread(shape, spec.window_zyx)
    return WindowPlan.overlapping(shape, spec.window_zyx)


def stitched(runner: WindowRunner, image: np.ndarray, spec: InputSpec, progress: Progress = silent) -> np.ndarray:
    """As `stitch`, in the windows that a model's input asks for."""
    return stitch(runner, image, window_plan(image.shape[1:], spec), progress)
