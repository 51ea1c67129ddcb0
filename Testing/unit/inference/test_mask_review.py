"""The result of a mask without a model, in memory."""

import gc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from mask_cases import LEFT, NAMES, RIGHT, SHAPE, even_mask, write, write_image

from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.given_mask import MaskFile
from SegWithUCore.inference.mask_review import model_of_masks, structure_labels
from SegWithUCore.inference.memory_prediction import RunMemory
from SegWithUCore.inference.segment import compute_case
from SegWithUCore.util.errors import InputError


def test_a_result_keeps_the_image_that_its_picture_is_drawn_of(tmp_path: Path) -> None:
    """Not a view into an image that is gone by then."""
    image, mask = write_image(tmp_path / "head.nii.gz"), write(even_mask(), tmp_path / "mask.nii.gz")
    names = {str(value): name for value, name in NAMES.items()}
    job = Job("head", (image,), tmp_path / "out", mask=MaskFile(mask, names))
    result = compute_case(job, model_of_masks(structure_labels([names]), []))
    gc.collect()
    taken = [np.full(even_mask().shape, np.float32(7)) for _ in range(8)]
    assert np.array_equal(np.asarray(result.assessed.first), sitk.GetArrayFromImage(sitk.ReadImage(str(image))))
    assert len(taken) == 8


def test_a_value_that_means_two_things_keeps_both_names() -> None:
    labels = structure_labels([{"1": "liver", "2": "spleen"}, {"1": "spleen", "2": "left kidney", "tumour": "tumour"}])
    names = [label.name for label in labels]
    assert sorted(names[1:]) == ["left kidney", "liver", "spleen", "tumour"]
    assert len({label.value for label in labels}) == len(labels)
    assert labels[0].value == 0
    assert {label.name: label.value for label in labels}["liver"] == 1


def test_many_structures_are_not_refused_for_the_memory_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise AssertionError("no model is run")

    monkeypatch.setattr(RunMemory, "check", refuse)
    labels = np.repeat(np.arange(2, 32, dtype=np.uint8), np.prod(SHAPE[1:])).reshape(SHAPE)
    image, mask = write_image(tmp_path / "head.nii.gz"), write(labels, tmp_path / "mask.nii.gz")
    names = {str(value): f"structure {value}" for value in range(2, 257)}
    job = Job("head", (image,), tmp_path / "out", mask=MaskFile(mask, names))
    result = compute_case(job, model_of_masks(structure_labels([names]), []))
    assert [each.voxels for each in result.assessed.structures[1:32]] == [np.prod(SHAPE[1:])] * 30 + [0]


@pytest.mark.parametrize("count", [0, 256])
def test_masks_of_no_or_too_many_structures_are_refused(count: int) -> None:
    with pytest.raises(InputError) as caught:
        structure_labels([{str(value): f"label {value}" for value in range(1, count + 1)}])
    assert caught.value.code == "unknown-label"


def test_of_a_name_the_lowest_value_counts() -> None:
    labels = structure_labels([{str(RIGHT): "organ"}, {str(LEFT): "organ"}])
    assert [(label.value, label.name) for label in labels[1:]] == [(LEFT, "organ")]
