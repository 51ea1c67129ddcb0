"""The user's own models: install from a registry or a folder, and delete.

A model lies in `NAME-VERSION` in the user's folder of models. It is put together in a private folder there and appears
by one renaming. Only `download` connects to a server.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ..util.atomic_files import move_to_new, one_writer, remove_leftovers, temporary_folder, temporary_prefix
from ..util.errors import InputError, OutputError, UsageError, unreadable_named
from ..util.input_files import regular_file
from ..util.paths import BUNDLE_FILE, resource_path, user_models_folder
from ..util.progress import Progress, silent
from .bundle import file_sha256
from .bundle_files import bundle_paths, check_whole, describe_files, read_origin, write_origin
from .installed import FoundModel, find_models
from .model_name import folder_name, parse_name
from .registry import CHUNK, REMEDY, ModelFile, Offer, chunks_of

SPARE_BYTES = 64 << 20
"""Left free on the disk."""
NOT_A_MODEL = "not-a-model"
Part = tuple[str, int, Callable[[], Iterable[bytes]]]
"""A file to be installed: its path within the bundle, its bytes, and what reads it."""


def target_of(offer: Offer) -> Path:
    """Return the folder that a version is installed in."""
    return user_models_folder() / folder_name(offer.name, offer.version)


def installed_folder(offer: Offer) -> Path | None:
    """Where a version lies, in the user's folder or among those that came with the program; None where it does not.

    Raises:
        OutputError: something else lies there, or other files than the registry describes.
    """
    target = target_of(offer)
    if target.exists():
        origin = read_origin(target)
        files = origin[1] if origin else describe_files(target)
        if {file.path: file.sha256 for file in files} == {file.path: file.sha256 for file in offer.files}:
            return target
        what = f"{target} holds other files than the registry describes"
        raise OutputError(f"{what}: delete that model first (segwithu models delete {offer.key}).", "exists-already")
    shipped = [model.bundle for model in find_models([resource_path("Models")]) if model.bundle]
    same = (model.folder for model in shipped if (model.name, model.about["version"]) == (offer.name, offer.version))
    return next(same, None)


def download(offer: Offer, progress: Progress = silent) -> Path:
    """Install a version of a model in the user's folder; returns its folder.

    Raises:
        InputError: a file cannot be had or is another than the registry describes, or the files are no usable bundle.
        OutputError: the user's folder cannot be written to, or another process installs the same version.
    """
    target = target_of(offer)
    _check_needs(offer)
    with work_folder() as work, one_writer(target):
        files = work / "files"
        fetch([(file.path, file.size, partial(_chunks, offer, file)) for file in offer.files], files, progress)
        for file in offer.files:
            _check_file(files / file.path, file, str(offer.place(file)).partition("?")[0])
        try:
            bundle = check_whole(files)
            if (bundle.name, bundle.about["version"]) != (offer.name, offer.version):
                raise InputError(f"its files hold {bundle.name} {bundle.about['version']}.", "wrong-download")
        except InputError as error:
            raise InputError(f"{offer.key} of {offer.source} is not usable: {error}") from error
        write_origin(files, offer.source, offer.files)
        move_to_new(files, target)
    return target


def import_model(source: Path, progress: Progress = silent, origin: Path | None = None) -> Path:
    """Install the bundle in a folder in the user's folder of models; returns its folder.

    Args:
        origin: what the bundle was made of; None if it was found as it is.

    Raises:
        InputError: no usable bundle; nothing was installed.
        OutputError: the same version is installed already, or the user's folder cannot be written to.
    """
    folder = bundle_folder(source)
    parts: list[Part] = [
        (path, (folder / path).stat().st_size, partial(_file_chunks, folder / path)) for path in bundle_paths(folder)
    ]
    with work_folder() as work:
        files = work / "files"
        fetch(parts, files, progress)
        try:
            bundle = check_whole(files)
        except InputError as error:
            raise InputError(str(error).replace(str(files), str(folder))) from error
        version = bundle.about["version"]
        target = user_models_folder() / folder_name(bundle.name, version)
        if target.exists():
            key = f"{bundle.name}@{version}"
            raise OutputError(f"{key} is installed in {target}: see segwithu models delete {key}.", "exists-already")
        write_origin(files, str(origin or source), describe_files(files))
        move_to_new(files, target)
    progress("installed", 1.0)
    return target


def delete(name: str) -> Path:
    """Delete an installed model of the user's; returns the folder that is gone.

    Args:
        name: `NAME`, or `NAME@VERSION` where several versions are installed.

    Raises:
        UsageError: none is installed, several are, or it came with the program.
        OutputError: it cannot be removed, as on Windows while a program has it loaded.
    """
    folder = folder_to_delete(name)
    away = folder.with_name(f"{temporary_prefix()}deleted-{folder.name[-80:]}")
    try:
        folder.rename(away)  # gone at once: whatever ends us now, no half a model stays
        shutil.rmtree(away)
    except OSError as error:
        raise OutputError(f"Cannot delete {folder} ({error.strerror}): check the permissions of the folder.") from error
    return folder


def folder_to_delete(name: str) -> Path:
    """Find the folder of the model that a user wants to delete; what is raised as for `delete`."""
    wanted, version = parse_name(name)
    own = user_models_folder()
    mine = [model for model in find_models([own]) if _is_named(model, wanted, version)]
    if len(mine) > 1:
        keys = ", ".join(f"{wanted}@{model.bundle.about['version']}" for model in mine if model.bundle)
        raise UsageError(f"Several versions of {wanted} are installed: name one of {keys}.")
    if not mine:
        raise UsageError(f"No model '{name}' is installed in {own}: see segwithu models list.", "unknown-model")
    if mine[0].folder.is_symlink():
        raise UsageError(f"{mine[0].folder} is a link to a folder elsewhere: remove the link yourself.")
    return mine[0].folder


def _is_named(model: FoundModel, name: str, version: str | None) -> bool:
    """Whether a found model has the name, or for a damaged one its folder."""
    if model.bundle is None:
        return model.folder.name in (name, f"{name}-{version}")
    is_folder = version is None and model.folder.name == name
    return is_folder or (model.bundle.name == name and version in (None, model.bundle.about["version"]))


def _check_needs(offer: Offer) -> None:
    """Refuse a model that this version of the program cannot run.

    Raises:
        InputError: names both versions.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from ..version import __version__

    needs = (offer.entry.get("needs") or {}).get("segwithu", "")
    begin = f"{offer.key} needs segwithu {needs}, this is {__version__}"
    try:
        if not SpecifierSet(needs).contains(__version__, prereleases=True):
            raise InputError(f"{begin}: update the program first.")
    except InvalidSpecifier:
        raise InputError(f"{begin}, but that is not a version specifier: {REMEDY}.", "damaged-bundle") from None


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a private folder next to the user's models, which is gone afterwards, as is what killed processes left.

    Raises:
        OutputError: the user's folder of models cannot be written to.
    """
    place = user_models_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place)
        with temporary_folder(place) as work:
            yield work
    except OSError as error:
        what = f"Cannot write to {place} ({error.strerror})"
        raise OutputError(f"{what}: free some space, or set SEGWITHU_MODELS.", "cannot-write") from error


def fetch(parts: Sequence[Part], target: Path, progress: Progress = silent) -> None:
    """Write files into a new folder.

    Raises:
        InputError: one cannot be read.
        OutputError: the disk has too little room.
    """
    total, done = sum(size for _, size, _ in parts), 0
    free = shutil.disk_usage(target.parent).free
    if free < total + SPARE_BYTES:
        what = f"{free / 1e6:.0f} MB free instead of {(total + SPARE_BYTES) / 1e6:.0f} MB"
        raise OutputError(f"{target.parent.parent} has {what}: free space or set SEGWITHU_MODELS.", "cannot-write")
    for path, _, content in parts:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        with (target / path).open("wb") as file:
            for chunk in content():
                file.write(chunk)
                done += len(chunk)
                detail = f"{path}, {done / 1e6:.1f} of {total / 1e6:.1f} MB"
                progress("installing", min(0.99, done / max(total, 1)), detail)


def _chunks(offer: Offer, file: ModelFile) -> Iterator[bytes]:
    """Yield a file of a registry, from its folder or server."""
    place = offer.place(file)
    if isinstance(place, str):
        yield from chunks_of(place, file.size, offer.base if isinstance(offer.base, str) else "")
    else:
        regular_file(place)
        yield from _file_chunks(place)


def _file_chunks(path: Path) -> Iterator[bytes]:
    with unreadable_named(path), path.open("rb") as file:  # not to be mistaken for a place that cannot be written to
        while chunk := file.read(CHUNK):
            yield chunk


def _check_file(path: Path, wanted: ModelFile, source: str) -> None:
    """Compare a file that was received with its registry.

    Raises:
        InputError: it is another than wanted.
    """
    size, digest = path.stat().st_size, file_sha256(path)
    if (size, digest) != (wanted.size, wanted.sha256):
        found = f"{size} bytes, SHA-256 {digest[:12]}... instead of {wanted.size}, {wanted.sha256[:12]}..."
        raise InputError(f"{source} is not the file that the registry describes ({found}): {REMEDY}.", "wrong-download")


def bundle_folder(source: Path) -> Path:
    """Return the folder itself or the only one in it, whichever holds the bundle.

    Raises:
        InputError: neither does.
    """
    with unreadable_named(source):
        if not source.is_dir():
            raise InputError(f"{source} is not a folder: give the (unpacked) folder of a model bundle.", NOT_A_MODEL)
        if (source / BUNDLE_FILE).is_file():
            return source
        inner = [path for path in source.iterdir() if (path / BUNDLE_FILE).is_file()]
    if len(inner) != 1:
        hint = "for a registry use models download --from"
        raise InputError(f"{source} holds {len(inner)} models: give the folder of one ({hint}).", NOT_A_MODEL)
    return inner[0]
