"""All rivals by name, and which of them can be run with what was given."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...evaluation.frozen_backbone import FrozenBackbone
from ...inference.model import Model
from ...metrics.boundary import Band
from ...models.bundle import Bundle
from .augmentation import Augmentation
from .base import Baseline, FittingCases
from .density import Density
from .dropout import Dropout, DropoutRateSearch
from .ensemble import Ensemble, read_member
from .from_logits import Distance, Softmax, Temperature
from .heads import heads_of
from .local_temperature import LocalTemperatureScaling

BASELINES = (
    "softmax",
    "temperature",
    "local-temperature",
    "distance",
    "augmentation",
    "dropout",
    "ensemble",
    "density",
    "heads",
)
"""Names for `--rivals`, in the order of the table."""
TITLES = {
    "temperature": "temperature scaling",
    "local-temperature": "local temperature scaling",
    "dropout": "Monte-Carlo dropout",
    "ensemble": "deep ensemble",
    "density": "feature density",
}


@dataclass(frozen=True)
class BaselineSet:
    """Who is compared.

    Attributes:
        rivals: that are run.
        not_run: one sentence for each that is not, by title.
    """

    rivals: list[Baseline]
    not_run: dict[str, str] = field(default_factory=dict)


def select_baselines(
    names: Collection[str],
    backbone: FrozenBackbone,
    bundles: Sequence[Bundle],
    members: Sequence[Path],
    cases: FittingCases,
    band: Band,
    mirror: bool,
) -> BaselineSet:
    """The rivals of these names that can be run.

    Args:
        bundles: whose heads are compared.
        members: of the ensemble, besides the frozen backbone.
        mirror: whether test-time augmentation exchanges left and right.

    Raises:
        InputError: a model or member does not fit the frozen backbone.
    """
    others = [read_member(folder, backbone) for folder in members] if "ensemble" in names else []
    trials = DropoutRateSearch(backbone)
    found: list[Baseline] = [
        Softmax(),
        Temperature(),
        LocalTemperatureScaling(backbone),
        Distance(band),
        Augmentation(backbone, mirror),
        Dropout(backbone, trials),
        Dropout(backbone, trials, for_detection=True),
        Ensemble(backbone, others),
        Density(backbone),
    ]
    result = BaselineSet([])
    for rival in found:
        family = "dropout" if isinstance(rival, Dropout) else rival.name
        if family not in names:
            continue
        missing = [role for role in rival.needs if not getattr(cases, role)]
        if missing:
            result.not_run[TITLES[family]] = f"not run: no {missing[0]} cases given (--{missing[0]})."
        elif family == "ensemble" and not others:
            result.not_run[TITLES[family]] = "not run: no members given (--ensemble)."
        else:
            result.rivals.append(rival)
    if "heads" in names:
        result.rivals.extend(heads_of(bundles, backbone, torch.device("cpu")))
    return result


def frozen_backbone(bundle: Bundle) -> FrozenBackbone:
    """The backbone of a model, whose segmentation is judged."""
    return FrozenBackbone(Model(bundle, torch.device("cpu")))
