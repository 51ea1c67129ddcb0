"""Check a recipe as a whole before any image is read."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from SegWithUCore.models.bundle import check_bundle
from SegWithUCore.network.backbones import build_backbone, example_input
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.util.errors import InputError, UsageError, naming
from SegWithUCore.util.strict_json import shown

from .backbone import spec_of, supervised, training_window
from .dataset import PreparedCase, left_right_axis
from .make_bundle import plain_bundle
from .recipe import BackboneTraining, HeadTraining, Recipe
from .synthesis import synthesiser_of

FEWEST_LEVELS = 3
"""Of MONAI's DynUNet."""


def check_recipe(recipe: Recipe, source: str, trains_backbone: bool = True) -> None:
    """Put together all that trainings and bundle will need of a recipe.

    The network is built once, untrained, with its taps and head, and the description of the bundle is held against
    its format: what would stop `train-head` or `calibrate` after hours stops here.

    Args:
        source: names the recipe in messages.
        trains_backbone: whether settings of the backbone's training count; a head on a model's backbone needs them
            only for its out-of-fold backbones.

    Raises:
        InputError: names the field, the value found and what is wanted.
    """
    trainings: list[BackboneTraining | HeadTraining] = [recipe.head_training]
    if trains_backbone:
        trainings.insert(0, recipe.backbone_training)
    if "filters" in recipe.backbone:
        filters, flat = recipe.backbone["filters"], recipe.backbone.get("flat_levels", 0)
        heads, most = recipe.backbone_training.deep_supervision_heads if trains_backbone else 0, len(filters) - 2
        if len(filters) < FEWEST_LEVELS or flat > len(filters) or heads > most:
            found = f"'filters' {shown(filters)}, 'flat_levels' {flat} and 'deep_supervision_heads' {heads}"
            wanted = f"{FEWEST_LEVELS} levels or more, no more flat ones, and {max(most, 0)} heads at most"
            raise InputError(f"{source} has {found}: give {wanted}.", "wrong-recipe")
    head = recipe.head
    with naming(source):
        synthesiser_of(recipe)
        for training in trainings:
            training_window(recipe, training)
            if training.mirror:
                left_right_axis(recipe.input.orientation)
        spec = spec_of(recipe)
        if trains_backbone:
            build_backbone(supervised(spec, recipe.backbone_training))
        example = example_input(spec, len(recipe.input.channels), recipe.input.window_zyx)
        sizes = (head["feature_channels"], head["probes"], head["aleatoric"])
        network = SegWithU(build_backbone(spec), head["taps"], example, head["variant"], *sizes)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        found = f"{source} has the head '{head['variant']}', which has no parameters to train"
        raise InputError(f"{found}: calibrate without train-head, or choose another.", "wrong-recipe")
    check_bundle(plain_bundle(recipe, "0" * 64, {"ood_reference": None}), source)


def check_labels_occur(recipe: Recipe, cases: Sequence[PreparedCase], source: str) -> None:
    """Refuse a recipe that names a structure which no training case holds: no network can learn it.

    Raises:
        InputError: names the structures and their label values.
    """
    seen = {index for case in cases for index in np.unique(case.labels).tolist()}
    absent = [label for index, label in enumerate(recipe.labels) if index not in seen and index > 0]
    if absent:
        names = ", ".join(f"{label.name} ({label.value})" for label in absent)
        raise InputError(f"No training case holds {names}, which {source} names: remove it there.", "unknown-label")


def with_another_head(kept: Recipe, given: Recipe, source: str) -> Recipe:
    """Return the recipe of a run with the texts and the head of another recipe for the same backbone.

    Args:
        kept: of the run folder.
        given: of the file `source`.

    Raises:
        UsageError: the file differs in something that the backbone was trained with.
    """
    for block in ("input", "labels", "backbone", "synthesis"):
        if getattr(kept, block) != getattr(given, block):
            raise UsageError(f"Block '{block}' of {source} is not the run's: change only the head.", "other-recipe")
    return replace(kept, about=given.about, head=given.head, head_training=given.head_training)
