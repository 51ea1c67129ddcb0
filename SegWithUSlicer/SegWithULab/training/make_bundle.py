"""The bundle of a run before anything is fitted, and a run that begins with the backbone of a bundle."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from SegWithUCore.models.bundle import LICENCE_FILE, Bundle, HeadSpec, check_bundle, write_bundle_json
from SegWithUCore.models.bundle_network import load_network, write_weights
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.models.training_record import read_record
from SegWithUCore.network.backbones.user_network import network_file, network_sha256
from SegWithUCore.network.specs import is_user_network
from SegWithUCore.network.weights import unique_state
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import InputError

from .backbone import spec_of
from .case_roles import seen_of
from .recipe import Recipe, read_recipe_json, recipe_from_json
from .run_folder import RunFolder
from .run_record import FACT


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


def write_plain_bundle(run: RunFolder, target: Path, fingerprint: Mapping[str, Any] | None = None) -> Bundle:
    """Write the network and head of a run as a bundle that is not calibrated; whole or not at all."""
    recipe = run.recipe()
    with atomic_folder(target, overwrite=True) as work:
        digest = write_weights(work, run.load_best("backbone"), {recipe.head["variant"]: run.load_best("head")})
        plain = plain_bundle(recipe, digest, run.facts() | {"fingerprint": fingerprint})
        check_bundle(plain, str(run.path / "run.json"))
        written = write_bundle_json(plain, work)
    return replace(written, folder=target)


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
