"""The check for lost calibration: blank parts, results at the edge, expected errors; and how its limits are fitted."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import MODEL

from SegWithUCore.inference import lost_calibration
from SegWithUCore.inference.deviation import WARNING
from SegWithUCore.inference.image_features import image_features
from SegWithUCore.inference.lost_calibration import HARM, result_deviations, segmented_at_edge
from SegWithUCore.inference.ood_check import deviations
from SegWithUCore.inference.structures import StructureMetrics
from SegWithUCore.inference.uncertainty_maps import VoxelMaps
from SegWithUCore.io.volume import image_on_grid, read_image
from SegWithUCore.models.bundle import Bundle, check_bundle, read_bundle
from SegWithULab.calibration.altered_cases import MORE_BLANK, Judged, altered, limits
from SegWithULab.training.case_reading import AssessedCase

LIMITS: dict[str, Any] = {"cases": 30, "harmless": 60, "blank": {"T1": 0.01}, "edge": 0.0, "expected_wrong": 0.25}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped model with limits."""
    shipped = read_bundle(MODEL)
    return replace(shipped, ood_reference={**(shipped.ood_reference or {}), HARM: LIMITS})


def unchecked(bundle: Bundle) -> Bundle:
    """The model as it was before there were limits."""
    return replace(bundle, ood_reference={k: v for k, v in (bundle.ood_reference or {}).items() if k != HARM})


@pytest.fixture(scope="module")
def image(data_folder: Path) -> sitk.Image:
    return read_image(sorted((data_folder / "hippocampus" / "images").iterdir())[0])


def maps_of(classes: np.ndarray) -> VoxelMaps:
    return cast(VoxelMaps, SimpleNamespace(classes=classes))


def structures(bundle: Bundle, wrong_mm3: float) -> list[StructureMetrics]:
    """Two structures of 100 mm3 with `wrong_mm3` expected to be wrong in all."""
    volumes = (1000.0, 100.0, 100.0)
    pairs = zip(bundle.labels, volumes, strict=True)
    return [StructureMetrics(label, int(mm3), mm3, expected_wrong_mm3=wrong_mm3 / 3) for label, mm3 in pairs]


def test_a_blank_part_is_warned_of_before_the_run(bundle: Bundle, image: sitk.Image) -> None:
    array = sitk.GetArrayFromImage(image)
    array[: len(array) // 4] = array.min()
    blank = image_on_grid(array, image)
    assert "calibration" not in {each.kind for each in deviations([image], bundle)}
    assert ("calibration", WARNING) in {(each.kind, each.severity) for each in deviations([blank], bundle)}
    assert "calibration" not in {each.kind for each in deviations([blank], unchecked(bundle))}


def test_blank_is_the_share_of_the_lowest_intensity(image: sitk.Image) -> None:
    array = sitk.GetArrayFromImage(image)
    array[:9] = array.min()
    found = image_features(array)
    assert found.blank >= 9 / len(array)


@pytest.mark.parametrize("planes", [1, 2, 100])
def test_voxels_at_each_edge_are_counted(planes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("SegWithUCore.util.plane_files.PIECE_VOXELS", planes * 30)
    classes = np.zeros((4, 5, 6), np.uint8)
    assert segmented_at_edge(maps_of(classes)) == 0.0
    classes[1:3, 1:4, 1:5] = 1
    assert segmented_at_edge(maps_of(classes)) == 0.0
    for place in ((0, 2, 2), (3, 2, 2), (2, 0, 2), (2, 4, 2), (2, 2, 0), (2, 2, 5)):
        with_one = classes.copy()
        with_one[place] = 2
        assert segmented_at_edge(maps_of(with_one)) == pytest.approx(1 / 25)


def test_expected_errors_and_edges_are_warned_of_after_the_run(bundle: Bundle) -> None:
    inside = np.zeros((5, 5, 5), np.uint8)
    inside[2, 2, 2] = 1
    at_edge = inside.copy()
    at_edge[0, 2, 2] = 1
    assert not result_deviations(maps_of(inside), structures(bundle, 49.0), bundle)
    assert [d.severity for d in result_deviations(maps_of(inside), structures(bundle, 51.0), bundle)] == [WARNING]
    assert len(result_deviations(maps_of(at_edge), structures(bundle, 51.0), bundle)) == 2
    at_site = replace(bundle, calibration={**(bundle.calibration or {}), "site": {"cases": 3}})
    assert not result_deviations(maps_of(inside), structures(bundle, 51.0), at_site)
    assert not result_deviations(maps_of(at_edge), structures(bundle, 51.0), unchecked(bundle))


def test_limits_hold_every_unaltered_case_and_most_harmless_copies(bundle: Bundle) -> None:
    usual = [Judged([0.001 * n], 0.01 * n, 0.2, 0.9) for n in range(5)]
    copies = [Judged([0.5], 0.9, 0.2 + 0.001 * n, 0.89) for n in range(95)]
    found = limits(bundle, usual, copies)
    assert found["blank"] == {"T1": pytest.approx(0.004 + MORE_BLANK)}
    assert found["edge"] == pytest.approx(0.04)
    assert 1 <= sum(copy.expected_wrong > found["expected_wrong"] for copy in copies) <= 3
    check_bundle(replace(bundle, ood_reference={**(bundle.ood_reference or {}), lost_calibration.HARM: found}), "test")


def test_what_is_left_of_an_altered_case_stays_in_its_place(image: sitk.Image) -> None:
    pytest.importorskip("torch")
    truth = np.zeros(image.GetSize()[::-1], np.int16)
    truth[12:20, 15:25, 12:20] = 1
    case, cut = AssessedCase([image], truth), 0
    for seed in range(12):
        images, left = altered(case, seed)
        again, _ = altered(case, seed)
        assert np.array_equal(sitk.GetArrayFromImage(images[0]), sitk.GetArrayFromImage(again[0]))
        assert images[0].GetSize()[::-1] == left.shape
        whole = sitk.Resample(image_on_grid(left, images[0]), image, sitk.Transform(), sitk.sitkNearestNeighbor)
        assert np.array_equal(sitk.GetArrayFromImage(whole)[truth == 0], truth[truth == 0])
        cut += left.shape != truth.shape
    assert cut
