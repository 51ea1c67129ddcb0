"""`segwithu models input-check`: give a model what its input check lacks."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, UsageError
from .console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from SegWithULab.training.dataset import PreparedCase

    from ..models.bundle import Bundle
    from ..models.training_record import TrainingRecord


def add_action(actions: Any) -> None:
    """Add `models input-check`."""
    command = actions.add_parser(
        "input-check",
        examples=("models input-check my_model --cases split.csv:train --select split.csv:select",),
        help="note anew how sharp, shaded and bright the training cases of a model are",
        description="Write into a model what its input check compares shading, sharpness and brightness with, in place "
        "of what is there: for models that were made before there was such a check. Calibration, weights and figures "
        "stay. Give the cases that the model was trained with; train and adopt note this by themselves.",
    )
    command.add_argument("model", help="name, NAME@VERSION or folder")
    command.add_argument("--cases", required=True, help="its training cases: TABLE.csv:ROLE or an nnU-Net folder")
    command.add_argument("--select", required=True, help="its validation cases, likewise")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Note it, and write description and model card."""
    from SegWithULab.training.calibrate import quality_of
    from SegWithULab.training.dataset import find_cases

    from ..models.bundle import CARD_FILE, write_bundle_json
    from ..models.input_check import QUALITY
    from ..models.model_card import model_card
    from ..models.registry import resolve_model
    from ..models.training_record import read_record
    from ..models.weights_file import weights_path
    from ..util.atomic_files import atomic_file
    from .train import prepared_of

    bundle = resolve_model(options.model)
    axis = _mirror_axis(bundle)
    _check_count(len(find_cases(options.cases)), bundle)
    values = [label.value for label in bundle.labels]
    train, select = prepared_of(options.cases, options.select, bundle.input, values, console)
    folder = weights_path(bundle).parent
    _check_known(train, read_record(folder), bundle)
    found = quality_of(train, select, bundle.input.channels, axis)
    written = write_bundle_json(replace(bundle, fingerprint={**(bundle.fingerprint or {}), QUALITY: found}), folder)
    with atomic_file(folder / CARD_FILE) as work:
        work.write_text(model_card(written), encoding="utf-8")
    text = f"{bundle.name}: the input check now knows shading, sharpness and brightness of {len(train)} training cases."
    console.result(text, {"model": bundle.name, "folder": str(folder), "cases": len(train), QUALITY: found})
    return 0


def _mirror_axis(bundle: "Bundle") -> int | None:
    """Return the axis that the model was trained to see both ways, as it was noted in training."""
    blocks = (bundle.fingerprint or {}).get("channels") or {}
    known = [blocks[name]["mirror_axis"] for name in bundle.input.channels if blocks.get(name)]
    if not known:
        raise InputError(
            f"The model '{bundle.name}' does not say how its training cases look, so its input check is size alone: "
            "make it anew from its run, with calibrate --run, --train and --select."
        )
    axis: int | None = known[0]
    return axis


def _check_count(given: int, bundle: "Bundle") -> None:
    assert bundle.fingerprint is not None
    cases = bundle.fingerprint["cases"]
    if given != cases:
        raise UsageError(
            f"--cases names {given} cases, but '{bundle.name}' was trained with {cases}: give exactly those."
        )


def _check_known(train: "Sequence[PreparedCase]", record: "TrainingRecord | None", bundle: "Bundle") -> None:
    """Refuse cases of other voxels than the model was trained with, if it knows these."""
    known = set(((record and record.roles) or {}).get("train", ()))
    others = [case.name for case in train if known and case.voxels_sha256 not in known]
    if others:
        raise UsageError(
            f"{len(others)} of {len(train)} --cases, such as {others[0]}, are no training cases of '{bundle.name}': "
            "give exactly those."
        )
