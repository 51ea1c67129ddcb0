"""The fingerprint: what it remembers of training cases, what it lets pass, and what it notices, on real images."""

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT
from segwithu_command import MODEL
from toy_models import registered_toys, write_toy_bundle

from SegWithUCore.inference.deviation import KINDS, TOO_SMALL, Deviation, is_refused
from SegWithUCore.inference.image_features import (
    CELLS,
    OFF_CENTRE,
    image_features,
    random_crop,
    reorient_cells,
)
from SegWithUCore.inference.ood_channels import MINIMUM_CASES, appearance_deviations, fit_appearance
from SegWithUCore.inference.ood_check import deviations, input_deviations, to_model_orientation
from SegWithUCore.inference.structures import NOT_FITTED, StructureMetrics, empty_structures, structure_deviations
from SegWithUCore.io.volume import image_on_grid, read_image
from SegWithUCore.models.bundle import Bundle, read_bundle
from SegWithUCore.models.quality import EMPTY_KIND
from SegWithULab.training.dataset import find_cases, ood_reference, prepare
from SegWithULab.training.recipe import Recipe, read_recipe

TRAIN, SELECT, NEW = 50, 10, 5
"""Cases of the real data set that these tests fit on, and new ones."""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(ROOT / "Resources" / "Recipes" / "hippocampus.json")


@pytest.fixture(scope="module", params=["shipped", pytest.param("fitted here", marks=pytest.mark.full_data)])
def fitted_here(request: pytest.FixtureRequest) -> bool:
    """Whether the fingerprint is fitted on 60 of the full data, or that of the shipped model."""
    return bool(request.param == "fitted here")


@pytest.fixture(scope="module")
def bundle(
    fitted_here: bool, recipe: Recipe, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A toy network with the fingerprint of real training cases."""
    if not fitted_here:
        return read_bundle(MODEL)
    table = request.getfixturevalue("full_data_folder") / "hippocampus" / "split.csv"
    train, select = (
        [prepare(case, recipe.input, recipe.label_values) for case in find_cases(f"{table}:{role}")[:count]]
        for role, count in (("train", TRAIN), ("select", SELECT))
    )
    with registered_toys():
        toy = write_toy_bundle(tmp_path_factory.mktemp("models") / "toy", "local", (8, 8, 8))
    return replace(toy, ood_reference=ood_reference(train, select, recipe))


@pytest.fixture(scope="module")
def images(fitted_here: bool, data_folder: Path, request: pytest.FixtureRequest) -> list[sitk.Image]:
    """Cases of the same kind; new ones where the fingerprint is fitted here."""
    if not fitted_here:
        return [read_image(path) for path in sorted((data_folder / "hippocampus" / "images").iterdir())]
    cases = find_cases(f"{request.getfixturevalue('full_data_folder') / 'hippocampus' / 'split.csv'}:test")
    return [read_image(case.channels[0]) for case in cases[:: len(cases) // NEW][:NEW]]


def kinds(found: list[Deviation]) -> set[str]:
    return {entry.kind for entry in found}


def changed(image: sitk.Image, change: Callable[[np.ndarray], np.ndarray]) -> sitk.Image:
    return image_on_grid(change(sitk.GetArrayFromImage(image)).astype(np.float32), image)


class TestFeatures:
    @pytest.fixture
    def array(self, images: list[sitk.Image]) -> np.ndarray:
        return sitk.GetArrayFromImage(images[0])

    def test_no_scale_or_offset_of_the_intensities_matters(self, array: np.ndarray) -> None:
        plain, other = image_features(array), image_features(array.astype(np.float64) * 3e4 - 5e6)
        assert other.noise == pytest.approx(plain.noise, rel=1e-3)
        np.testing.assert_allclose(other.quantiles, plain.quantiles, atol=1e-4)
        np.testing.assert_allclose(other.cells, plain.cells, atol=1e-4)

    @pytest.mark.parametrize("noise", [0.05, 0.2])
    def test_the_noise_found_is_the_noise_added(self, noise: float) -> None:
        ramp = np.linspace(0, 1, 60)[:, None, None] * np.ones((60, 60, 60))
        noisy = ramp + np.random.default_rng(0).normal(0, noise, ramp.shape)
        contrast = np.subtract(*np.percentile(noisy, (99.5, 0.5)))
        assert image_features(noisy).noise == pytest.approx(noise / contrast, rel=0.05)
        assert image_features(ramp).noise == pytest.approx(0, abs=1e-4)

    def test_large_volumes_are_sampled_and_give_the_same_features(self, array: np.ndarray) -> None:
        large = array.repeat(4, 0).repeat(4, 1).repeat(4, 2)
        small, found = image_features(array), image_features(large)
        np.testing.assert_allclose(found.quantiles, small.quantiles, atol=0.02)
        assert np.corrcoef(found.cells.ravel(), small.cells.ravel())[0, 1] > 0.98

    @pytest.mark.parametrize("shape", [(2, 30, 30), (1, 1, 1), (40, 2, 5)])
    def test_thin_images_have_features_but_no_noise(self, shape: tuple[int, int, int]) -> None:
        found = image_features(np.arange(float(np.prod(shape))).reshape(shape))
        assert found.noise is None
        assert found.cells.shape == (CELLS,) * 3

    def test_practically_equal_voxels_are_flat(self, array: np.ndarray) -> None:
        few = np.zeros(array.shape)
        few.flat[:3] = 7
        assert image_features(few).flat
        assert not image_features(array).flat

    @pytest.mark.parametrize("letters", ["RAS", "LPS", "SRA", "PIL", "AIR"])
    def test_the_coarse_picture_turns_as_the_image_does(self, letters: str) -> None:
        array = np.random.default_rng(0).random((CELLS,) * 3)
        image = sitk.GetImageFromArray(array)
        image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("LPS"))
        turned = sitk.GetArrayFromImage(sitk.DICOMOrient(image, letters))
        np.testing.assert_array_equal(reorient_cells(array, "LPS", letters), turned)

    def test_off_centre_parts_are_cut_by_the_same_share_everywhere(self, array: np.ndarray) -> None:
        parts = [random_crop(array, seed) for seed in range(6)]
        assert {part.shape for part in parts} == {tuple(n - round(OFF_CENTRE * n) for n in array.shape)}
        assert len({float(part[0, 0, 0]) for part in parts}) > 1
        np.testing.assert_array_equal(random_crop(array, 3), parts[3])


class TestRealImages:
    def test_new_cases_of_the_same_kind_pass(self, bundle: Bundle, images: list[sitk.Image]) -> None:
        assert [deviations([image], bundle) for image in images] == [[]] * len(images)

    def test_the_other_side_passes_because_the_model_was_trained_with_both(
        self, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        for image in images:
            assert deviations([changed(image, lambda a: a[..., ::-1])], bundle) == []

    def test_an_image_stored_in_another_axis_order_passes(self, bundle: Bundle, images: list[sitk.Image]) -> None:
        for letters in ("LPS", "PIR"):
            assert deviations([sitk.DICOMOrient(images[1], letters)], bundle) == []

    def test_inverted_intensities_are_named(self, bundle: Bundle, images: list[sitk.Image]) -> None:
        for image in images:
            found = deviations([changed(image, lambda a: a.max() + a.min() - a)], bundle)
            assert any("dark and bright seem to be exchanged" in entry.message for entry in found)
            assert all(entry.severity in ("note", "warning") for entry in found)

    def test_noise_is_named_with_the_value_found_and_that_of_the_training_cases(
        self, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        random = np.random.default_rng(0)
        for image in images:
            found = deviations([changed(image, lambda a: a + random.normal(0, 0.3 * np.ptp(a), a.shape))], bundle)
            noise = next(entry for entry in found if entry.kind == "noise")
            assert noise.severity == "warning"
            assert "much noisier than the training cases (noise 0.1" in noise.message
            assert "of the contrast; training cases at most 0.0" in noise.message

    @pytest.mark.parametrize("letters", ["RPS", "RAI", "RSA", "ARS", "RPI"])
    def test_a_header_with_wrong_directions_is_named(
        self, letters: str, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        for image in images:
            wrong = sitk.DICOMOrient(image, "RAS")
            wrong.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(letters))
            found = [entry for entry in deviations([wrong], bundle) if entry.kind == "picture"]
            assert [entry.severity for entry in found] == ["warning"]

    def test_the_message_names_wrong_directions(self, bundle: Bundle, images: list[sitk.Image]) -> None:
        wrong = sitk.DICOMOrient(images[0], "RAS")
        wrong.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("RPS"))
        sentence = next(entry.message for entry in deviations([wrong], bundle) if entry.kind == "picture")
        assert "reoriented" in sentence

    @pytest.mark.parametrize("factor", [0.5, 2.0])
    def test_a_spacing_that_is_wrong_by_two_is_named(
        self, factor: float, bundle: Bundle, images: list[sitk.Image]
    ) -> None:
        for image in images:
            wrong = sitk.Image(image)
            wrong.SetSpacing([factor] * 3)
            assert "spacing" in kinds(deviations([wrong], bundle))

    def test_an_empty_part_is_refused(self, bundle: Bundle, images: list[sitk.Image]) -> None:
        found = deviations([changed(images[0], np.zeros_like)], bundle)
        assert is_refused(found)
        assert "practically all voxels are 0" in found[0].message
        faint = changed(images[0], lambda a: np.random.default_rng(0).normal(100, 1, a.shape))
        assert "warning" in {entry.severity for entry in deviations([faint], bundle)}

    def test_ct_is_named(self, bundle: Bundle, full_data_folder: Path) -> None:
        ct = sitk.DICOMOrient(read_image(full_data_folder / "ct_abdomen" / "images" / "example_ct.nii.gz"), "RAS")
        ct.SetSpacing((1.0, 1.0, 1.0))  # its size must not give it away
        for corner in ((20, 30, 20), (60, 30, 60), (40, 40, 70)):
            found = deviations([sitk.RegionOfInterest(ct, (36, 50, 36), corner)], bundle)
            assert "warning" in {entry.severity for entry in found}

    def test_a_whole_head_is_refused_before_its_voxels_are_looked_at(self, bundle: Bundle) -> None:
        head = read_image(ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz")
        assert [entry.kind for entry in deviations([head], bundle)] == ["field of view"]

    def test_a_slice_and_another_unit_are_refused_for_what_they_are(self, bundle: Bundle) -> None:
        head = read_image(ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz")
        tiny = sitk.Image(head)
        tiny.SetSpacing((0.001,) * 3)
        for image, kind in ((head[:, :, 90:91], TOO_SMALL), (tiny, "spacing")):
            found = input_deviations([image], bundle)
            assert [(entry.kind, entry.severity) for entry in found] == [(kind, "refused")]


class TestFitting:
    def test_too_few_training_cases_fit_nothing(self, images: list[sitk.Image]) -> None:
        features = [image_features(sitk.GetArrayViewFromImage(image)) for image in images]
        assert fit_appearance((features * 9)[: MINIMUM_CASES - 1], [], None, False) is None

    def test_a_model_trained_on_one_side_only_notices_the_other(self, images: list[sitk.Image]) -> None:
        left = [image_features(sitk.GetArrayViewFromImage(image)) for image in images[:1]] * MINIMUM_CASES
        other = replace(left[0], cells=left[0].cells[..., ::-1])
        for mirror_axis in (None, 2):
            block = fit_appearance(left, [], mirror_axis, False)
            assert block is not None
            found = kinds(appearance_deviations(other, block, "T1", True))
            assert ("picture" in found) == (mirror_axis is None)

    def test_models_with_fixed_intensities_notice_another_unit(self, images: list[sitk.Image]) -> None:
        features = [image_features(sitk.GetArrayViewFromImage(image)) for image in images] * MINIMUM_CASES
        scaled = image_features(sitk.GetArrayFromImage(images[0]) * 1e9)
        for absolute in (True, False):
            block = fit_appearance(features, [], 2, absolute)
            assert block is not None
            found = kinds(appearance_deviations(scaled, block, "CT", True))
            assert ("intensities" in found) == absolute

    def test_features_of_a_prepared_case_are_upright(self, data_folder: Path, recipe: Recipe) -> None:
        case = find_cases(f"{data_folder / 'hippocampus' / 'split.csv'}:train")[0]
        image = read_image(case.channels[0])
        own = to_model_orientation(image_features(sitk.GetArrayViewFromImage(image)), image, "RAS")
        turned = image_features(sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS")))
        np.testing.assert_allclose(prepare(case, recipe.input, recipe.label_values).features[0].cells, own.cells)
        np.testing.assert_allclose(own.cells, turned.cells, atol=1e-12)


def test_a_volume_that_no_training_case_has_is_flagged_with_its_structure(bundle: Bundle) -> None:
    assert bundle.ood_reference is not None
    cases = bundle.ood_reference["volumes_mm3"]["1"]["cases"]
    labels = (bundle.labels[0], replace(bundle.labels[1], value=1, name="anterior hippocampus"))
    for volume, words in (
        (90.0, "small: 90 mm3"),
        (9e3, "large: 9000 mm3"),
    ):
        figures = [StructureMetrics(labels[0], 1, 1.0), StructureMetrics(labels[1], int(volume), volume)]
        flags = structure_deviations(figures, bundle, NOT_FITTED)
        assert [(flag.structure, flag.severity) for flag in flags] == [(1, "warning")]
        assert words in flags[0].message
        assert f"the {cases} training and validation cases of" in flags[0].message
    empty = [StructureMetrics(labels[0], 1, 1.0), StructureMetrics(labels[1], 0, 0.0)]
    assert structure_deviations(empty, bundle, NOT_FITTED) == []  # said once, of its own kind
    (missing,) = empty_structures(empty, bundle)
    assert (missing.structure, missing.severity, missing.kind) == (1, "warning", EMPTY_KIND)
    usual = [StructureMetrics(labels[0], 1, 1.0), StructureMetrics(labels[1], 1600, 1600.0)]
    assert structure_deviations(usual, bundle, NOT_FITTED) == []


def test_bundles_without_the_newer_blocks_are_compared_by_grid_alone(bundle: Bundle, images: list[sitk.Image]) -> None:
    assert bundle.ood_reference is not None
    old = {key: bundle.ood_reference[key] for key in ("cases", "field_of_view_mm", "spacing_mm")}
    inverted = changed(images[0], lambda a: -a)
    assert deviations([inverted], replace(bundle, ood_reference=old)) == []
    assert deviations([inverted], replace(bundle, ood_reference=None)) == []


def test_every_kind_that_the_code_names_is_listed() -> None:
    """What is not listed reads "something" in anonymous copies."""
    named = set()
    for path in (ROOT / "SegWithUSlicer" / "SegWithUCore").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Deviation" and len(node.args) > 2:
                named |= {node.args[2].value} if isinstance(node.args[2], ast.Constant) else set()
    assert {"shading", "sharpness", "place", "volume"} <= named <= set(KINDS)
