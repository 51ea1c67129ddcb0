"""The file of a bundle that holds the second stage of a head; see `calibration.second_stage`. No torch."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..calibration.local_features import feature_count, mask_feature_count
from ..calibration.second_stage import MAPS, SecondStage
from ..util.errors import InputError
from .bundle import RESTORE, Bundle, read_hashed

MAXIMUM_BYTES = 16 << 20
"""The shipped model's has 0.03 MB."""
CHECK = "second_stage_check"
"""Of a calibration block: the result of cross-validation."""
BLOCK = "second_stage"
"""Of a calibration block: the second stage without its arrays, and the hash of their file."""


def check_message(check: Mapping[str, Any]) -> str:
    """Summarise the result of cross-validation in a sentence; `check` is the block `CHECK`."""
    gap = check["difference"]
    found = f"{gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
    verdict = "taken" if gap["low"] > 0 else "left out"
    scores = f"AUPRC {check['second_stage']:.4f} instead of {check['table']:.4f}, {found}"
    words = f"Second stage, which sees the image: {scores}, by cross-validation over {check['cases']} cases: {verdict}."
    mask, more = check.get("mask"), check.get("out_of_fold")
    if mask is not None:
        words += f" Features of the segmentation's shape {_gain(mask)}, so they are "
        words += "read." if mask["taken"] else "left out."
    if more is not None:
        words += f" {more['cases']} training cases that cross-validation models predicted {_gain(more)}, "
        words += f"so it was fitted with{'' if more['taken'] else 'out'} them."
    return words


def _gain(found: Mapping[str, Any]) -> str:
    gap = found["difference"]
    return f"add {gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f}) to its AUPRC"


def second_stage_path(folder: Path, head: str) -> Path:
    """Name the file of a head."""
    return folder / f"second_stage_{head}.safetensors"


def read_second_stage(bundle: Bundle) -> SecondStage | None:
    """Read second stage of the default head; None for a bundle that is calibrated without the image.

    Raises:
        InputError: the file is missing, damaged or changed, or its arrays do not fit the model.
    """
    block = (bundle.calibration or {}).get(BLOCK)
    if block is None or bundle.folder is None:
        return None
    return _read(bundle, bundle.default_head.name, block)


def verify_second_stage(bundle: Bundle) -> None:
    """Check second stage of every head that has one; see `read_second_stage`."""
    read_second_stage(bundle)
    for head in bundle.heads:
        block = (head.calibration or {}).get(BLOCK)
        if block is not None:
            _read(bundle, head.name, block)


def write_second_stage(stage: SecondStage, folder: Path, head: str) -> dict[str, Any]:
    """Write the arrays into the folder of a bundle; returns the block of its calibration."""
    content = save({name: np.ascontiguousarray(array, np.float32) for name, array in stage.arrays().items()})
    second_stage_path(folder, head).write_bytes(content)
    return {**stage.to_json(), "sha256": hashlib.sha256(content).hexdigest()}


def copy_second_stage(bundle: Bundle, target: Path) -> None:
    """Copy the second-stage file of the default head, if there is one."""
    name = bundle.default_head.name
    if bundle.folder is not None and BLOCK in (bundle.calibration or {}):
        shutil.copyfile(second_stage_path(bundle.folder, name), second_stage_path(target, name))


def copy_further_stages(bundle: Bundle, source: Path, target: Path) -> None:
    """Copy the files of the further heads of `bundle` that have one, from the folder of the bundle they come from."""
    for head in bundle.heads:
        if not head.default and (head.calibration or {}).get(BLOCK) is not None:
            shutil.copyfile(second_stage_path(source, head.name), second_stage_path(target, head.name))


def _read(bundle: Bundle, head: str, block: Mapping[str, Any]) -> SecondStage:
    assert bundle.folder is not None
    path = second_stage_path(bundle.folder, head)
    content = read_hashed(path, block["sha256"], MAXIMUM_BYTES)
    try:
        arrays = load(content)
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("it contains values that are not finite or not float32")
        stage = SecondStage.of(block, arrays)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} holds no usable second stage ({error}): {RESTORE}.") from error
    channels = len(bundle.input.channels)
    wanted = len(MAPS) + len(stage.pairs) + feature_count(channels)
    wanted += mask_feature_count(channels) if stage.sees_mask else 0
    if stage.mean.size != wanted:
        raise InputError(f"{path} has {stage.mean.size} features, but the model has {wanted}: {RESTORE}.")
    return stage
