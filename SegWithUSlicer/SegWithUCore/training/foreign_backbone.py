"""Training a head on the backbone of a model that exists already, whoever trained it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..models.bundle import LICENCE_FILE, Bundle, load_network
from ..models.registry import resolve_model
from ..network.backbones import unique_state
from .recipe import Recipe, read_recipe_json, recipe_from_json
from .run_folder import RunFolder

_LICENCE = f"backbone_{LICENCE_FILE}"


def recipe_on_model(path: Path, head: Mapping[str, Any] | None = None) -> tuple[Recipe, Bundle]:
    """A recipe whose backbone is that of a model: `"backbone": {"model": "NAME or folder"}`.

    Its `input`, `labels` and `head` are the model's where the recipe has none of its own.

    Args:
        head: training settings that replace the recipe's.

    Raises:
        InputError: unreadable, its backbone names no model, or the model is damaged.
        UsageError: there is no such model.
    """
    data = read_recipe_json(path)
    named = data.get("backbone", {})
    if set(named) != {"model"}:
        raise InputError(
            f'{path} does not say whose backbone to train on: give "backbone": {{"model": "NAME or folder"}}, or train '
            "one with train-backbone."
        )
    bundle = resolve_model(str(named["model"]))
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
    network = load_network(bundle)
    run.forget("backbone")
    origin = bundle.about.get("origin") if recipe.about["name"] == bundle.name else origin_of(bundle)
    run.start(recipe, {"origin": origin} if origin else {})
    run.save_best("backbone", unique_state(network.backbone))
    notice = bundle.folder / LICENCE_FILE if bundle.folder and origin else None
    if notice is not None and notice.is_file():
        (run.path / _LICENCE).write_text(notice.read_text(encoding="utf-8"), encoding="utf-8")


def origin_of(bundle: Bundle) -> str:
    """Where a backbone comes from, in words."""
    further = f"; there: {bundle.about['origin']}" if "origin" in bundle.about else ""
    return f"from the model {bundle.name} {bundle.about['version']} (SHA-256 {bundle.weights_sha256}){further}"


def foreign_licence(run: RunFolder) -> str:
    """The licence that came with the backbone, to be handed on; empty where it was trained here."""
    path = run.path / _LICENCE
    return f"\nThe backbone came with this licence:\n\n{path.read_text(encoding='utf-8')}" if path.is_file() else ""
