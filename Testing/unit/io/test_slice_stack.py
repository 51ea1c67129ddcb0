"""When slices make up a volume and when not, by positions alone."""

from collections.abc import Sequence

import numpy as np
import pytest
from phantoms import rotation

from SegWithUCore.io.dicom_series import SliceGeometry


def _stack(along: Sequence[float], turned: np.ndarray | None = None, within: Sequence[float] = (0, 0)) -> SliceGeometry:
    """Slices at places along their normal, 11 x 21 pixels of 2 x 1 mm, axial (LPS) unless turned."""
    turned = np.eye(3) if turned is None else turned
    rows, columns, normal = turned.T
    shift = np.outer(np.arange(len(along)), rows * within[0] + columns * within[1])
    return SliceGeometry(np.outer(along, normal) + shift, rows, columns, (2.0, 1.0), (11, 21))


@pytest.mark.parametrize("along", [[0, 3, 6], [6, 0, 3], [-3, 0], [5], [1.2, 2.5, 3.7, 5.0, 6.2]])
def test_even_slices_in_any_order_are_accepted(along: list[float]) -> None:
    """The last ones are 1.25 mm apart, their positions rounded to 0.1 mm as some headers do."""
    assert _stack(along).problem() == ""
    assert _stack(along).repeated() == []


def test_slices_are_ordered_along_the_normal() -> None:
    geometry = _stack([9, 3, 6], rotation([20, 30, 40]))
    assert geometry.order() == [1, 2, 0]
    assert geometry.step_mm() == pytest.approx(3)


SAGITTAL = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
"""Rows run towards P and columns towards S, so that the normal runs towards L, which is -R."""
BAD = {
    "a gap": (_stack([6, 9, 12, 18, 21]), ("missing", "1 place", "S = 12.00 mm", "S = 18.00 mm")),
    "many gaps": (_stack([n for n in range(40) if n not in (5, 10, 11, 20, 30)]), ("missing", "4 place", "S = 4.00")),
    "sagittal": (_stack([0, 2, 6, 8], SAGITTAL), ("missing", "R = -2.00 mm", "R = -6.00 mm")),
    "uneven": (_stack([0, 2.5, 6.2, 8.7, 11.2]), ("2.50 to 3.70 mm", "even spacing")),
    "slow drift": (_stack(np.cumsum(np.linspace(2.0, 2.15, 40)).tolist()), ("even spacing",)),
    "tilted gantry": (_stack([0, 3, 6, 9], within=(0, 0.5)), ("shifted", "1.50 mm")),
}


@pytest.mark.parametrize("kind", BAD)
def test_slices_that_make_no_grid_are_refused_with_figures(kind: str) -> None:
    geometry, words = BAD[kind]
    for word in words:
        assert word in geometry.problem()


def test_the_place_of_an_oblique_slice_is_that_of_its_middle() -> None:
    turned = rotation([25, 0, 0])
    middle = turned @ [10.0, 10.0, 3.0]  # 11 pixels of 2 mm, 21 of 1 mm
    assert _stack([0, 3], turned).place(1) == f"S = {middle[2]:.2f} mm"


def test_repeated_places_are_found_in_any_order() -> None:
    assert _stack([3, 0, 3.004, 6]).repeated() == [(0, 2)]


def test_direction_is_the_nearest_rotation_to_rounded_cosines() -> None:
    turned = rotation([12, -34, 56])
    rounded = np.round(turned, 4)
    geometry = SliceGeometry(np.zeros((1, 3)), rounded[:, 0], rounded[:, 1], (1, 1), (9, 9))
    direction = np.reshape(geometry.direction(), (3, 3))
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(direction, turned, atol=2e-4)
