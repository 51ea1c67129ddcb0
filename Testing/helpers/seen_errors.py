"""Made-up predictions of cases whose images show where the segmentation is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from SegWithUCore.inference.prediction import NetworkView, Prediction
from SegWithUCore.io.grid import VoxelGrid
from SegWithULab.calibration.cases import CalibrationCase
from SegWithULab.training.dataset import Case

SHAPE = (8, 12, 12)
CASES = [Case(f"case{number}", (), Path()) for number in range(12)]


def predicted(*_: Any, told: float = 3, worse: float = 0) -> Iterator[CalibrationCase]:
    """Two classes of three compete.

    Args:
        told: how strongly the image shows where the segmentation is wrong.
        worse: log-odds by which errors are more frequent than the ranking map says.
    """
    for seed in range(len(CASES)):
        random = np.random.default_rng(seed)
        edge = gaussian_filter(random.normal(0, 9, SHAPE), 2) + np.linspace(-2, 2, SHAPE[2])
        logits = np.stack([edge, -edge, np.full(SHAPE, -20.0)]).astype(np.float32)
        classes = logits.argmax(0).astype(np.uint8)
        odds = -2 * np.abs(edge)
        wrong = random.random(SHAPE) < 1 / (1 + np.exp(-odds - worse))
        image = (random.normal(size=SHAPE) + told * wrong).astype(np.float32)
        grid = VoxelGrid.of(sitk.GetImageFromArray(image))
        flat, view = np.ones(SHAPE, np.float32), NetworkView(image[None], grid, grid)
        ranking = odds.astype(np.float32)
        found = Prediction(classes, 1 - classes, ranking, flat, flat, flat, logits, 1.0, view=view)
        yield CalibrationCase(found, np.where(wrong, 1 - classes, classes), CASES[seed].group)
