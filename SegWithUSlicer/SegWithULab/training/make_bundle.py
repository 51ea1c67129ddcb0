"""Make uncalibrated bundles from runs or imported weights, and runs that start from a bundle."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from SegWithUCore.models import bundle as bundle_format
from SegWithUCore.models.bundle import Bundle, HeadSpec, check_bundle, file_sha256, write_bundle_json
from SegWithUCore.models.bundle_network import load_network, write_weights
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.models.model_card import licence_notice
from SegWithUCore.models.nnunet_import import write_imported
from SegWithUCore.models.training_record import read_record
from SegWithUCore.network import weights as checkpoints
from SegWithUCore.network.backbones.user_network import network_file, network_sha256
from SegWithUCore.network.heads import head_plugin
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import is_user_network
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.input_files import read_bounded, regular_file

from .backbone import spec_of
from .recipe import Recipe, read_recipe, read_recipe_json, recipe_from_json
from .run_folder import RunFolder
from .run_record import FACT, seen_of

HEAD_SETTINGS = ("variant", "taps", "feature_channels", "probes", "aleatoric")
"""Of a recipe's head and a bundle's alike."""
_LICENCE = f"backbone_{bundle_format.LICENCE_FILE}"


def plain_bundle(recipe: Recipe, digest: str, facts: Mapping[str, Any], trained: bool = True) -> Bundle:
    """Make the bundle of a recipe before anything is fitted.

    Args:
        digest: hash of the weights file.
        facts: `ood_reference`, None if unknown; `origin` of a backbone that was not trained here.
        trained: whether the head was.
    """
    head, backbone = recipe.head, spec_of(recipe)
    settings = {**{name: head[name] for name in HEAD_SETTINGS}, "taps": tuple(head["taps"])}
    spec = HeadSpec(name=head["variant"], trained=trained, plugin=head_plugin(head["variant"]), **settings)
    about = dict(recipe.about) | ({"origin": facts["origin"]} if "origin" in facts else {})
    if is_user_network(backbone.kind):
        about |= {"network_file": network_file(backbone.kind).name, "network_sha256": network_sha256(backbone.kind)}
    found = Bundle(None, about, recipe.input, recipe.labels, backbone, (spec,), digest)
    return replace(found, ood_reference=facts["ood_reference"])


def write_plain_bundle(run: RunFolder, target: Path, ood_reference: Mapping[str, Any] | None = None) -> Bundle:
    """Write the network and head of a run as a bundle that is not calibrated; whole or not at all."""
    recipe = run.recipe()
    with atomic_folder(target, overwrite=True) as work:
        digest = write_weights(work, run.load_best("backbone"), {recipe.head["variant"]: run.load_best("head")})
        plain = plain_bundle(recipe, digest, run.facts() | {"ood_reference": ood_reference})
        check_bundle(plain, str(run.path / "run.json"))
        written = write_bundle_json(plain, work)
    return replace(written, folder=target)


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
        wanted = '"backbone": {"model": "NAME or folder"}'
        raise InputError(f"{path} names no model: give {wanted}, or use train-backbone.", "wrong-recipe")
    bundle = resolve_model(str(data["backbone"]["model"]))
    described, settings = bundle.to_json(), bundle.default_head.to_json()
    own = {name: settings[name] for name in HEAD_SETTINGS}
    blocks = {"input": described["input"], "labels": described["labels"], "head": own}
    return recipe_from_json({**blocks, **data, "backbone": described["backbone"]}, str(path), head=head), bundle


def begin_on_model(run: RunFolder, recipe: Recipe, bundle: Bundle) -> None:
    """Put the backbone of `bundle` into a run as if the run had trained it.

    A recipe of the model's own name makes a further head for that model: where its backbone comes from stays as it is.

    Raises:
        InputError: the model's weights are damaged.
    """
    network, facts = load_network(bundle), facts_of_model(recipe, bundle)
    run.forget("backbone")
    run.start(recipe, facts)
    run.save_best("backbone", checkpoints.unique_state(network.backbone))
    notice = bundle.folder / bundle_format.LICENCE_FILE if bundle.folder and "origin" in facts else None
    if notice is not None and notice.is_file():
        (run.path / _LICENCE).write_text(notice.read_text(encoding="utf-8"), encoding="utf-8")


def facts_of_model(recipe: Recipe, bundle: Bundle) -> dict[str, Any]:
    """Return what a run with the backbone of a model notes when it begins: seen cases, and where it comes from."""
    origin = bundle.about.get("origin")
    if recipe.about["name"] != bundle.name:
        further = f"; there: {origin}" if origin else ""
        about = f"{bundle.name} {bundle.about['version']} (SHA-256 {bundle.weights_sha256})"
        origin = f"from the model {about}{further}"
    record = read_record(bundle.folder)
    seen = {} if record is None else {FACT: None if record.roles is None else seen_of(record.roles)}
    return {**seen, **({"origin": origin} if origin else {})}


def foreign_licence(run: RunFolder) -> str:
    """Return the licence that came with the backbone, to be handed on; empty if it was trained here."""
    path = run.path / _LICENCE
    return f"\nThe backbone came with this licence:\n\n{path.read_text(encoding='utf-8')}" if path.is_file() else ""


def import_checkpoint(
    kind: str, source: Path, recipe_file: Path, target: Path, licence: Path | None, overwrite: bool
) -> Bundle:
    """Write the bundle of a foreign network, "not calibrated"; whole or not at all.

    Args:
        kind: "segwithu", a checkpoint of the method's authors, head included, or "weights", a state dict of the
            recipe's backbone.
        source: the file of the foreign network.
        recipe_file: describes network, labels, channels, spacing and licence. Training settings are ignored.
        licence: text to be handed on with the weights; None for a notice of our own.

    Raises:
        InputError: a file is unreadable, or weights and recipe do not fit.
        OutputError: `target` exists or cannot be written.
    """
    regular_file(source, f"give the file for --kind {kind}")
    recipe, brings_head = read_recipe(recipe_file), kind == "segwithu"
    origin = f"imported from {source.resolve().parent.name}/{source.name} ({kind}, SHA-256 {file_sha256(source)})"
    facts = {"ood_reference": None, "origin": origin}
    bundle = plain_bundle(recipe, "0" * 64, facts, trained=brings_head)

    def fill(network: SegWithU) -> None:
        if brings_head:
            checkpoints.load_authors_checkpoint(network, source)
        else:
            checkpoints.load_state(network.backbone, checkpoints.read_state_dict(source), str(source))

    text = licence_notice(bundle.about) if licence is None else _text(licence)
    return write_imported(bundle, str(recipe_file), fill, text, target, overwrite)


def _text(path: Path) -> str:
    content = read_bounded(path, 1 << 20, "give the licence of the weights")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as text ({error}): give the licence of the weights.") from error
