"""The worker's jobs that need an engine: load, predict the cost, compare with the training cases, segment."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..inference.engines import AUTO
from ..inference.image_features import ImageFeatures
from ..inference.memory_prediction import memory_from_headers
from ..inference.model import Model, user_network_sha256
from ..inference.ood_check import deviations_of_features
from ..inference.prediction import predicted_seconds, windows_of
from ..inference.segment import Job, segment
from ..io.grid import VoxelGrid, check_geometry, times
from ..io.reader_process import ReaderProcess
from ..io.roi import RegionOfInterest, part_grid
from ..io.volume import Header
from ..models.bundle import Bundle, with_head
from ..models.installed import resolve_model
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


class JobRunner:
    """Keeps one model loaded on one device and runs jobs with it."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._described: tuple[str, bytes, Bundle] | None = None
        self._reader = ReaderProcess()
        self._reader.start()  # it is ready when the model is

    def answer(self, request: Request, report: Progress) -> dict[str, Any]:
        """Do a request and return the event that answers it, without its id."""
        try:
            if request.kind == "fingerprint":  # Slicer's window sends the grid and image features of the voxels
                bundle = self._bundle(request.text("model"))
                found = deviations_of_features(_features(request), _part(request), bundle)
                return {"event": "fingerprinted", "deviations": [deviation.to_json() for deviation in found]}
            if request.kind == "segment":
                return self._segment(request, report)
            model = self._loaded(request, report)
            facts = {"device": model.device, **_engine(model)}
            if request.kind == "warm":
                return {"event": "warmed", "model": model.bundle.name, **facts}
            return {"event": "predicted", **_cost(request, model), **facts}
        except (MemoryError, RuntimeError):
            self._model = None  # the network may be left on another device
            raise

    def _loaded(self, request: Request, report: Progress) -> Model:
        """Load the model of a request; the loaded one is kept if it is the same, files included."""
        asked = (request.text("engine", AUTO), request.text("device", AUTO))
        head = request.text("head") if request.fields.get("head") else None
        bundle = with_head(self._bundle(request.text("model")), head)
        if self._model is not None and self._model.asked == asked:
            old = self._model.bundle
            same = self._model.network_sha256 == user_network_sha256(bundle) and old.default_head == bundle.default_head
            names = ("folder", "weights_sha256", "calibration_sha256", "graphs")
            if same and all(getattr(old, name) == getattr(bundle, name) for name in names):
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
        content = None
        with contextlib.suppress(InputError, OSError, ValueError):  # the request names no folder that has one
            content = read_bounded(Path(name_or_folder) / BUNDLE_FILE, MAXIMUM_BYTES)
        if content is not None and self._described is not None and self._described[:2] == (name_or_folder, content):
            return self._described[2]
        bundle = resolve_model(name_or_folder)
        self._described = None if content is None else (name_or_folder, content, bundle)
        return bundle

    def _segment(self, request: Request, report: Progress) -> dict[str, Any]:
        begun = time.monotonic()
        job = Job(
            name=request.text("name"),
            files=request.files(),
            target=Path(request.text("target")),
            roi=_roi(request),
            unlike_training=request.flag("unlike_training"),
            include_image=request.flag("include_image"),
            own_to_world_ras=_placement(request),
        )
        with one_writer(job.target):
            model = self._loaded(request, report)
            result = segment(job, model, report, self._reader)
        return {
            "event": "result",
            "case": str(job.target),
            "structures": [metrics.to_json() for metrics in result.structures],
            "warnings": [warning.to_json() for warning in result.warnings],
            "device": result.device,
            **_engine(model),
            "seconds": round(time.monotonic() - begun, 2),
            "peak_memory_mb": result.peak_memory_mb,
        }


def _cost(request: Request, model: Model) -> dict[str, Any]:
    """Predict seconds, memory and windows of a run on the grid of a request; no voxel is read."""
    part, roi, placement = _part(request), _roi(request), _placement(request)
    header = Header(_grid(request), UNKNOWN_VOXEL_BYTES)
    memory = memory_from_headers([header], roi, model, request.flag("include_image"), placement)
    assert memory is not None  # the only grid is known
    shortage = None
    try:
        memory.check()
    except NotEnoughMemoryError as error:
        shortage = error.sentence
    seconds = predicted_seconds(model, part)
    return {
        "seconds": None if seconds is None else round(seconds, 1),
        "memory_mb": round(memory.total / 1e6),
        "not_enough_memory": shortage,
        "windows": windows_of(model, part),
    }


def _engine(model: Model) -> dict[str, Any]:
    """Return which engine computes, and why, for events."""
    return {"engine": model.engine.identity(), "engine_reason": model.engine_reason}


def _roi(request: Request) -> RegionOfInterest | None:
    block = request.fields.get("region")
    if block is None:
        return None
    numbers = [*request.numbers("centre_ras_mm", block, 3), *request.numbers("size_mm", block, 3)]
    return RegionOfInterest.parse(",".join(str(number) for number in numbers))  # the same checks as on the command line


def _placement(request: Request) -> Sequence[float] | None:
    """Return the request's `own_to_world_ras`, 4 x 4 row by row; None without one."""
    return request.numbers("own_to_world_ras", request.fields, 16) if request.fields.get("own_to_world_ras") else None


def _part(request: Request) -> VoxelGrid:
    """Return the grid of the part to be segmented, oriented as in the world."""
    return part_grid(_grid(request), _roi(request), _placement(request))


def _features(request: Request) -> dict[str, ImageFeatures]:
    """Read the request's `features`: image features by channel; channels, or all of them, may be missing."""
    given = request.fields.get("features") or {}
    try:
        return {str(channel): ImageFeatures.from_json(block) for channel, block in given.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"The request has unusable features ({error}): send what image_features gives.") from error


def _grid(request: Request) -> VoxelGrid:
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
