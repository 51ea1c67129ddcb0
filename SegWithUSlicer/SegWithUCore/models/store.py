"""The user's own models: install from a registry, delete; what there is, is in `store_list`.

A model lies in `NAME-VERSION` in the user's folder of models. It is put together in a private folder there and appears
by one renaming. Only `reached_registries` and `download` connect to anything.
"""

import contextlib
import errno
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..util.atomic_files import move_to_new, one_writer, sweep_leftovers, temporary_prefix
from ..util.errors import InputError, OutputError, UsageError
from ..util.input_files import regular_file
from ..util.paths import resource_path, user_models_folder
from ..util.progress import Progress, silent
from ..util.strict_json import parse_json
from .bundle import file_sha256
from .bundle_files import bundle_paths, check_whole, read_origin, write_origin
from .in_use import not_in_use
from .model_entry import REMEDY, ModelEntry, ModelFile
from .model_name import folder_name, parse_name
from .registry import FoundModel, find_models
from .store_registry import (
    MAXIMUM_BYTES,
    KnownRegistries,
    Offer,
    as_folder,
    configured_places,
    folder_registry,
    is_address,
    parse_registry,
    registry_address,
)

SPARE_BYTES = 64 << 20
"""Left free on the disk."""
CHUNK = 1 << 20


def reached_registries(given: str | None = None) -> KnownRegistries:
    """Read the registry `given`, or all that are configured, from folders and servers; what fails is a problem."""
    registries, problems = [], []
    for place in configured_places() if given is None else [given]:
        try:
            if is_address(place):
                from .download import chunks_of

                address = registry_address(place)
                content = b"".join(chunks_of(address, MAXIMUM_BYTES))
                registries.append(parse_registry(parse_json(content, address, REMEDY), address, address=address))
            else:
                registries.append(folder_registry(as_folder(place)))
        except InputError as error:
            problems.append(str(error))
    return KnownRegistries(tuple(registries), tuple(problems))


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a private folder beside the user's models, which is gone afterwards, as is what killed processes left.

    Raises:
        OutputError: the user's folder of models cannot be written to.
    """
    place = user_models_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        sweep_leftovers(place)
        work = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=place))
    except OSError as error:
        raise OutputError(
            f"Cannot write to {place} ({error.strerror}): set SEGWITHU_MODELS to another folder.",
            "unwritable-models-folder",
        ) from error
    try:
        yield work
    except OSError as error:
        full = "; free some space" if error.errno == errno.ENOSPC else ""
        raise OutputError(
            f"Cannot write to {place} ({error.strerror}){full}: nothing was installed.", "unwritable-models-folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_space(needed: int) -> None:
    """Refuse to begin where the disk of the user's models has too little room.

    Raises:
        OutputError: names both figures.
    """
    folder = user_models_folder()
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise OutputError(
            f"{folder} has {free / 1e6:.0f} MB free, but {(needed + SPARE_BYTES) / 1e6:.0f} MB are needed: free some "
            "space or set SEGWITHU_MODELS to another disk.",
            "too-little-space",
        )


def check_needs(entry: ModelEntry) -> None:
    """Refuse a model that this version of the program cannot run.

    Raises:
        InputError: names both versions.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from ..version import __version__

    try:
        fits = SpecifierSet(entry.needs).contains(__version__, prereleases=True)
    except InvalidSpecifier:
        raise InputError(
            f"The registry says that {entry.key} needs segwithu {entry.needs!r}, which names no versions: choose "
            "another version of the model, or tell the people who keep the registry.",
            "invalid-needs",
        ) from None
    if not fits:
        raise InputError(f"{entry.key} needs segwithu {entry.needs}, this is {__version__}: update the program first.")


def target_of(entry: ModelEntry) -> Path:
    """Return the folder that a version is installed in."""
    return user_models_folder() / folder_name(entry.name, entry.version)


def folder_of(entry: ModelEntry) -> Path | None:
    """Where a version lies, in the user's folder or among those that came with the program; None where it does not.

    Raises:
        OutputError: as for `is_installed`.
    """
    if is_installed(entry):
        return target_of(entry)
    shipped = [model for model in find_models([resource_path("Models")]) if model.bundle is not None]
    keys = {f"{model.bundle.name}@{model.bundle.about['version']}": model.folder for model in shipped if model.bundle}
    return keys.get(entry.key)


def is_installed(entry: ModelEntry) -> bool:
    """Whether a version lies in the user's folder.

    Raises:
        OutputError: something else lies there, or other files than the registry describes.
    """
    target = target_of(entry)
    if not target.exists():
        return False
    origin = read_origin(target)
    if origin is None:
        same = {path: file_sha256(target / path) for path in bundle_paths(target)}
    else:
        same = {file.path: file.sha256 for file in origin[1]}
    if same != {file.path: file.sha256 for file in entry.files}:
        raise OutputError(
            f"{target} holds other files than the registry describes for {entry.key}: delete that model first "
            f"(segwithu models delete {entry.key})."
        )
    return True


def download(offer: Offer, progress: Progress = silent) -> Path:
    """Install a version of a model in the user's folder; returns its folder.

    Raises:
        InputError: a file cannot be had or is another than the registry describes, or the files are no usable bundle.
        OutputError: the user's folder cannot be written to, or another process installs the same version.
    """
    entry, registry, target = offer.entry, offer.registry, target_of(offer.entry)
    check_needs(entry)
    with work_folder() as work, one_writer(target):
        check_space(entry.size)
        files, before = work / "files", 0
        for file in entry.files:
            for there in _receive(registry.place(entry, file), file, files / file.path):
                done = before + there
                detail = f"{file.path}, {done / 1e6:.1f} of {entry.size / 1e6:.1f} MB"
                progress("downloading", done / entry.size, detail)
            before += file.size
        try:
            bundle = check_whole(files)
            if (bundle.name, bundle.about["version"]) != (entry.name, entry.version):
                raise InputError(
                    f"its files hold {bundle.name} {bundle.about['version']}, another model.", "another-model"
                )
        except InputError as error:
            raise InputError(
                f"{entry.key} of {registry.source} is no usable model and was not installed: {error}"
            ) from error
        write_origin(files, registry.source, entry.files)
        move_to_new(files, target)
    return target


def _receive(place: Path | str, wanted: ModelFile, target: Path) -> Iterator[int]:
    """Write a file to `target` and compare it with its registry; yields the bytes that are there.

    Raises:
        InputError: the file cannot be had, or is another than wanted.
    """
    shown, digest, there = str(place).partition("?")[0], hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for chunk in _chunks(place, wanted.size):
            there += file.write(chunk)
            digest.update(chunk)
            yield there
    if there != wanted.size:
        raise InputError(
            f"{shown} has {there} bytes instead of the {wanted.size} of its registry: {REMEDY}.", "other-size"
        )
    if digest.hexdigest() != wanted.sha256:
        raise InputError(
            f"{shown} is not the file that the registry describes (SHA-256 {digest.hexdigest()[:12]}... instead of "
            f"{wanted.sha256[:12]}...): {REMEDY}.",
            "other-sha256",
        )


def _chunks(place: Path | str, size: int) -> Iterator[bytes]:
    if not isinstance(place, Path):
        from .download import chunks_of

        yield from chunks_of(place, size)
    elif regular_file(place).st_size == size:
        with place.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    else:
        raise InputError(
            f"{place} has {place.stat().st_size} bytes instead of the {size} of its registry: copy it again.",
            "other-size",
        )


def delete(name: str) -> Path:
    """Delete an installed model of the user's; returns the folder that is gone.

    Args:
        name: `NAME`, or `NAME@VERSION` where several versions are installed.

    Raises:
        UsageError: none is installed, several are, or it came with the program.
        OutputError: it is in use, or cannot be removed.
    """
    folder = folder_to_delete(name)
    away = folder.with_name(f"{temporary_prefix()}deleted-{folder.name[-80:]}")
    try:
        with not_in_use(folder):
            folder.rename(away)  # gone at once: whatever ends us now, no half a model stays
        shutil.rmtree(away)
    except OSError as error:
        raise OutputError(f"Cannot delete {folder} ({error.strerror}): check the permissions of the folder.") from error
    return folder


def folder_to_delete(name: str) -> Path:
    """Find the folder of the model that a user wants to delete; what is raised as for `delete`."""
    wanted, version = parse_name(name)
    own = user_models_folder()
    named = [model for model in find_models() if _is_named(model, wanted, version)]
    mine = [model.folder for model in named if model.folder.parent == own]
    if len(mine) == 1:
        if mine[0].is_symlink():
            raise UsageError(f"{mine[0]} is a link to a folder elsewhere: remove the link yourself.")
        return mine[0]
    if mine:
        keys = ", ".join(f"{wanted}@{m.bundle.about['version']}" for m in named if m.bundle and m.folder in mine)
        raise UsageError(f"Several versions of {wanted} are installed: name one of {keys}.")
    if named:
        raise UsageError(f"{name} came with the program and cannot be deleted ({named[0].folder}).")
    raise UsageError(f"No model '{name}' is installed in {own}: see segwithu models list.")


def _is_named(model: FoundModel, name: str, version: str | None) -> bool:
    """Whether a found model has the name, or for a damaged one its folder."""
    if model.bundle is None:
        return model.folder.name in (name, f"{name}-{version}")
    about = model.bundle.about
    if version is None and model.folder.name == name:
        return True
    return model.bundle.name == name and version in (None, about["version"])
