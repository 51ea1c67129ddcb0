"""From weights that were trained elsewhere to a model bundle: one door for every kind of foreign file.

A new kind is an `Importer` in `IMPORTERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from SegWithUCore.models.bundle import CARD_FILE, LICENCE_FILE, Bundle, check_bundle, file_sha256, write_bundle_json
from SegWithUCore.models.bundle_network import empty_network, write_weights
from SegWithUCore.models.model_card import licence_notice, model_card
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.weights import (
    authors_sizes,
    load_authors_checkpoint,
    load_state,
    read_state_dict,
    unique_state,
)
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import InputError, naming
from SegWithUCore.util.input_files import read_bounded, regular_file

from .make_bundle import plain_bundle
from .recipe import read_recipe_json, recipe_from_json

MAXIMUM_LICENCE_BYTES = 1 << 20
HEAD_SEED = 0
"""Of the random weights of a head that no file brings."""
PAPER_TAPS = ["upsamples.1.conv_block", "upsamples.2.conv_block", "output_block"]
"""Taps of the authors' head on their DynUNet of five levels."""


@dataclass(frozen=True)
class Importer:
    """How one kind of foreign file is read.

    Attributes:
        describe: completes the recipe's blocks, which it is given, with what the file itself tells.
        fill: copies the weights of the file into the network that the recipe describes.
        brings_head: whether the file holds a trained uncertainty head too.
    """

    describe: Callable[[Path, dict[str, Any]], dict[str, Any]]
    fill: Callable[[SegWithU, Path], None]
    brings_head: bool


def import_checkpoint(
    kind: str,
    source: Path,
    recipe_file: Path | None,
    target: Path,
    licence: Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of a foreign network, "not calibrated"; whole or not at all.

    Args:
        kind: a name in `IMPORTERS`.
        source: the file of the foreign network.
        recipe_file: says what no weights file does: labels, channels, spacing, licence. Training settings are ignored.
        licence: text to be handed on with the weights; None for a notice of our own.

    Raises:
        InputError: a file is unreadable, or weights and recipe do not fit.
        OutputError: `target` exists or cannot be written.
    """
    importer = IMPORTERS[kind]
    regular_file(source, f"give the file for --kind {kind}")
    blocks = read_recipe_json(recipe_file) if recipe_file else {}
    place = str(recipe_file) if recipe_file else f"{source} (without --recipe)"
    recipe = recipe_from_json(importer.describe(source, blocks), place)
    facts = {"fingerprint": None, "origin": _origin(kind, source)}
    bundle = plain_bundle(recipe, "0" * 64, facts, trained=importer.brings_head)
    check_bundle(bundle, place)
    torch.manual_seed(HEAD_SEED)
    with naming(place):
        network = empty_network(bundle)
    importer.fill(network, source)
    text = licence_notice(bundle.about) if licence is None else _text(licence)
    with atomic_folder(target, overwrite) as work:
        digest = write_weights(work, unique_state(network.backbone), {bundle.default_head.name: network.head_state()})
        written = write_bundle_json(replace(bundle, weights_sha256=digest), work, place)
        (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
        (work / LICENCE_FILE).write_text(text, encoding="utf-8")
    return replace(written, folder=target)


def _origin(kind: str, source: Path) -> str:
    """Say where the weights come from."""
    digest = f", SHA-256 {file_sha256(source)}" if source.is_file() else ""
    return f"imported from {source.resolve().parent.name}/{source.name} ({kind}{digest})"


def _text(path: Path) -> str:
    content = read_bounded(path, MAXIMUM_LICENCE_BYTES, "give the licence of the weights")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as text ({error}): give the licence of the weights.") from error


def _described_authors(source: Path, blocks: dict[str, Any]) -> dict[str, Any]:
    """Take filters and sizes of the head from the tensors, and the paper's taps if the recipe names none."""
    _check_kind(source, blocks, "dynunet")
    filters, sizes = authors_sizes(source)
    backbone = {"kind": "dynunet", "filters": filters, **blocks.get("backbone", {})}
    return {
        **blocks,
        "backbone": backbone,
        "head": {"variant": "paper", "taps": PAPER_TAPS, **sizes, **blocks.get("head", {})},
    }


def _described_weights(source: Path, blocks: dict[str, Any]) -> dict[str, Any]:
    return blocks


def _fill_weights(network: SegWithU, source: Path) -> None:
    load_state(network.backbone, read_state_dict(source), str(source))


def _check_kind(source: Path, blocks: Mapping[str, Any], kind: str) -> None:
    named = str(blocks.get("backbone", {}).get("kind", kind))[:60]
    if named != kind:
        raise InputError(f"{source} holds a {kind}, but the recipe's backbone is a {named}: correct the recipe.")


IMPORTERS: dict[str, Importer] = {
    "segwithu": Importer(_described_authors, load_authors_checkpoint, brings_head=True),
    "weights": Importer(_described_weights, _fill_weights, brings_head=False),
}
"""By the name that `--kind` gives them; the command's help describes each."""
