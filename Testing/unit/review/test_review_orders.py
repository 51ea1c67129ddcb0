"""The benchmark of the regions measures what it says: shares, looks, views, baselines on known cases."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import region_cases
from baselines_review import LOOKS, Question, Seen, baselines, chosen, our_regions, seen_by, seen_in
from region_cases import ScoredCase, entropy, remembered_cases
from region_facts import region_facts, settings_tried
from region_phantoms import NAMES, ORGAN, SHAPE, Phantom, ball
from review_orders import (
    ReviewOrder,
    by_boundary_patches,
    by_clusters,
    by_components,
    by_regions,
    by_voxels,
    clusters,
    in_groups,
    in_views,
)

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.regions.find_regions import RegionSettings

SETTINGS = RegionSettings()


def scored(phantom: Phantom, wrong: np.ndarray) -> ScoredCase:
    """A case whose truth is the runner-up where it is wrong."""
    truth = np.where(wrong, phantom.runner_up, phantom.segmentation)
    names = tuple(NAMES[value] for value in sorted(NAMES))
    error, predicted = phantom.error, phantom.segmentation
    return ScoredCase("phantom", predicted, phantom.runner_up, truth, error, error, error, phantom.ijk_to_ras, names)


def row(wrong: list[int]) -> ScoredCase:
    """Ten voxels in a row."""
    phantom = Phantom((1, 1, len(wrong)))
    phantom.doubt(np.ones(phantom.error.shape, bool), 0.5, ORGAN)
    return scored(phantom, np.array([[wrong]], bool))


@pytest.fixture(scope="module")
def calibrated() -> ScoredCase:
    """Balls and shells of several error probabilities, and exactly that share of them wrong.

    What is wrong is given as its expectation, so that no luck is left.
    """
    phantom = Phantom()
    phantom.predict(ball((30, 32, 34), 16), ORGAN)
    shell = ball((30, 32, 34), 17) & ~ball((30, 32, 34), 15)
    phantom.doubt(shell & (phantom.segmentation == 0), 0.3, ORGAN).doubt(
        shell & (phantom.segmentation == ORGAN), 0.3, 0
    )
    phantom.doubt(ball((10, 10, 10), 5), 0.45, ORGAN).doubt(ball((10, 10, 10), 3), 0.7, ORGAN)
    phantom.doubt(ball((45, 50, 50), 4), 0.6, 0).doubt(ball((50, 10, 55), 2), 0.9, ORGAN)
    case = scored(phantom, np.zeros(SHAPE, bool))
    case.__dict__["wrong"] = phantom.error.astype(np.float64)
    return case


class TestOrder:
    wrong = (1, 0, 0, 1, 1, 0, 0, 0, 1, 0)
    groups = np.array([[[1, 1, 1, 2, 2, 0, 0, 0, 0, 0]]])
    score = np.array([[[0.9, 0.8, 0.7, 0.6, 0.5, 0.1, 0.1, 0.2, 0.3, 0.2]]])

    def order(self, **how: bool) -> ReviewOrder:
        return in_groups(row(list(self.wrong)), self.groups, np.array([2, 1]), self.score, **how)

    def test_groups_come_whole_and_in_their_order_and_the_rest_by_score(self) -> None:
        order = self.order()
        assert order.ends.tolist() == [2, 5]
        assert order.after_looks(1) == (2, 0.5)
        assert order.after_looks(2) == order.after_looks(9) == (5, pytest.approx(0.75))
        assert order.wrong[6] == pytest.approx(1)  # 0.3 is the highest score of the rest, and wrong
        assert len(order.wrong) == 11

    def test_a_group_seen_in_part_counts_in_proportion_unless_it_is_sorted_inside(self) -> None:
        np.testing.assert_allclose(self.order().wrong[2:6], [1 / 2, 1 / 2 + 1 / 12, 1 / 2 + 2 / 12, 3 / 4])
        np.testing.assert_allclose(self.order(sorted_inside=True).wrong[2:6], [1 / 2, 3 / 4, 3 / 4, 3 / 4])

    def test_looks_are_groups_begun_and_what_is_in_no_group_is_never_reached(self) -> None:
        order = self.order()
        assert [order.looks_at(count) for count in (0, 1, 2, 3, 5)] == [0, 1, 1, 2, 2]
        assert [order.reached(9), order.reached(9, 1), order.reached(1, 1), order.reached(3, 2)] == [5, 2, 1, 3]
        nothing = in_groups(row([1, 0]), np.zeros((1, 1, 2), np.int64), np.empty(0, np.int64), np.ones((1, 1, 2)))
        assert (nothing.reached(2), nothing.looks_at(2), nothing.after_looks(3)) == (0, 0, (0, 0.0))

    def test_equal_scores_count_as_wrong_as_they_are_on_average(self) -> None:
        order = by_voxels(row([0, 0, 0, 1]), np.ones((1, 1, 4)))
        assert order.wrong.tolist() == [0, 0.25, 0.5, 0.75, 1]

    def test_equal_looks_hold_a_baseline_to_the_looks_and_equal_volume_does_not(self) -> None:
        orders, voxels = [self.order()] * len(LOOKS), np.full(len(LOOKS), 4)
        share, looks, seen = seen_in(orders, voxels, equal_looks=True)
        assert (share[0], looks[0], seen[0]) == (0.5, 1, 2)
        assert seen[1:] == [4] * 9
        share, looks, seen = seen_in(orders, voxels, equal_looks=False)
        assert (set(looks), set(seen), set(share)) == ({2}, {4}, {share[0]})


class TestBound:
    def test_no_grouping_shows_more_than_single_voxels_of_a_calibrated_map(self, calibrated: ScoredCase) -> None:
        score = calibrated.error_probability
        bound = by_voxels(calibrated, score).wrong
        ways = {
            "regions": by_regions(calibrated, score, SETTINGS)[0],
            "regions in views": by_regions(calibrated, score, SETTINGS, 10)[0],
            "components": by_components(calibrated, score, 0.2),
            "components in views": by_components(calibrated, score, 0.2, 15),
            "clusters": by_clusters(calibrated, score, 900, 15),
            "patches": by_boundary_patches(calibrated, score, 0.25, 60, 2, only_uncertain=True),
            "shell": by_boundary_patches(calibrated, score, 0.25, 60, 2, only_uncertain=False),
        }
        for name, order in ways.items():
            assert (order.wrong <= bound + 1e-9).all(), name
            assert order.wrong[-1] == pytest.approx(bound[-1]), name
        assert (np.diff(bound, 2) <= 1e-9).all(), "every further voxel shows less"

    def test_a_map_turned_upside_down_is_far_below_the_bound(self, calibrated: ScoredCase) -> None:
        bound = by_voxels(calibrated, calibrated.error_probability).wrong
        reverse = by_voxels(calibrated, -calibrated.error_probability).wrong
        assert reverse[1000] < 0.01 < 0.1 < bound[1000]

    def test_regions_of_a_calibrated_map_expect_what_is_wrong_in_them(self, calibrated: ScoredCase) -> None:
        facts = region_facts([calibrated])
        assert facts["groups"]["all"]["expected_by_wrong"] == pytest.approx(1)
        parts = ("in_regions", "in_haze", "below_threshold")
        assert sum(facts[f"share_of_errors_{part}"] for part in parts) == pytest.approx(1)


class TestLooks:
    def test_the_first_voxels_make_as_many_clusters_as_they_touch_in(self) -> None:
        score = np.zeros((5, 5, 9))
        score[1, 1, 1], score[2, 2, 2], score[1, 1, 7] = 0.9, 0.8, 0.7  # the first two touch at a corner
        assert [clusters(score, count) for count in (1, 2, 3)] == [1, 1, 2]
        phantom = Phantom(score.shape).doubt(score > 0, 0.5, ORGAN)
        order = by_clusters(scored(phantom, score > 0.75), score, 3)
        assert order.ends.tolist() == [2, 3]
        assert order.after_looks(1) == (2, 1.0)

    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.5)])
    def test_views_hold_every_voxel_and_none_is_longer_than_asked(self, spacing: tuple[float, ...]) -> None:
        groups = np.zeros((12, 40, 40), np.int64)
        groups[2:5, 1:4, 1:39], groups[8, 8:38, 8:38], groups[11, 0, 0] = 4, 2, 7
        parts, of = in_views(groups, np.array(spacing), 12.0)
        assert np.array_equal(of[parts], groups)
        assert np.array_equal(np.unique(parts), np.arange(len(of)))
        for number in range(1, len(of)):
            place = np.argwhere(parts == number)
            assert np.linalg.norm((np.ptp(place, axis=0) + 1) * spacing) <= 12
        assert np.count_nonzero(of == 7) == 1

    def test_what_fits_is_not_cut_and_what_is_a_little_too_long_is_halved(self) -> None:
        rod = np.zeros((1, 1, 30), np.int64)
        rod[..., 2:24] = 1
        assert len(in_views(rod, np.ones(3), 23.0)[1]) == 2
        parts, of = in_views(rod, np.ones(3), 21.0)
        assert of.tolist() == [0, 1, 1]
        assert np.bincount(parts.ravel())[1:].tolist() == [11, 11]
        assert in_views(np.zeros_like(rod), np.ones(3), 20.0)[1].tolist() == [0]

    def test_the_thickest_boundary_comes_first(self) -> None:
        phantom = Phantom((20, 20, 60)).predict(np.indices((20, 20, 60))[0] < 10, ORGAN)
        thick = np.zeros(phantom.error.shape, bool)
        thick[8:12, :, :20] = True
        thin = np.zeros_like(thick)
        thin[9:11, :, 20:] = True
        phantom.doubt(thick | thin, 0.4, 0)
        case = scored(phantom, thick)
        order = by_boundary_patches(case, phantom.error, 0.25, 400, 2, only_uncertain=True)
        assert len(order.ends) == 3
        assert order.after_looks(1)[1] > 0.8


class TestRivals:
    def test_parameters_are_those_that_show_most(self, calibrated: ScoredCase) -> None:
        table = ErrorProbability((0.0, 1.0), (0.0, 1.0), 1)
        components = baselines(table)[0]
        question = Question("equal looks", True, 20.0)
        ours = our_regions([calibrated], SETTINGS)
        best = chosen(components, [calibrated], ours, question)
        shares = [seen_by(components, one, [calibrated], ours, question).share.mean() for one in components.grid]
        assert best == components.grid[int(np.argmax(shares))]
        assert max(shares) > min(shares)

    def test_the_same_score_in_the_same_groups_shows_the_same(self, calibrated: ScoredCase) -> None:
        table = ErrorProbability((0.0, 1.0), (0.0, 1.0), 1)  # the phantom's entropy is its error probability
        ours = our_regions([calibrated], SETTINGS)
        grouped = next(baseline for baseline in baselines(table) if baseline.name == "entropy, grouped as our regions")
        for equal_looks in (True, False):
            question = Question("", equal_looks, float("inf"))
            seen: Seen = seen_by(grouped, {"threshold": SETTINGS.threshold}, [calibrated], ours, question)
            assert np.array_equal(seen.share, ours.share)
            assert np.array_equal(seen.voxels, ours.voxels)

    def test_shipped_settings_are_the_first_tried_and_none_is_tried_twice(self) -> None:
        tried = settings_tried()
        assert tried[0] == RegionSettings()
        assert len({tuple(asdict(one).values()) for one in tried}) == len(tried)


def test_entropy_is_that_of_the_softmax_in_nats() -> None:
    logits = np.array([[0.0, 50.0], [0.0, 0.0], [0.0, 0.0]]).reshape(3, 1, 1, 2)
    np.testing.assert_allclose(entropy(logits).ravel(), [np.log(3), 0], atol=1e-6)


def test_predictions_are_kept_whole_and_for_one_bundle(
    calibrated: ScoredCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = []

    def predictions(*_: Any) -> Iterator[ScoredCase]:
        predicted.append(1)
        yield from (replace(calibrated, name=name) for name in ("a", "b"))

    monkeypatch.setattr(region_cases, "scored_cases", predictions)
    bundle: Any = SimpleNamespace(folder=tmp_path)
    (tmp_path / "bundle.json").write_text("1", encoding="ascii")
    first, again = (remembered_cases(bundle, "split.csv:test", tmp_path / "kept") for _ in range(2))
    assert [case.name for case in first] == [case.name for case in again] == ["a", "b"]
    assert np.array_equal(again[1].error_probability, calibrated.error_probability)
    assert (again[0].names, len(predicted)) == (calibrated.names, 1)
    (tmp_path / "bundle.json").write_text("2", encoding="ascii")
    remembered_cases(bundle, "split.csv:test", tmp_path / "kept")
    assert len(predicted) == 2
