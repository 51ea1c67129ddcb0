"""Volumes as the page draws them: exact where its types hold the numbers, in known steps elsewhere."""

import numpy as np
import pytest

from SegWithUCore.io.roi import EMPTY, VoxelBox
from SegWithUCore.util.errors import InputError
from SegWithUCore.web import case_volumes
from SegWithUCore.web.case_volumes import (
    STEPS,
    display_image,
    display_labels,
    display_map,
    region_masks,
)

SHAPE = (5, 7, 9)


def numbers(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE)


@pytest.mark.parametrize(("low", "high"), [(-1024, 3071), (0, 255), (-32768, 32767)])
def test_whole_intensities_stay_what_they_are(low, high):
    array = np.rint(numbers() * (high - low) + low).astype(np.float32)
    image = display_image(array)
    assert (image.scale, image.offset) == (1.0, 0.0)
    assert np.array_equal(image.volume.array, array)
    assert image.range == (array.min(), array.max())


def test_fractions_are_off_by_half_a_step_of_16_bits_at_most():
    array = (numbers() * 1e-3).astype(np.float32)
    image = display_image(array)
    shown = image.volume.array * image.scale + image.offset
    assert np.abs(shown - array).max() <= np.ptp(array) / 65535 / 2 * 1.001


def test_a_large_image_has_8_bits_which_metal_does_not_take_from_the_tissue(monkeypatch):
    monkeypatch.setattr(case_volumes, "LARGE_VOXELS", 100)
    array = np.rint(numbers() * 200).astype(np.float32)
    array[0, 0, 0] = 30000
    image = display_image(array)
    assert image.volume.array.dtype == np.uint8
    shown = image.volume.array * image.scale + image.offset
    inside = (array >= image.window[0]) & (array <= image.window[1])
    assert np.abs(shown - array)[inside].max() <= 2 * np.ptp(image.window) / 255


@pytest.mark.parametrize("window", [(0.0, 0.5), (0.1, 0.9), (-3.0, 7.5), (0.0, 1 / 3)])
def test_each_step_of_a_map_is_its_threshold_exactly(window):
    low, high = window
    array = (numbers() * (high - low) * 1.4 + low - 0.2 * (high - low)).astype(np.float32)
    array[array < 0] = np.abs(array[array < 0]) if low >= 0 else array[array < 0]
    array[0, 0, :3] = (low, high, (low + high) / 2)
    array[1] = -1.0
    box = VoxelBox((1, 2, 0), (6, 4, 5))
    shown = display_map(array, window, -1.0, box)
    part = array[box.slices_zyx]
    assert shown.box == box
    assert (shown.array[part == -1.0] == 0).all()
    assert (shown.array[part != -1.0] > 0).all()
    for step in range(STEPS + 1):
        expected = (part >= low + step / STEPS * (high - low)) & (part != -1.0)
        assert np.array_equal(shown.array >= 2 + step, expected), step


@pytest.mark.parametrize(("value", "kind"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_labels_are_cut_to_what_they_fill(value, kind):
    array = np.zeros(SHAPE, np.int32)
    array[1:3, 2:6, 4] = value
    shown = display_labels(array, "it")
    assert (shown.array.dtype, shown.box) == (kind, VoxelBox((4, 2, 1), (1, 4, 2)))
    assert (shown.array == value).all()


@pytest.mark.parametrize("wrong", [-1.0, 65536.0, 1.5])
def test_what_is_no_label_is_refused(wrong):
    array = np.zeros(SHAPE, np.float32)
    array[0, 0, 0] = wrong
    with pytest.raises(InputError, match="it holds"):
        display_labels(array, "it")


def test_no_labels_are_an_empty_box():
    shown = display_labels(np.zeros(SHAPE, np.uint8), "it")
    assert (shown.box, shown.array.size) == (EMPTY, 0)
    assert VoxelBox.around(np.zeros(SHAPE, np.uint8)) == EMPTY
    assert shown.crop(VoxelBox((0, 0, 0), (2, 2, 2))).box == EMPTY


def test_a_crop_keeps_the_voxels_where_they_are():
    array = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    volume = display_image(array).volume
    part = volume.crop(VoxelBox((2, -5, 1), (3, 9, 90)))
    assert part.box == VoxelBox((2, 0, 1), (3, 4, 4))
    assert np.array_equal(part.array, array[1:5, 0:4, 2:5])


def test_masks_hold_each_regions_voxels_and_an_id_without_any_has_none():
    labels = np.random.default_rng(3).integers(0, 5, SHAPE).astype(np.uint16)
    labels[labels == 3] = 0
    masks = region_masks(labels, [4, 3, 1, 2])
    assert masks.boxes[3] == EMPTY
    data = np.frombuffer(masks.data, np.uint8)
    for id_ in (1, 2, 4):
        box = masks.boxes[id_]
        mask = data[masks.starts[id_] :][: np.prod(box.size)].reshape(box.size[::-1])
        assert np.array_equal(mask > 0, labels[box.slices_zyx] == id_)
        assert mask.sum() == (labels == id_).sum()


def test_regions_that_would_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(case_volumes, "MAXIMUM_MASK_BYTES", 100)
    labels = np.zeros(SHAPE, np.uint16)
    labels[0, 0, 0] = labels[-1, -1, -1] = 1
    with pytest.raises(InputError, match="region 1 lie too far apart"):
        region_masks(labels, [1])
