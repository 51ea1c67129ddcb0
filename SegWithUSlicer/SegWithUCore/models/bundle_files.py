"""The files of a bundle: the weights, checked without torch; all files as they travel; and where they came from."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..util.errors import InputError, unreadable_named, wrong_values_named
from ..util.input_files import regular_file
from ..util.paths import BUNDLE_FILE, WEIGHTS_FILE
from ..util.strict_json import read_json_object, to_json, typed
from .bundle import RESTORE, TEMPLATE_FILE, Bundle, check_hash, file_sha256, read_bundle
from .graphs import read_graphs
from .model_name import folder_name
from .registry import ModelFile, check_paths
from .second_stage_file import verify_second_stage

ORIGIN_FILE = "origin.json"
"""In the folder of a model that was downloaded or imported: from where, when, and the hashes of its files."""
INSTALL_AGAIN = "delete the model, and download or import it again"
MAXIMUM_FILES, MAXIMUM_DEPTH = 200, 4
PASSED_OVER = {"__MACOSX", "Thumbs.db", "desktop.ini", "__pycache__", ORIGIN_FILE}
"""What systems leave in folders and archives, and what belongs to one computer only."""
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
    regular_file(path, RESTORE)
    check_hash(path, file_sha256(path), bundle.weights_sha256)


def verify_tensors(bundle: Bundle) -> None:
    """Check that the weights file has tensors of the backbone and of every head, all of them finite.

    Whether they fit the network, only loading tells (`bundle_network.load_network`).

    Raises:
        InputError: no whole safetensors file, a part without tensors, or a tensor of NaN, infinite or complex numbers.
    """
    path = weights_path(bundle)
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            bad = next((name for name in names if not _is_usable(file, name)), None)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}.") from error
    if bad is not None:
        raise InputError(f"{path} has NaN, infinite or complex values in {bad[:99]}: {RESTORE}.", "unusable-weights")
    for part in ("backbone", *(f"heads.{head.name}" for head in bundle.heads)):
        if not any(name.startswith(f"{part}.") for name in names):
            raise InputError(f"{path} has no weights of '{part}', which {BUNDLE_FILE} names: {RESTORE}.")


def _is_usable(file: Any, name: str) -> bool:
    """Whether a tensor of an open safetensors file holds finite real numbers; what numpy cannot read passes."""
    kind = file.get_slice(name).get_dtype()
    if kind not in FLOATS:
        return not kind.startswith("C")
    with np.errstate(over="ignore"):
        return bool(np.isfinite(file.get_tensor(name).astype(np.float32, copy=False)).all())


def is_passed_over(path: str) -> bool:
    """Whether a file within a bundle's folder is none of its own: hidden, or left there by a system."""
    return any(part.startswith(".") or part in PASSED_OVER for part in path.split("/"))


def bundle_paths(folder: Path) -> list[str]:
    """List the files of a bundle, whichever its description names, by their paths within the folder.

    Raises:
        InputError: a link, device or pipe, or more files or deeper folders than a bundle has.
    """
    found: list[str] = []
    with unreadable_named(folder):
        for place, folders, files in os.walk(folder, onerror=_raise):
            folders[:] = [name for name in folders if not is_passed_over(name)]
            here = Path(place)
            depth = len(here.relative_to(folder).parts)
            for name in [*folders, *(name for name in files if not is_passed_over(name))]:
                mode = (here / name).lstat().st_mode
                if not (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and depth + 1 < MAXIMUM_DEPTH)):
                    raise InputError(f"{here / name} is no plain file: a bundle holds no links and no deep folders.")
            found += [(here / name).relative_to(folder).as_posix() for name in files if not is_passed_over(name)]
            if len(found) > MAXIMUM_FILES:
                raise InputError(f"{folder} holds more than {MAXIMUM_FILES} files: give the folder of one bundle.")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def describe_files(folder: Path) -> tuple[ModelFile, ...]:
    """Measure and hash the files of a bundle; what is raised as for `bundle_paths`."""
    return tuple(
        ModelFile(path, (folder / path).stat().st_size, file_sha256(folder / path)) for path in bundle_paths(folder)
    )


def check_whole(folder: Path) -> Bundle:
    """Check all that can be checked of a bundle without building its network.

    Raises:
        InputError: description, hash or tensors are wrong, or name and version cannot be a folder's.
    """
    bundle = read_bundle(folder)
    folder_name(bundle.name, bundle.about["version"])
    check_files(bundle)
    return bundle


def check_files(bundle: Bundle) -> None:
    """Check every file of a bundle that its description or its origin names, as far as that needs no torch.

    Raises:
        InputError: names the file, and what is wrong.
    """
    folder = weights_path(bundle).parent
    verify_weights(bundle)
    verify_tensors(bundle)
    origin = read_origin(folder)
    for file in origin[1] if origin else ():
        path = folder / file.path
        if regular_file(path, INSTALL_AGAIN).st_size != file.size or file_sha256(path) != file.sha256:
            raise InputError(f"{path} was changed since it was installed: {INSTALL_AGAIN}.", "damaged-bundle")
    if bundle.graphs is not None and bundle.graphs.weights_sha256 == bundle.weights_sha256:
        read_graphs(bundle)
    verify_second_stage(bundle)
    if bundle.placement is not None:
        template = folder / TEMPLATE_FILE
        regular_file(template, RESTORE)
        check_hash(template, file_sha256(template), bundle.placement.sha256)


def write_origin(folder: Path, source: str, files: tuple[ModelFile, ...]) -> None:
    """Write where a bundle's files came from next to them."""
    content = {
        "from": source,
        "installed": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in files],
    }
    (folder / ORIGIN_FILE).write_text(to_json(content) + "\n", encoding="utf-8")


def read_origin(folder: Path) -> tuple[str, tuple[ModelFile, ...]] | None:
    """Read where a bundle came from, and its files; None for one that was not installed.

    Raises:
        InputError: the note is damaged.
    """
    path = folder / ORIGIN_FILE
    if not path.is_file():
        return None
    data = read_json_object(path, INSTALL_AGAIN, 1 << 20)
    with wrong_values_named(path, INSTALL_AGAIN):
        files: tuple[ModelFile, ...] = typed(tuple[ModelFile, ...], data["files"], "files")
        check_paths([file.path for file in files], str(path))
        return str(data["from"]), files
