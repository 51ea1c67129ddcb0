"""Shading, sharpness and brightness: known answers on phantoms, and what real images are warned of."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from SegWithUCore.inference.deviation import Deviation
from SegWithUCore.inference.image_features import image_features
from SegWithUCore.inference.ood_channels import fit_quality, quality_deviations, shading
from SegWithUCore.inference.ood_check import deviations, to_model_orientation
from SegWithUCore.io.volume import image_on_grid, read_image
from SegWithUCore.models.bundle import Bundle, read_bundle
from SegWithUCore.models.quality import IMAGE_QUALITY, checks_lacking

MODEL = Path(__file__).resolve().parents[3] / "Resources" / "Models" / "hippocampus"
SPAN = {"low": (1.0,) * 3, "high": (1.0,) * 3}
SHAPE = (36, 44, 40)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(MODEL)


@pytest.fixture(scope="module")
def images(data_folder: Path) -> list[sitk.Image]:
    """Three real cases; the limits were chosen on others."""
    return [read_image(path) for path in sorted((data_folder / "hippocampus" / "images").glob("*.nii.gz"))[:3]]


def texture(seed: int = 0) -> np.ndarray:
    """Grey values without any shading: smooth noise around 10."""
    return 10 + 3 * gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1) / 0.1


def field(ratio: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Multiplies what is at the last corner by `ratio` of what the first is multiplied by."""
    axes = np.meshgrid(*(np.linspace(0, 1 / 3, n) for n in shape), indexing="ij")
    return np.asarray(ratio ** sum(axes))


def changed(image: sitk.Image, change: Callable[[np.ndarray], np.ndarray]) -> sitk.Image:
    return image_on_grid(change(sitk.GetArrayFromImage(image).astype(float)).astype(np.float32), image)


def said(found: list[Deviation]) -> dict[str, str]:
    return {entry.kind: entry.severity for entry in found}


def known(array: np.ndarray) -> tuple[tuple[float, float, float], np.ndarray]:
    found = image_features(array)
    assert found.sharpness is not None
    assert found.gradients is not None
    return found.sharpness, found.gradients


@pytest.mark.parametrize("ratio", [1.0, 2.0, 5.0])
def test_the_shading_found_is_the_field_that_the_image_was_multiplied_with(ratio: float) -> None:
    usual = np.mean([known(texture(seed))[1] for seed in range(1, 5)], axis=0)
    shaded = texture() * field(ratio)
    assert shading(known(shaded)[1], usual) == pytest.approx(ratio, rel=0.15)
    assert shading(known(shaded * 1e3 - 7e5)[1], usual) == pytest.approx(ratio, rel=0.15)


def test_sharpness_of_white_noise_is_the_square_root_of_three_and_that_of_a_ramp_none() -> None:
    noise = np.random.default_rng(0).normal(size=(50, 50, 50))
    assert known(noise)[0] == pytest.approx((3**0.5,) * 3, rel=0.03)
    ramp = np.linspace(0, 1, 40)[:, None, None] * np.ones((40, 9, 9)) + np.linspace(0, 1, 9)
    assert known(ramp)[0][0] == pytest.approx(0, abs=0.1)


def test_blur_lowers_the_sharpness_of_its_own_axis_and_turns_with_the_image() -> None:
    array = gaussian_filter1d(np.random.default_rng(0).normal(size=SHAPE), 1.5, axis=0).astype(np.float32)
    z, y, x = known(array)[0]
    assert z < 0.5 < 1.5 < min(y, x)
    image = sitk.GetImageFromArray(array)
    turned = sitk.DICOMOrient(image, "SRA")
    own = image_features(sitk.GetArrayViewFromImage(turned))
    back = to_model_orientation(own, turned, "LPS")
    assert back.sharpness == pytest.approx((z, y, x), rel=1e-4)
    assert back.gradients is not None
    np.testing.assert_allclose(back.gradients, known(array)[1], atol=0.02)


def test_large_images_are_sampled_and_say_about_the_same() -> None:
    array = gaussian_filter(np.random.default_rng(0).normal(size=(120, 120, 120)), 1) * field(4, (120,) * 3)
    whole, sampled = known(array[:60, :60, :60]), known(array)
    assert sampled[0] == pytest.approx(whole[0], rel=0.05)


class TestRealImages:
    def test_images_as_they_are_pass(self, bundle: Bundle, images: list[sitk.Image]) -> None:
        assert [deviations([image], bundle) for image in images] == [[]] * len(images)

    def test_strong_shading_is_warned_of_and_faint_shading_is_not(
        self, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        for image in images:
            strong = deviations([changed(image, lambda a: a * field(8, a.shape))], bundle)
            assert said(strong)["shading"] == "warning"
            assert any("correct the bias field first" in entry.message for entry in strong)
            faint = deviations([changed(image, lambda a: a * field(1.5, a.shape))], bundle)
            assert "warning" not in said(faint).values()

    @pytest.mark.parametrize(("deviation_mm", "severity"), [(0.6, "note"), (1.0, "warning"), (2.0, "warning")])
    def test_blur_is_judged_by_its_strength(
        self, deviation_mm: float, severity: str, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        for image in images:
            found = said(deviations([sitk.SmoothingRecursiveGaussian(image, deviation_mm)], bundle))
            assert found["sharpness"] == severity
            assert "noise" not in found, "said once"

    @pytest.mark.parametrize(("share", "severity"), [(0.1, None), (0.2, "warning")])
    def test_noise_is_judged_by_its_strength(
        self, share: float, severity: str | None, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        random = np.random.default_rng(0)
        for image in images:
            low, high = np.percentile(sitk.GetArrayViewFromImage(image), (0.5, 99.5))
            noisy = changed(image, lambda a, d=share * (high - low): a + random.normal(0, d, a.shape))
            assert said(deviations([noisy], bundle)) == ({"noise": severity} if severity else {})

    def test_a_bright_artefact_is_warned_of(self, bundle: Bundle, images: list[sitk.Image]) -> None:
        def spotted(array: np.ndarray) -> np.ndarray:
            array[2:8, 2:13, 2:13] = 5 * array.max()
            return array

        for image in images:
            found = [entry for entry in deviations([changed(image, spotted)], bundle) if entry.kind == "grey values"]
            assert [entry.severity for entry in found] == ["warning"]
            assert "dark but for a few bright voxels" in found[0].message

    def test_voxels_finer_than_in_training_are_not_called_blurred(
        self, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        fine = sitk.Expand(images[0], (2, 2, 2), sitk.sitkBSpline)
        assert "sharpness" not in said(deviations([fine], bundle))


def test_models_without_the_newer_block_run_as_before_and_say_what_they_lack(
    bundle: Bundle, images: list[sitk.Image]
) -> None:
    assert bundle.ood_reference is not None
    assert checks_lacking(bundle) == []
    old = replace(
        bundle, ood_reference={key: part for key, part in bundle.ood_reference.items() if key != IMAGE_QUALITY}
    )
    assert checks_lacking(old) == ["shading", "sharpness", "brightness"]
    assert said(deviations([sitk.SmoothingRecursiveGaussian(images[0], 1.5)], old)) == {}


def test_few_cases_fit_nothing_and_empty_images_say_nothing() -> None:
    features = [image_features(texture(seed)) for seed in range(2)]
    assert fit_quality(features, [], None) is None
    block = fit_quality(features * 20, [], 2)
    assert block is not None
    assert list(quality_deviations(features[0], block, "T1", (1.0,) * 3, SPAN)) == []
    assert list(quality_deviations(image_features(np.zeros(SHAPE)), block, "T1", (1.0,) * 3, SPAN)) == []
    thin = image_features(np.arange(1800.0).reshape(2, 30, 30))
    assert (thin.sharpness, thin.gradients) == (None, None)


def test_slices_that_repeat_each_other_tell_nothing_of_sharpness_across_them() -> None:
    flat = [image_features(np.repeat(texture(seed)[:1], 8, 0)) for seed in range(2)]
    block = fit_quality(flat * 20, [], None)
    assert block is not None and block["sharpness"][0] == 0
    assert list(quality_deviations(flat[0], block, "T1", (1.0,) * 3, SPAN)) == []
    blurred = image_features(gaussian_filter1d(texture(3), 3, 2))
    assert said(quality_deviations(blurred, block, "T1", (1.0,) * 3, SPAN))["sharpness"] == "warning"
