"""Deep ensemble: the frozen backbone and others that were trained with other seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax
from torch import nn

from SegWithUCore.inference.engines.torch_engine import BackboneAlone, TorchWindows
from SegWithUCore.inference.preprocessing import network_input
from SegWithUCore.inference.sliding_window import stitched
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.bundle_network import load_network
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.weights import load_state
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import BUNDLE_FILE
from SegWithULab.training.backbone import spec_of
from SegWithULab.training.run_folder import RunFolder

from .base import Baseline, BaselineInputs, PassAverage, UncertaintyPrediction, baseline
from .frozen_backbone import FrozenBackbone, FrozenCase, tensors_sha256


@dataclass(frozen=True)
class Member:
    """One more network.

    Attributes:
        network: in eval mode.
        input: what it is fed.
        sha256: of its weights.
        about: description for the table.
    """

    network: nn.Module
    input: InputSpec
    sha256: str
    about: str


def read_member(folder: Path, backbone: FrozenBackbone) -> Member:
    """Read the backbone of a bundle or of a training run.

    Raises:
        InputError: it is neither; it knows other labels or channels; it is the frozen backbone itself.
    """
    if (folder / BUNDLE_FILE).is_file():
        bundle = read_bundle(folder)
        network, spec, values = load_network(bundle).backbone, bundle.input, [label.value for label in bundle.labels]
        about = f"{folder.name} ({bundle.name} {bundle.about['version']})"
    else:
        run = RunFolder(folder)
        recipe = run.recipe()
        network, spec, values = build_backbone(spec_of(recipe)), recipe.input, recipe.label_values
        load_state(network, run.load_best("backbone"), str(folder))
        about = f"{folder.name} (seed {recipe.backbone_training.seed})"
    own = backbone.bundle
    own_values = [label.value for label in own.labels]
    if values != own_values or spec.channels != own.input.channels:
        found, wanted = (values, list(spec.channels)), (own_values, list(own.input.channels))
        problem = f"{folder} has labels and channels {found}, not {wanted} as {own.name}"
        raise InputError(f"{problem}: give members of the same task.")
    digest = tensors_sha256(dict(network.state_dict()))
    if digest == tensors_sha256(dict(backbone.module.state_dict())):
        raise InputError(f"{folder} is the frozen backbone itself: give backbones that were trained with other seeds.")
    return Member(network.to(backbone.device).eval(), spec, digest, about)


class Ensemble(Baseline):
    """Mean of the members' probabilities; the frozen backbone, whose segmentation is judged, is one of them.

    Source: Lakshminarayanan et al., NeurIPS 2017.
    """

    name = "ensemble"

    def __init__(self, backbone: FrozenBackbone, members: Sequence[Member]) -> None:
        self.backbone, self.members = backbone, members
        self.passes = 1 + len(members)

    @property
    def rows(self) -> tuple[str, str]:
        """Titles with the number of members."""
        title = f"deep ensemble of {1 + len(self.members)}"
        return title, f"{title}, mutual information"

    @property
    def how(self) -> str:
        """With its members."""
        others = "; ".join(member.about for member in self.members)
        return f"mean of the frozen backbone and {others}; errors are those of the frozen segmentation"

    def lacks(self) -> str | None:
        """Ask for members."""
        return None if self.members else "no members given (--ensemble)"

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        found = PassAverage()
        found.add(case.probabilities)
        for member in self.members:
            array, working = network_input(case.images, member.input)
            runner = TorchWindows(BackboneAlone(member.network), self.backbone.device, member.input.precision)
            raw = stitched(runner, array, member.input)
            found.add(softmax(resample_to_grid(raw, working, case.images[0]).astype(np.float64), 0))
        return found.answers(self.rows, case.classes)


@baseline("ensemble", title="deep ensemble")
def _ensemble(inputs: BaselineInputs) -> list[Baseline]:
    return [Ensemble(inputs.backbone, [read_member(folder, inputs.backbone) for folder in inputs.members])]
