"""Whether the error probability ranks errors within each structure as well as the plain softmax does.

Over a whole image most of the ranking is that far voxels are safe. Within a structure that is no help, and there a head
can do worse than the softmax it begins with: then users should know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from SegWithUCore.inference.prediction import Prediction
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.error_detection import auroc, region_groups
from SegWithUCore.models.input_spec import Label

WITHIN = "within_structures"
"""Of a calibration block."""
GROWN = 2
"""Voxels around a predicted structure that belong to it here: where it was drawn too small."""
AurocPairs = Mapping[int, tuple[float, float]]
"""By class index: AUROC of the error probability and of 1 - maximum softmax within a structure; NaN without errors."""


def auroc_within(prediction: Prediction, truth: np.ndarray, score: np.ndarray) -> AurocPairs:
    """Compare both scores within each structure as predicted, and `GROWN` voxels around it.

    That is known without the reference. Of voxels that only the reference gives to a structure every one is wrong, so
    among them a score would gain by ignoring that errors are rarer on that side of the boundary.
    """
    wrong = prediction.classes != truth
    spread = prediction.logits.astype(np.float64) - prediction.logits.max(0)
    unsure = (1 - 1 / np.exp(spread).sum(0)).astype(np.float32)
    masks: dict[str, np.ndarray | None] = {
        str(index): binary_dilation(prediction.classes == index, iterations=GROWN)
        for index in range(1, len(prediction.logits))
    }
    ours, plain = (region_groups(np.asarray(each, np.float32), wrong, masks) for each in (score, unsure))
    return {int(key): (auroc(ours[key]), auroc(plain[key])) for key in masks}


def within_structures(
    cases: Sequence[AurocPairs], groups: Sequence[str], labels: Sequence[Label]
) -> dict[str, dict[str, Any]]:
    """Sum up over cases, by label value, for the calibration block of a bundle.

    Args:
        cases: measured with what was fitted on other patients.
        labels: of the model, background first.
    """
    found: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(labels[1:], 1):
        pairs = np.asarray([case[index] for case in cases])
        known = np.isfinite(pairs).all(1)
        if not known.any():
            continue
        own = [group for group, counts in zip(groups, known, strict=True) if counts]
        gap = paired_bootstrap(pairs[known, 0].tolist(), pairs[known, 1].tolist(), groups=own)
        ours, plain = pairs[known].mean(0).tolist()
        found[str(label.value)] = {
            "cases": int(known.sum()),
            "error_probability": ours,
            "softmax": plain,
            "difference": asdict(gap),
        }
    return found


def worse_sentences(found: Mapping[str, Mapping[str, Any]], labels: Sequence[Label]) -> list[str]:
    """Name the structures within which the error probability ranks worse than the softmax, beyond chance."""
    sentences = []
    for label in labels[1:]:
        entry = found.get(str(label.value))
        if entry is not None and entry["difference"]["high"] < 0:
            sentences.append(
                f"Within {label.name} the error probability ranks errors worse than the plain softmax: AUROC "
                f"{entry['error_probability']:.3f} against {entry['softmax']:.3f} (cross-validated, {entry['cases']} "
                "cases). Compare voxels of one structure by the softmax there, not by the error probability."
            )
    return sentences
