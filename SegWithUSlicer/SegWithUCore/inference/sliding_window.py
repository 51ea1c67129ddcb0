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


def overlapping_starts(size: int, window: int) -> tuple[int, ...]:
    """First voxels of the windows along one axis: one step apart, the last one pushed back to the border."""
    step, last = max(1, int(window * (1 - OVERLAP))), max(0, size - window)
    return tuple(min(n * step, last) for n in range(math.ceil(last / step) + 1))


def spread_starts(size: int, window: int) -> tuple[int, ...]:
    """First voxels of nnU-Net's windows along one axis: evenly spread, the first and the last at the borders."""
    last = max(0, size - window)
    count = math.ceil(last / max(1, window * (1 - OVERLAP))) + 1
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


@dataclass(frozen=True)
class Slab:
    """Planes of a volume that no later window reaches.

    Attributes:
        planes: which planes of the volume, along the slab axis.
        sums: weighted sums, float32 (z, y, x) of each output; they change once the next slab is asked for.
        weights: sums of weights, float32 (z, y, x); likewise.
        is_weighted: whether the sums are; those of a single window are its answer, since a copy would take as much
            memory again.
    """

    planes: slice
    sums: Sequence[np.ndarray]
    weights: np.ndarray
    is_weighted: bool = True

    def means(self, cut: tuple[slice, ...]) -> np.ndarray:
        """Compute the weighted means of some voxels, (outputs, z, y, x)."""
        values, weights = np.stack([total[cut] for total in self.sums]), self.weights[cut]
        if not self.is_weighted:
            values *= weights
        return np.divide(values, weights, out=values)


def finished_slabs(
    runner: WindowRunner, image: np.ndarray, plan: WindowPlan, progress: Progress = silent, axis: int = 0
) -> Iterator[Slab]:
    """Yield weighted sums of what a network says in the windows of a volume, and keep no more planes than a window's.

    Args:
        runner: such as an engine.
        image: normalised float32 (channels, z, y, x); zero, the mean, is laid around it where the window is larger.
        axis: 0 to 2, along which the windows are worked through; MONAI and nnU-Net have the first. Between axes the
            order of additions differs, and with it the last bits.

    Raises:
        DeviceMemoryError, InputError: as the runner does.
    """
    padded, window, window_weights = plan.padded(image), plan.window, np.moveaxis(plan.weights, axis, 0)
    spare = np.empty(window_weights.shape, np.float32)
    depth, *sides = np.moveaxis(padded[0], axis, 0).shape
    outputs = list[np.ndarray]()  # (planes of a window, the two other axes) of each
    weights: np.ndarray = np.zeros((window[axis], *sides), np.float32)
    inside, rows, done = plan.inside, plan.starts[axis], 0
    for start, following in zip(rows, (*rows[1:], depth), strict=True):
        for corner in product(*(each if number != axis else (start,) for number, each in enumerate(plan.starts))):
            cut = tuple(slice(first, first + side) for first, side in zip(corner, window, strict=True))
            parts = runner.window(np.ascontiguousarray(padded[(slice(None), *cut)]))
            found = [np.moveaxis(channel, axis, 0) for channel in chain.from_iterable(parts)]
            place = (slice(None), *(each for number, each in enumerate(cut) if number != axis))
            if plan.count == 1:
                outputs = found
            elif not done:
                outputs = list(np.zeros((len(found), *weights.shape), np.float32))
            for total, channel in zip(outputs, found, strict=True):
                if plan.count > 1:
                    total[place] += np.multiply(channel, window_weights, out=spare)
            del parts, found, channel  # before the next window is computed
            weights[place] += window_weights
            done += 1
            progress("segmenting", done / plan.count, f"window {done} of {plan.count}")
        first, last = max(start, inside[axis].start), min(following, inside[axis].stop)
        within = (slice(first - start, last - start), *(each for number, each in enumerate(inside) if number != axis))
        planes = slice(first - inside[axis].start, last - inside[axis].start)
        sums = [np.moveaxis(total[within], 0, axis) for total in outputs]
        yield Slab(planes, sums, np.moveaxis(weights[within], 0, axis), plan.count > 1)
        if following < depth:
            kept = start + window[axis] - following  # planes that later windows reach
            for values in (*outputs, weights):  # one after the other: numpy copies what overlaps
                values[:kept] = values[len(values) - kept :]
                values[kept:] = 0


def stitch(
    runner: WindowRunner, image: np.ndarray, plan: WindowPlan, progress: Progress = silent, axis: int = 0
) -> np.ndarray:
    """Average a network's outputs over all windows of a volume, weighted; arguments as for `finished_slabs`.

    Only what is linear in the network's last features is averaged; the maps, which are not, follow once on the result.

    Returns:
        Float32 (outputs, z, y, x): for an engine those of classes and responses.
    """
    found = np.empty(0, np.float32)
    for slab in finished_slabs(runner, image, plan, progress, axis):
        if not found.size:
            found = np.empty((len(slab.sums), *plan.shape), np.float32)
        within = (slice(None), *(slab.planes if number == axis else slice(None) for number in range(3)))
        found[within] = slab.means(())
    return found


def window_plan(shape: Sequence[int], spec: InputSpec) -> WindowPlan:
    """Plan the windows of a volume of `shape` (z, y, x) as a model's input asks for."""
    if spec.nnunet is not None:
        return WindowPlan.evenly_spread(shape, spec.window_zyx)
    return WindowPlan.overlapping(shape, spec.window_zyx)


def stitched(runner: WindowRunner, image: np.ndarray, spec: InputSpec, progress: Progress = silent) -> np.ndarray:
    """As `stitch`, in the windows that a model's input asks for."""
    return stitch(runner, image, window_plan(image.shape[1:], spec), progress)
