"""From stitched logits and responses to maps on the input's own grid."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..calibration.case_quality import ProbabilitySums
from ..calibration.error_probability import ErrorProbability
from ..network.heads import tempered
from ..network.segwithu import SegWithU
from .volume import image_on_grid, orientation_of, same_grid

CHUNK_VOXELS = 32768
"""Voxels a step: 32k keep the perturbed softmaxes within the L2 cache (research/uq.md: 4x faster than 131k)."""
SLAB_VOXELS = 1 << 22
"""Voxels of the input grid that are resampled at once: bounds memory at about 0.2 GB for 12 channels."""


@dataclass(frozen=True)
class VoxelMaps:
    """Results on one grid, arrays (z, y, x).

    Attributes:
        classes: index of the predicted class, uint8.
        calibration: U_cal, float32.
        ranking: U_rnk, float32.
        error_probability: float32 in 0 to 1, None without fitted calibration.
        sums: of the tempered, refitted probabilities, per class.
    """

    classes: np.ndarray
    calibration: np.ndarray
    ranking: np.ndarray
    error_probability: np.ndarray | None
    sums: ProbabilitySums


def maps_on_grid(
    network: SegWithU,
    stitched: np.ndarray,
    working: sitk.Image,
    target: sitk.Image,
    table: ErrorProbability | None,
    tempering_scale: float = 1.0,
) -> VoxelMaps:
    """Compute segmentation and maps at the voxels of `target`.

    Logits and responses are brought to the target grid first (they are linear, so interpolating them
    is sound), then the non-linear maps follow once, voxel by voxel: segmentation and maps agree everywhere.

    Args:
        stitched: (channels, z, y, x) on the grid of `working`.
        table: from ranking map to error probability.
        tempering_scale: see `voxelwise`.
    """
    shape = target.GetSize()[::-1]
    classes = np.empty(shape, np.uint8)
    calibration, ranking = np.empty(shape, np.float32), np.empty(shape, np.float32)
    sums = ProbabilitySums.zeros(network.num_classes)
    for place, block in _blocks(stitched, working, target):
        result = voxelwise(network, block, tempering_scale)
        classes[place], calibration[place], ranking[place] = result[:3]
        sums += result[3]
    probability = None if table is None else table(ranking)
    return VoxelMaps(classes, calibration, ranking, probability, sums)


def voxelwise(
    network: SegWithU, stitched: np.ndarray, tempering_scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, ProbabilitySums]:
    """Class index, calibration map, ranking map, and sums of the tempered probabilities.

    Args:
        stitched: (channels, *any) float32.
        tempering_scale: by which tempered logits are divided before the softmax; fitted on calibration cases.
    """
    shape = stitched.shape[1:]
    flat = torch.from_numpy(np.ascontiguousarray(stitched)).reshape(1, stitched.shape[0], -1)
    voxels = flat.shape[2]
    classes = np.empty(voxels, np.uint8)
    calibration, ranking = np.empty(voxels, np.float32), np.empty(voxels, np.float32)
    sums = ProbabilitySums.zeros(network.num_classes)
    device = next(network.head.parameters()).device
    with torch.inference_mode():
        for start in range(0, voxels, CHUNK_VOXELS):
            part = slice(start, start + CHUNK_VOXELS)
            chunk = flat[..., part].to(device)
            logits, _ = network.split(chunk)
            maps = network.maps(chunk)
            classes[part] = logits.argmax(1)[0].to("cpu", torch.uint8).numpy()
            calibration[part] = maps.calibration[0, 0].cpu().numpy()
            ranking[part] = maps.ranking[0, 0].cpu().numpy()
            sums += _sums(torch.softmax(tempered(logits, maps.calibration) / tempering_scale, 1)[0], logits)
    return classes.reshape(shape), calibration.reshape(shape), ranking.reshape(shape), sums


def _sums(probabilities: torch.Tensor, logits: torch.Tensor) -> ProbabilitySums:
    """Sums over one chunk; probabilities (classes, voxels), logits (1, classes, voxels)."""
    chosen = logits.argmax(1) == torch.arange(len(probabilities), device=logits.device)[:, None]
    parts = (probabilities, probabilities * chosen, probabilities * (1 - probabilities))
    return ProbabilitySums(*(part.sum(1).cpu().double().numpy() for part in parts))


def on_grid(stitched: np.ndarray, working: sitk.Image, target: sitk.Image) -> np.ndarray:
    """All channels of `stitched` (channels, z, y, x) at the voxels of `target`, at once."""
    whole = np.empty((stitched.shape[0], *target.GetSize()[::-1]), np.float32)
    for place, block in _blocks(stitched, working, target):
        whole[(slice(None), *place)] = block
    return whole


def _blocks(
    stitched: np.ndarray, working: sitk.Image, target: sitk.Image
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Parts of `stitched` on the target grid, with the slices (z, y, x) where they belong."""
    letters = orientation_of(target)
    if same_grid(sitk.DICOMOrient(image_on_grid(stitched[0], working), letters), target):
        # Only axes differ: no interpolation, values stay exact.
        turned = [sitk.DICOMOrient(image_on_grid(channel, working), letters) for channel in stitched]
        yield (slice(None),) * 3, np.stack([sitk.GetArrayViewFromImage(image) for image in turned])
        return
    channels = [image_on_grid(channel, working) for channel in stitched]
    i, j, k = target.GetSize()
    step = max(1, SLAB_VOXELS // (i * j))
    for start in range(0, k, step):
        slab = sitk.RegionOfInterest(target, (i, j, min(step, k - start)), (0, 0, start))
        parts = [sitk.GetArrayFromImage(_interpolated(image, slab)) for image in channels]
        yield (slice(start, start + step), slice(None), slice(None)), np.stack(parts)


def _interpolated(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    filter_ = sitk.ResampleImageFilter()
    filter_.SetReferenceImage(grid)
    filter_.SetInterpolator(sitk.sitkLinear)
    filter_.SetOutputPixelType(sitk.sitkFloat32)
    filter_.UseNearestNeighborExtrapolatorOn()
    return filter_.Execute(image)
