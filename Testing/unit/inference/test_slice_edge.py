"""Slices of one size, for images whose voxel sizes are not known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from segwithu_command import MODEL
from training_runs import tiny_recipe

from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.preprocessing import network_input, to_working_grid, working_size
from SegWithUCore.inference.segment import segment
from SegWithUCore.inference.settings import RunSettings
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.util.errors import InputError, UsageError
from SegWithULab.training.recipe import recipe_from_json

SPEC = InputSpec(("cine MRI",), "MR", "LPS", None, (32, 32, 4), slice_edge=64)


def image(x: int, y: int, z: int = 5) -> sitk.Image:
    """A disc in the middle of each slice, half as wide as the slice's longer edge."""
    row, column = np.mgrid[:y, :x]
    disc = np.hypot(row - (y - 1) / 2, column - (x - 1) / 2) < max(x, y) / 4
    made = sitk.GetImageFromArray(np.repeat(disc[None], z, 0).astype(np.float32))
    made.SetSpacing((1.5, 1.5, 10.0))
    return made


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((64, 48), (64, 48)), ((128, 96), (64, 48)), ((32, 20), (64, 40)), ((48, 128), (24, 64)), ((1, 900), (1, 64))],
)
def test_the_longer_edge_rules_and_slices_keep_their_number(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    found, spacing = working_size(image(*size), SPEC)
    assert found == (*fitted, 5)
    assert np.allclose(np.multiply(found, spacing), np.multiply((*size, 5), (1.5, 1.5, 10.0)))  # the same ground


def test_a_slice_of_that_size_is_not_resampled() -> None:
    given = image(64, 50)
    assert np.array_equal(sitk.GetArrayFromImage(to_working_grid(given, SPEC)), sitk.GetArrayFromImage(given))


def test_sizes_no_longer_matter() -> None:
    small, large = (network_input([image(*size)], SPEC)[0] for size in ((32, 24), (128, 96)))
    assert small.shape == large.shape == (1, 5, 48, 64)
    assert np.abs(small - large).mean() < 0.15  # but for the coarse edge of the small one


def test_what_is_found_goes_back_to_the_images_own_grid() -> None:
    given = image(128, 96)
    array, working = network_input([given], SPEC)
    back = resample_to_grid(array, working, given)[0]
    assert back.shape == (5, 96, 128)
    assert np.mean((back > 0.5) != (sitk.GetArrayFromImage(given) > 0.5)) < 0.01


def test_it_is_written_and_read_only_where_it_is_set() -> None:
    assert InputSpec.from_json(SPEC.to_json()) == SPEC
    assert "slice_edge" not in replace(SPEC, slice_edge=None).to_json()


@pytest.mark.parametrize("wrong", [0, -3, 1.5, True, "256"])
def test_a_size_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="slice_edge"):
        recipe_from_json(tiny_recipe(input={"spacing_mm": None, "slice_edge": wrong}), "recipe.json")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision"):
        recipe_from_json(tiny_recipe(input={"precision": "half"}), "recipe.json")


def test_it_excludes_a_working_spacing() -> None:
    with pytest.raises(InputError, match="slice_edge goes without spacing_mm"):
        recipe_from_json(tiny_recipe(input={"slice_edge": 64}), "recipe.json")


def test_a_region_of_interest_is_refused(tmp_path: Path, data_folder: Path) -> None:
    """Part of a slice would be taken for a whole one, and enlarged."""
    bundle = read_bundle(MODEL)
    whole_slices = replace(bundle, input=replace(bundle.input, spacing_mm=None, slice_edge=64))
    model = Model(whole_slices, torch.device("cpu"))
    file = next((data_folder / "hippocampus" / "images").glob("*.nii.gz"))
    job = Job("case", (file,), tmp_path / "case", RunSettings(roi=(0, 0, 0, 10, 10, 10)))
    with pytest.raises(UsageError, match="whole slices"):
        segment(job, model)
    assert not (tmp_path / "case").exists()
