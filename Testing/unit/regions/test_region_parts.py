"""The steps of making regions against slow, obvious ways to do the same."""

from collections import deque
from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from SegWithUCore.regions.uncertain_voxels import (
    HALF_OF_26,
    UncertainVoxels,
    expected_wrong_voxels,
    thickness_mm,
    uncertain_voxels,
)
from SegWithUCore.regions.watershed import basins, error_density

SHAPE = (14, 17, 19)


@pytest.fixture(params=[0.05, 0.4, 0.9])
def error(request: pytest.FixtureRequest) -> np.ndarray:
    rng = np.random.default_rng(7)
    smooth = gaussian_filter(rng.random(SHAPE), 1.5)
    values = (smooth - smooth.min()) / np.ptp(smooth)
    values[rng.random(SHAPE) > request.param] = 0.1
    return values.astype(np.float32)


@pytest.fixture
def classes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    return (rng.random(SHAPE) < 0.5).astype(np.uint8), np.full(SHAPE, 2, np.uint8)


@pytest.fixture
def voxels(error: np.ndarray, classes: tuple[np.ndarray, np.ndarray]) -> UncertainVoxels:
    return uncertain_voxels(error, *classes, 0.25)


def test_the_list_holds_every_voxel_above_the_threshold_in_scan_order(
    error: np.ndarray, voxels: UncertainVoxels
) -> None:
    np.testing.assert_array_equal(voxels.zyx, np.argwhere(error > 0.25))
    np.testing.assert_array_equal(voxels.probability, error[error > 0.25].astype(float))
    assert expected_wrong_voxels(error) == pytest.approx(error.sum(dtype=float))


def test_slabs_do_not_change_the_list(
    error: np.ndarray, voxels: UncertainVoxels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("SegWithUCore.regions.uncertain_voxels._SLAB_VOXELS", 3 * SHAPE[1] * SHAPE[2])
    again = uncertain_voxels(error, np.zeros(SHAPE, int), np.zeros(SHAPE, int), 0.25)
    np.testing.assert_array_equal(again.zyx, voxels.zyx)
    assert expected_wrong_voxels(error) == pytest.approx(error.sum(dtype=float))


def test_neighbours_are_those_of_the_same_contest_and_never_across_the_edge(
    voxels: UncertainVoxels, classes: tuple[np.ndarray, np.ndarray]
) -> None:
    place = {tuple(zyx): index for index, zyx in enumerate(voxels.zyx.tolist())}
    for offset, pairs in zip(HALF_OF_26, voxels.neighbours, strict=True):
        expected = {
            (index, place[there])
            for zyx, index in place.items()
            if (there := tuple(np.add(zyx, offset).tolist())) in place and classes[0][zyx] == classes[0][there]
        }
        assert set(zip(*(part.tolist() for part in pairs), strict=True)) == expected


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.2)])
def test_density_is_the_gaussian_mean_of_what_is_uncertain(
    error: np.ndarray, voxels: UncertainVoxels, spacing: tuple[float, float, float]
) -> None:
    kept = np.pad(np.where(error > 0.25, error, 0).astype(float), 8)
    smooth = gaussian_filter(kept, 2 / np.array(spacing), truncate=3, mode="constant")[8:-8, 8:-8, 8:-8]
    np.testing.assert_allclose(error_density(voxels, np.array(spacing), 2.0), smooth[error > 0.25], rtol=1e-4)


@pytest.mark.parametrize("spacing", [1.0, 0.5])
def test_slabs_do_not_change_the_density(
    voxels: UncertainVoxels, spacing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = error_density(voxels, np.full(3, spacing), 0.8)
    monkeypatch.setattr("SegWithUCore.regions.watershed._SLAB_BINS", 1)
    np.testing.assert_array_equal(error_density(voxels, np.full(3, spacing), 0.8), whole)


def test_density_of_fine_voxels_is_near_the_gaussian_mean() -> None:
    fine = (gaussian_filter(np.random.default_rng(9).random((60, 60, 60)), 5) * 60 % 1).astype(np.float32)
    voxels = uncertain_voxels(fine, np.zeros(fine.shape, int), np.zeros(fine.shape, int), 0.6)
    exact = gaussian_filter(np.where(fine > 0.6, fine, 0).astype(float), 2 / 0.4, truncate=4, mode="constant")
    close = error_density(voxels, np.full(3, 0.4), 2.0)
    assert np.abs(close - exact[fine > 0.6]).max() < 0.03
    assert np.abs(close - exact[fine > 0.6]).mean() < 0.006


def test_without_merging_every_voxel_goes_where_steepest_ascent_leads(voxels: UncertainVoxels) -> None:
    density = np.random.default_rng(10).permutation(len(voxels)).astype(np.float32)
    group = basins(voxels, density, np.ones(3), split=1.1, extent_mm=1e9)
    place = {tuple(zyx): index for index, zyx in enumerate(voxels.zyx.tolist())}

    def summit(index: int) -> int:
        around = [tuple(np.add(voxels.zyx[index], step).tolist()) for step in product((-1, 0, 1), repeat=3)]
        near = [
            place[zyx] for zyx in around if zyx in place and voxels.class_pair[place[zyx]] == voxels.class_pair[index]
        ]
        highest = max(near, key=lambda other: density[other])
        return index if highest == index else summit(highest)

    _, expected = np.unique([summit(index) for index in range(len(voxels))], return_inverse=True)
    np.testing.assert_array_equal(group, expected)


def test_with_everything_merged_basins_are_connected_components(voxels: UncertainVoxels) -> None:
    group = basins(voxels, voxels.probability.astype(np.float32), np.ones(3), split=0.0, extent_mm=1e9)
    place = {tuple(zyx): index for index, zyx in enumerate(voxels.zyx.tolist())}
    component = np.full(len(voxels), -1)
    for start in range(len(voxels)):
        if component[start] >= 0:
            continue
        component[start], queue = start, deque([start])
        while queue:
            here = queue.popleft()
            for step in product((-1, 0, 1), repeat=3):
                there = place.get(tuple(np.add(voxels.zyx[here], step).tolist()))
                if there is not None and component[there] < 0 and voxels.class_pair[there] == voxels.class_pair[here]:
                    component[there] = start
                    queue.append(there)
    _, expected = np.unique(component, return_inverse=True)
    assert len({*zip(group.tolist(), expected.tolist(), strict=True)}) == len(set(expected.tolist())) == group.max() + 1


def test_thickness_is_the_shortest_run_along_an_axis(error: np.ndarray, voxels: UncertainVoxels) -> None:
    spacing = np.array([2.0, 1.0, 0.5])
    inside = error > 0.25

    def run(zyx: list[int], axis: int) -> int:
        line = np.moveaxis(inside, axis, -1)[tuple(np.delete(zyx, axis))]
        gaps = np.flatnonzero(~line)
        before, after = gaps[gaps < zyx[axis]], gaps[gaps > zyx[axis]]
        return int((after.min() if after.size else line.size) - (before.max() if before.size else -1) - 1)

    expected = [min(run(zyx, axis) * spacing[axis] for axis in range(3)) for zyx in voxels.zyx.tolist()]
    np.testing.assert_allclose(thickness_mm(voxels, spacing), expected)


def test_groups_that_stay_below_the_haze_are_left_out(voxels: UncertainVoxels) -> None:
    density = voxels.probability.astype(np.float32)
    every = basins(voxels, density, np.ones(3), split=1.1, extent_mm=1e9)
    left = basins(voxels, density, np.ones(3), split=1.1, extent_mm=1e9, min_density=0.6)
    highest = np.array([density[every == number].max() for number in range(every.max() + 1)])
    np.testing.assert_array_equal(left >= 0, highest[every] >= 0.6)
    assert set(left.tolist()) - {-1} == set(range((highest >= 0.6).sum()))
