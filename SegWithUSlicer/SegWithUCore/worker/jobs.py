"""The worker's jobs that need an engine: load, predict the cost, compare with the training cases, segment."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..inference.deviation import REFUSED
from ..inference.engines import AUTO
from ..inference.image_features import ImageFeatures
from ..inference.memory_prediction import RunMemory, memory_from_headers
from ..inference.model import Model, user_network_sha256
from ..inference.ood_check import deviations_of_features, input_deviations
from ..inference.prediction import predicted_seconds, windows_of
from ..inference.segment import Job, read_channels, segment
from ..io.grid import VoxelGrid, check_geometry, times
from ..io.header_peek import FileGrid, claim_on_form, one_of_forms
from ..io.reader_process import ReaderProcess
from ..io.roi import RegionOfInterest, part_grid, voxel_box
from ..io.volume import apply_transform
from ..models.bundle import Bundle, with_head
from ..models.registry import resolve_model
from ..util.atomic_files import one_writer
from ..util.errors import InputError, UsageError
from ..util.input_files import read_bounded
from ..util.memory import NotEnoughMemoryError
from ..util.paths import BUNDLE_FILE
from ..util.progress import Progress
from ..util.strict_json import MAXIMUM_BYTES
from .protocol import Request

LONGEST_AXIS = 1_000_000
"""Voxels along one axis of the grid in a request: more than any image has."""
UNKNOWN_VOXEL_BYTES = 4
"""Of a volume that is not in a file yet."""


class RefusedInputError(InputError):
    """The input is unlike the training cases; the user may insist."""

    refused = True


class JobRunner:
    """Keeps one model loaded on one device and runs jobs with it."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._described: tuple[str, bytes, Bundle] | None = None
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
        """Load the model of a request; the loaded one is kept if it is the same, files included."""
        bundle = self._bundle(request.text("model"))
        asked = (request.text("engine", AUTO), request.text("device", AUTO))
        head = request.text("head") if request.fields.get("head") else None
        if self._model is not None and _same(self._model, bundle, asked, head):
            return self._model
        report("loading the model", 0.0)
        self._model = None  # memory first: two models need not fit
        engine, device = asked
        self._model = Model(bundle, device, head, engine)
        return self._model

    def _bundle(self, name_or_folder: str) -> Bundle:
        """Read and check the description of a model; one whose file holds what it held last time is known already.

        Checking takes longer than all else between a click and the first window.
        """
        content = _description(name_or_folder)
        if content is not None and self._described is not None and self._described[:2] == (name_or_folder, content):
            return self._described[2]
        bundle = resolve_model(name_or_folder)
        self._described = None if content is None else (name_or_folder, content, bundle)
        return bundle

    def _warm(self, request: Request, report: Progress) -> dict[str, Any]:
        model = self._loaded(request, report)
        return {"event": "warmed", "model": model.bundle.name, "device": model.device, **_engine(model)}

    def _segment(self, request: Request, report: Progress) -> dict[str, Any]:
        begun = time.monotonic()
        job = _job(request)
        with one_writer(job.target):
            model = self._loaded(request, report)
            try:
                result = segment(job, model, report, self._reader)
            except NotEnoughMemoryError:
                raise
            except InputError as error:
                raise (_refusal(job, model.bundle, self._reader) or error) from None
        return {
            "event": "result",
            "case": str(job.target),
            "structures": [figures.to_json() for figures in result.structures],
            "warnings": [warning.to_json() for warning in result.warnings],
            "device": result.device,
            **_engine(model),
            "seconds": round(time.monotonic() - begun, 2),
            "peak_memory_mb": result.peak_memory_mb,
        }

    def _fingerprint(self, request: Request, report: Progress) -> dict[str, Any]:
        bundle = self._bundle(request.text("model"))
        if "files" in request.fields:
            images = read_channels(request.files(), bundle, reader=self._reader, form=_form(request))
            found = input_deviations(_placed_parts(images, _job_places(request)), bundle)
        else:  # Slicer's window sends the grid and image features of the voxels
            grid = part_grid(_requested_grid(request), _region(request), _placement(request))
            found = deviations_of_features(_features(request), grid, bundle)
        return {"event": "fingerprinted", "deviations": [deviation.to_json() for deviation in found]}

    def _predict_cost(self, request: Request, report: Progress) -> dict[str, Any]:
        model = self._loaded(request, report)
        claim = _claimed(request, self._reader)
        region, placement = _region(request), _placement(request)
        part = part_grid(claim.grid, region, placement)
        seconds = predicted_seconds(model, part)
        memory = memory_from_headers([claim], region, model, request.flag("include_image"), placement)
        assert memory is not None  # the only claim is known
        return {
            "event": "predicted",
            "seconds": None if seconds is None else round(seconds, 1),
            "memory_mb": round(memory.total / 1e6),
            "not_enough_memory": _shortage(memory),
            "windows": windows_of(model, part),
            "device": model.device,
            **_engine(model),
        }


def _description(folder: str) -> bytes | None:
    """Return the content of a model's description; None where the request names no folder that has one."""
    try:
        return read_bounded(Path(folder) / BUNDLE_FILE, MAXIMUM_BYTES)
    except (InputError, OSError, ValueError):
        return None


def _engine(model: Model) -> dict[str, Any]:
    """Which engine computes, and why, for events."""
    return {"engine": model.engine.identity(), "engine_reason": model.engine_reason}


def _same(model: Model, bundle: Bundle, asked: tuple[str, str], head: str | None) -> bool:
    old, bundle = model.bundle, with_head(bundle, head)
    return (
        (old.folder, old.weights_sha256, old.calibration_sha256, old.graphs)
        == (bundle.folder, bundle.weights_sha256, bundle.calibration_sha256, bundle.graphs)
        and model.network_sha256 == user_network_sha256(bundle)
        and model.asked == asked
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


def _region(request: Request) -> RegionOfInterest | None:
    block = request.fields.get("region")
    if block is None:
        return None
    numbers = [*request.numbers("centre_ras_mm", block, 3), *request.numbers("size_mm", block, 3)]
    return RegionOfInterest.parse(",".join(str(number) for number in numbers))  # the same checks as on the command line


def _form(request: Request) -> str | None:
    """Return the request's `form`, of a NIfTI file with two; None without one."""
    return one_of_forms(request.text("form")) if request.fields.get("form") else None


def _placement(request: Request) -> Sequence[float] | None:
    """Return the request's `own_to_world_ras`, 4 x 4 row by row; None without one."""
    return request.numbers("own_to_world_ras", request.fields, 16) if request.fields.get("own_to_world_ras") else None


def _refusal(job: Job, bundle: Bundle, reader: ReaderProcess) -> RefusedInputError | None:
    """Word a refusal without command-line options. Returns None if the job failed for another reason."""
    if job.unlike_training:
        return None
    try:
        images = read_channels(job.files, bundle, job.series, reader, form=job.form)
        found = input_deviations(_placed_parts(images, (job.region, job.own_to_world_ras)), bundle)
    except InputError:
        return None
    return next((RefusedInputError(entry.sentence) for entry in found if entry.severity == REFUSED), None)


def _job_places(request: Request) -> tuple[RegionOfInterest | None, Sequence[float] | None]:
    return _region(request), _placement(request)


def _placed_parts(
    images: Sequence[sitk.Image], places: tuple[RegionOfInterest | None, Sequence[float] | None]
) -> list[sitk.Image]:
    """Crop each channel to the region, as it lies in the world."""
    region, own_to_world_ras = places
    return [apply_transform(_part(image, region), own_to_world_ras) for image in images]


def _features(request: Request) -> dict[str, ImageFeatures]:
    """Read the request's `features`: image features by channel; channels, or all of them, may be missing."""
    given = request.fields.get("features") or {}
    try:
        return {str(channel): ImageFeatures.from_json(block) for channel, block in given.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"The request has unusable features ({error}): send what image_features gives.") from error


def _part(image: sitk.Image, region: RegionOfInterest | None) -> sitk.Image:
    return voxel_box(region, image).crop(image) if region else image


def _claimed(request: Request, reader: ReaderProcess) -> FileGrid:
    """Read the grid from the header of the request's first file, or from the request; no voxel is read."""
    if "files" not in request.fields:
        return FileGrid(_requested_grid(request), UNKNOWN_VOXEL_BYTES)
    path = request.files()[0]
    # Where the header says nothing, reading says what is wrong.
    return claim_on_form(path, reader.grid(path), _form(request)) or FileGrid(
        VoxelGrid.of(reader.read(path)), UNKNOWN_VOXEL_BYTES
    )


def _requested_grid(request: Request) -> VoxelGrid:
    """Read the "grid" of a request, which has the fields of the grid in `case.json`.

    Raises:
        UsageError: it is no grid that an image could have.
    """
    grid: Mapping[str, Any] = request.fields.get("grid") or {}
    size = request.numbers("size_ijk", grid, 3)
    if not all(n == int(n) <= LONGEST_AXIS for n in size):
        raise UsageError(
            f"The grid of the request has the size {times(size)}: give whole numbers of up to {LONGEST_AXIS} voxels.",
            "unusable-size",
        )
    i, j, k = (int(n) for n in size)
    spacing = request.numbers("spacing_mm", grid, 3)
    origin = request.numbers("origin_lps_mm", grid, 3) if "origin_lps_mm" in grid else (0.0,) * 3
    direction = request.numbers("direction_lps", grid, 9) if "direction_lps" in grid else np.eye(3).ravel().tolist()
    try:
        check_geometry(Path("The grid of the request"), (i, j, k), spacing, origin, np.reshape(direction, (3, 3)))
    except InputError as error:
        raise UsageError(str(error), "unusable-grid") from error
    return VoxelGrid((i, j, k), tuple(spacing), tuple(origin), tuple(direction))


def _shortage(memory: RunMemory) -> str | None:
    """Return the sentence that the run would be refused with; None if there is enough memory."""
    try:
        memory.check()
    except NotEnoughMemoryError as error:
        return error.sentence
    return None
