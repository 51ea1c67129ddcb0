"""What the worker can do once torch is there: load, predict the cost, compare with the training cases, segment."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from .errors import InputError, OutputError, UsageError
from .imaging.grid_notes import one_of_forms
from .imaging.reader_process import ReaderProcess
from .imaging.volume import turned
from .inference.deviation import REFUSED
from .inference.device import choose_device
from .inference.fingerprint import deviations, deviations_of_features
from .inference.image_features import ImageFeatures
from .inference.placement import placed
from .inference.preprocessing import working_size
from .inference.region import Region, voxel_box
from .inference.segment import Job, Model, read_channels, segment
from .inference.voxel_maps import voxelwise
from .inference.windows import count_windows, predicted_peak_mb
from .models.bundle import Bundle
from .models.head_choice import with_head
from .models.input_spec import InputSpec
from .models.registry import resolve_model
from .network.own_networks import network_sha256
from .progress import Progress
from .worker_protocol import Request

WRITE_S_PER_GRID_VOXEL = 1.2e-7
"""Compressing the four volumes outside the region of interest, where they are constant (measured)."""
WRITE_S_PER_ASSESSED_VOXEL = 6e-7
"""Compressing three noisy float maps inside it (measured)."""


@dataclass(frozen=True)
class Pace:
    """Seconds that one window, and the maps of one voxel, take on this device."""

    window_s: float
    voxel_s: float


class RefusedInputError(InputError):
    """The input is unlike the training cases; the user may insist."""

    refused = True


class Engine:
    """Keeps one model on one device loaded and works with it."""

    def __init__(self) -> None:
        leave_one_core_free()
        self._model: Model | None = None
        self._pace: Pace | None = None
        self._reader = ReaderProcess()
        self._reader.start()  # it is ready when the model is

    def answer(self, request: Request, report: Progress) -> dict[str, Any]:
        """Do a request and return the event that answers it, without its id."""
        work = {
            "warm": self._warm,
            "predict_cost": self._predict_cost,
            "fingerprint": self._fingerprint,
            "segment": self._segment,
        }[request.kind]
        try:
            return work(request, report)
        except (MemoryError, RuntimeError):
            self._model = None  # the network may be left on another device
            raise

    def _loaded(self, request: Request, report: Progress) -> Model:
        """The model of a request: the one at hand where it is the same, files included."""
        bundle = resolve_model(request.text("model"))
        device = choose_device(request.text("device", "auto"))
        head = request.text("head") if request.fields.get("head") else None
        if self._model is not None and _same(self._model, bundle, device, head):
            return self._model
        report("loading the model", 0.0)
        self._model, self._pace = None, None  # memory first: two models need not fit
        self._model = Model(bundle, device, head)
        return self._model

    def _warm(self, request: Request, report: Progress) -> dict[str, Any]:
        model = self._loaded(request, report)
        return {"event": "warmed", "model": model.bundle.name, "device": model.device.type}

    def _segment(self, request: Request, report: Progress) -> dict[str, Any]:
        begun = time.monotonic()
        job = _job(request)
        if job.target.exists():
            raise OutputError(f"{job.target} exists already: choose another place for the result.")
        model = self._loaded(request, report)
        try:
            result = segment(job, model, report, self._reader)
        except InputError as error:
            raise (_refusal(job, model.bundle, self._reader) or error) from None
        return {
            "event": "result",
            "case": str(job.target),
            "structures": [figures.to_json() for figures in result.structures],
            "warnings": [warning.to_json() for warning in result.warnings],
            "device": result.device,
            "seconds": round(time.monotonic() - begun, 2),
            "peak_memory_mb": result.peak_memory_mb,
        }

    def _fingerprint(self, request: Request, report: Progress) -> dict[str, Any]:
        bundle = resolve_model(request.text("model"))
        if "files" in request.fields:
            images = read_channels(request.files(), bundle, reader=self._reader, form=_form(request))
            found = deviations(_placed_parts(images, _job_places(request)), bundle)
        else:  # Slicer's window sends the grid and, of the voxels, what they look like
            grid = _placed_parts([_grid_image(request)], _job_places(request))[0]
            found = deviations_of_features(_features(request), grid, bundle)
        return {"event": "fingerprinted", "deviations": [deviation.to_json() for deviation in found]}

    def _predict_cost(self, request: Request, report: Progress) -> dict[str, Any]:
        model = self._loaded(request, report)
        in_file = "files" in request.fields
        image = _image_of_grid(self._reader.grid(request.files()[0])) if in_file else _grid_image(request)
        part = placed(_part(image, _region(request)), _placement(request))
        spec = model.bundle.input
        shape = _working_shape(part, spec)
        windows = count_windows(shape, spec.window_zyx)
        if self._pace is None:
            report("timing one window", 0.0)
            self._pace = _timed(model)
        voxels, whole = part.GetNumberOfPixels(), image.GetNumberOfPixels()
        seconds = windows * self._pace.window_s + voxels * (self._pace.voxel_s + WRITE_S_PER_ASSESSED_VOXEL)
        channels = model.network.num_classes + model.network.head.response_channels
        need = predicted_peak_mb(shape, voxels, channels, spec.window_zyx, model.network.window_bytes)
        return {
            "event": "predicted",
            "seconds": round(seconds + whole * WRITE_S_PER_GRID_VOXEL, 1),
            "memory_mb": round(need),
            "windows": windows,
            "device": model.device.type,
        }


def leave_one_core_free() -> None:
    """Use all cores but one where there are more than two: the user goes on working meanwhile."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores - 1 if cores > 2 else cores
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _same(model: Model, bundle: Bundle, device: torch.device, head: str | None) -> bool:
    old, bundle = model.bundle, with_head(bundle, head)
    return (
        (old.folder, old.weights_sha256, old.calibration_sha256)
        == (bundle.folder, bundle.weights_sha256, bundle.calibration_sha256)
        and model.network_sha256 == network_sha256(bundle.backbone.kind)
        and model.device == device
        and model.head == bundle.default_head
    )


def _job(request: Request) -> Job:
    return Job(
        name=request.text("name"),
        files=request.files(),
        target=Path(request.text("target")),
        region=_region(request),
        unlike_training=request.flag("unlike_training"),
        include_image=request.flag("include_image"),
        own_to_world_ras=_placement(request),
        form=_form(request),
    )


def _region(request: Request) -> Region | None:
    block = request.fields.get("region")
    if block is None:
        return None
    numbers = [*request.numbers("centre_ras_mm", block, 3), *request.numbers("size_mm", block, 3)]
    return Region.parse(",".join(str(number) for number in numbers))  # the same checks as on the command line


def _form(request: Request) -> str | None:
    """The request's `form`, of a NIfTI file with two; None without one."""
    return one_of_forms(request.text("form")) if request.fields.get("form") else None


def _placement(request: Request) -> Sequence[float] | None:
    """The request's `own_to_world_ras`, 4 x 4 row by row; None without one."""
    return request.numbers("own_to_world_ras", request.fields, 16) if request.fields.get("own_to_world_ras") else None


def _refusal(job: Job, bundle: Bundle, reader: ReaderProcess) -> RefusedInputError | None:
    """The same refusal in words without command-line options, None where the job failed for another reason."""
    if job.unlike_training:
        return None
    try:
        images = read_channels(job.files, bundle, job.series, reader, form=job.form)
        found = deviations(_placed_parts(images, (job.region, job.own_to_world_ras)), bundle)
    except InputError:
        return None
    return next((RefusedInputError(entry.sentence) for entry in found if entry.severity == REFUSED), None)


def _job_places(request: Request) -> tuple[Region | None, Sequence[float] | None]:
    return _region(request), _placement(request)


def _placed_parts(
    images: Sequence[sitk.Image], places: tuple[Region | None, Sequence[float] | None]
) -> list[sitk.Image]:
    """The part of each channel within the region, as it lies in the world."""
    region, own_to_world_ras = places
    return [placed(_part(image, region), own_to_world_ras) for image in images]


def _features(request: Request) -> dict[str, ImageFeatures]:
    """The request's `features`: by channel, how the part to be segmented looks; it may lack channels, or be missing."""
    given = request.fields.get("features") or {}
    try:
        return {str(channel): ImageFeatures.from_json(block) for channel, block in given.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"The request has unusable features ({error}): send what image_features gives.") from error


def _part(image: sitk.Image, region: Region | None) -> sitk.Image:
    return voxel_box(region, image).crop(image) if region else image


def _image_of_grid(grid: Mapping[str, Any]) -> sitk.Image:
    """An image on a grid as `grid_facts` describes it."""
    return _empty_image(grid["size_ijk"], grid["spacing_mm"], grid["origin_lps_mm"], grid["direction_lps"])


def _grid_image(request: Request) -> sitk.Image:
    """An image on the "grid" of a request, which has the fields of the grid in `case.json`."""
    grid: Mapping[str, Any] = request.fields.get("grid") or {}
    size = [max(1, int(n)) for n in request.numbers("size_ijk", grid, 3)]
    spacing = request.numbers("spacing_mm", grid, 3)
    origin = request.numbers("origin_lps_mm", grid, 3) if "origin_lps_mm" in grid else (0.0,) * 3
    direction = request.numbers("direction_lps", grid, 9) if "direction_lps" in grid else np.eye(3).ravel()
    return _empty_image(size, spacing, origin, direction)


def _empty_image(size: Any, spacing: Any, origin: Any, direction: Any) -> sitk.Image:
    image = sitk.Image([int(n) for n in size], sitk.sitkUInt8)  # one byte a voxel: only the grid matters
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in origin])
    image.SetDirection([float(v) for v in direction])
    return image


def _working_shape(part: sitk.Image, spec: InputSpec) -> tuple[int, ...]:
    """Size (z, y, x) that `preprocessing.to_working_grid` would give, without resampling anything."""
    return working_size(turned(part, spec.orientation), spec)[0][::-1]


def _timed(model: Model) -> Pace:
    """Run one window of zeros; a first pass, not counted, pays for what is set up once."""
    spec = model.bundle.input
    window = torch.zeros((1, len(spec.channels), *spec.window_zyx), device=model.device)
    with torch.inference_mode():
        model.network.window_output(window)
        begun = time.perf_counter()
        output = model.network.window_output(window)[0].cpu().numpy()
        window_s = time.perf_counter() - begun
    begun = time.perf_counter()
    voxelwise(model.network, output)
    return Pace(window_s, (time.perf_counter() - begun) / output[0].size)
