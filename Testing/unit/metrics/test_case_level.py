"""Figures over cases against SciPy, MONAI and brute force; bands in slices; cases of one patient drawn together."""

import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice
from scipy.ndimage import distance_transform_cdt, distance_transform_edt
from scipy.stats import spearmanr

from SegWithUCore.metrics.bootstrap import mean_interval, metric_interval, ratio_interval
from SegWithUCore.metrics.case_level import (
    interval_metrics,
    mean_absolute_error,
    spearman,
)
from SegWithUCore.metrics.overlap import (
    Band,
    boundary_voxels,
    class_surface_dice,
    distance_in_slices,
    distance_to_boundary,
)


def cases(size: int = 40, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    risk = generator.beta(2, 10, size)
    confidence = -risk + generator.normal(0, 0.1, size)
    return (np.round(confidence, 1) if ties else confidence), risk


def test_cases_without_a_figure_are_left_out() -> None:
    confidence, risk = cases()
    more = np.r_[confidence, np.nan, 1.0], np.r_[risk, 0.5, np.nan]
    assert spearman(*more) == spearman(confidence, risk)
    assert mean_absolute_error(*more) == mean_absolute_error(confidence, risk)
    assert np.isnan(mean_absolute_error([np.nan], [1.0]))


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_equals_scipy(ties: bool) -> None:
    confidence, risk = cases(ties=ties)
    assert spearman(confidence, risk) == pytest.approx(spearmanr(confidence, risk).statistic, rel=1e-12)
    assert np.isnan(spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    assert np.isnan(spearman([1.0], [1.0]))


def test_intervals_are_judged_by_what_they_hold_and_how_wide_they_are() -> None:
    found = interval_metrics([1, 0, 5, np.nan, 0], [3, 1, 6, 1, 1], [3, 2, 4, 1, 0])
    assert (found["coverage"], found["cases"]) == (0.5, 4)
    assert found["width"] == pytest.approx(5 / 4)
    assert found["relative_width"] == pytest.approx((2 / 3 + 1 / 2 + 1 / 4) / 3)
    assert interval_metrics([np.nan], [np.nan], [1.0])["cases"] == 0


def test_phases_of_one_patient_are_drawn_together() -> None:
    generator = np.random.default_rng(1)
    patients = generator.normal(0, 1, 50)
    twice = np.repeat(patients, 2).tolist()
    ids = np.repeat(np.arange(50), 2).tolist()
    single = mean_interval(patients.tolist())
    together, apart = mean_interval(twice, groups=ids), mean_interval(twice)
    assert (together.low, together.high) == pytest.approx((single.low, single.high), abs=1e-12)
    assert (apart.high - apart.low) * np.sqrt(2) == pytest.approx(single.high - single.low, rel=0.1)


def test_any_figure_has_an_interval_over_patients() -> None:
    values = np.random.default_rng(3).normal(2, 1, 60)
    found = metric_interval(lambda cases: float(values[cases].mean()), list(range(60)), draws=2000)
    plain = mean_interval(values.tolist())
    assert found.mean == pytest.approx(plain.mean)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.03)
    assert np.isnan(mean_interval([np.nan]).mean)
    assert mean_interval([1.0, np.nan, 3.0]).mean == 2


def test_a_ratio_of_sums_has_the_interval_of_any_figure() -> None:
    above, below = np.random.default_rng(4).uniform(0, 1, (2, 40))
    above[13] = below[25] = np.nan
    below[:10] = 0.0  # of the first patient: where only they are drawn there is no ratio
    groups = np.repeat(np.arange(4), 10).tolist()

    def ratio(cases: np.ndarray) -> float:
        kept = cases[np.isfinite(above[cases]) & np.isfinite(below[cases])]
        return float(above[kept].sum() / below[kept].sum()) if below[kept].any() else float("nan")

    slow, quick = metric_interval(ratio, groups), ratio_interval(above.tolist(), below.tolist(), groups)
    assert (quick.mean, quick.low, quick.high) == pytest.approx((slow.mean, slow.low, slow.high), rel=1e-12)
    nothing = ratio_interval([1.0], [0.0], ["only"])
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def segmentation() -> np.ndarray:
    classes = np.zeros((5, 20, 22), int)
    classes[1:4, 4:14, 5:16] = 1
    classes[2, 8:12, 8:12] = 2
    return classes


def test_the_band_in_slices_is_that_of_every_slice_alone() -> None:
    classes = segmentation()
    found = distance_in_slices(classes)
    assert np.isinf(found[[0, 4]]).all()
    for layer in (1, 2, 3):
        np.testing.assert_allclose(found[layer], distance_to_boundary(classes[layer], (1, 1)))
        assert (boundary_voxels(classes, 0)[layer] == boundary_voxels(classes[layer])).all()
    turned = Band(2, in_slices=True).distance(classes.transpose(1, 2, 0), (1.5, 1.5, 10.0))
    np.testing.assert_array_equal(turned, found.transpose(1, 2, 0))


def test_a_band_in_millimetres_knows_the_spacing() -> None:
    classes = segmentation()
    near = Band.from_text("3mm").distance(classes, (10.0, 1.5, 1.5)) <= 3
    boundary = boundary_voxels(classes)
    np.testing.assert_array_equal(near, distance_transform_edt(~boundary, sampling=(10.0, 1.5, 1.5)) <= 3)
    assert not (near == (distance_transform_cdt(~boundary, "taxicab") <= 3)).all()


@pytest.mark.parametrize(("text", "words"), [("3mm", "3 mm"), ("2px", "2 voxels in the plane"), (" 1.5 mm ", "1.5 mm")])
def test_bands_are_read_as_users_write_them(text: str, words: str) -> None:
    assert words in str(Band.from_text(text))


@pytest.mark.parametrize("text", ["3", "mm", "3cm", "-3mm", "0mm", "2 px in", ""])
def test_what_is_no_band_is_refused_with_the_two_ways(text: str) -> None:
    with pytest.raises(ValueError, match="3mm, or voxels within a slice such as 2px"):
        Band.from_text(text)


def test_surface_dice_equals_monai_on_any_masks() -> None:
    """Ragged, touching the volume's border or missing, with tolerances that equal a distance."""
    generator = np.random.default_rng(5)
    for shape, spacing in [((6, 13, 11), (2.5, 0.7, 0.7)), ((1, 9, 9), (4.0, 0.3, 0.3)), ((7, 5, 3), (1.1, 1.1, 1.1))]:
        first, second = (generator.integers(0, 4, shape) * (generator.random(shape) < 0.6) for _ in range(2))
        one_hot = [torch.from_numpy(np.stack([volume == c for c in range(6)])[None]) for volume in (first, second)]
        for tolerance in (0.0, spacing[2], spacing[0], 2 * spacing[1], 3.0):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # MONAI warns of absent classes
                expected = compute_surface_dice(*one_hot, class_thresholds=[tolerance] * 5, spacing=[*spacing])
            found = class_surface_dice(first, second, 6, tolerance, spacing)
            np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-6)


def test_surface_dice_of_absent_structures_is_nan_or_nothing() -> None:
    some, none = segmentation(), np.zeros((5, 20, 22), int)
    assert np.isnan(class_surface_dice(none, none, 2, 1.0, (1, 1, 1))).all()
    assert class_surface_dice(some, none, 3, 1.0, (1, 1, 1)) == [0, 0]
