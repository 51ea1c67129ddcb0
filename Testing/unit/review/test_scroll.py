"""Contours that are scrolled: which voxels move, between which labels, and how a gesture is taken back."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.ndimage

from SegWithUCore.review import scroll
from SegWithUCore.review.gestures import BRUSH, SCROLL, drawn_by, drawn_by_hand, runs_of
from SegWithUCore.review.log_format import Edited
from SegWithUCore.review.scroll import LEAST_ERROR, REGION_MM, STRUCTURE_MM, Scroll, Volumes
from SegWithUCore.util.errors import InputError

OWN, NEIGHBOUR, OTHER = 3, 5, 7
SPACING = (2.0, 1.0, 0.8)


def volumes(seed: int = 0, finished: tuple[int, ...] = ()) -> Volumes:
    """Two structures that touch, unsure along their boundaries, some of it edited before."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:16, :26, :30]
    drawn = np.zeros(z.shape, np.uint8)
    drawn[(2 * z - 16) ** 2 + (y - 12) ** 2 + (0.8 * x - 9) ** 2 < 49] = OWN
    drawn[((2 * z - 16) ** 2 + (y - 12) ** 2 + (0.8 * x - 19) ** 2 < 36) & (drawn == 0)] = NEIGHBOUR
    runner = np.where(drawn == 0, np.where(x < 18, OWN, NEIGHBOUR), np.where(rng.random(z.shape) < 0.7, 0, OTHER))
    touching = (drawn == OWN) & scipy.ndimage.binary_dilation(drawn == NEIGHBOUR, iterations=2)
    runner[touching] = NEIGHBOUR
    distance = np.minimum(
        *(scipy.ndimage.distance_transform_edt(each, SPACING) for each in (drawn == OWN, drawn != OWN))
    )
    error = np.clip(0.6 - 0.1 * distance + 0.1 * rng.random(z.shape), 0, 1).astype(np.float32)
    now = drawn.copy()
    now[6:10, 10:14, 5:7] = OWN
    fixed = np.zeros(z.shape, bool)
    fixed[4:12, 10:14, 3:8] = True
    return Volumes(now, drawn, runner.astype(np.uint8), error, fixed, finished, SPACING)


def drawn_at(contour: Scroll, found: Volumes, position: int) -> np.ndarray:
    labels = found.now.copy()
    places, values = contour.at(position)
    labels.ravel()[places] = values
    return labels


def test_a_finished_structure_is_not_scrolled() -> None:
    with pytest.raises(InputError, match="reopen it first") as refusal:
        Scroll(volumes(finished=(OWN,)), OWN)
    assert refusal.value.code == "structure-finished"


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("finished", [(), (NEIGHBOUR,)])
def test_only_what_the_model_is_unsure_about_moves_and_no_third_label_arises(
    region: bool, finished: tuple[int, ...]
) -> None:
    found = volumes(finished=finished)
    mark = np.zeros(found.now.shape, bool)
    mark[7:9, 3:8, 8:16] = True
    contour = Scroll(found, OWN, mark if region else None)
    own = found.now == OWN
    reach = np.where(own, *(scipy.ndimage.distance_transform_edt(each, SPACING) for each in (own, ~own)))
    assert len(contour.counts) > 20
    moved = np.zeros(found.now.shape, bool)
    for position in range(len(contour.counts)):
        labels = drawn_at(contour, found, position)
        changed = labels != found.now
        moved |= changed
        assert ((labels == found.drawn) | (labels == found.runner_up))[changed].all()
        assert ((labels == OWN) ^ own)[changed].all(), "a voxel comes to the structure, or leaves it"
        for value in finished:
            assert ((labels == value) == (found.now == value)).all()
    assert moved.any()
    assert not (moved & found.fixed).any()
    assert (found.error[moved] > LEAST_ERROR).all()
    assert reach[moved].max() <= (REGION_MM if region else STRUCTURE_MM)
    if region:
        assert scipy.ndimage.distance_transform_edt(~mark, SPACING)[moved].max() <= REGION_MM


def test_positions_grow_and_the_present_contour_is_one_of_them() -> None:
    found = volumes()
    contour = Scroll(found, OWN)
    shapes = [drawn_at(contour, found, position) == OWN for position in range(len(contour.counts))]
    assert (shapes[contour.start] == (found.now == OWN)).all()
    others = [shape for position, shape in enumerate(shapes) if position != contour.start]
    assert all(first.sum() <= second.sum() for first, second in itertools.pairwise(others))
    assert shapes[0].sum() < shapes[contour.start].sum() < shapes[-1].sum()
    steps = np.diff([count for position, count in enumerate(contour.counts) if position != contour.start])
    assert 0 < steps.max() <= steps.min() + 1, "steps of equal volume, but for islands and holes"


@pytest.mark.parametrize("seed", range(4))
def test_a_gesture_makes_no_island_and_no_hole(seed: int) -> None:
    found = volumes(seed)
    contour, own = Scroll(found, OWN), found.now == OWN
    for position in range(len(contour.counts)):
        after = drawn_at(contour, found, position) == OWN
        for before, now in ((own, after), (~own, ~after)):
            parts, count = scipy.ndimage.label(now)
            new = [part for part in range(1, count + 1) if not (before & (parts == part)).any()]
            assert new == []


def loose_pieces(labels: np.ndarray) -> int:
    """Count the pieces of all structures but the largest of each."""
    return sum(scipy.ndimage.label(labels == value)[1] - 1 for value in (OWN, NEIGHBOUR))


def test_neighbours_do_not_fall_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    def most_pieces() -> int:
        pieces = []
        for seed in range(4):
            given = volumes(seed)
            second = np.where(given.drawn == OWN, NEIGHBOUR, OWN).astype(np.uint8)  # the two compete everywhere
            found = dataclasses.replace(given, now=given.drawn, runner_up=second)
            contour = Scroll(found, OWN)
            pieces += [loose_pieces(drawn_at(contour, found, position)) for position in range(len(contour.counts))]
        return max(pieces)

    smoothed = most_pieces()
    monkeypatch.setattr(scroll, "PASSES", 0)
    assert smoothed <= 1 < 6 < most_pieces(), "not smoothed: 12"


def test_a_contour_without_a_voxel_that_may_move_has_one_position() -> None:
    found = volumes()
    contour = Scroll(found, 9)
    assert (contour.start, contour.counts) == (0, [0, 0])
    assert [each.size for each in contour.at(1)] == [0, 0]


def test_runs_give_the_gesture_and_take_it_back() -> None:
    found = volumes()
    places, values = Scroll(found, OWN).at(5)
    runs = runs_of(places, found.now.ravel()[places], values)
    after = drawn_by(runs, found.now)
    assert (after == drawn_at(Scroll(found, OWN), found, 5)).all() and (after != found.now).any()
    assert (drawn_by(runs, after, back=True) == found.now).all()
    assert sum(count for _, count, _, _ in runs) == places.size
    for labels, wrong in ((after, runs), (found.now, [(found.now.size - 1, 2, 0, 1)]), (found.now, [(-1, 1, 0, 1)])):
        with pytest.raises(InputError):
            drawn_by(wrong, labels)


def test_what_a_hand_has_drawn_is_known_from_what_was_scrolled() -> None:
    drawn = np.zeros((2, 3, 4), np.uint8)
    edits = [
        Edited(None, "a", 0, 0, 0.0, gesture=SCROLL, runs=((0, 6, 0, 1),)),
        Edited(None, "a", 0, 0, 0.0, gesture=BRUSH, runs=((4, 2, 1, 2), (10, 1, 0, 2))),
    ]
    now = drawn
    for edit in edits:
        now = drawn_by(edit.runs, now)
    now = now.copy()
    now.ravel()[20] = 1  # by Slicer, which says no voxels
    assert np.flatnonzero(drawn_by_hand(edits, now, drawn)).tolist() == [4, 5, 10, 20]
