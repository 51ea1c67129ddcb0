"""Second stage while a case is segmented: the bits that predicting it for evaluation gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from second_stage_cases import made_up_stage
from whole_maps import maps_on_grid

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.calibration.local_features import Steps
from SegWithUCore.calibration.per_structure import ProbabilitySums
from SegWithUCore.calibration.structure_lines import StructureLine, StructureLines
from SegWithUCore.inference import uncertainty_maps
from SegWithUCore.inference.engines.base import Engine, Voxelwise
from SegWithUCore.inference.prediction import NetworkView, error_probability
from SegWithUCore.inference.uncertainty_maps import (
    FittedCalibration,
    SecondStageContext,
    resample_to_grid,
    voxelwise,
)

SHAPE = (20, 12, 14)
RANDOM = np.random.default_rng(8)
OUTPUTS = RANDOM.normal(0, 2, (5, *SHAPE)).astype(np.float32)
IMAGE = RANDOM.normal(size=(1, *SHAPE)).astype(np.float32)


class FormulaEngine(Engine):
    """An engine whose maps are simple functions of its outputs."""

    name, device, num_classes, response_channels, has_aleatoric, window_bytes = "formula", "cpu", 3, 2, True, 0.0

    def window(self, image: np.ndarray) -> list[np.ndarray]:
        raise NotImplementedError

    def maps(self, chunk: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
        order = np.argsort(-chunk[:3], 0).astype(np.uint8)
        positive = np.abs(chunk[3:])
        ranking = chunk[3] - np.abs(chunk[0])
        return Voxelwise(order[0], order[1], ranking, positive[0], positive[1], positive[1], ProbabilitySums.zeros(3))

    def versions(self) -> dict[str, str]:
        return {}

    def identity(self) -> dict[str, str | None]:
        return {}


def working_grid(letters: str = "RAS") -> sitk.Image:
    image = sitk.GetImageFromArray(OUTPUTS[0])
    image.SetSpacing((1.0, 1.2, 1.5))
    return sitk.DICOMOrient(image, letters)


def target_grid(letters: str, factor: float) -> sitk.Image:
    image = sitk.DICOMOrient(working_grid("LPS"), letters)
    size = [round(n / factor) for n in image.GetSize()]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([s * factor for s in image.GetSpacing()])
    grid.SetDirection(image.GetDirection())
    grid.SetOrigin(image.GetOrigin())
    return grid


@pytest.mark.parametrize(("letters", "factor"), [("LPS", 1.0), ("RSA", 1.0), ("ILA", 1.0), ("RIP", 0.6)])
@pytest.mark.parametrize("at_once", [1, 3, 100], ids="{} planes at once".format)
def test_segmenting_gives_the_bits_of_predicting(
    letters: str, factor: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncertainty_maps, "PIECE_VOXELS", at_once * 20 * 20)
    working, target = working_grid("LPS"), target_grid(letters, factor)
    table = ErrorProbability((-6.0, 0.0, 3.0), (0.0, 0.2, 0.9), 9)
    stage = replace(made_up_stage(channels=1, sees_mask=True), axes=(True, False, True), line=(0.8, 0.1))
    lines = StructureLines((0, 1), (), (StructureLine("organ", (0, 1), 0.7, 0.3),), 3)
    fitted = FittedCalibration(table, second_stage=stage, lines=(lines,))
    output, view = resample_to_grid(OUTPUTS, working, target), NetworkView.of(IMAGE, working, target)
    found = voxelwise(FormulaEngine(), output)
    whole = error_probability(fitted, view, output[:3], found)
    assert whole is not None and not np.array_equal(whole, table(found.ranking, found.classes, found.runner_up))
    whole = fitted.by_structure(whole, found.classes, found.runner_up)
    swept = maps_on_grid(FormulaEngine(), OUTPUTS, working, target, fitted, IMAGE)
    if factor == 1.0 or at_once == 100:
        assert np.array_equal(np.asarray(swept.error_probability), whole)
    else:  # the image is interpolated from other first planes, and its last bits differ
        np.testing.assert_allclose(np.asarray(swept.error_probability), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("on_disk", [False, True])
def test_noted_in_parts_is_noted_at_once(on_disk: bool, tmp_path: Path) -> None:
    stage, steps = made_up_stage(channels=1, sees_mask=True), Steps((0, 1, 1))
    found = voxelwise(FormulaEngine(), OUTPUTS)
    table = ErrorProbability((-6.0, 0.0, 3.0), (0.0, 0.2, 0.9), 9)(found.ranking, found.classes, found.runner_up)
    folders = (None, tmp_path if on_disk else None)
    whole, parts = (SecondStageContext(stage, steps, lambda planes: IMAGE[:, planes], folder) for folder in folders)
    mask = (found.classes, found.runner_up)
    whole.note(OUTPUTS[:3], slice(None), 0, found, table)
    for planes in (slice(7, 20), slice(0, 7)):
        some = voxelwise(FormulaEngine(), OUTPUTS[:, planes])
        parts.note(OUTPUTS[:3, planes], slice(None), planes.start, some, table[planes])
    found = [table.copy(), table.copy()]
    for sweep, each in zip((whole, parts), found, strict=True):
        sweep.finish(each, *mask)
    assert np.array_equal(*found)
    assert list(tmp_path.iterdir()) == [], "a file without a name"


def test_without_an_image_the_table_stays() -> None:
    table = ErrorProbability((-6.0, 0.0, 3.0), (0.0, 0.2, 0.9), 9)
    fitted = FittedCalibration(table, second_stage=made_up_stage(channels=1))
    grid = working_grid("LPS")
    plain = maps_on_grid(FormulaEngine(), OUTPUTS, grid, grid, fitted)
    calm = maps_on_grid(FormulaEngine(), OUTPUTS, grid, grid, replace(fitted, second_stage=None), IMAGE)
    assert np.array_equal(np.asarray(plain.error_probability), np.asarray(calm.error_probability))
