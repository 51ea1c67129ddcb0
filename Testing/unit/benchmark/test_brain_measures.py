"""What the whole-brain benchmark counts: labels of the reference, left-out voxels, merged sides; MeshNet in parts."""

from itertools import combinations

import brain
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from brain_meshnet import classes_in, largest
from brain_training import IGNORED, recipe_values
from crossed_over import MOST_DRAWS, draws_of

from SegWithUCore.network.backbones.meshnet import MeshNet


def test_reference_labels_become_those_of_the_recipe():
    labels = np.zeros((6, 3, 2), np.int16)  # x runs right
    labels[:3, 0, 0], labels[3:, 0, 0] = 45, 44  # white matter, left and right
    labels[:, 1, 0] = 71  # vermis, of which each side gets its half
    labels[:, 2, 0] = [48, 32, 101, 100, 31, 47]  # hippocampus, amygdala, cortex
    labels[:3, 0, 1] = [69, 46, 35]  # chiasm and fluid have no counterpart
    values = recipe_values(labels)
    assert values[:, 0, 0].tolist() == [2, 2, 2, 41, 41, 41]
    assert values[:, 1, 0].tolist() == [8, 8, 8, 47, 47, 47]
    assert values[:, 2, 0].tolist() == [17, 18, 3, 42, 54, 53]
    assert values[:3, 0, 1].tolist() == [IGNORED, IGNORED, 16]


def test_dice_leaves_out_what_the_reference_does_not_know():
    truth = np.array([17, 17, 17, 17, 0, IGNORED, IGNORED, 53])
    drawn = np.array([17, 17, 0, 53, 17, 17, 53, 53])
    found = brain.overlaps(drawn, truth)
    assert found["dice"] == {"left hippocampus": round(4 / 7, 4), "right hippocampus": round(2 / 3, 4)}
    assert found["ratio"] == {"left hippocampus": 0.75, "right hippocampus": 2.0}


def test_merged_sides_are_one_structure():
    truth, drawn = np.array([17, 53, 53, 16, IGNORED]), np.array([53, 17, 53, 16, 17])
    found = brain.overlaps(brain.MERGED[drawn], brain.MERGED[truth], brain.merged_names())
    assert found["dice"] == {"brainstem": 1.0, "hippocampus": 1.0}


def test_means_average_sides_first():
    dice = dict.fromkeys(brain.STRUCTURES.values(), 0.5) | {"left thalamus": 0.9, "right thalamus": 0.7}
    found = brain.means(dice)
    assert found["thalamus"] == 0.8
    assert found["TEN"] == pytest.approx((9 * 0.5 + 0.8) / 10)
    assert found["MEAN"] == pytest.approx(0.5 + 0.3 / 16, abs=1e-4)


def test_all_draws_or_random_ones():
    assert sorted(map(tuple, draws_of(5, 3))) == sorted(combinations(range(5), 3))
    assert all(len(set(draw)) == 3 and max(draw) < 15 for draw in draws_of(15, 3))
    assert len(draws_of(15, 3)) == MOST_DRAWS


@pytest.mark.parametrize("how", ["asis", "slices3", "slices5", "tilt0+20", "rot2+20"])
def test_changed_images_come_back_to_the_reference(how: str):
    """Values that follow the image, as a perfect segmentation of it, lie where they lay."""
    shape = np.full((36, 40, 44), 0, np.int16)
    shape[8:28, 10:22, 8:36] = 17  # nothing symmetric
    truth = sitk.GetImageFromArray(shape.astype(np.uint8))
    truth.SetOrigin((5.0, -40.0, 7.0))
    truth.SetDirection((-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))  # along RAS
    image = sitk.DICOMOrient(sitk.Cast(truth, sitk.sitkInt16), "LAS")
    changed, grid = brain.change(brain.Brain("made", "decision", image, truth), how)
    drawn = sitk.Cast(changed > 8.5, sitk.sitkUInt8) * 17
    dice = brain.overlaps(brain.on_grid(drawn, grid), shape)["dice"]["left hippocampus"]
    assert dice > (0.999 if how in ("asis", "rot2+20") else 0.88)


def test_meshnet_in_a_region_is_that_of_the_whole_volume():
    torch.manual_seed(0)
    common = {"kernel": 3, "bias": True, "normalised": False, "activation": "elu"}
    layers = [{"filters": 4, "dilation": dilation, **common} for dilation in (1, 3, 2)]
    layers.append({"filters": 5, "dilation": 1, **common, "kernel": 1, "activation": "linear"})
    network = MeshNet(1, layers).eval()
    image = np.random.default_rng(0).normal(size=(26, 24, 40)).astype(np.float32)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor *= 4
        whole = network(torch.from_numpy(image)[None, None])[0].argmax(0).numpy()
    low, high = np.array([1, 5, 20]), np.array([25, 14, 31])  # near two borders, and far from others
    found = classes_in(network, image, low, high)
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, whole[1:25, 5:14, 20:31])


def test_only_the_largest_part_is_kept():
    classes = np.zeros((4, 4, 9), np.uint8)
    classes[0, 0, :3], classes[1, 1, 3], classes[3, 3, 6:8] = 2, 3, 2
    kept = largest(classes)
    assert kept[3].sum() == 0
    assert kept.sum() == 9
