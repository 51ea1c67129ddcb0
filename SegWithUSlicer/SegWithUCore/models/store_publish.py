"""Registries in folders: publish a bundle to one, mirror installed models for computers without a network."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..atomic_files import atomic_file, atomic_folder
from ..errors import InputError, OutputError
from ..input_files import is_there
from ..process_lock import LockedError, ProcessLock
from ..progress import Progress, silent
from ..strict_json import read_json_object, to_json
from .bundle import Bundle
from .bundle_files import check_whole, describe_files
from .model_entry import ModelEntry, ModelFile, check_files, entry_of
from .store_registry import FORMAT, FORMAT_VERSION, MAXIMUM_BYTES, REGISTRY_FILE, KnownRegistries, parse_registry

_REMEDY = "correct it or begin another folder"


def publish(
    folder: Path,
    registry: Path,
    replaces: bool = False,
    commercial_use: bool | None = None,
    withdrawn: str | None = None,
    progress: Progress = silent,
) -> ModelEntry:
    """Copy a bundle to the registry in a folder and list it there; one that lies there already is only listed.

    Args:
        folder: of the bundle.
        registry: folder of the registry, made where there is none.
        replaces: list other files under a version that was published before.
        commercial_use: whether the licences allow it; None reads it from their names.
        withdrawn: why nobody should use it any more.

    Raises:
        InputError: the bundle or the registry is damaged.
        OutputError: that version was published before with other files, or the folder cannot be written to.
    """
    bundle = check_whole(folder)
    files = describe_files(folder)
    entry = entry_of(bundle, files, commercial_use)
    inside = folder.resolve().parent == registry.resolve()
    entry = replace(entry, withdrawn=withdrawn, folder=folder.resolve().name if inside else entry.folder)
    check_files(entry, str(folder))
    with _locked(registry):
        content = _content(registry)
        listed = parse_registry(content, str(registry / REGISTRY_FILE), local=registry).entries
        before = next((other for other in listed if other.key == entry.key), None)
        if before is not None and before.files != files and not replaces:
            raise OutputError(
                f"{registry} holds {entry.key} already, with other files: give the bundle a new version, for whoever "
                "has that one would never know (--replace takes its place all the same)."
            )
        if not inside and not _is_there(registry / entry.folder, files):
            _copy(folder, registry / entry.folder, files, progress)
        if before is not None and before.withdrawn and withdrawn is None:
            entry = replace(entry, withdrawn=before.withdrawn)
        _list(registry, content, entry)
    return entry


def mirror(bundles: Sequence[Bundle], registry: Path, known: KnownRegistries, progress: Progress = silent) -> list[str]:
    """Publish installed models to a folder, for computers without a network; returns their keys.

    What a registry says of a model's licences and withdrawal comes along.

    Raises:
        InputError, OutputError: as `publish`, for the first model that fails; those before it are there.
    """
    offers = {offer.entry.key: offer.entry for offer in known.offers()}
    keys = []
    for number, bundle in enumerate(bundles):
        assert bundle.folder is not None  # they were found in folders
        progress("copying", number / len(bundles), bundle.name)
        told = offers.get(f"{bundle.name}@{bundle.about['version']}")
        why = known.withdrawn(bundle.name, bundle.about["version"])
        allowed = told.commercial_use if told else None
        keys.append(publish(bundle.folder, registry, commercial_use=allowed, withdrawn=why).key)
    progress("copied", 1.0)
    return keys


@contextlib.contextmanager
def _locked(registry: Path) -> Iterator[None]:
    """Let one process change a registry at a time."""
    try:
        registry.mkdir(parents=True, exist_ok=True)
        lock = ProcessLock.take(registry / f".{REGISTRY_FILE}.lock")
    except LockedError as error:
        raise OutputError(f"{registry} is being changed by {error.who}: try again when it has finished.") from error
    except OSError as error:
        raise OutputError(f"Cannot write to {registry} ({error.strerror}): choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


def _content(registry: Path) -> dict[str, Any]:
    path = registry / REGISTRY_FILE
    if is_there(path):
        return read_json_object(path, _REMEDY, MAXIMUM_BYTES)
    if any(entry.name[0] != "." and not entry.is_dir() for entry in registry.iterdir()):
        raise InputError(f"{registry} holds other files and no {REGISTRY_FILE}: give an empty or new folder.")
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "models": []}


def _is_there(folder: Path, files: tuple[ModelFile, ...]) -> bool:
    return folder.is_dir() and describe_files(folder) == files


def _copy(source: Path, target: Path, files: tuple[ModelFile, ...], progress: Progress) -> None:
    with atomic_folder(target, overwrite=True) as work:
        for number, file in enumerate(files):
            progress("copying", number / len(files), file.path)
            (work / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file.path, work / file.path)
        if describe_files(work) != files:
            raise InputError(f"{source} changed while it was copied: try again.")


def _list(registry: Path, content: dict[str, Any], entry: ModelEntry) -> None:
    """Write the registry with `entry` in it; what else stands there stays, fields unknown here too."""
    others = [other for other in content["models"] if (other["name"], other["version"]) != (entry.name, entry.version)]
    content["models"] = sorted([*others, entry.to_json()], key=lambda other: (other["name"], other["version"]))
    content["updated"] = datetime.now(UTC).strftime("%Y-%m-%d")
    parse_registry(content, str(registry / REGISTRY_FILE), local=registry)
    with atomic_file(registry / REGISTRY_FILE) as work:
        work.write_text(to_json(content) + "\n", encoding="utf-8")
