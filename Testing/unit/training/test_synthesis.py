"""Images drawn from label maps: where they lie, which classes they have, and that a seed decides all of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import maximum_filter, minimum_filter
from training_runs import tiny_recipe

from SegWithUCore.util.errors import InputError
from SegWithULab.training import synthesis
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.recipe import recipe_from_json
from SegWithULab.training.synthesis import Synthesiser, synthesiser_of

LEFT, RIGHT, MIDDLE, OTHER = 10, 20, 30, 40
BLOCK = {"classes": {"1": [LEFT], "2": [RIGHT, MIDDLE]}, "sides": [[LEFT, RIGHT]]}
STILL = {"mirrored": 0.0, "rotation_degrees": 0.0, "shift_mm": 0.0, "elastic_mm": 0.0, "thick_slices": 0.0}


def drawing(**changes: Any) -> Synthesiser:
    """The synthesiser of a tiny recipe, with changes of its block."""
    made = synthesiser_of(recipe_from_json(tiny_recipe() | {"synthesis": BLOCK | changes}, "r.json"), (24, 32, 24))
    assert made is not None
    return made


@pytest.fixture
def head() -> sitk.Image:
    """A map with unequal sides on an oblique grid whose axes run to the left, down and to the front."""
    array = np.zeros((20, 36, 40), np.int16)  # axes z, y, x as stored: front, down, left
    array[2:18, 4:32, 4:36] = OTHER
    array[8:14, 8:16, 24:34] = LEFT
    array[8:14, 18:26, 8:14] = RIGHT
    array[8:14, 26:30, 18:22] = MIDDLE
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.2, 1.5))
    image.SetOrigin((-31.0, 57.0, 12.0))
    angle = np.deg2rad(6)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = np.array([[1, 0, 0], [0, 0, -1], [0, -1, 0]]).T  # LPS directions of the axes, in columns
    image.SetDirection((turn @ axes).ravel().tolist())
    return image


def centre(image: sitk.Image, *labels: int) -> np.ndarray:
    """Mean position of some labels in the world, LPS in mm."""
    places = np.argwhere(np.isin(sitk.GetArrayViewFromImage(image), labels))[:, ::-1].mean(0)
    return np.array(image.TransformContinuousIndexToPhysicalPoint(places.tolist()))


def test_equal_seeds_give_equal_images_and_windows(head: sitk.Image) -> None:
    made = drawing()
    volumes = [made.volume(head, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    first, again, other = (sitk.GetArrayFromImage(volume.images[0]) for volume in volumes)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    case = replace(PreparedCase("a", first[None], first, (1, 1, 1), (1, 1, 1)), label_map=made.label_map(head))
    one, two, three = (made.draw(case, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[key], two[key]) for key in one) and not torch.equal(one["image"], three["image"])
    assert one["image"].shape == one["labels"].shape == one["valid"].shape == (1, 24, 32, 24)
    assert not one["image"][one["valid"] == 0].any()


def test_a_drawn_file_lies_where_its_map_lies(head: sitk.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "STRETCH", 0.0)
    made = drawing(**STILL).volume(head, np.random.default_rng(0))
    for image in (made.images[0], made.reference):
        assert image.GetSize() == head.GetSize() and image.GetSpacing() == pytest.approx(head.GetSpacing())
        assert np.allclose(image.GetDirection(), head.GetDirection())
        assert np.allclose(image.GetOrigin(), head.GetOrigin())
    wanted = np.select([np.isin(sitk.GetArrayViewFromImage(head), each) for each in ([LEFT], [RIGHT, MIDDLE])], [1, 2])
    assert np.array_equal(sitk.GetArrayViewFromImage(made.reference), wanted)


def test_a_mirrored_draw_exchanges_the_sides(head: sitk.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "STRETCH", 0.0)
    classes = {"1": [LEFT], "2": [RIGHT]}
    made = drawing(**{**STILL, "mirrored": 1.0, "classes": classes}).volume(head, np.random.default_rng(0)).reference
    size = np.array(head.GetSize())
    plane = np.array(head.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    axis = np.reshape(head.GetDirection(), (3, 3))[:, 0]  # to the left
    for value, partner in ((1, RIGHT), (2, LEFT)):  # what lies left now is the mirror image of what lay right
        given = centre(head, partner)
        assert np.allclose(centre(made, value), given - 2 * ((given - plane) @ axis) * axis, atol=0.05)
    assert (centre(made, 1) - centre(made, 2)) @ axis > 5  # left is left


def test_grey_values_follow_labels_not_classes(head: sitk.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "STRETCH", 0.0)
    made = drawing(**STILL)
    grey = {0: (0.0, 0.0), LEFT: (0.3, 0.0), RIGHT: (0.5, 0.1), MIDDLE: (0.7, 0.0), OTHER: (1.0, 0.0)}
    monkeypatch.setattr(made, "_grey_values", lambda labels, _: np.array([grey[label] for label in labels]).T)
    monkeypatch.setattr(made, "_acquired", lambda image, *_: image)
    drawn = sitk.GetArrayFromImage(made.volume(head, np.random.default_rng(4)).images[0])
    labels = sitk.GetArrayFromImage(head)
    inside = maximum_filter(labels, 3) == minimum_filter(labels, 3)
    mean, spread = ({label: how(drawn[inside & (labels == label)]) for label in grey} for how in (np.mean, np.std))
    assert mean[0] < mean[LEFT] < mean[RIGHT] < mean[MIDDLE] < mean[OTHER]
    assert spread[RIGHT] > 30 and max(spread[LEFT], spread[OTHER]) < 5


def test_a_known_contrast_holds_for_both_sides() -> None:
    made = drawing(grey_values={str(LEFT): 1.0, str(MIDDLE): 0.4}, grey_values_share=1.0)
    for seed in range(20):
        mean, deviation = made._grey_values([0, LEFT, RIGHT, MIDDLE, OTHER], np.random.default_rng(seed))
        assert mean[1] == mean[2] > 1.4 * mean[3] and deviation[1] == deviation[2]


def test_stripping_leaves_the_brain_alone(head: sitk.Image) -> None:
    block = {**STILL, "stripped_to": [LEFT, RIGHT], "stripped_partly": [MIDDLE], "stripped": 1.0}
    draws = [drawing(**block).volume(head, np.random.default_rng(seed)) for seed in range(8)]
    arrays = [(sitk.GetArrayFromImage(made.images[0]), sitk.GetArrayFromImage(made.reference)) for made in draws]
    assert all(not image[:2].any() and set(np.unique(labels)) == {0, 1, 2} for image, labels in arrays)
    assert len({int((labels == 2).sum() > 300) for _, labels in arrays}) == 2  # with and without MIDDLE


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": {"1": [LEFT]}},
        {"classes": {"1": [LEFT], "2": [RIGHT], "3": [MIDDLE]}},
        {"classes": {"1": [LEFT], "2": [RIGHT, LEFT]}},
        {"sides": [[LEFT, RIGHT], [RIGHT, MIDDLE]]},
        {"sides": [[LEFT]]},
        {"thick_slices": 2},
        {"unknown": 1},
    ],
)
def test_a_block_that_cannot_be_used_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        drawing(**changes)


def test_a_map_without_any_named_label_is_refused(head: sitk.Image) -> None:
    with pytest.raises(InputError) as refusal:
        drawing().volume(head + 1, np.random.default_rng(1))
    assert refusal.value.code == "unknown-label"


def test_an_input_of_fixed_units_is_refused() -> None:
    made = tiny_recipe() | {"synthesis": BLOCK}
    fixed = {"kind": "fixed", "low": 0, "high": 1000, "mean": 0, "std": 100}
    recipe = recipe_from_json(made | {"input": made["input"] | {"normalisation": fixed}}, "r.json")
    with pytest.raises(InputError) as refusal:
        synthesiser_of(recipe)
    assert refusal.value.code == "wrong-recipe"


def test_a_structure_grows_into_named_labels_only_and_shrinks(
    head: sitk.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "STRETCH", 0.0)

    def drawn(*mm: float, into: int = OTHER) -> np.ndarray:
        grown = [{"labels": [LEFT], "into": [into], "mm": mm}]
        made = drawing(**STILL, grown=grown)
        draws = [made.volume(head, np.random.default_rng(seed)).reference for seed in range(16)]
        volumes = [sitk.GetArrayFromImage(draw) for draw in draws]
        return max(volumes, key=lambda volume: abs(int((volume == 1).sum()) - int((before == 1).sum())))

    before = np.select([np.isin(sitk.GetArrayViewFromImage(head), each) for each in ([LEFT], [RIGHT, MIDDLE])], [1, 2])
    larger, smaller = drawn(0.0, 2.5), drawn(-2.5, 0.0)
    assert (larger == 1)[before == 1].all() and (larger == 1).sum() > 1.5 * (before == 1).sum()
    assert np.array_equal(larger == 2, before == 2)
    assert 0 < (smaller == 1).sum() < 0.7 * (before == 1).sum() and (before == 1)[smaller == 1].all()
    assert np.array_equal(drawn(0.0, 2.5, into=RIGHT) == 1, before == 1)
