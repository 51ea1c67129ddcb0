"""Images are prepared as nnU-Net prepares them: against what nnU-Net's own preprocessor made of the same arrays."""

import json
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_results import FOLDER, dataset, plans, settings

from SegWithUCore.inference.preprocessing import (
    assessed_box,
    network_input,
    thick_axis,
    to_working_grid,
)
from SegWithUCore.inference.sliding_window import WindowPlan, nnunet_weights, spread_starts, stitch
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.io.volume import orientation_of, reorient, same_grid
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.models.nnunet_import import nnunet_model

CASES: list[dict[str, Any]] = json.loads((FOLDER / "prepared.json").read_text(encoding="utf-8"))["cases"]


def spec_of(case: dict[str, Any]) -> InputSpec:
    """The input block that importing gives for plans with the changes of a case."""
    data, described = plans(), dataset()
    names = ("normalization_schemes", "use_mask_for_norm")
    settings(data).update({name: case[name] for name in names}, spacing=case["wanted"])
    data["transpose_forward"] = case["transpose_forward"]
    properties = data["foreground_intensity_properties_per_channel"]
    properties["1"] = properties["0"]
    described["channel_names"] = {str(index): f"MRI {index}" for index in range(case["shape"][0])}
    return nnunet_model(data, described, "3d_fullres", FOLDER).input


def images_of(case: dict[str, Any]) -> list[sitk.Image]:
    channels = []
    for array in np.asarray(case["image"], np.float32).reshape(case["shape"]):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(case["spacing_zyx"][::-1])
        image.SetOrigin([11.0, -7.0, 3.0])
        image.SetDirection([0, 0, 1, 1, 0, 0, 0, 1, 0])
        channels.append(image)
    return channels


@pytest.mark.other_machine
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_prepared_image_equals_nnunets(case: dict[str, Any]) -> None:
    spec, images = spec_of(case), images_of(case)
    box = assessed_box(images, spec)
    array, grid = network_input([box.crop(image) for image in images], spec)
    expected = np.asarray(case["prepared"]).reshape(case["prepared_shape"])
    assert array.shape == expected.shape
    assert expected.std() > 0.1
    # Measured: 3.5e-7 of the largest value, on every instruction set.
    np.testing.assert_allclose(array, expected, rtol=0, atol=2e-6 * max(1, np.abs(expected).max()))
    assert grid.GetSize() == array.shape[:0:-1]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_working_grid_has_the_outer_faces_of_the_assessed_part(case: dict[str, Any]) -> None:
    spec, images = spec_of(case), images_of(case)
    part = assessed_box(images, spec).crop(images[0])
    grid = network_input([part] * len(images), spec)[1]
    upright = reorient(part, spec.orientation)
    for corner in ([-0.5] * 3, [size - 0.5 for size in grid.GetSize()]):
        point = grid.TransformContinuousIndexToPhysicalPoint(corner)
        there = upright.TransformPhysicalPointToContinuousIndex(point)
        assert np.allclose(
            there, [-0.5 if c < 0 else size - 0.5 for c, size in zip(corner, upright.GetSize(), strict=True)]
        )
    labels = to_working_grid(sitk.Cast(part > 300, sitk.sitkInt16), spec, labels=True)
    assert same_grid(labels, grid)


def test_stored_axes_in_another_order_come_back_to_the_same_voxels() -> None:
    image = images_of(CASES[1])[0]
    for order in ("xyz", "zyx", "yzx", "zxy"):
        working = reorient(image, order)
        assert working.GetSize() == tuple(image.GetSize()["xyz".index(letter)] for letter in order)
        back = resample_to_grid(sitk.GetArrayFromImage(working)[None], working, image)
        np.testing.assert_array_equal(back[0], sitk.GetArrayFromImage(image))
    assert orientation_of(reorient(image, "LPS")) == "LPS"


@pytest.mark.parametrize(
    ("spacing", "wanted", "separate", "axis"),
    [
        ((3.0, 1, 1), (3.0, 1, 1), None, None),  # not above the threshold
        ((3.1, 1, 1), (1, 1, 1), None, 0),
        ((1, 1, 1), (1, 0.3, 0.3), None, 0),
        ((1, 4, 0.9), (1, 1, 1), None, 1),
        ((0.24, 1.25, 1.25), (1, 1, 1), None, None),  # two coarse axes
        ((4, 1, 1), (4, 1, 1), False, None),
        ((1.5, 1, 1), (1, 1, 2), True, 0),
        ((1, 1, 1), (1, 1, 4), True, None),
    ],
)
def test_slices_are_resampled_apart_where_nnunet_does_it(
    spacing: tuple[float, ...], wanted: tuple[float, ...], separate: bool | None, axis: int | None
) -> None:
    assert thick_axis(spacing, wanted, separate) == axis


@pytest.mark.parametrize(
    ("size", "window", "starts"),  # what nnU-Net's compute_steps_for_sliding_window gives
    [(110, 64, [0, 23, 46]), (64, 64, [0]), (65, 64, [0, 1]), (52, 24, [0, 9, 19, 28]), (35, 16, [0, 6, 13, 19])],
)
def test_windows_are_spread_evenly(size: int, window: int, starts: list[int]) -> None:
    assert list(spread_starts(size, window)) == starts
    assert WindowPlan.overlapping((size, 8, 8), (window, 8, 8)).count == len(starts)


def test_weights_fall_from_the_middle_and_never_to_zero() -> None:
    weights = nnunet_weights((8, 12, 10))
    assert float(weights[4, 6, 5]) == 1
    assert float(weights.min()) > 0
    assert float(weights[4, 6, 6]) == pytest.approx(
        np.exp(-0.5 / (10 / 8) ** 2), rel=0.02
    )  # a Gaussian, cut at 4 sigma


@pytest.mark.parametrize("shape", [(11, 26, 9), (5, 6, 7), (8, 12, 10)])
def test_mean_over_windows_gives_back_what_does_not_depend_on_the_window(shape: tuple[int, int, int]) -> None:
    class Doubling:
        def window(self, image: np.ndarray) -> list[np.ndarray]:
            return [image * 2]

    image = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
    output = stitch(Doubling(), image, WindowPlan.evenly_spread(shape, (8, 12, 10)))
    np.testing.assert_allclose(output, image * 2, rtol=1e-5)
