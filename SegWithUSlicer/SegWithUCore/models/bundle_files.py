"""The files of a bundle as they travel: which there are, their sizes and hashes, and where they came from."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..util.errors import InputError
from ..util.strict_json import read_json_object, to_json
from .bundle import Bundle, file_sha256, read_bundle
from .graph_files import verify_graphs
from .model_name import folder_name
from .stage_two_file import verify_stage_two
from .store_registry import ModelFile, check_paths
from .weights_file import verify_tensors, verify_weights, weights_path

ORIGIN_FILE = "origin.json"
"""In the folder of a model that was downloaded or imported: from where, when, and the hashes of its files."""
MAXIMUM_FILES, MAXIMUM_DEPTH = 200, 4
PASSED_OVER = {"__MACOSX", "Thumbs.db", "desktop.ini", "__pycache__", ORIGIN_FILE}
"""What systems leave in folders and archives, and what belongs to one computer only."""


def is_passed_over(path: str) -> bool:
    """Whether a file within a bundle's folder is none of its own: hidden, or left there by a system."""
    return any(part.startswith(".") or part in PASSED_OVER for part in path.split("/"))


def bundle_paths(folder: Path) -> list[str]:
    """List the files of a bundle, whichever its description names, by their paths within the folder.

    Raises:
        InputError: a link, device or pipe, or more files or deeper folders than a bundle has.
    """
    found = []
    for path in _walk(folder, 1):
        found.append(path.relative_to(folder).as_posix())
        if len(found) > MAXIMUM_FILES:
            raise InputError(f"{folder} holds more than {MAXIMUM_FILES} files: give the folder of one bundle.")
    return sorted(found)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check the path and its permissions.") from error
    for entry in entries:
        path = Path(entry.path)
        if is_passed_over(entry.name):
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) and depth < MAXIMUM_DEPTH:
            yield from _walk(path, depth + 1)
        elif stat.S_ISREG(mode):
            yield path
        else:
            raise InputError(f"{path} is no plain file: a bundle holds files only, no links and no deep folders.")


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
    verify_files(folder)
    verify_graphs(bundle)
    verify_stage_two(bundle)


def write_origin(folder: Path, source: str, files: tuple[ModelFile, ...]) -> None:
    """Note beside a bundle's files where they came from."""
    content = {
        "from": source,
        "installed": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in files],
    }
    (folder / ORIGIN_FILE).write_text(to_json(content) + "\n", encoding="utf-8")


def read_origin(folder: Path) -> tuple[str, tuple[ModelFile, ...]] | None:
    """Read where a bundle came from, and its files; None for one that was put there by hand.

    Raises:
        InputError: the note is damaged.
    """
    path = folder / ORIGIN_FILE
    if not path.is_file():
        return None
    data = read_json_object(path, "download or import the model again", 1 << 20)
    try:
        files = tuple(ModelFile(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in data["files"])
        check_paths([file.path for file in files], f"{path} names", "as a file")
        return str(data["from"]), files
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error!r:.100}): download or import the model again.") from error


def verify_files(folder: Path) -> None:
    """Check every file of a bundle that was downloaded or imported against the hash it came with.

    Raises:
        InputError: names the first that is missing or was changed.
    """
    origin = read_origin(folder)
    for file in origin[1] if origin else ():
        path = folder / file.path
        if not path.is_file():
            raise InputError(f"{path} is missing: delete the model and download or import it again.")
        if path.stat().st_size != file.size or file_sha256(path) != file.sha256:
            raise InputError(
                f"{path} was changed since the model was installed (its SHA-256 is no longer {file.sha256[:12]}...): "
                "delete the model and download or import it again."
            )
