"""Our own sliding window against MONAI's and, for nnU-Net's spread of windows, against a plain loop in torch."""

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from torch.nn import functional

from SegWithUCore.inference.sliding_window import (
    OVERLAP,
    WindowPlan,
    finished_slabs,
    gaussian_weights,
    nnunet_weights,
    overlapping_starts,
    stitch,
)

CASES = [
    ((61, 44, 38), (16, 20, 12)),  # several windows along each axis, the last ones pushed back
    ((16, 20, 12), (16, 20, 12)),
    ((17, 21, 13), (16, 20, 12)),
    ((7, 50, 12), (16, 20, 12)),  # smaller than the window along one axis
    ((50, 9, 5), (16, 20, 12)),
    ((3, 4, 5), (16, 20, 12)),
    ((40, 33, 27), (15, 11, 7)),  # odd windows
]


def channels_of(image: torch.Tensor) -> torch.Tensor:
    """A network whose answer depends on where in its window a voxel lies: (batch, 5, z, y, x)."""
    mixing = torch.randn(5, image.shape[1], 3, 3, 3, generator=torch.Generator().manual_seed(1))
    return torch.tanh(functional.conv3d(image, mixing, padding=1)) * 3


class InParts:
    """The same network, as an engine that gives two arrays."""

    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        assert image.flags.c_contiguous and image.dtype == np.float32
        found = channels_of(torch.from_numpy(image)[None])[0].numpy()
        found.flags.writeable = False  # an engine may keep what it gives
        return found[:2], found[2:]


def volume(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)


def by_monai(image: np.ndarray, window: Sequence[int], overlap: float, weights: np.ndarray | None) -> np.ndarray:
    found = sliding_window_inference(
        torch.from_numpy(image)[None],
        tuple(window),
        1,
        channels_of,
        overlap=overlap,
        mode="gaussian",
        roi_weight_map=None if weights is None else torch.from_numpy(weights),
    )
    result: np.ndarray = found[0].numpy()
    return result


@pytest.mark.parametrize(("shape", "window"), CASES)
def test_equals_monai_bit_for_bit(shape: tuple[int, ...], window: tuple[int, ...]) -> None:
    image, plan = volume(shape), WindowPlan.overlapping(shape, window)
    found = stitch(InParts(), image, plan)
    np.testing.assert_array_equal(found, by_monai(image, window, OVERLAP, plan.weights))
    np.testing.assert_allclose(found, by_monai(image, window, OVERLAP, None), rtol=1e-5, atol=1e-6)


def test_weights_are_monais_but_for_the_last_bit_of_torchs_exponential() -> None:
    for window in [(16, 20, 12), (48, 64, 48), (96, 96, 96), (15, 1, 7), (2, 3, 4)]:
        monai = compute_importance_map(window, mode="gaussian").numpy()
        assert np.abs(gaussian_weights(window) / monai - 1).max() < 4e-7


def test_windows_lie_as_monais_do() -> None:
    for size, window in product(range(1, 70), (1, 2, 7, 16, 31)):
        padded = max(size, window)
        step = window if padded == window else max(1, int(window * (1 - OVERLAP)))
        expected = [place[0].start for place in dense_patch_slices([padded], [window], [step])]
        assert list(overlapping_starts(size, window)) == expected, (size, window)


def by_plain_loop(image: np.ndarray, plan: WindowPlan) -> np.ndarray:
    """Weighted mean over the windows of a plan, in torch."""
    gaps = [max(0, wanted - size) for size, wanted in zip(plan.shape, plan.window, strict=True)]
    margins = [side for gap in reversed(gaps) for side in (gap // 2, gap - gap // 2)]
    padded, weights = functional.pad(torch.from_numpy(image), margins), torch.from_numpy(plan.weights)
    total, weight = torch.zeros((5, *padded.shape[1:])), torch.zeros(padded.shape[1:])
    for corner in product(*plan.starts):
        place = tuple(slice(start, start + size) for start, size in zip(corner, plan.window, strict=True))
        total[(slice(None), *place)] += channels_of(padded[(slice(None), *place)][None])[0] * weights
        weight[place] += weights
    result: np.ndarray = (total / weight)[(slice(None), *plan.inside)].numpy()
    return result


@pytest.mark.parametrize(("shape", "window"), CASES)
def test_nnunets_windows_equal_a_plain_loop_bit_for_bit(shape: tuple[int, ...], window: tuple[int, ...]) -> None:
    image, plan = volume(shape), WindowPlan.evenly_spread(shape, window)
    np.testing.assert_array_equal(plan.weights, nnunet_weights(window))
    np.testing.assert_array_equal(stitch(InParts(), image, plan), by_plain_loop(image, plan))


@pytest.mark.parametrize(("shape", "window"), CASES)
@pytest.mark.parametrize("lay", [WindowPlan.overlapping, WindowPlan.evenly_spread])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slabs_are_the_whole_cut_in_order_and_keep_a_window_of_planes(
    axis: int, lay: type[WindowPlan], shape: tuple[int, ...], window: tuple[int, ...]
) -> None:
    image, plan = volume(shape), lay(shape, window)
    whole = np.moveaxis(stitch(InParts(), image, plan, axis=axis), 1 + axis, 1)
    ends = [0]
    for slab in finished_slabs(InParts(), image, plan, axis=axis):
        assert slab.planes.start == ends[-1]
        ends.append(slab.planes.stop)
        found = np.moveaxis(slab.means(()), 1 + axis, 1)
        np.testing.assert_array_equal(found, whole[:, slab.planes])
    assert ends[-1] == shape[axis]
    assert all(stop - start <= window[axis] for start, stop in pairwise(ends))


@pytest.mark.parametrize("axis", [1, 2])
def test_along_another_axis_only_the_last_bits_differ(axis: int) -> None:
    (shape, window), *_ = CASES
    image, plan = volume(shape), WindowPlan.overlapping(shape, window)
    found, expected = (stitch(InParts(), image, plan, axis=each) for each in (axis, 0))
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
