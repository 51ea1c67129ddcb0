"""Made-up predictions with references for tests of evaluations: no network runs, every voxel is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from segwithu_command import MODEL

from SegWithUCore.inference.prediction import Prediction
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.models.bundle import Bundle, read_bundle, with_head
from SegWithULab.evaluation.evaluate import Evaluation, add_case
from SegWithULab.training.dataset import Case

SHAPE = (18, 22, 20)


def shipped_bundle(calibrated: bool = True) -> Bundle:
    """With the paper's head, whose ranking map has the scale of the made-up ones."""
    bundle = with_head(read_bundle(MODEL), "paper")
    return bundle if calibrated else replace(bundle, calibration=None)


def made_up(seed: int, flawless: bool = False) -> tuple[Prediction, np.ndarray]:
    """A prediction of two structures, and a truth that differs where it is unsure, as probably as it says."""
    generator = np.random.default_rng(seed)
    logits = np.zeros((3, *SHAPE), np.float32)
    logits[1, 4:12, 5:17, 3:10] = logits[2, 4:12, 5:17, 10:16] = 9
    logits[0] = 4
    logits = np.stack([gaussian_filter(part, 1) for part in logits])
    logits += gaussian_filter(generator.normal(0, 6, logits.shape), (0, 1, 1, 1)).astype(np.float32)
    chances = np.exp(logits) / np.exp(logits).sum(0)
    order = np.argsort(-logits, axis=0)
    truth = (generator.random(SHAPE) > np.cumsum(chances, 0)[:-1]).sum(0)
    classes = order[0].astype(np.uint8)
    ranking = (-np.log(np.sort(chances, 0)[-1]) + 0.05 * generator.normal(size=SHAPE)).astype(np.float32)
    calibration = generator.random(SHAPE).astype(np.float32)
    maps = (classes, order[1].astype(np.uint8), ranking, calibration, calibration, calibration)
    prediction = Prediction(*maps, logits, 3.0)
    return prediction, classes.astype(np.int16) if flawless else truth.astype(np.int16)


def nothing_there() -> tuple[Prediction, np.ndarray]:
    """A case without structures, in prediction and reference: there is no surface, and no band."""
    prediction, _ = made_up(0)
    logits = prediction.logits - np.asarray([0, 99, 99], np.float32)[:, None, None, None]
    empty = np.zeros(SHAPE, np.uint8)
    return replace(prediction, logits=logits, classes=empty), empty.astype(np.int16)


def image(orientation: str = "LPS") -> sitk.Image:
    """Noise on the grid of the predictions, voxels of 1 x 1.5 x 2 mm."""
    found = sitk.GetImageFromArray(np.random.default_rng(9).normal(size=SHAPE).astype(np.float32))
    found.SetSpacing((1.0, 1.5, 2.0))
    signs = {letter: (1.0 if letter in "LPS" else -1.0) for letter in orientation}
    found.SetDirection([signs[orientation[0]], 0, 0, 0, signs[orientation[1]], 0, 0, 0, signs[orientation[2]]])
    return found


def evaluated(
    seeds: range, band: Band | None = None, calibrated: bool = True, flawless: int = 0, patients: int = 0
) -> tuple[Evaluation, Bundle]:
    """An evaluation of made-up cases.

    Args:
        flawless: further cases without any error.
        patients: among whom the cases are dealt out; 0 for one each.
    """
    bundle = shipped_bundle(calibrated)
    found = Evaluation(band or Band())
    for number, seed in enumerate([*seeds, *range(900, 900 + flawless)]):
        patient = f"patient{number % patients}" if patients else None
        case = Case(f"case{seed}", (), Path(), patient)
        add_case(found, case, *made_up(seed, flawless=seed >= 900), [image()], bundle)
    return found, bundle
