"""Blind places: where they lie, that nothing marks them, and what they say about the map."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from review_cases import a_region, events_of, real_labels
from scipy.ndimage import distance_transform_edt, label
from scipy.stats import binomtest

from SegWithUCore.metrics.overlap import distance_to_boundary
from SegWithUCore.regions.region import Region, in_order, why
from SegWithUCore.review.blind import (
    GAP_MM,
    SAFE_BELOW,
    SPACING_MM,
    STRATA_MM,
    BlindSample,
    SamplingInput,
    blind_report,
    draw_blind_sample,
    revealed,
    wilson_interval,
)
from SegWithUCore.review.log_format import BlindRevealed, Verdict, VerdictGiven
from SegWithUCore.review.state import ReviewState

NAMES = {0: "background", 1: "anterior", 2: "posterior"}
Case = tuple[SamplingInput, list[Region]]


@pytest.fixture(scope="module")
def case(data_folder: Path) -> Case:
    """A real hippocampus on an oblique grid, uncertain in places along its surface."""
    _, labels = real_labels(data_folder)
    away = distance_transform_edt(labels == 0) + distance_transform_edt(labels > 0)
    wave = np.sin(np.indices(labels.shape) / 3).prod(0)
    probability = np.where((away < 2.5) & (wave > 0.1), 0.4, 0.01).astype(np.float32)
    regions, count = label(probability > SAFE_BELOW)
    probability[:3] = -1
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((1.0, 1.1, 1.2))
    image.SetDirection((0.0, -1.0, 0.0, 0.8, 0.0, -0.6, 0.6, 0.0, 0.8))
    image.SetOrigin((10.0, -20.0, 30.0))
    spacing = np.asarray(image.GetSpacing())
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * spacing
    matrix[:3, 3] = image.GetOrigin()
    ground = SamplingInput(probability, labels, regions, (1.2, 1.1, 1.0), np.diag([-1, -1, 1, 1]) @ matrix, NAMES)
    sizes = np.bincount(regions.ravel())
    found = [
        a_region(n, volume_mm3=float(sizes[n]) * 1.32, expected_wrong_mm3=float(sizes[n]) * 1.32 * 0.4)
        for n in range(1, count + 1)
    ]
    assert count > 5
    return ground, found


@pytest.fixture(scope="module")
def sample(case: Case) -> BlindSample:
    return draw_blind_sample(*case, 8, "hash of the case")


def test_places_are_safe_away_from_regions_and_from_each_other(case: Case, sample: BlindSample) -> None:
    ground, _ = case
    assert len(sample.places) == 8
    to_region = distance_transform_edt(ground.region_labels == 0, sampling=ground.spacing_zyx)
    spots = [tuple(place.voxels[0]) for place in sample.places]
    for place, spot in zip(sample.places, spots, strict=True):
        assert to_region[spot] >= GAP_MM
        risk = ground.error_probability[tuple(place.voxels.T)]
        assert ((risk >= 0) & (risk < SAFE_BELOW)).all()
        assert (ground.region_labels[tuple(place.voxels.T)] == 0).all()
    points = np.multiply(spots, ground.spacing_zyx)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert apart[~np.eye(8, dtype=bool)].min() >= SPACING_MM


def test_places_come_from_inside_from_the_surface_and_from_outside(case: Case, sample: BlindSample) -> None:
    ground, _ = case
    away = distance_to_boundary(ground.labels, ground.spacing_zyx)
    depth = np.where(ground.labels > 0, -away, np.maximum(away, 1e-6))
    found = np.asarray([depth[tuple(place.voxels[0])] for place in sample.places])
    counts = [int(((found > low) & (found <= high)).sum()) for low, high in STRATA_MM]
    assert sum(counts) == 8
    assert min(counts[1:]) >= 2
    for place in sample.places:
        own = ground.labels[tuple(place.voxels[0])]
        assert place.region.structure == NAMES[place.region.structure_value] != "background"
        assert own in (0, place.region.structure_value)
        assert place.region.competing[0].read_as == NAMES[int(own)]


def test_same_case_gives_the_same_places_and_another_case_others(case: Case, sample: BlindSample) -> None:
    again = draw_blind_sample(*case, 8, "hash of the case")
    assert [place.region for place in again.places] == [place.region for place in sample.places]
    assert again.sha256 == sample.sha256
    other = draw_blind_sample(*case, 8, "hash of another case")
    assert other.sha256 != sample.sha256
    assert {p.region.peak_ras_mm for p in other.places} != {p.region.peak_ras_mm for p in sample.places}


def test_position_is_that_of_the_voxel_in_ras(sample: BlindSample) -> None:
    for place in sample.places:
        k, j, i = (int(n) for n in place.voxels[0])
        lps = np.asarray([10.0, -20.0, 30.0])
        lps = lps + np.asarray([[0, -1, 0], [0.8, 0, -0.6], [0.6, 0, 0.8]]) @ [1.0 * i, 1.1 * j, 1.2 * k]
        np.testing.assert_allclose(place.region.peak_ras_mm, lps * [-1, -1, 1], atol=1e-9)


def test_nothing_marks_a_blind_place(case: Case, sample: BlindSample) -> None:
    ground, regions = case
    mixed = sample.mixed(regions)
    assert [region.rank for region in mixed] == list(range(1, len(regions) + 9))
    assert mixed == in_order(mixed, "expected wrong volume")
    assert sample.ids == set(range(len(regions) + 1, len(regions) + 9))
    ranks = [region.rank for region in mixed if region.id in sample.ids]
    assert ranks != list(range(ranks[0], ranks[0] + 8)), "they are spread over the list"
    volumes, errors = ([getattr(r, name) for r in regions] for name in ("volume_mm3", "expected_wrong_mm3"))
    for place in sample.places:
        assert place.region.volume_mm3 == pytest.approx(len(place.voxels) * 1.32)
        assert place.region.volume_mm3 <= max(volumes) + 1.32
        assert place.region.expected_wrong_mm3 <= max(errors) * 1.2
        assert set(vars(place.region)) == set(vars(regions[0]))
        assert place.region.structure in why(place.region)
        voxels = np.zeros(ground.labels.shape, bool)
        voxels[tuple(place.voxels.T)] = True
        assert label(voxels, np.ones((3, 3, 3)))[1] == 1


def test_blind_places_need_structures_but_no_regions(case: Case) -> None:
    ground, regions = case
    clear = replace(ground, region_labels=np.zeros_like(ground.region_labels))
    sample = draw_blind_sample(clear, [], 6, "x")
    assert len(sample.places) == 6
    assert all(0 < place.region.expected_wrong_mm3 < 5 for place in sample.places)
    empty = replace(clear, labels=np.zeros_like(ground.labels))
    assert draw_blind_sample(empty, [], 6, "x").places == ()
    nothing_safe = replace(ground, error_probability=np.full(ground.labels.shape, 0.5, np.float32))
    assert draw_blind_sample(nothing_safe, regions, 6, "x").places == ()
    small = replace(ground, labels=np.where(np.indices(ground.labels.shape)[2] < 18, ground.labels, 0))
    assert 8 < len(draw_blind_sample(small, regions, 10_000, "x").places) < 300, "no more than there is room for"


def test_report_counts_what_the_map_missed(sample: BlindSample) -> None:
    places = sorted(sample.ids)
    regions = [place.region for place in sample.places]
    said = [Verdict.ACCEPTED] * 4 + [Verdict.CORRECTED, Verdict.REJECTED, Verdict.SECOND_READER]
    facts = [VerdictGiven(place, verdict) for place, verdict in zip(places, said, strict=False)]
    state = ReviewState.replayed(events_of(*facts), regions, 9.0, sample.ids)
    report = blind_report(places, state.verdict_of)
    assert report == (
        "2 of 6 judged blind places were wrong: 33 % of places like these, where the map expects no error "
        "(95 % interval 10 to 70 %); 2 of 8 were not judged."
    )
    answers = revealed(places, state.verdict_of)
    assert answers[4] == BlindRevealed(places[4], Verdict.CORRECTED)
    assert answers[7] == BlindRevealed(places[7], None)


def test_report_without_any_verdict_says_that_nothing_is_known() -> None:
    nobody: Callable[[int], None] = lambda _: None  # noqa: E731
    assert "None of the 2 blind places was judged" in blind_report([5, 6], nobody)


@pytest.mark.parametrize("trials", [1, 5, 20, 300])
def test_interval_equals_scipy(trials: int) -> None:
    for hits in range(0, trials + 1, max(1, trials // 7)):
        known = binomtest(hits, trials).proportion_ci(0.95, "wilson")
        assert wilson_interval(hits, trials) == pytest.approx((known.low, known.high), abs=1e-12)
