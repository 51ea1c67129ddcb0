"""From a finished run to a model bundle, and a run that begins with the backbone of a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SegWithUCore.models.bundle import LICENCE_FILE, Bundle, HeadSpec, check_bundle
from SegWithUCore.models.bundle_network import further_heads, load_network, write_weights
from SegWithUCore.models.model_card import licence_notice
from SegWithUCore.models.registry import resolve_model
from SegWithUCore.models.stage_two_file import copy_further_stages
from SegWithUCore.models.training_record import TrainingRecord, read_record, write_record
from SegWithUCore.models.weights_file import weights_path
from SegWithUCore.network.backbones.user_network import network_file, network_sha256
from SegWithUCore.network.specs import is_user_network
from SegWithUCore.network.weights import unique_state
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, silent

from .backbone import spec_of
from .case_roles import seen_of
from .dataset import Case
from .recalibrate import calibrated
from .recipe import Recipe, read_recipe_json, recipe_from_json
from .run_folder import RunFolder
from .run_record import FACT, copy_curves, run_record


def make_bundle(
    run: RunFolder,
    cases: Sequence[Case],
    target: Path,
    overwrite: bool = False,
    progress: Progress = silent,
    beside: Bundle | None = None,
    record: TrainingRecord | None = None,
) -> Bundle:
    """Write the bundle of a run, calibrated on `cases`; whole or not at all.

    Args:
        beside: a model of the same backbone, whose heads come along as they are, to be chosen by name.
        record: how it was trained, and what has seen which cases; None for what the run knows.

    Raises:
        InputError: the run is unfinished, a case is unusable, the cases hold no errors to fit on, or `beside` has
            another backbone or no other head.
        OutputError: `target` exists or cannot be written.
    """
    recipe = run.recipe()
    backbone, head = run.load_best("backbone"), run.load_best("head")
    with atomic_folder(target, overwrite) as work:
        name = recipe.head["variant"]
        specs, tensors = further_heads(beside, backbone, name) if beside else ((), {})
        digest = write_weights(work, backbone, {name: head, **tensors})
        plain = plain_bundle(recipe, digest, run.facts())
        check_bundle(plain, str(run.path / "run.json"))
        write_record(work, record or run_record(run, {}))
        copy_curves(run, work)
        whole = replace(plain, heads=(*plain.heads, *specs))
        if beside is not None:
            copy_further_stages(whole, weights_path(beside).parent, work)
        written = calibrated(whole, cases, work, "cpu", progress)
        (work / LICENCE_FILE).write_text(licence_notice(written.about) + foreign_licence(run), encoding="utf-8")
    return replace(written, folder=target)


def plain_bundle(recipe: Recipe, digest: str, facts: Mapping[str, Any], trained: bool = True) -> Bundle:
    """Make the bundle of a recipe before anything is fitted.

    Args:
        digest: hash of the weights file.
        facts: `fingerprint`, None if unknown; `origin` of a backbone that was not trained here.
        trained: whether the head was.
    """
    head, backbone = recipe.head, spec_of(recipe)
    spec = HeadSpec(
        name=head["variant"],
        variant=head["variant"],
        taps=tuple(head["taps"]),
        feature_channels=head["feature_channels"],
        probes=head["probes"],
        aleatoric=head["aleatoric"],
        trained=trained,
    )
    about = dict(recipe.about) | ({"origin": facts["origin"]} if "origin" in facts else {})
    if is_user_network(backbone.kind):
        about |= {"network_file": network_file(backbone.kind).name, "network_sha256": network_sha256(backbone.kind)}
    return Bundle(
        folder=None,
        about=about,
        input=recipe.input,
        labels=recipe.labels,
        backbone=backbone,
        heads=(spec,),
        weights_sha256=digest,
        fingerprint=facts["fingerprint"],
    )


_LICENCE = f"backbone_{LICENCE_FILE}"


def names_a_model(data: Mapping[str, Any]) -> bool:
    """Whether the backbone of a recipe, as JSON, is that of a model."""
    return set(data.get("backbone", {})) == {"model"}


def recipe_on_model(path: Path, head: Mapping[str, Any] | None = None) -> tuple[Recipe, Bundle]:
    """Read a recipe whose backbone is that of a model: `"backbone": {"model": "NAME or folder"}`.

    Its `input`, `labels` and `head` are the model's where the recipe has none of its own.

    Args:
        head: training settings that replace the recipe's.

    Raises:
        InputError: unreadable, its backbone names no model, or the model is damaged.
        UsageError: there is no such model.
    """
    data = read_recipe_json(path)
    if not names_a_model(data):
        raise InputError(
            f'{path} does not say whose backbone to train on: give "backbone": {{"model": "NAME or folder"}}, or train '
            "one with train-backbone."
        )
    bundle = resolve_model(str(data["backbone"]["model"]))
    described = bundle.to_json()
    settings = bundle.default_head
    blocks = {
        "input": described["input"],
        "labels": described["labels"],
        "head": {
            "variant": settings.variant,
            "taps": list(settings.taps),
            "feature_channels": settings.feature_channels,
            "probes": settings.probes,
            "aleatoric": settings.aleatoric,
        },
    }
    whole = {**blocks, **data, "backbone": described["backbone"]}
    return recipe_from_json(whole, str(path), head=head), bundle


def begin_on_model(run: RunFolder, recipe: Recipe, bundle: Bundle) -> None:
    """Put the backbone of `bundle` into a run as if the run had trained it.

    A recipe of the model's own name makes a further head for that model: where its backbone comes from stays as it is.

    Raises:
        InputError: the model's weights are damaged.
    """
    network, facts = load_network(bundle), facts_of_model(recipe, bundle)
    run.forget("backbone")
    run.start(recipe, facts)
    run.save_best("backbone", unique_state(network.backbone))
    notice = bundle.folder / LICENCE_FILE if bundle.folder and "origin" in facts else None
    if notice is not None and notice.is_file():
        (run.path / _LICENCE).write_text(notice.read_text(encoding="utf-8"), encoding="utf-8")


def facts_of_model(recipe: Recipe, bundle: Bundle) -> dict[str, Any]:
    """Tell what a run with the backbone of a model knows when it begins: what it has seen, and where it comes from."""
    origin = bundle.about.get("origin") if recipe.about["name"] == bundle.name else origin_of(bundle)
    record = read_record(bundle.folder)
    seen = {} if record is None else {FACT: None if record.roles is None else seen_of(record.roles)}
    return {**seen, **({"origin": origin} if origin else {})}


def origin_of(bundle: Bundle) -> str:
    """Where a backbone comes from, in words."""
    further = f"; there: {bundle.about['origin']}" if "origin" in bundle.about else ""
    return f"from the model {bundle.name} {bundle.about['version']} (SHA-256 {bundle.weights_sha256}){further}"


def foreign_licence(run: RunFolder) -> str:
    """Return the licence that came with the backbone, to be handed on; empty if it was trained here."""
    path = run.path / _LICENCE
    return f"\nThe backbone came with this licence:\n\n{path.read_text(encoding='utf-8')}" if path.is_file() else ""
