"""Second stage is taken where the image tells errors, and left out where it does not."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from SegWithUCore.inference.prediction import NetworkView, Prediction
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.metrics.patients import patient_folds
from SegWithUCore.models.second_stage_file import check_message
from SegWithULab.calibration.cases import CalibrationCase, fit_table
from SegWithULab.calibration.fit_second_stage import FittedSecondStage, fit_second_stage

SHAPE = (8, 12, 12)


def made_up(seed: int, told: float, patients: int = 12) -> CalibrationCase:
    """A case whose image shows, so strongly, where the segmentation is wrong."""
    random = np.random.default_rng(seed)
    edge = gaussian_filter(random.normal(0, 9, SHAPE), 2) + np.linspace(-2, 2, SHAPE[2])
    logits = np.stack([edge, -edge]).astype(np.float32)
    classes = logits.argmax(0).astype(np.uint8)
    chance = 1 / (1 + np.exp(2 * np.abs(edge)))
    wrong = random.random(SHAPE) < chance
    image = (random.normal(size=SHAPE) + told * wrong).astype(np.float32)
    ranking = np.log(chance / (1 - chance)).astype(np.float32)
    flat = np.ones(SHAPE, np.float32)
    grid = VoxelGrid.of(sitk.GetImageFromArray(image))
    view = NetworkView(image[None], grid, grid)
    prediction = Prediction(classes, 1 - classes, ranking, flat, flat, None, logits, 1.0, view=view)
    return CalibrationCase(prediction, np.where(wrong, 1 - classes, classes), f"patient{seed % patients}")


def fitted(patients: int) -> FittedSecondStage:
    """Of cases whose image tells errors."""
    cases = [made_up(seed, told=2) for seed in range(patients)]
    found = fit_second_stage(cases, fit_table(cases))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def found() -> FittedSecondStage:
    return fitted(12)


def test_it_is_taken_where_the_image_tells_errors(found: FittedSecondStage) -> None:
    stage, check = found.stage, found.check
    assert found.helps and check["difference"]["mean"] > 0.05 and "taken" in check_message(check)
    assert stage.pairs == ((0, 1), (1, 0)) and stage.cases == 12 and stage.axes == (True, True, True)
    assert np.diff(stage.knots).min() > 0 and np.diff(stage.values).min() > 0, "no two log-odds become one"


def test_it_is_left_out_where_it_may_be_chance(found: FittedSecondStage) -> None:
    chance = replace(found, check={**found.check, "difference": {"mean": 0.01, "low": -0.001, "high": 0.02}})
    assert not chance.helps and "cases: left out." in check_message(chance.check)


def test_the_shape_of_the_mask_is_read_where_it_tells_errors() -> None:
    """Errors are where a voxel sticks out of its class, which image and score do not show."""

    def sticking_out(seed: int) -> CalibrationCase:
        case, random = made_up(seed, told=0), np.random.default_rng(seed)
        p = case.prediction
        moved = np.where(random.random(SHAPE) < 0.1, 1 - p.classes, p.classes).astype(np.uint8)
        logits = np.stack([1 - moved, moved]).astype(np.float32) + np.float32(0.1)
        flat = np.full(SHAPE, -1, np.float32) + (random.random(SHAPE) / 9).astype(np.float32)
        prediction = replace(p, logits=logits, classes=moved, runner_up=1 - moved, ranking=flat)
        return CalibrationCase(prediction, p.classes, case.patient)

    cases = [sticking_out(seed) for seed in range(10)]
    found = fit_second_stage(cases, fit_table(cases))
    assert found is not None and found.stage.sees_mask and found.check["mask"]["difference"]["low"] > 0
    plain = fit_second_stage([made_up(seed, told=0) for seed in range(10)], fit_table(cases))
    assert plain is not None and plain.stage.sees_mask == plain.check["mask"]["taken"]


def test_too_few_patients_get_none() -> None:
    cases = [made_up(seed, told=2, patients=4) for seed in range(12)]
    assert fit_second_stage(cases, fit_table(cases)) is None


def test_the_cases_of_a_patient_share_a_fold() -> None:
    folds = patient_folds(["a", "b", "a", "c", "d", "e", "b"], 4)
    assert folds[0] == folds[2] and folds[1] == folds[6] and len(set(folds.tolist())) == 4


def test_equal_seeds_give_equal_networks(found: FittedSecondStage) -> None:
    first, second = found.stage.arrays(), fitted(12).stage.arrays()
    assert all(np.array_equal(first[name], second[name]) for name in first)
