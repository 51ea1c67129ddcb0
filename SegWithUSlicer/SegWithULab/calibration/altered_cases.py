"""Limits of the check for lost calibration: calibration cases are altered, segmented and compared with their reference.

What is altered: sharpness, slice thickness, shading, contrast, noise, tissue removed, a cut field of view, as in
training (`training/other_acquisitions.py`). Cases that the network has not seen, for it is too sure of its own.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.engines.choice import is_installed
from SegWithUCore.inference.image_features import image_features
from SegWithUCore.inference.lost_calibration import expected_wrong_share, segmented_at_edge
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.segment import segment_images
from SegWithUCore.inference.structures import StructureMetrics, structure_metrics
from SegWithUCore.inference.uncertainty_maps import VoxelMaps
from SegWithUCore.io.volume import image_on_grid
from SegWithUCore.metrics.overlap import class_dice
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.util.progress import Progress, in_turn

from ..training.case_reading import AssessedCase, read_assessed
from ..training.dataset import Case

LEAST_CASES, COPIES = 20, 4
"""Cases without which nothing is fitted; altered copies of each."""
HARMLESS, FALSE = 0.02, 0.03
"""Dice that a harmless change loses at most; share of harmless images of which more errors are expected."""
MORE_BLANK = 0.01
"""Beyond what is blank of any calibration case."""


@dataclass(frozen=True)
class Judged:
    """What the check sees of an image, and how well it was segmented.

    Attributes:
        blank: by channel.
        edge, expected_wrong: see `lost_calibration`; the latter infinite where nothing is segmented.
        dice: mean of the structures.
    """

    blank: list[float]
    edge: float
    expected_wrong: float
    dice: float


def judged(
    images: Sequence[sitk.Image], truth: np.ndarray, model: Model
) -> tuple[Judged, VoxelMaps, list[StructureMetrics]]:
    """Segment an image and compare it with the class of each voxel, (z, y, x)."""
    blank = [image_features(sitk.GetArrayViewFromImage(image)).blank for image in images]
    voxel_mm3, labels = float(np.prod(images[0].GetSpacing())), model.bundle.labels
    maps, _ = segment_images(list(images), model)
    structures = structure_metrics(maps, labels, voxel_mm3, model.case_level)
    scores = class_dice(np.asarray(maps.classes), truth, len(labels))
    dice = float(np.nanmean(scores)) if np.isfinite(scores).any() else 1.0
    share = expected_wrong_share(structures)
    return Judged(blank, segmented_at_edge(maps), np.inf if share is None else share, dice), maps, structures


def altered(read: AssessedCase, seed: int) -> tuple[list[sitk.Image], np.ndarray]:
    """Alter a case as another acquisition would; returns its channels and the class of each voxel."""
    import torch

    from ..training.other_acquisitions import OtherAcquisition, Sample

    arrays = np.stack([sitk.GetArrayFromImage(image).astype(np.float32) for image in read.images])
    mean, spread = arrays.mean((1, 2, 3), keepdims=True), arrays.std((1, 2, 3), keepdims=True) + np.float32(1e-6)
    truth = torch.from_numpy(read.truth[None].astype(np.float32))
    whole: Sample = {"image": torch.from_numpy((arrays - mean) / spread), "labels": truth, "valid": truth * 0 + 1}
    found = OtherAcquisition().set_random_state(seed)(whole)
    places = np.nonzero(np.asarray(found["valid"][0]))
    z, y, x = (slice(int(along.min()), int(along.max()) + 1) for along in places)
    changed = zip(np.asarray(found["image"]) * spread + mean, read.images, strict=True)
    images = [image_on_grid(array, image)[x, y, z] for array, image in changed]
    return images, np.asarray(found["labels"][0])[z, y, x].astype(np.int16)


def fit_harm(bundle: Bundle, cases: Sequence[Case], engine: str, progress: Progress) -> dict[str, Any] | None:
    """Fit the block `harm` of an OOD reference; None for few cases, a model that knows no images, or without MONAI.

    Args:
        bundle: calibrated, in a folder.
        cases: that its network has not seen.
    """
    known = (bundle.ood_reference or {}).get("channels")
    if len(cases) < LEAST_CASES or not known or not all(map(is_installed, ("torch", "monai"))):
        return None
    model, usual, copies = Model(bundle, engine=engine), list[Judged](), list[Judged]()
    for case in in_turn(cases, "altering the calibration cases", progress):
        read = read_assessed(case, bundle)
        usual.append(judged(read.images, read.truth, model)[0])
        for copy in range(COPIES):
            found, *_ = judged(*altered(read, zlib.crc32(f"{case.name} {copy}".encode())), model)
            copies += [found] if found.dice > usual[-1].dice - HARMLESS else []
    return limits(bundle, usual, copies)


def limits(bundle: Bundle, usual: Sequence[Judged], harmless: Sequence[Judged]) -> dict[str, Any]:
    """Choose what no case as it is exceeds, and the expected errors that few harmless images exceed."""
    most = np.max([each.blank for each in usual], axis=0) + MORE_BLANK
    blank = dict(zip(bundle.input.channels, np.minimum(most, 1).round(4).tolist(), strict=True))
    shares = [each.expected_wrong for each in (*usual, *harmless) if np.isfinite(each.expected_wrong)]
    wrong = float(np.quantile(shares, 1 - FALSE, method="higher")) if shares else 0.0
    found = {"blank": blank, "edge": max(each.edge for each in usual), "expected_wrong": wrong}
    return {"cases": len(usual), "harmless": len(harmless), **found}
