"""What the shape of a mask alone shows: phantoms with planted faults, on grids of every kind, have known answers."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from phantoms import rotation

from SegWithUCore.regions.find_regions import FoundRegions
from SegWithUCore.regions.mask_findings import LEAST_MM3, MOST, find_in_mask, middle_plane
from SegWithUCore.regions.region import Kind, Region

LEFT, RIGHT, SINGLE = 17, 53, 4
NAMES = {0: "background", LEFT: "left organ", RIGHT: "right organ", SINGLE: "single"}
SIDES = [(LEFT, RIGHT)]
SIZE_MM = (116.0, 72.0, 72.0)


def _affine(axes: np.ndarray, spacing: tuple[float, float, float]) -> tuple[np.ndarray, tuple[int, ...]]:
    """An affine with these axes (columns) whose grid covers `SIZE_MM` round the origin, and its shape (z, y, x)."""
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    counts = np.ceil(np.abs(axes.T @ np.diag(SIZE_MM)).max(1) / spacing).astype(int)
    matrix[:3, 3] = -matrix[:3, :3] @ ((counts - 1) / 2)
    return matrix, tuple(counts[::-1].tolist())


GRIDS = {
    "RAS": _affine(np.eye(3), (1, 1, 1)),
    "LPS": _affine(np.diag([-1.0, -1.0, 1.0]), (1, 1, 1)),
    "thick slices": _affine(np.diag([-1.0, -1.0, 1.0]), (0.8, 0.8, 3)),
    "permuted": _affine(np.eye(3)[:, [2, 0, 1]], (1.5, 1, 1)),
    "oblique": _affine(rotation([7, -9, 5]), (1, 1.2, 1)),
}


class Mask:
    """Two balls, one a side, on a grid; parts are drawn by their place in RAS mm."""

    def __init__(self, grid: str = "RAS") -> None:
        self.matrix, shape = GRIDS[grid]
        zyx = np.indices(shape).reshape(3, -1)
        ijk1 = np.vstack([zyx[::-1], np.ones(zyx.shape[1])])
        self.ras = np.moveaxis((self.matrix @ ijk1)[:3].reshape(3, *shape), 0, -1)
        self.labels = np.zeros(shape, np.uint8)
        self.voxel_mm3 = float(abs(np.linalg.det(self.matrix[:3, :3])))
        self.draw(self.ball((-30, 0, 0), 16), LEFT)
        self.draw(self.ball((30, 0, 0), 16), RIGHT)

    def ball(self, centre: tuple[float, float, float], radius: float) -> np.ndarray:
        """Voxels within a radius of a point."""
        inside: np.ndarray = np.linalg.norm(self.ras - centre, axis=-1) <= radius
        return inside

    def draw(self, where: np.ndarray, value: int) -> float:
        """Draw a part; returns its volume."""
        self.labels[where] = value
        return float(np.count_nonzero(where)) * self.voxel_mm3

    def found(self) -> FoundRegions:
        """What the shape shows."""
        return find_in_mask(self.labels, NAMES, SIDES, self.matrix)

    def of_axis(self, axis: int, at: int, value: int = LEFT) -> np.ndarray:
        """The voxels of a structure in the slice that lies `at` slices from its middle along an axis of the array."""
        inside = self.labels == value
        places = np.flatnonzero(inside.any(tuple({0, 1, 2} - {axis})))
        only = np.zeros_like(inside)
        only[(slice(None),) * axis + (int(places[len(places) // 2]) + at,)] = True
        return inside & only


@pytest.fixture(params=GRIDS)
def mask(request: pytest.FixtureRequest) -> Iterator[Mask]:
    yield Mask(request.param)


def _only(found: FoundRegions) -> Region:
    assert len(found.regions) == 1, [(each.kind, each.structure, each.volume_mm3) for each in found.regions]
    return found.regions[0]


def _marks(found: FoundRegions, region: Region, planted: np.ndarray) -> None:
    assert np.array_equal(found.labels == region.id, planted)
    assert region.expected_wrong_mm3 is None
    assert region.peak is None


def test_an_even_pair_of_structures_has_no_finding(mask: Mask) -> None:
    found = mask.found()
    assert found.regions == ()
    assert found.expected_wrong_mm3 is None
    assert {place.kind for place in found.blind} == {Kind.BLIND}
    assert {place.structure_value for place in found.blind} == {LEFT, RIGHT}


def test_a_part_that_lies_apart_is_found(mask: Mask) -> None:
    planted = mask.ball((-30, 4, 28), 4)
    volume = mask.draw(planted, LEFT)
    found = mask.found()
    region = _only(found)
    assert (region.kind, region.structure, region.volume_mm3) == (Kind.ISLAND, "left organ", pytest.approx(volume))
    _marks(found, region, planted)
    assert region.centre_ras_mm == pytest.approx(mask.ras[planted].mean(0).tolist())
    assert np.linalg.norm(np.subtract(region.peak_ras_mm, (-30, 4, 28))) < 3
    spacing = np.linalg.norm(mask.matrix[:3, :3], axis=0)
    where = np.argwhere(planted)[:, ::-1]
    assert region.size_mm == pytest.approx(((np.ptp(where, axis=0) + 1) * spacing).tolist())


def test_an_enclosed_hole_is_found_and_belongs_to_what_surrounds_it(mask: Mask) -> None:
    planted = mask.ball((30, 0, 0), 4)
    volume = mask.draw(planted, 0)
    found = mask.found()
    region = _only(found)
    assert (region.kind, region.structure, region.volume_mm3) == (Kind.HOLE, "right organ", pytest.approx(volume))
    _marks(found, region, planted)


@pytest.mark.parametrize("axis", range(3))
def test_a_missing_slice_is_found(mask: Mask, axis: int) -> None:
    missing = mask.of_axis(axis, 2)
    mask.draw(missing, 0)
    found = mask.found()
    region = _only(found)
    assert (region.kind, region.structure) == (Kind.JUMP, "left organ")
    marked = found.labels == region.id
    assert not (marked & ~missing).any()
    # What both neighbours have: at the edge one of them is smaller.
    assert marked.sum() > 0.6 * missing.sum()


def test_a_patch_that_one_slice_has_alone_is_found(mask: Mask) -> None:
    own = mask.of_axis(0, 0)
    at = int(np.flatnonzero(own.any((1, 2)))[0])
    along = min(mask.matrix[:3, :2].T, key=lambda column: abs(column[0]))  # not to the other side
    centre = mask.ras[own].mean(0) + 24 * along / np.linalg.norm(along)
    beside = np.zeros_like(own)
    beside[at] = (np.linalg.norm(mask.ras[at] - centre, axis=-1) < 16) & (mask.labels[at] == 0)
    mask.draw(beside, LEFT)
    found = mask.found()
    region = _only(found)
    assert (region.kind, region.structure) == (Kind.JUMP, "left organ")
    assert (found.labels == region.id)[beside].mean() > 0.9


@pytest.mark.parametrize("drawn_at", [(22, 0, 28), (22, 14, 0)], ids=["apart", "at the other side's structure"])
def test_a_part_on_the_wrong_side_is_found(mask: Mask, drawn_at: tuple[float, float, float]) -> None:
    planted = mask.ball(drawn_at, 5)
    volume = mask.draw(planted, LEFT)
    found = mask.found()
    region = found.regions[0]
    assert (region.kind, region.structure, region.volume_mm3) == (Kind.SIDE, "left organ", pytest.approx(volume))
    _marks(found, region, planted)


def test_the_middle_lies_between_both_sides_whatever_the_grid(mask: Mask) -> None:
    plane = middle_plane(mask.labels, SIDES, mask.matrix)
    assert plane is not None
    assert plane[0] > 0.99
    assert abs(plane[3]) < 1


def test_exchanged_sides_point_to_the_left_and_are_no_wrong_side(mask: Mask) -> None:
    mask.labels = np.select([mask.labels == LEFT, mask.labels == RIGHT], [RIGHT, LEFT]).astype(np.uint8)
    plane = middle_plane(mask.labels, SIDES, mask.matrix)
    assert plane is not None
    assert plane[0] < -0.99
    assert mask.found().regions == ()


@pytest.mark.parametrize("removed", [LEFT, RIGHT])
def test_without_both_sides_there_is_no_middle(removed: int) -> None:
    mask = Mask()
    mask.draw(mask.labels == removed, 0)
    assert middle_plane(mask.labels, SIDES, mask.matrix) is None
    assert mask.found().regions == ()


def test_what_is_smaller_than_noise_is_no_finding() -> None:
    mask = Mask()
    mask.draw(mask.ball((-30, 0, 28), 1), LEFT)
    volume = float((mask.labels == LEFT).sum() - (Mask().labels == LEFT).sum())
    assert volume >= LEAST_MM3
    assert len(mask.found().regions) == 1
    mask = Mask()
    mask.labels[0, 0, :4] = LEFT
    assert mask.found().regions == ()


def test_the_largest_findings_come_first_and_of_one_structure_not_all_are_listed() -> None:
    mask = Mask()
    planted = list(_many(mask, lambda number: 2 + number % 3))
    found = mask.found()
    assert len(planted) > MOST
    assert [each.rank for each in found.regions] == list(range(1, MOST + 1))
    volumes = [each.volume_mm3 for each in found.regions]
    assert volumes == sorted(planted, reverse=True)[:MOST]
    assert {each.structure for each in found.regions} == {"single"}


def _many(mask: Mask, radius: Callable[[int], float]) -> Iterator[float]:
    mask.draw(mask.ball((0, 0, 0), 12), SINGLE)
    places = [(x, y, z) for x in (-45.0, -15.0, 15.0, 45.0) for y in (-26.0, 26.0) for z in (-28.0, -14.0, 14.0, 28.0)]
    for number, place in enumerate(places[: MOST + 5]):
        yield mask.draw(mask.ball(place, radius(number)), SINGLE)


def test_one_fault_is_listed_once() -> None:
    """A part apart in one slice is a jump as well."""
    mask = Mask()
    planted = mask.ball((-30, 4, 28), 6) & (np.abs(mask.ras[..., 2] - 28) < 1)
    mask.draw(planted, LEFT)
    region = _only(mask.found())
    assert region.kind is Kind.ISLAND


@pytest.mark.parametrize("labels", [np.zeros((6, 6, 6), np.uint8), np.full((6, 6, 6), LEFT, np.uint8)])
def test_an_empty_mask_and_one_that_fills_the_image_have_no_finding(labels: np.ndarray) -> None:
    assert find_in_mask(labels, NAMES, SIDES, np.eye(4)).regions == ()


def test_a_mask_of_a_single_slice_is_read() -> None:
    mask = Mask()
    flat = mask.labels[mask.labels.shape[0] // 2][None].copy()
    flat[0, 3:7, 3:7] = LEFT
    assert [each.kind for each in find_in_mask(flat, NAMES, SIDES, mask.matrix).regions] == [Kind.ISLAND]
