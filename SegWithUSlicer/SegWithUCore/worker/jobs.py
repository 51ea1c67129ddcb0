"""The worker's jobs: segment, save a case."""

import contextlib
import time
from pathlib import Path
from typing import Any

from ..inference.case_result import Job
from ..inference.case_writer import save_case
from ..inference.given_mask import MaskFile
from ..inference.model import Model, user_network_sha256
from ..inference.segment import segment
from ..models.bundle import Bundle, with_head
from ..models.installed import resolve_model
from ..util.atomic_files import one_writer
from ..util.errors import InputError, UsageError
from ..util.input_files import read_bounded
from ..util.paths import BUNDLE_FILE
from ..util.progress import Progress
from ..util.strict_json import MAXIMUM_BYTES
from .protocol import Request


class JobRunner:
    """Keeps one model loaded on one device and runs jobs with it."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._described: tuple[str, bytes, Bundle] | None = None

    def answer(self, request: Request, report: Progress) -> dict[str, Any]:
        """Do a request and return the event that answers it, without its id."""
        try:
            if request.request == "save":
                originals = [Path(file) if file else None for file in request.files]
                reviews = Path(request.reviews) if request.reviews else None
                save_case(Path(request.case), Path(request.target), originals, reviews, report)
                return {"event": "saved", "case": request.target}
            if not request.files or not request.name or not request.target:
                raise UsageError("The request 'segment' lacks files, name or target.", "unusable-request")
            with one_writer(Path(request.target)):
                return self._segment(request, self._loaded(request, report), report)
        except (MemoryError, RuntimeError):
            self._model = None  # the network may be left on another device
            raise

    def _loaded(self, request: Request, report: Progress) -> Model:
        """Load the model of a request; the loaded one is kept if it is the same, files included."""
        settings = request.settings
        bundle = with_head(self._bundle(request.model), settings.head)
        if self._model is not None and self._model.asked == (settings.engine, settings.device):
            old = self._model.bundle
            same = self._model.network_sha256 == user_network_sha256(bundle) and old.default_head == bundle.default_head
            names = ("folder", "weights_sha256", "calibration_sha256", "graphs")
            if same and all(getattr(old, name) == getattr(bundle, name) for name in names):
                return self._model
        report("loading the model", 0.0)
        self._model = None  # memory first: two models need not fit
        self._model = Model.of(bundle, settings)
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

    def _segment(self, request: Request, model: Model, report: Progress) -> dict[str, Any]:
        started = time.monotonic()
        job = Job(
            name=request.name,
            files=[Path(file) for file in request.files],
            target=Path(request.target),
            settings=request.settings,
            own_to_world_ras=request.own_to_world_ras,
            mask=MaskFile(Path(request.mask), request.labels or {}) if request.mask else None,
        )
        result = segment(job, model, report)
        return {
            "event": "result",
            "case": request.target,
            "structures": [metrics.to_json() for metrics in result.assessed.structures],
            "warnings": [warning.to_json() for warning in result.warnings],
            "device": model.device,
            "engine": model.engine.identity(),
            "engine_reason": model.engine_reason,
            "seconds": round(time.monotonic() - started, 2),
            "peak_memory_mb": result.peak_memory_mb,
        }
