"""From stitched logits and responses to maps on the input's own grid, and from the maps to regions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..calibration.case_level import ProbabilitySums
from ..calibration.error_probability import ErrorProbability, percentiles_of
from ..calibration.gate import Gate
from ..calibration.stage_two import StageTwo
from ..case.case_regions import DATA_PERCENTILE_FILE, MODEL_PERCENTILE_FILE, RUNNER_UP_FILE, ijk_to_ras, label_values
from ..imaging.grid import VoxelGrid
from ..imaging.volume import image_on_grid, orientation_of, same_grid
from ..models.input_spec import Label
from ..regions.find_regions import Assessed, FoundRegions, find_regions
from .engines.base import Engine, Voxelwise
from .gated_maps import gated_channels, maps_of_gated
from .stage_two_sweep import StageTwoSweep, steps_on_grid

CHUNK_VOXELS = 32768
"""Voxels a step: 32k keep the perturbed softmaxes within the L2 cache (docs/developer/performance.md)."""
SLAB_VOXELS = 1 << 22
"""Voxels of the input grid that are resampled at once: bounds memory at about 0.2 GB for 12 channels."""


@dataclass(frozen=True)
class VoxelMaps:
    """Results on one grid, arrays (z, y, x).

    Attributes:
        classes: index of the predicted class, uint8.
        runner_up: index of the second most probable class, uint8.
        calibration: U_cal, float32.
        ranking: U_rnk, float32.
        error_probability: float32 in 0 to 1, None without fitted calibration.
        model_percentile, data_percentile: of `calibration.sources`, uint8, None if not fitted.
        sums: of the tempered, refitted probabilities, per class.
    """

    classes: np.ndarray
    runner_up: np.ndarray
    calibration: np.ndarray
    ranking: np.ndarray
    error_probability: np.ndarray | None
    model_percentile: np.ndarray | None
    data_percentile: np.ndarray | None
    sums: ProbabilitySums


@dataclass(frozen=True)
class FittedCalibration:
    """The part of the fitted calibration that concerns single voxels; by default nothing.

    Attributes:
        error_probability: from ranking map and classes to error probability.
        tempering_scale: by which tempered logits are divided before the softmax.
        model_quantiles, data_quantiles: of `calibration.sources`.
        gate: above which the head pays; None if it pays everywhere.
        stage_two: what sees the image too; None for a bundle that is calibrated without it.
    """

    error_probability: ErrorProbability | None = None
    tempering_scale: float = 1.0
    model_quantiles: tuple[float, ...] | None = None
    data_quantiles: tuple[float, ...] | None = None
    gate: Gate | None = None
    stage_two: StageTwo | None = None

    @classmethod
    def from_json(cls, calibration: Mapping[str, Any] | None, stage_two: StageTwo | None = None) -> "FittedCalibration":
        """From the calibration block of a bundle; bundles from before `sources` have none."""
        if calibration is None:
            return cls()
        sources = calibration.get("sources") or {}
        model, data = (tuple(sources[part]) if sources.get(part) else None for part in ("model", "data"))
        table = ErrorProbability.from_json(calibration["error_probability"])
        gate = Gate.from_json(calibration.get("gate"))
        return cls(table, float(calibration["tempering_scale"]), model, data, gate, stage_two)


def maps_on_grid(
    engine: Engine,
    stitched: np.ndarray,
    working: sitk.Image,
    target: sitk.Image,
    fitted: FittedCalibration | None = None,
    image: np.ndarray | None = None,
) -> VoxelMaps:
    """Compute segmentation and maps at the voxels of `target`.

    Logits and responses are brought to the target grid first (they are linear, so interpolating them
    is sound), then the non-linear maps follow once, voxel by voxel: segmentation and maps agree everywhere.

    Args:
        engine: what made `stitched`.
        stitched: (channels, z, y, x) on the grid of `working`.
        fitted: on calibration cases; None leaves out what needs it.
        image: as the network got it, on the grid of `working`; None leaves stage two out.
    """
    fitted = fitted or FittedCalibration()
    shape = target.GetSize()[::-1]
    classes, runner_up = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    calibration, ranking = np.empty(shape, np.float32), np.empty(shape, np.float32)
    model = np.empty(shape, np.uint8) if fitted.model_quantiles else None
    data = np.empty(shape, np.uint8) if fitted.data_quantiles and engine.has_aleatoric else None
    sums = ProbabilitySums.zeros(engine.num_classes)
    sweep = None if image is None else sweep_of(fitted, engine, working, target)
    for place, block in _blocks(stitched, working, target):
        result = maps_of_values(engine, block, fitted.gate, fitted.tempering_scale)
        if sweep is not None and fitted.error_probability:
            table = fitted.error_probability(result.ranking, result.classes, result.runner_up)
            sweep.note(block[: engine.num_classes], place[0].start or 0, result, table)
        classes[place], runner_up[place] = result.classes, result.runner_up
        calibration[place], ranking[place] = result.calibration, result.ranking
        if model is not None and fitted.model_quantiles:
            model[place] = _percentiles(result.epistemic, fitted.model_quantiles)
        if data is not None and fitted.data_quantiles and result.aleatoric is not None:
            data[place] = _percentiles(result.aleatoric, fitted.data_quantiles)
        sums += result.sums
        del result, block
    probability = None
    if fitted.error_probability:
        probability = fitted.error_probability(ranking, classes, runner_up)
    if sweep is not None and image is not None and probability is not None:
        probability = sweep.finished(probability, resample_to_grid(image, working, target))
    return VoxelMaps(classes, runner_up, calibration, ranking, probability, model, data, sums)


def sweep_of(
    fitted: FittedCalibration, engine: Engine, working: sitk.Image, target: sitk.Image
) -> StageTwoSweep | None:
    """Prepare stage two for a case; None for a model that is calibrated without the image."""
    stage = fitted.stage_two
    if stage is None or fitted.error_probability is None:
        return None
    return StageTwoSweep(stage, steps_on_grid(stage.axes, working, target))


def maps_of_values(engine: Engine, values: np.ndarray, gate: Gate | None, tempering_scale: float = 1.0) -> Voxelwise:
    """Make maps of what `network_answer` gave, on whatever grid it was brought to: (channels, *any).

    Of logits and responses maps are exact everywhere, gate or not.
    """
    if gate is not None and len(values) == gated_channels(engine):
        return maps_of_gated(engine, gate, values, tempering_scale)
    return voxelwise(engine, values, tempering_scale)


def voxelwise(engine: Engine, stitched: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
    """Classes, maps and their parts, voxel by voxel, in chunks.

    Args:
        stitched: (channels, *any) float32.
        tempering_scale: by which tempered logits are divided before the softmax; fitted on calibration cases.
    """
    shape = stitched.shape[1:]
    voxels = math.prod(shape)
    classes, runner_up = np.empty(voxels, np.uint8), np.empty(voxels, np.uint8)
    calibration, ranking, epistemic = (np.empty(voxels, np.float32) for _ in range(3))
    aleatoric = np.empty(voxels, np.float32) if engine.has_aleatoric else None
    sums = ProbabilitySums.zeros(engine.num_classes)
    for start in range(0, voxels, CHUNK_VOXELS):
        part = slice(start, min(start + CHUNK_VOXELS, voxels))
        found = engine.maps(_flat_part(stitched, part), tempering_scale)
        classes[part], runner_up[part] = found.classes, found.runner_up
        calibration[part], ranking[part], epistemic[part] = found.calibration, found.ranking, found.epistemic
        if aleatoric is not None:
            aleatoric[part] = found.aleatoric
        sums += found.sums
    return Voxelwise(
        classes.reshape(shape),
        runner_up.reshape(shape),
        calibration.reshape(shape),
        ranking.reshape(shape),
        epistemic.reshape(shape),
        None if aleatoric is None else aleatoric.reshape(shape),
        sums,
    )


def resample_to_grid(stitched: np.ndarray, working: sitk.Image, target: sitk.Image) -> np.ndarray:
    """All channels of `stitched` (channels, z, y, x) at the voxels of `target`, at once."""
    whole = np.empty((stitched.shape[0], *target.GetSize()[::-1]), np.float32)
    for place, block in _blocks(stitched, working, target):
        whole[(slice(None), *place)] = block
    return whole


COMPETES_ABOVE = 0.05
"""Below this error probability the files name no runner-up and no percentile: they would be noise, and large."""


def regions_of_maps(maps: VoxelMaps, labels: Sequence[Label], image: sitk.Image | VoxelGrid) -> FoundRegions | None:
    """Regions of one prediction; None without fitted calibration.

    Args:
        image: on the grid of the maps, or that grid.
    """
    if maps.error_probability is None:
        return None
    assessed = Assessed(
        maps.error_probability,
        label_values(maps.classes, labels),
        label_values(maps.runner_up, labels),
        {label.value: label.name for label in labels},
        ijk_to_ras(image),
        maps.model_percentile,
        maps.data_percentile,
    )
    return find_regions(assessed)


def competition_arrays(maps: VoxelMaps, labels: Sequence[Label]) -> dict[str, np.ndarray]:
    """Return what regions need besides the segmentation, by file name; where nothing competes, its own classes."""
    if maps.error_probability is None:
        return {}
    calm = maps.error_probability <= COMPETES_ABOVE
    arrays = {RUNNER_UP_FILE: label_values(np.where(calm, maps.classes, maps.runner_up), labels)}
    for file, part in ((MODEL_PERCENTILE_FILE, maps.model_percentile), (DATA_PERCENTILE_FILE, maps.data_percentile)):
        if part is not None:
            arrays[file] = np.where(calm, 0, part).astype(np.uint8)
    return arrays


def _percentiles(values: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """As `percentiles_of`, slice by slice: its float64 copies of a whole volume would be larger than all maps."""
    found = np.empty(values.shape, np.uint8)
    for each in range(len(values)):
        found[each] = percentiles_of(values[each], quantiles)
    return found


def _flat_part(stitched: np.ndarray, part: slice) -> np.ndarray:
    """Return some voxels of (channels, *any), in scan order: (channels, voxels).

    Of an array whose axes are turned only the slices around them are copied: a copy of all doubled a run's memory.
    """
    if stitched.flags.c_contiguous:
        return stitched.reshape(len(stitched), -1)[:, part]
    if stitched.ndim < 3:
        return np.ascontiguousarray(stitched.reshape(len(stitched), -1)[:, part])
    in_slice = math.prod(stitched.shape[2:])
    first, last = part.start // in_slice, (part.stop - 1) // in_slice
    if first == last:
        return _flat_part(stitched[:, first], slice(part.start - first * in_slice, part.stop - first * in_slice))
    around = stitched[:, first : last + 1].reshape(len(stitched), -1)
    return np.ascontiguousarray(around[:, part.start - first * in_slice : part.stop - first * in_slice])


def _blocks(
    stitched: np.ndarray, working: sitk.Image, target: sitk.Image
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Parts of `stitched` on the target grid, with the slices (z, y, x) where they belong."""
    letters = orientation_of(target)
    if same_grid(sitk.DICOMOrient(image_on_grid(stitched[0], working), letters), target):
        # Only axes differ: no interpolation, values stay exact.
        yield (slice(None),) * 3, _with_axes_of(stitched, working, target)
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


def _with_axes_of(stitched: np.ndarray, working: sitk.Image, target: sitk.Image) -> np.ndarray:
    """View `stitched` with the axes of `target`, which differ from those of `working` in order and sign alone.

    All channels at once, which is faster than turning each as an image (docs/developer/performance.md).
    """
    own, wanted = (np.reshape(image.GetDirection(), (3, 3)) for image in (working, target))
    signs = np.rint(wanted.T @ own).astype(int)  # how each wanted axis runs along each own one: x, y, z
    source = np.abs(signs).argmax(1)
    flips = (slice(None, None, int(signs[axis, source[axis]])) for axis in (2, 1, 0))
    return stitched.transpose(0, *(3 - source[::-1]))[(slice(None), *flips)]
