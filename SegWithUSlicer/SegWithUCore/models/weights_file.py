"""The weights file of a bundle, checked without torch: its hash, and that its tensors are whole, finite and complete.

Whether the tensors fit the network, only loading tells (`bundle_network.load_network`).
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..util.errors import InputError
from ..util.input_files import regular_file
from ..util.paths import BUNDLE_FILE
from .bundle import RESTORE, WEIGHTS_FILE, Bundle, file_sha256

FLOATS = ("F16", "F32", "F64")
"""Kinds of numbers that numpy reads, of those that can be NaN; others are checked when they are loaded."""


def weights_path(bundle: Bundle) -> Path:
    """Return the weights file of a bundle that has a folder.

    Raises:
        InputError: it has none yet.
    """
    if bundle.folder is None:
        raise InputError(f"The bundle {bundle.name} has not been written to a folder yet.")
    return bundle.folder / WEIGHTS_FILE


def verify_weights(bundle: Bundle) -> None:
    """Check the weights file against its hash.

    Raises:
        InputError: missing or changed.
    """
    path = weights_path(bundle)
    if not path.exists():
        raise InputError(f"{path} is missing: {RESTORE}.")
    regular_file(path, RESTORE)
    found = file_sha256(path)
    if found != bundle.weights_sha256:
        raise InputError(
            f"{path} is damaged or was changed: its SHA-256 is {found[:12]}... but {BUNDLE_FILE} says "
            f"{bundle.weights_sha256[:12]}...; {RESTORE}."
        )


def verify_tensors(bundle: Bundle) -> None:
    """Check that the weights file has tensors of the backbone and of every head, all of them finite.

    Raises:
        InputError: no whole safetensors file, a part without tensors, or a tensor of NaN, infinite or complex numbers.
    """
    path = weights_path(bundle)
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            problem = next(filter(None, (_problem(file, name) for name in names)), None)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}.") from error
    if problem:
        raise InputError(f"{path} holds no usable weights: {problem}; get the file again from its source.")
    for part in ("backbone", *(f"heads.{head.name}" for head in bundle.heads)):
        if not any(name.startswith(f"{part}.") for name in names):
            raise InputError(f"{path} has no weights of '{part}', which {BUNDLE_FILE} names: {RESTORE}.")


def _problem(file: Any, name: str) -> str | None:
    """Say what is wrong with a tensor of an open safetensors file; None for a usable one."""
    kind = file.get_slice(name).get_dtype()
    if kind.startswith("C"):
        return f"'{name[:120]}' holds complex numbers ({kind})"
    if kind not in FLOATS:
        return None
    with np.errstate(over="ignore"):
        values = file.get_tensor(name).astype(np.float32, copy=False)
    bad = values[~np.isfinite(values)]
    if not bad.size:
        return None
    what = "NaN" if np.isnan(bad[0]) else "an infinite value"
    return f"'{name[:120]}' holds {what} ({bad.size} of {values.size} values)"
