"""Ask the worker before a run what it would cost, and whether the image is like the training cases.

Where it is not like those of the chosen model, the other models are asked, too.

Nothing is written for it: the worker gets the grid of the volume, the region, and how the voxels in it look, in a
few numbers; no voxels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

from SegWithUCore.inference.image_features import ImageFeatures
from SegWithUCore.util.errors import SegWithUError

from ..i18n import _
from ..scene.volume_export import image_features_of, own_to_world, read_roi
from .controller import split_deviations
from .models import ModelInfo

if TYPE_CHECKING:
    from .worker import WorkerProcess


@dataclass(frozen=True)
class PreflightResult:
    """The worker's answer for one choice of inputs.

    Attributes:
        cost: one line on memory.
        warnings: why the image does not fit the model.
        refused: it is so far from the training cases that the run will be refused.
        notes: what is unusual about it but need not matter.
        is_like: it was compared with the training images, and nothing is unusual.
        kinds: what the warnings are about, as in `Deviation.kind`.
        others: names of other models that the image fits; None while they are not asked.
    """

    cost: str = ""
    warnings: tuple[str, ...] = ()
    refused: bool = False
    notes: tuple[str, ...] = ()
    is_like: bool = False
    kinds: frozenset[str] = frozenset()
    others: tuple[str, ...] | None = None

    @property
    def fits(self) -> bool:
        """Whether the model was made for such images, as far as can be seen."""
        return not self.refused and "picture" not in self.kinds


@dataclass(frozen=True)
class _Question:
    """What is asked about one choice of inputs."""

    number: int
    fields: Mapping[str, Any]
    features: ImageFeatures | None
    model: ModelInfo
    others: Sequence[ModelInfo]


class PreflightCheck:
    """Asks the worker, and reports only the answer to the latest question.

    Args:
        on_result: called with each new answer, on the main thread.
    """

    def __init__(self, worker: "WorkerProcess", on_result: Callable[[PreflightResult], None]) -> None:
        self._worker = worker
        self._on_result = on_result
        self._question = 0
        self.result = PreflightResult()

    def reset(self) -> None:
        """Ignore answers to earlier questions."""
        self._question += 1
        self._set_result(PreflightResult())

    def ask(
        self,
        volume: "slicer.vtkMRMLScalarVolumeNode",
        roi: "slicer.vtkMRMLMarkupsROINode | None",
        model: ModelInfo,
        places: tuple[str, str],
        head: str = "",
        others: Sequence[ModelInfo] = (),
    ) -> None:
        """Ask the worker, which is started if needed.

        Args:
            places: device and engine, as they were chosen.
            head: "" for the model's default.
            others: models that could be chosen for this volume instead.
        """
        self._question += 1
        try:
            to_world, _linear = own_to_world(volume)
            fields: dict[str, Any] = {"grid": grid_of(volume), "device": places[0], "engine": places[1]}
            fields["own_to_world_ras"] = [number for row in to_world for number in row]
            box = None if roi is None else read_roi(roi, volume)
            if box is not None:
                fields["region"] = {"centre_ras_mm": list(box[:3]), "size_mm": list(box[3:])}
        except SegWithUError as error:
            self._set_result(PreflightResult(str(error)))
            return
        self._set_result(PreflightResult(_("Predicting memory ...")))
        asked = _Question(self._question, fields, image_features_of(volume, box), model, others)
        self._compare(asked, model, partial(self._compared, asked))
        cost = {"request": "predict_cost", **fields, "model": str(model.folder), "head": head}
        self._worker.submit(cost, partial(self._predicted, asked))

    def _compare(self, asked: _Question, model: ModelInfo, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        """Ask how the image differs from the training images of a model."""
        features = {} if asked.features is None else {model.channels[0]: asked.features.to_json()}
        request = {"request": "fingerprint", **asked.fields, "model": str(model.folder), "head": ""}
        self._worker.submit({**request, "features": features}, on_event)

    def _compared(self, asked: _Question, event: Mapping[str, Any]) -> None:
        """Take the answer about the chosen model; if the image does not fit it, ask about the others."""
        if asked.number != self._question or event.get("event") != "fingerprinted":
            self._predicted(asked, event)
            return
        result = _result_of(event)
        is_like = asked.model.knows_images and asked.features is not None and not (result.warnings or result.notes)
        result = replace(result, cost=self.result.cost, is_like=is_like)
        others = [one for one in asked.others if one.name != asked.model.name and _may_fit(one)]
        self._set_result(replace(result, others=() if not result.fits and not others else None))
        if not result.fits:
            self._ask_others(asked, others)

    def _ask_others(self, asked: _Question, others: Sequence[ModelInfo]) -> None:
        fitting: dict[str, bool] = {}

        def answered(name: str, event: Mapping[str, Any]) -> None:
            if asked.number != self._question or event.get("event") == "progress":
                return
            fitting[name] = event.get("event") == "fingerprinted" and _result_of(event).fits
            if len(fitting) == len(others):
                self._set_result(replace(self.result, others=tuple(name for name in fitting if fitting[name])))

        for other in others:
            self._compare(asked, other, partial(answered, other.name))

    def _predicted(self, asked: _Question, event: Mapping[str, Any]) -> None:
        """Take the answer about memory, or why there is none."""
        if asked.number == self._question and event.get("event") != "progress":
            self._answer(event)

    def _answer(self, event: Mapping[str, Any]) -> None:
        kind, now = event.get("event"), self.result
        if kind == "predicted":
            self._set_result(replace(now, cost=cost_text(event)))
        elif kind == "error" and event.get("kind") in ("missing", "start", "crashed"):
            self._set_result(replace(now, cost=_("Memory is predicted after the first run.")))
        elif kind == "error":
            self._set_result(replace(now, cost=str(event.get("text") or "")))

    def _set_result(self, result: PreflightResult) -> None:
        if result != self.result:
            self.result = result
            self._on_result(result)


def _may_fit(model: ModelInfo) -> bool:
    """Check whether one volume is all that a model wants, and it can be compared with what the model was made for."""
    return model.knows_images and len(model.channels) == 1


def _result_of(event: Mapping[str, Any]) -> PreflightResult:
    found = event.get("deviations") or []
    warnings, notes = split_deviations(found)
    refused = any(entry.get("severity") == "refused" for entry in found)
    kinds = frozenset(str(entry.get("kind")) for entry in found if entry.get("severity") != "note")
    return PreflightResult("", warnings, refused, notes, kinds=kinds)


def cost_text(event: Mapping[str, Any]) -> str:
    """Return the line for an event "predicted": memory, or the sentence of a refusal."""
    if event.get("not_enough_memory"):
        return str(event["not_enough_memory"])
    memory, device = float(event.get("memory_mb") or 0) / 1000, str(event.get("device") or "cpu").upper()
    return _("About {memory:.1f} GB of memory on {device}").format(memory=memory, device=device)


def size_ras(volume: "slicer.vtkMRMLScalarVolumeNode") -> tuple[float, float, float]:
    """Return how long the volume is along R, A and S in its own frame, in mm; zeros if it holds no image."""
    image = volume.GetImageData()
    if image is None:
        return 0.0, 0.0, 0.0
    r, a, s = np.abs(_ijk_to_ras(volume)[:, :3]) @ image.GetDimensions()
    return float(r), float(a), float(s)


def grid_of(volume: "slicer.vtkMRMLScalarVolumeNode") -> dict[str, list[float]]:
    """Return size, spacing, origin and direction as in `case.json`: LPS, as in image files."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ _ijk_to_ras(volume)
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image = volume.GetImageData()
    return {
        "size_ijk": [0, 0, 0] if image is None else list(image.GetDimensions()),
        "spacing_mm": spacing.tolist(),
        "origin_lps_mm": lps[:, 3].tolist(),
        "direction_lps": (lps[:, :3] / spacing).ravel().tolist(),
    }


def _ijk_to_ras(volume: "slicer.vtkMRMLScalarVolumeNode") -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(3)])
