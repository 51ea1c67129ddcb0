"""Ask the worker before a run whether the image is like the training cases of the model.

Nothing is written for it: the worker gets the grid of the volume, the region, and a few statistics of the voxels
in it; no voxels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from SegWithUCore.util.errors import SegWithUError

from ..scene.case_images import matrix_of
from ..scene.volume_export import grid_of, image_features_of, own_to_world, read_roi
from .controller import split_deviations
from .model_store import ModelInfo

if TYPE_CHECKING:
    from .worker import WorkerProcess


@dataclass(frozen=True)
class PreflightResult:
    """The worker's answer for one choice of inputs.

    Attributes:
        warnings: why the image does not fit the model.
        refused: it is so far from the training cases that the run will be refused.
        notes: what is unusual about it but need not matter.
        is_like: it was compared with the training images, and nothing is unusual.
        kinds: what the warnings are about, as in `Deviation.kind`.
        trouble: why it could not be compared.
    """

    warnings: tuple[str, ...] = ()
    refused: bool = False
    notes: tuple[str, ...] = ()
    is_like: bool = False
    kinds: frozenset[str] = frozenset()
    trouble: str = ""


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
        self, volume: "slicer.vtkMRMLScalarVolumeNode", roi: "slicer.vtkMRMLMarkupsROINode | None", model: ModelInfo
    ) -> None:
        """Ask the worker, which is started if needed."""
        self._question += 1
        number = self._question
        try:
            box = None if roi is None else read_roi(roi, volume)
            features = image_features_of(volume, box)
        except SegWithUError as error:
            self._set_result(PreflightResult(trouble=str(error)))
            return
        request: dict[str, Any] = {
            "request": "ood_check",
            "model": str(model.folder),
            "settings": {"roi": box},
            "grid": grid_of(volume),
            "own_to_world_ras": [part for row in own_to_world(volume)[0] for part in row],
            "features": {} if features is None else {model.channels[0]: features.to_json()},
        }

        def answered(event: Mapping[str, Any]) -> None:
            if number == self._question and event.get("event") != "progress":
                self._set_result(_result_of(event, model.knows_images and features is not None))

        self._worker.submit(request, answered)

    def _set_result(self, result: PreflightResult) -> None:
        if result != self.result:
            self.result = result
            self._on_result(result)


def _result_of(event: Mapping[str, Any], was_compared: bool) -> PreflightResult:
    if event.get("event") != "ood_checked":
        # Missing packages and crashes are reported by the run, which can install packages.
        is_shown = event.get("event") == "error" and event.get("kind") not in ("missing", "start", "crashed")
        return PreflightResult(trouble=str(event.get("text") or "") if is_shown else "")
    found = event.get("deviations") or []
    warnings, notes = split_deviations(found)
    refused = any(entry.get("severity") == "refused" for entry in found)
    kinds = frozenset(str(entry.get("kind")) for entry in found if entry.get("severity") != "note")
    return PreflightResult(warnings, refused, notes, was_compared and not (warnings or notes), kinds)


def size_ras(volume: "slicer.vtkMRMLScalarVolumeNode") -> tuple[float, float, float]:
    """Return how long the volume is along R, A and S in its own frame, in mm; zeros if it holds no image."""
    image = volume.GetImageData()
    if image is None:
        return 0.0, 0.0, 0.0
    r, a, s = np.abs(slicer.util.arrayFromVTKMatrix(matrix_of(volume))[:3, :3]) @ image.GetDimensions()
    return float(r), float(a), float(s)
