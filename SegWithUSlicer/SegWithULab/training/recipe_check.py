"""What can be wrong with a recipe and shows only when its parts are put together: found before any image is read."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from SegWithUCore.models.bundle import check_bundle
from SegWithUCore.network.backbones import build_backbone, example_input
from SegWithUCore.network.heads import HEADS
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.util.errors import InputError, UsageError, naming
from SegWithUCore.util.strict_json import shown

from .backbone import spec_of, supervised, training_window
from .dataset import PreparedCase, left_right_axis
from .make_bundle import plain_bundle
from .recipe import BackboneTraining, HeadTraining, Recipe

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
    _check_backbone(recipe, source, trains_backbone)
    _check_head(recipe, source)
    with naming(source):
        for training in trainings:
            training_window(recipe, training)
            if training.mirror:
                left_right_axis(recipe.input.orientation)
        if trains_backbone:
            build_backbone(supervised(spec_of(recipe), recipe.backbone_training))
        _build(recipe)
    check_bundle(plain_bundle(recipe, "0" * 64, {"fingerprint": None}), source)


def _build(recipe: Recipe) -> None:
    """Build the network with taps and head."""
    spec, head = spec_of(recipe), recipe.head
    example = example_input(spec, len(recipe.input.channels), recipe.input.window_zyx)
    SegWithU(
        build_backbone(spec),
        head["taps"],
        example,
        head["variant"],
        head["feature_channels"],
        head["probes"],
        head["aleatoric"],
    )


def _check_backbone(recipe: Recipe, source: str, trained: bool) -> None:
    block = recipe.backbone
    if "filters" not in block:
        return
    levels, flat = len(block["filters"]), block.get("flat_levels", 0)
    if levels < FEWEST_LEVELS:
        raise InputError(
            f"{source} has {shown(block['filters'])} for 'filters' (backbone), {levels} level(s): give the channels of "
            f"{FEWEST_LEVELS} or more, such as [16, 32, 64, 128]."
        )
    if flat > levels:
        raise InputError(
            f"{source} has {flat} for 'flat_levels' (backbone), which has {levels} levels: give {levels} or fewer."
        )
    heads, most = recipe.backbone_training.deep_supervision_heads, levels - 2
    if trained and heads > most:
        raise InputError(
            f"{source} has {heads} for 'deep_supervision_heads' (backbone_training): {levels} levels have {most} at "
            "most."
        )


def _check_head(recipe: Recipe, source: str) -> None:
    variant = recipe.head["variant"]
    if variant not in HEADS:
        raise InputError(f"{source} has {shown(variant)} for 'variant' (head): {_choose(variant, HEADS)}.")


def _choose(found: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(found, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}choose from {', '.join(sorted(known))}"


def check_labels_occur(recipe: Recipe, cases: Sequence[PreparedCase], source: str) -> None:
    """Refuse a recipe that names a structure which no training case holds: no network can learn it.

    Raises:
        InputError: names the structures and their label values.
    """
    seen: set[int] = set()
    for case in cases:
        seen |= set(np.unique(case.labels).tolist())
    absent = [label for index, label in enumerate(recipe.labels) if index not in seen and index > 0]
    if absent:
        names = ", ".join(f"{label.name} ({label.value})" for label in absent)
        raise InputError(
            f"No training case holds {names}, which {source} names: take it out of the labels, or check the references."
        )


TEXTS = ("about/", "$schema")
LATER = ("head/", "head_training/")
CHANGEABLE = ("backbone_training/epochs", "backbone_training/validate_every")
"""What a run of a backbone may go on with: it changes neither network nor what was learnt from."""


GO_ON_OR_BEGIN = "leave out --recipe to go on as it was begun, or pass --restart to begin again"


def resumed_recipe(
    kept: Recipe, given: Recipe, source: str, head_begun: bool, way_out: str = GO_ON_OR_BEGIN
) -> tuple[Recipe, list[str]]:
    """Return the recipe to go on with when a run is resumed with a recipe file, and the fields that it changes.

    Names and texts, the number of epochs and how often is validated may change; so may everything about the head
    until it is trained.

    Args:
        kept: of the run folder.
        given: of the file `source`.
        head_begun: whether the run's head has an epoch.
        way_out: what a refusal proposes.

    Raises:
        UsageError: the file differs in something that epochs have been trained with.
    """
    allowed = (*TEXTS, *CHANGEABLE, *(() if head_begun else LATER))
    before, after = dict(_leaves(kept.to_json())), dict(_leaves(given.to_json()))
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    fixed = [name for name in changed if not name.startswith(allowed)]
    if fixed:
        name = fixed[0]
        more = f" (and {len(fixed) - 1} more: {', '.join(fixed[1:4])})" if len(fixed) > 1 else ""
        raise UsageError(
            f"{source} has {shown(after.get(name))} for {name}, and the run was begun with "
            f"{shown(before.get(name))}{more}: {way_out}."
        )
    going_on = replace(
        kept,
        about=given.about,
        backbone_training=replace(
            kept.backbone_training,
            epochs=given.backbone_training.epochs,
            validate_every=given.backbone_training.validate_every,
        ),
    )
    if not head_begun:
        going_on = replace(going_on, head=given.head, head_training=given.head_training)
    return going_on, changed


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path of each value that is no object, such as "backbone/filters", and the value."""
    if not isinstance(value, Mapping):
        yield place.removesuffix("/"), list(value) if isinstance(value, tuple) else value
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{place}{name}/")
