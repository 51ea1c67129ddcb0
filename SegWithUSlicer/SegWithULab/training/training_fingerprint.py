"""The fingerprint of a model's training cases, which the out-of-distribution check compares inputs with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from SegWithUCore.inference.ood_channels import MINIMUM_CASES, fit_appearance, fit_quality
from SegWithUCore.models.quality import IMAGE_QUALITY

from .dataset import PreparedCase, left_right_axis
from .recipe import Recipe


def training_fingerprint(
    train: Sequence[PreparedCase], select: Sequence[PreparedCase], recipe: Recipe
) -> dict[str, Any]:
    """Compute the fingerprint block: ranges and averages of training cases; limits include validation cases.

    Returns:
        `cases`, `field_of_view_mm` and `spacing_mm` of the training cases; `channels`, for each channel's look, and
        `quality` likewise (None for too few cases); `volumes_mm3`, the volumes of each structure in the references
        (empty for too few cases).
    """
    extents, spacings = np.array([c.extents_mm for c in train]), np.array([c.given_spacing_mm for c in train])
    both, spec = [*train, *select], recipe.input
    # With axes taken as they are stored ("xyz") nobody knows which is left and right.
    mirrored = recipe.backbone_training.mirror and not spec.orientation.islower()
    axis = left_right_axis(spec.orientation) if mirrored else None
    looks, quality = {}, {}
    for number, name in enumerate(spec.channels):
        own = [case.features[number] for case in train]
        others = [case.features[number] for case in select] + [case.off_centre_features[number] for case in both]
        looks[name] = fit_appearance(own, others, axis, spec.channel_normalisations[number].kind == "fixed")
        quality[name] = fit_quality(own, others, axis)
    return {
        "cases": len(train),
        "field_of_view_mm": {"low": extents.min(0).tolist(), "high": extents.max(0).tolist()},
        "spacing_mm": {"low": spacings.min(0).tolist(), "high": spacings.max(0).tolist()},
        "channels": looks,
        IMAGE_QUALITY: quality,
        "volumes_mm3": {
            str(value): _volumes(index, both)
            for index, value in enumerate(recipe.label_values)
            if index > 0 and len(train) >= MINIMUM_CASES
        },
    }


def _volumes(index: int, cases: Sequence[PreparedCase]) -> Mapping[str, float]:
    """Smallest and largest volume of a class in the references, 0 where a case lacks it."""
    volumes = [float((case.labels == index).sum() * np.prod(case.spacing_mm)) for case in cases]
    return {"cases": len(cases), "low": min(volumes), "high": max(volumes)}
