"""Commands as functions of Python: judge a segmentation, evaluate a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SegWithUCore.api import INSIST, SegmentationResult, _job_of_files, _run_settings
from SegWithUCore.inference.given_mask import MaskFile
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.segment import compute_case
from SegWithUCore.inference.settings import DEFAULTS, RunSettings
from SegWithUCore.models.bundle_files import weights_path
from SegWithUCore.models.training_record import TrainingRecord, read_record
from SegWithUCore.util.progress import Progress, silent


def judge(
    image: str | Path | Sequence[str | Path],
    mask: str | Path,
    model: Model,
    roi: Sequence[float] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    unlike_training: bool = False,
    series: str | None = None,
    progress: Progress = silent,
    settings: RunSettings = DEFAULTS,
) -> SegmentationResult:
    """Judge a segmentation that was made elsewhere, as `segwithu judge` does; nothing is written.

    Args:
        image: a path, or for a model of several channels a sequence of paths, as for `segment_image`.
        mask: a label map on the grid of the image, or a folder with one file per structure.
        model: from `load_model`; calibrated.
        roi: region of interest, as for `segment_image`.
        labels: what labels (values, or names of segments or files) mean to the model, {"17": "left hippocampus"}; all
            others are left out. By default labels have the model's values or names.
        unlike_training: continue although the image is out of distribution.
        series: end of the UID of the series to take from a DICOM folder that holds several.
        progress: called with stage, fraction and details.
        settings: all that can be chosen for a run; head, engine and device are those of the model.

    Raises:
        InputError: image or mask is unusable, or they do not belong together.
        UsageError: an option that does not go with the image.
    """
    paths = [image] if isinstance(image, str | Path) else image
    job = _job_of_files([Path(path) for path in paths], model.bundle, series)
    settings, own = _run_settings(settings, roi, unlike_training), MaskFile(Path(mask), dict(labels or {}))
    job = replace(job, settings=settings, insist_option=INSIST, mask=own)
    return SegmentationResult(compute_case(job, model, progress), {})


def evaluate(
    cases: str | Path, model: Model, *, allow_seen_cases: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Measure a model on cases with references, as `segwithu evaluate` does; nothing is written.

    Args:
        cases: `TABLE.csv:ROLE`, a folder with `images/` and `labels/`, or a data set of nnU-Net.
        model: from `load_model`.
        allow_seen_cases: also cases that the model was made with; figures on them are too good.
        progress: called with stage, fraction and details.

    Returns:
        What `segwithu evaluate --output` writes (docs/reference/formats.md), and `notes`, one sentence each.

    Raises:
        UsageError: no such cases, or the model has seen some of them.
        InputError: an image or a reference is unusable, or most cases are out of distribution.
    """
    from SegWithULab.evaluation import evaluate as evaluation
    from SegWithULab.training.dataset import find_cases
    from SegWithULab.training.run_record import check_unseen, hashes_of, seen_of

    found, notes = find_cases(str(cases)), list[str]()
    record = read_record(weights_path(model.bundle).parent) or TrainingRecord()
    notes += check_unseen("test", hashes_of(found, notes.append, progress), seen_of(record.roles), allow_seen_cases)
    notes += evaluation.check_like_training(found, model.bundle)
    measured = evaluation.evaluate(found, model, progress=progress)
    return {**evaluation.summary(measured, model.bundle), "notes": notes}
