"""When slices make up a volume and when not, by positions alone."""

from collections.abc import Sequence

import numpy as np
import pytest
from phantoms import rotation

from SegWithUCore.io.dicom_series import SliceGeometry, millimetres, repeated_positions, uneven_stack


def _stack(along: Sequence[float], turned: np.ndarray | None = None, within: Sequence[float] = (0, 0)) -> SliceGeometry:
    """Slices at places along their normal, 11 x 21 pixels of 2 x 1 mm, axial (LPS) unless turned."""
    turned = np.eye(3) if turned is None else turned
    rows, columns, normal = turned.T
    shift = np.outer(np.arange(len(along)), rows * within[0] + columns * within[1])
    return SliceGeometry(np.outer(along, normal) + shift, rows, columns, (2.0, 1.0), (11, 21))


@pytest.mark.parametrize("along", [[0, 3, 6], [6, 0, 3], [-3, 0], [5], [1.2, 2.5, 3.7, 5.0, 6.2]])
def test_even_slices_in_any_order_are_accepted(along: list[float]) -> None:
    """The last ones are 1.25 mm apart, their positions rounded to 0.1 mm as some headers do."""
    assert uneven_stack(_stack(along)) is None
    assert repeated_positions(_stack(along)) == []


def test_slices_are_ordered_along_the_normal() -> None:
    geometry = _stack([9, 3, 6], rotation([20, 30, 40]))
    assert geometry.order() == [1, 2, 0]
    assert geometry.step_mm() == pytest.approx(3)


def test_a_gap_between_slices_is_named() -> None:
    assert uneven_stack(_stack([6, 9, 12, 18, 21])) == (
        "has slices missing between S = 12.0 and 18.0 mm: copy the whole series"
    )


def test_many_gaps_are_named_up_to_three() -> None:
    places = [n for n in range(40) if n not in (5, 10, 11, 20, 30, 35)]
    problem = uneven_stack(_stack(places)) or ""
    for words in ("S = 4.0 and 6.0 mm", "S = 9.0 and 12.0 mm", "S = 19.0 and 21.0 mm", "and at 2 more places"):
        assert words in problem


def test_a_gap_in_sagittal_slices_is_named_where_a_viewer_shows_it() -> None:
    """Rows run towards P and columns towards S, so that the normal runs towards L, which is -R."""
    sagittal = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
    assert "R = -6.0 and -2.0 mm" in (uneven_stack(_stack([0, 2, 6, 8], sagittal)) or "")


def test_the_place_of_an_oblique_slice_is_that_of_its_middle() -> None:
    turned = rotation([25, 0, 0])
    geometry = _stack([0, 3], turned)
    middle = turned @ [10.0, 10.0, 3.0]  # 11 pixels of 2 mm, 21 of 1 mm
    assert geometry.axis_position(1) == ("S", pytest.approx(middle[2]))


def test_uneven_spacing_is_named_with_figures() -> None:
    assert "2.5 to 3.7 mm apart" in (uneven_stack(_stack([0, 2.5, 6.2, 8.7, 11.2])) or "")


def test_slow_drift_is_named_with_figures() -> None:
    steps = np.linspace(2.0, 2.15, 40)
    assert "mm away from even spacing" in (uneven_stack(_stack(np.cumsum(steps).tolist())) or "")


def test_a_tilted_gantry_is_named_with_its_shift() -> None:
    assert "up to 1.50 mm" in (uneven_stack(_stack([0, 3, 6, 9], within=(0, 0.5))) or "")


def test_repeated_places_are_found_in_any_order() -> None:
    assert repeated_positions(_stack([3, 0, 3.004, 6])) == [(0, 2)]


def test_direction_is_the_nearest_rotation_to_rounded_cosines() -> None:
    turned = rotation([12, -34, 56])
    rounded = np.round(turned, 4)
    geometry = SliceGeometry(np.zeros((1, 3)), rounded[:, 0], rounded[:, 1], (1, 1), (9, 9))
    direction = np.reshape(geometry.direction(), (3, 3))
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(direction, turned, atol=2e-4)


@pytest.mark.parametrize(("value", "words"), [(12, "12.0"), (-3.75, "-3.75"), (0.625, "0.62"), (-0.001, "0.0")])
def test_positions_are_short(value: float, words: str) -> None:
    assert millimetres(value) == words
