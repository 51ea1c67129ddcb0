"""Pictures of regions: the right plane, the right way up, in true proportions, whatever the axis order."""

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from review_cases import a_region, real_labels
from small_disks import leave

from SegWithUCore.case.pictures import THUMBNAIL_CONTOUR as CONTOUR
from SegWithUCore.case.pictures import Grid, thumbnail, write_png
from SegWithUCore.util.errors import OutputError

SPACING = (2.0, 1.3, 0.9)
SHAPE = (16, 31, 37)
GRID = Grid(SPACING, "SAR")
OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))


def drawn(
    image: np.ndarray, labels: np.ndarray, where: np.ndarray, peak: Sequence[int], grid: Grid = GRID
) -> np.ndarray:
    """The picture of a region that lies where `where` is true, another region beside it."""
    index = np.argwhere(where)
    size = (np.ptp(index, axis=0) + 1) * grid.spacing_zyx if len(index) else np.zeros(3)
    region_labels = np.where(where, 300, 299).astype(np.uint16)
    return thumbnail(image, labels, region_labels, a_region(300, size_mm=tuple(size[::-1].tolist())), peak, grid)


def phantom(plane: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int]]:
    """Image that brightens to the right, anterior and superior; a box of a structure; a flat region in the plane."""
    z, y, x = np.indices(SHAPE)
    image = 100.0 * z + 10.0 * y + x
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:11, 10:21, 12:25] = 1
    region = np.zeros(SHAPE, bool)
    box = {
        "axial": (slice(8, 9), slice(13, 18), slice(15, 22)),
        "coronal": (slice(6, 10), slice(15, 16), slice(15, 22)),
        "sagittal": (slice(6, 10), slice(13, 18), slice(18, 19)),
    }[plane]
    region[box] = True
    return image, labels, region, (8, 15, 18)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_picture_is_the_same_in_every_axis_order(plane: str) -> None:
    image, labels, region, peak = phantom(plane)
    upright = drawn(image, labels, region, peak).astype(int)
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        turned = []
        for array in (image, labels, region):
            new = array.transpose(order)
            turned.append(np.flip(new, [axis for axis, flip in enumerate(flips) if flip]))
        at = [SHAPE[old] - 1 - peak[old] if flip else peak[old] for old, flip in zip(order, flips, strict=True)]
        towards = ["SAR"[old] if not flip else OPPOSITE["SAR"[old]] for old, flip in zip(order, flips, strict=True)]
        grid = Grid(tuple(SPACING[old] for old in order), "".join(towards))
        picture = drawn(*turned, at, grid).astype(int)
        assert np.abs(picture - upright).max() <= 1, f"{order} {flips}"


@pytest.mark.parametrize(
    ("plane", "down", "right"),
    [
        ("axial", "darker: anterior to posterior", "darker: right to left"),
        ("coronal", "darker: superior to inferior", "darker: right to left"),
        ("sagittal", "darker: superior to inferior", "darker: anterior to posterior"),
    ],
)
def test_picture_is_turned_as_in_slicers_views(plane: str, down: str, right: str) -> None:
    image, labels, region, peak = phantom(plane)
    grey = drawn(image, labels * 0, region, peak)[..., 2].astype(int)
    middle = slice(44, 52)
    assert grey[20, middle].mean() > grey[76, middle].mean(), down
    assert grey[middle, 20].mean() > grey[middle, 76].mean(), right


def test_proportions_are_true() -> None:
    """A ball of 14 mm on flat voxels is as wide as it is high, and as large as the scale says."""
    index = np.indices(SHAPE) - np.asarray([8, 15, 18])[:, None, None, None]
    ball = np.sqrt(((index * np.asarray(SPACING)[:, None, None, None]) ** 2).sum(0)) < 7
    flat = ball & (np.indices(SHAPE)[1] == 15)
    picture = drawn(np.ones(SHAPE), ball.astype(np.uint8), flat, (8, 15, 18))
    outline = np.argwhere((picture == CONTOUR).all(-1))
    height, width = np.ptp(outline, axis=0) + 1
    edge_mm = 1.8 * 14.4
    assert height == pytest.approx(14 / edge_mm * 96, abs=2 / edge_mm * 96)
    assert width == pytest.approx(14 / edge_mm * 96, abs=1.3 / edge_mm * 96)


def test_peak_is_in_the_middle_and_beyond_the_image_is_black() -> None:
    image, labels, _, _ = phantom("axial")
    region = np.zeros(SHAPE, bool)
    region[0, 0, 0] = True
    picture = drawn(image + 500, labels, region, (0, 0, 0))
    assert picture.shape == (96, 96, 3)
    assert picture.dtype == np.uint8
    tinted = np.argwhere((picture[..., 0].astype(int) - picture[..., 2]) > 40)
    np.testing.assert_allclose(tinted.mean(0), 47.5, atol=0.6)
    assert (picture[-20:, -20:] != 0).any() != (picture[:20, :20] != 0).any()
    corners = [picture[:20, :20], picture[:20, -20:], picture[-20:, :20], picture[-20:, -20:]]
    assert sum(bool((corner == 0).all()) for corner in corners) == 3, "the image fills one quarter"


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_image_without_contrast_is_drawn_too(value: float) -> None:
    _, labels, region, peak = phantom("axial")
    picture = drawn(np.full(SHAPE, value), labels, region, peak)
    assert np.unique(picture[(picture != CONTOUR).any(-1)], axis=0).shape[0] == 2


def test_one_dead_pixel_does_not_darken_the_picture() -> None:
    image, labels, region, peak = phantom("axial")
    bright = image.copy()
    bright[8, 12, 14] = 1e9
    one, other = (drawn(array, labels, region, peak).astype(int) for array in (bright, image))
    assert (np.abs(one - other).max(-1) > 20).mean() < 0.03


def test_thin_slab_and_region_as_large_as_the_image() -> None:
    image, labels, _, _ = phantom("axial")
    everywhere = np.ones((1, *SHAPE[1:]), bool)
    picture = drawn(image[:1], labels[:1], everywhere, (0, 15, 18))
    assert (picture > 0).any()
    nowhere = np.zeros(SHAPE, bool)
    assert drawn(image, labels, nowhere, (8, 15, 18)).shape == (96, 96, 3)


def test_real_case_shows_region_and_contour_and_comes_back_from_its_file(data_folder: Path, tmp_path: Path) -> None:
    image, labels = real_labels(data_folder)
    region = (labels == 1) & (np.roll(labels, 1, axis=1) != 1)
    peak = np.argwhere(region)[region.sum() // 2].tolist()
    picture = drawn(image, labels, region, peak, Grid((1.0, 1.0, 1.0), "SAR"))
    contour = (picture == CONTOUR).all(-1)
    tinted = (picture[..., 0].astype(int) - picture[..., 2] > 40) & ~contour
    assert 0.005 < contour.mean() < 0.2
    assert 0.001 < tinted.mean() < 0.3
    write_png(picture, tmp_path / "süß.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "süß.png"))), picture)


def test_picture_that_does_not_fit_the_disk_is_told_and_leaves_nothing(small_disk: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    leave(small_disk, 4)
    with pytest.raises(OutputError, match=r"Cannot write .*/a.png"):
        write_png(noise, small_disk / "a.png")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
