"""Re-scoring after edits against brute force on a real case."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from counting import allocated_mib, calls_of
from review_cases import real_labels
from scipy.ndimage import distance_transform_edt, label

from SegWithUCore.review.rescoring import WHOLE, Box, Rescore, Rescoring

VOXEL_MM3 = 0.75


@pytest.fixture(scope="module")
def case(data_folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Error probability (not assessed in the first slices), labels and regions around a real hippocampus."""
    _, labels = real_labels(data_folder)
    away = distance_transform_edt(labels == 0) + distance_transform_edt(labels > 0)
    noise = np.random.default_rng(0).random(labels.shape)
    probability = (np.exp(-away / 2) * noise).astype(np.float32)
    regions = label(probability > 0.4)[0].astype(np.uint16)
    probability[:4] = -1
    regions[:4] = 0
    return probability, labels, regions


def rescore(
    probability: np.ndarray, labels: np.ndarray, edited: np.ndarray, regions: np.ndarray, seen: set[int]
) -> Rescore:
    return Rescoring(probability, labels, regions, VOXEL_MM3).after(edited, seen)


def brute_force(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], edited: np.ndarray, seen: set[int]
) -> tuple[dict[int, int], int, float, float, dict[int, float]]:
    probability, labels, regions = case
    changed, looked = edited != labels, np.isin(regions, list(seen))
    ids = [int(i) for i in np.unique(regions) if i]
    open_ = (probability >= 0) & ~changed & ~looked
    left = np.where(open_, probability.astype(np.float64), 0)
    inside = {i: int((changed & (regions == i)).sum()) for i in ids}
    return (
        {i: n for i, n in inside.items() if n},
        int((changed & (regions == 0)).sum()),
        float(changed.sum() * VOXEL_MM3),
        float(left.sum() * VOXEL_MM3),
        {i: float(left[regions == i].sum() * VOXEL_MM3) for i in ids},
    )


def check(found: Rescore, case: tuple[np.ndarray, np.ndarray, np.ndarray], edited: np.ndarray, seen: set[int]) -> None:
    inside, outside, changed_mm3, remaining, per_region = brute_force(case, edited, seen)
    assert found.inside == inside
    assert (found.outside, found.inside_voxels) == (outside, sum(inside.values()))
    assert found.changed_mm3 == pytest.approx(changed_mm3)
    assert found.remaining_mm3 == pytest.approx(remaining, rel=1e-6)
    assert found.region_remaining_mm3 == pytest.approx(per_region, rel=1e-5, abs=1e-5)


def random_box(generator: np.random.Generator, shape: tuple[int, ...]) -> Box:
    starts = [int(generator.integers(0, size - 3)) for size in shape]
    z, y, x = (slice(a, int(generator.integers(a + 1, n + 1))) for a, n in zip(starts, shape, strict=True))
    return z, y, x


def test_edit_after_edit_equals_brute_force(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    probability, labels, regions = case
    generator = np.random.default_rng(1)
    rescoring, edited, seen = Rescoring(probability, labels, regions, VOXEL_MM3), labels.copy(), set()
    assert regions.max() > 20
    check(rescoring.seen(seen), case, edited, seen)
    for number in range(40):
        box = random_box(generator, labels.shape)
        if number % 4 == 3:
            edited[box] = labels[box]  # taken back
        else:
            edited[box] = generator.integers(0, 3, edited[box].shape)
        if number % 3 == 0:
            seen.add(int(generator.integers(1, regions.max() + 1)))
        found = rescoring.after(edited[box], seen, box)
        check(found, case, edited, seen)
        assert found == rescoring.after(edited, seen)
    assert rescore(probability, labels, edited, regions, seen) == found
    check(rescoring.after(labels, set()), case, labels, set())


def test_a_wiped_out_segmentation_and_one_where_everything_was_seen(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    probability, labels, regions = case
    everything = set(range(1, int(regions.max()) + 1))
    wiped = np.zeros_like(labels)
    check(rescore(probability, labels, wiped, regions, everything), case, wiped, everything)
    inverted = (labels == 0).astype(np.uint8) * 5
    assert rescore(probability, labels, inverted, regions, set()).remaining_mm3 == pytest.approx(0, abs=1e-3)


def test_case_without_regions(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    probability, labels, regions = case
    none = np.zeros_like(regions)
    edited = np.where(labels == 1, 2, labels)
    check(rescore(probability, labels, edited, none, set()), (probability, labels, none), edited, set())
    assert rescore(probability, labels, labels, none, {7}).region_remaining_mm3 == {}


def test_arrays_in_another_memory_order_give_the_same(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    probability, labels, regions = case
    edited = np.where(labels == 1, 2, labels)
    turned = [np.asfortranarray(array) for array in (probability, labels, edited, regions)]
    assert rescore(*turned, {1}) == rescore(probability, labels, edited, regions, {1})


def test_arrays_on_different_grids_are_refused(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    probability, labels, regions = case
    with pytest.raises(ValueError, match="must lie on one grid"):
        Rescoring(probability[1:], labels, regions, VOXEL_MM3)
    with pytest.raises(ValueError, match="Edited labels of"):
        Rescoring(probability, labels, regions, VOXEL_MM3).after(labels[1:], set())


def test_re_scoring_touches_the_edited_box_alone() -> None:
    shape = (75, 256, 256)
    probability = np.zeros(shape, np.float32)
    probability[25:50] = np.random.default_rng(0).random((1, 256, 256), dtype=np.float32)
    labels, regions = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
    labels[25:50, 100:200, 100:200] = 1
    regions[30:40, 100:120, 100:150] = np.arange(1, 11)[:, None, None]
    rescoring = Rescoring(probability, labels, regions, 1.0)
    box = (slice(30, 40), slice(85, 115), slice(85, 125))
    edited = labels.copy()
    edited[35, 90:110, 90:120] = 1
    for part, where in ((edited[box], box), (edited, WHOLE)):
        found = rescoring.after(part, {1}, where)
        assert (found.inside, found.outside) == ({}, 400)
        again = partial(rescoring.after, part, {1}, where)
        assert calls_of(again) < 200
        assert allocated_mib(again) < 0.1 + 2 * part.size / 2**20
