"""Predictions of cases with references, with every score that the benchmarks of regions compare."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy.special import softmax

from SegWithUCore.calibration.error_probability import ErrorProbability, fit_directions, fit_error_probability
from SegWithUCore.case.case_regions import ijk_to_ras
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.regions.find_regions import Assessed
from SegWithULab.training.case_reading import class_indices, read_case
from SegWithULab.training.dataset import find_cases

SHIPPED_MODEL = Path(__file__).resolve().parents[2] / "Resources" / "Models" / "hippocampus"


@dataclass(frozen=True)
class ScoredCase:
    """One case; arrays (z, y, x).

    Attributes:
        name: of the case.
        classes, runner_up, truth: class indices.
        error_probability: as the model says it.
        error_probability_plain: ours before directions are told apart and the image is seen.
        entropy: of the softmax, in nats.
        geometry: 4 x 4, from voxel index (i, j, k) to RAS mm.
        names: of the classes.
    """

    name: str
    classes: np.ndarray
    runner_up: np.ndarray
    truth: np.ndarray
    error_probability: np.ndarray
    error_probability_plain: np.ndarray
    entropy: np.ndarray
    geometry: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def wrong(self) -> np.ndarray:
        """Where the segmentation is wrong, boolean."""
        return self.classes != self.truth

    @property
    def spacing_zyx(self) -> np.ndarray:
        """Voxel size in mm."""
        return np.linalg.norm(self.geometry[:3, :3], axis=0)[::-1]

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_zyx))

    def assessed(self, probability: np.ndarray | None = None) -> Assessed:
        """What regions are made from, with another error probability if one is given."""
        chosen = self.error_probability if probability is None else probability
        return Assessed(chosen, self.classes, self.runner_up, dict(enumerate(self.names)), self.geometry)


def scored_cases(bundle: Bundle, source: str) -> Iterator[ScoredCase]:
    """Predict the cases of `TABLE.csv:ROLE` one by one, the way `segment` does."""
    model = Model(bundle, torch.device("cpu"))
    table = model.fitted.error_probability
    assert table is not None, "the bundle is not calibrated"
    for case in find_cases(source):
        read = read_case(case)
        images = read.images
        found = predict(images, model)
        assert found.error_probability is not None
        labels = class_indices(read.reference, [label.value for label in bundle.labels], case.reference)
        yield ScoredCase(
            case.name,
            found.classes,
            found.runner_up,
            labels.astype(np.uint8),
            found.error_probability,
            table.table(found.ranking),
            entropy(found.logits),
            ijk_to_ras(images[0]),
            tuple(label.name for label in bundle.labels),
        )


def remembered_cases(bundle: Bundle, source: str, folder: Path) -> list[ScoredCase]:
    """The same as `scored_cases`, kept in a folder for quick re-runs; those of another bundle are not reused.

    Args:
        folder: made if it is missing; one file a case. After changes to the program it must be emptied by hand.
    """
    assert bundle.folder is not None, "the bundle is on disk"
    mark = hashlib.sha256((bundle.folder / "bundle.json").read_bytes()).hexdigest()[:16]
    role = source.rpartition(":")[2]
    path = folder / mark / role
    if not (path / "whole").exists():
        path.mkdir(parents=True, exist_ok=True)
        for case in scored_cases(bundle, source):
            np.savez(path / f"{case.name}.npz", **{part.name: getattr(case, part.name) for part in fields(case)})
        (path / "whole").touch()
    found = []
    for file in sorted(path.glob("*.npz")):
        with np.load(file) as parts:
            values = dict(parts)
        found.append(ScoredCase(**{**values, "name": str(values["name"]), "names": tuple(values["names"].tolist())}))
    return found


def entropy(logits: np.ndarray) -> np.ndarray:
    """Entropy of the softmax over the first axis, nats, float32."""
    probability = softmax(logits.astype(np.float64), 0)
    return -(probability * np.log(np.maximum(probability, 1e-12))).sum(0).astype(np.float32)


def entropy_table(cases: Sequence[ScoredCase]) -> ErrorProbability:
    """From entropy to error probability, fitted the way ours is: isotonic, then by direction."""
    plain = fit_error_probability([case.entropy for case in cases], [case.wrong for case in cases])
    directions = fit_directions(
        [plain.table(case.entropy) for case in cases],
        [case.wrong for case in cases],
        [case.classes for case in cases],
        [case.runner_up for case in cases],
    )
    return replace(plain, directions=tuple(directions))


def tiled(crops: Sequence[ScoredCase], shape_zyx: tuple[int, int, int], share: float, seed: int) -> Assessed:
    """A volume filled with real crops side by side.

    Args:
        crops: put one after the other into cells as large as the largest crop.
        shape_zyx: of the volume; crops at its edge are cut.
        share: of the cells that hold a crop, drawn at random; the others are certain background.
    """
    cell = np.max([crop.classes.shape for crop in crops], axis=0)
    probability = np.zeros(shape_zyx, np.float32)
    segmentation, runner_up = np.zeros(shape_zyx, np.uint8), np.zeros(shape_zyx, np.uint8)
    random = np.random.default_rng(seed)
    for number, place in enumerate(np.ndindex(*(-(-np.array(shape_zyx) // cell)))):
        if random.random() >= share:
            continue
        crop = crops[number % len(crops)]
        corner = np.array(place) * cell
        size = np.minimum(crop.classes.shape, np.array(shape_zyx) - corner)
        there = tuple(slice(low, low + n) for low, n in zip(corner, size, strict=True))
        here = tuple(slice(n) for n in size)
        probability[there] = crop.error_probability[here]
        segmentation[there], runner_up[there] = crop.classes[here], crop.runner_up[here]
    return Assessed(probability, segmentation, runner_up, dict(enumerate(crops[0].names)), crops[0].geometry)


def upsampled(crop: ScoredCase, factor: float) -> ScoredCase:
    """The same crop on voxels `factor` times smaller: thick shells of many voxels."""

    def finer(array: np.ndarray, method: int) -> np.ndarray:
        image = sitk.GetImageFromArray(array)
        size = [round(n * factor) for n in image.GetSize()]
        grid = sitk.Image(size, image.GetPixelID())
        grid.SetSpacing([1 / factor] * 3)
        grid.SetOrigin([0.5 / factor - 0.5] * 3)
        return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), method))

    nearest, linear = sitk.sitkNearestNeighbor, sitk.sitkLinear
    return replace(
        crop,
        classes=finer(crop.classes, nearest),
        runner_up=finer(crop.runner_up, nearest),
        truth=finer(crop.truth, nearest),
        error_probability=finer(crop.error_probability, linear),
        error_probability_plain=finer(crop.error_probability_plain, linear),
        entropy=finer(crop.entropy, linear),
        geometry=crop.geometry @ np.diag([1 / factor] * 3 + [1.0]),
    )
