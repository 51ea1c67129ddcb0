"""The heads of SegWithU models, the paper's and every other one, each with the calibration that it is shipped with."""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict, tempered_logits
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.training_record import read_record
from SegWithUCore.util.errors import InputError
from SegWithULab.training.run_record import voxel_hashes

from .base import Baseline, BaselineInputs, FittingCases, UncertaintyPrediction, baseline
from .frozen_backbone import FrozenBackbone, FrozenCase, backbone_sha256


class Head(Baseline):
    """One head of one model, run as `segment` runs it.

    Its ranking map goes with the probabilities tempered by the calibration map alone, as published; its error
    probability, if the bundle has one, with those tempered by map and fitted scale.

    Args:
        model: with this head loaded.
        title: of the model, unique among those compared.
        default: whether a user of the model gets it without asking.
    """

    own_pass = True

    def __init__(self, model: Model, title: str, default: bool) -> None:
        self.model, self.title, self.default = model, title, default
        self.name = f"head-{title}-{model.head.name}"

    @property
    def rows(self) -> tuple[str, ...]:
        """Titles of the ranking map, and of the error probability if there is one."""
        spec = self.model.head
        head = f"head '{spec.name}' of {self.title}"
        ranking = f"{'SegWithU as published: ' if spec.variant == 'paper' else ''}ranking map, {head}"
        return (ranking, f"error probability, {head}") if self.model.fitted.error_probability else (ranking,)

    @property
    def how(self) -> str:
        """With its description in the bundle."""
        spec, bundle = self.model.head, self.model.bundle
        fitted = (bundle.calibration or {}).get("cases", "no")
        return (
            f"variant '{spec.variant}'{'' if spec.trained else ', not trained'}, calibrated on {fitted} cases, in the "
            "bundle; probabilities of the ranking map's row are tempered by the calibration map alone"
        )

    def is_refitted(self, row: str, cases: FittingCases) -> bool:
        """Not the error probability of a second stage that has seen one of the calibration cases, by their voxels."""
        folder = self.model.bundle.folder
        if row != self.rows[-1] or self.model.fitted.second_stage is None or folder is None:
            return True
        record = read_record(folder)
        roles = (record and record.roles) or {}
        seen = {sha256 for role, hashes in roles.items() if role != "test" for sha256 in hashes}
        return seen.isdisjoint(voxel_hashes(cases.calibration))

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row.

        Raises:
            InputError: the model segments otherwise than the frozen backbone does.
        """
        found = predict(case.images, self.model)
        differing = int(np.count_nonzero(found.classes != case.classes))
        if differing:
            problem = f"{self.title} and the frozen backbone disagree in the class of {differing} voxels of {case.name}"
            raise InputError(f"{problem}: compare models with the same input and backbone.")
        answers = {self.rows[0]: UncertaintyPrediction(found.ranking, softmax(tempered_logits(found), 0))}
        if found.error_probability is not None:
            probabilities = softmax(tempered_logits(found, self.model.fitted.tempering_scale), 0)
            answers[self.rows[1]] = UncertaintyPrediction(found.error_probability, probabilities)
        return answers


def heads_of(bundles: Sequence[Bundle], backbone: FrozenBackbone, device: str) -> list[Head]:
    """Every head of every model.

    Raises:
        InputError: a model has another backbone or input than the first.
    """
    heads = []
    titles = _titles(bundles)
    for bundle, title in zip(bundles, titles, strict=True):
        first = backbone.bundle
        if bundle.backbone != first.backbone or backbone_sha256(bundle) != backbone.sha256:
            raise InputError(f"The models {title} and {titles[0]} have different backbones: give models that share it.")
        if bundle.input != first.input or bundle.labels != first.labels:
            raise InputError(f"{title} has another input or other labels than {titles[0]}: differ in heads alone.")
        heads += [Head(Model(bundle, device, spec.name), title, spec.default) for spec in bundle.heads]
    return heads


def _titles(bundles: Sequence[Bundle]) -> list[str]:
    """Names, numbered by their place where names are equal."""
    names = [bundle.name for bundle in bundles]
    return [f"{name}-{place}" if names.count(name) > 1 else name for place, name in enumerate(names, 1)]


@baseline("heads", title="heads of the models")
def _heads(inputs: BaselineInputs) -> list[Baseline]:
    return [*heads_of(inputs.bundles, inputs.backbone, "cpu")]
