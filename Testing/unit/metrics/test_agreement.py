"""How well two readers agree: distances of the surfaces against a distance transform, and known answers."""

import numpy as np
import pytest
from region_phantoms import ball
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from SegWithUCore.metrics.overlap import agreement_of, surface_distances

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.8, 0.7)]


def _by_transform(first: np.ndarray, second: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """The same distances, by the distance of every voxel to the other surface."""
    surfaces = [mask & ~binary_erosion(mask) for mask in (first, second)]
    pairs = (surfaces, surfaces[::-1])
    return np.concatenate([distance_transform_edt(~there, sampling=spacing)[here] for here, there in pairs])


def _blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two masks that resemble each other, of several parts, some at the edge of the image."""
    random = np.random.default_rng(seed)
    field = gaussian_filter(random.normal(size=(14, 30, 34)), 2)
    other = field + 0.3 * gaussian_filter(random.normal(size=field.shape), 2)
    return field > 0.05, other > 0.06


@pytest.mark.parametrize("spacing", SPACINGS, ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_a_distance_transform(seed: int, spacing: tuple[float, float, float]) -> None:
    first, second = _blobs(seed)
    expected, found = _by_transform(first, second, spacing), agreement_of(first, second, spacing)
    assert np.sort(surface_distances(first, second, spacing)) == pytest.approx(np.sort(expected))
    assert found.mean_mm == pytest.approx(expected.mean())
    assert found.percentile_95_mm == pytest.approx(np.percentile(expected, 95))
    both = np.count_nonzero(first & second)
    assert found.dice == pytest.approx(2 * both / (first.sum() + second.sum()))
    assert (found.first_mm3, found.second_mm3) == pytest.approx(
        [each.sum() * np.prod(spacing) for each in (first, second)]
    )
    turned = agreement_of(second, first, spacing)
    assert (turned.dice, turned.mean_mm) == (pytest.approx(found.dice), pytest.approx(found.mean_mm))


def test_the_same_mask_agrees_wholly_and_a_moved_one_by_what_it_was_moved() -> None:
    first = ball((30, 30, 30), 9)
    same = agreement_of(first, first, (2, 1, 1))
    assert (same.dice, same.mean_mm, same.percentile_95_mm) == (1, 0, 0)
    block, moved = np.zeros((2, 20, 20, 20), bool)
    block[4:12, 4:12, 4:12], moved[4:12, 4:12, 14:] = True, True
    assert surface_distances(block, moved, (1, 1, 0.5)).max() == pytest.approx(5)


def test_where_one_reader_drew_nothing_there_is_no_distance() -> None:
    drawn = ball((30, 30, 30), 5)
    found = agreement_of(drawn, np.zeros_like(drawn), (1, 1, 2))
    assert (found.dice, found.mean_mm, found.percentile_95_mm) == (0, None, None)
    assert (found.first_mm3, found.second_mm3) == (2 * drawn.sum(), 0)
