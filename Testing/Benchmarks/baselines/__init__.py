"""The baselines: each registers itself, by `@baseline` in its file, when that file is imported below."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from SegWithUCore.inference.model import Model
from SegWithUCore.models.bundle import Bundle
from SegWithULab.calibration.cross_validation import Fold
from SegWithULab.training.make_bundle import write_plain_bundle

from .base import BASELINES as BASELINES
from .base import Baseline, BaselineInputs, FoldBackbone
from .frozen_backbone import FrozenBackbone

# In the order of the table. A new baseline is a file and its line here.
# isort: off
from . import from_logits as from_logits
from . import image_trees as image_trees
from . import augmentation as augmentation
from . import ensemble as ensemble
from . import heads as heads
# isort: on


@dataclass(frozen=True)
class BaselineSet:
    """What is compared.

    Attributes:
        baselines: that are run.
        not_run: reason for each that is not, by title.
    """

    baselines: list[Baseline]
    not_run: dict[str, str] = field(default_factory=dict)


def select_baselines(names: Collection[str], inputs: BaselineInputs) -> BaselineSet:
    """Build the baselines of these names, and tell apart those that can be run.

    Raises:
        InputError: a model or member does not fit the frozen backbone.
    """
    result = BaselineSet([])
    for name, (title, make) in BASELINES.items():
        for built in make(inputs) if name in names else ():
            lacking = built.lacks()
            if lacking is None:
                result.baselines.append(built)
            else:
                result.not_run[title] = f"not run: {lacking}."
    return result


def fold_backbones(folds: Sequence[Fold]) -> list[FoldBackbone]:
    """Load the networks of folds.

    Raises:
        InputError: a run's files are damaged.
    """
    found = []
    for fold in folds:
        with tempfile.TemporaryDirectory() as work:
            # Nothing holds the model beyond this call: Windows deletes no folder whose files are open.
            found.append(FoldBackbone(frozen_backbone(write_plain_bundle(fold.run, Path(work) / "fold")), fold.cases))
    return found


def frozen_backbone(bundle: Bundle) -> FrozenBackbone:
    """Load the backbone of a model, whose segmentation is judged."""
    return FrozenBackbone(Model(bundle))
