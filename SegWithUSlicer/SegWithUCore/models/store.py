"""The user's own models: install from a registry, a folder or a zip file, and delete.

A model lies in `NAME-VERSION` in the user's folder of models. It is put together in a private folder there and appears
by one renaming. Archives are taken for hostile: names that lead out of the folder, links, and files that unpack to far
more than they are, are refused, and nothing of them stays. Only `download` connects to anything.
"""

import contextlib
import errno
import lzma
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..util.atomic_files import move_to_new, one_writer, sweep_leftovers, temporary_folder, temporary_prefix
from ..util.errors import InputError, OutputError, UsageError
from ..util.input_files import regular_file
from ..util.paths import BUNDLE_FILE, resource_path, user_models_folder
from ..util.progress import Progress, silent
from .bundle import file_sha256
from .bundle_files import (
    MAXIMUM_DEPTH,
    MAXIMUM_FILES,
    bundle_paths,
    check_whole,
    describe_files,
    is_passed_over,
    read_origin,
    write_origin,
)
from .download import chunks_of
from .model_name import RESERVED, folder_name, parse_name
from .registry import FoundModel, find_models
from .store_registry import REGISTRY_FILE, REMEDY, ModelFile, Offer

SPARE_BYTES = 64 << 20
"""Left free on the disk."""
MAXIMUM_MEMBERS = 1000
"""Of an archive, with folders and what systems add."""
MAXIMUM_UNPACKED = 64 << 30
MAXIMUM_RATIO, RATIO_COUNTS_FROM = 100, 64 << 20
"""Weights hardly shrink; a member beyond that size which claims to have shrunk more is made to fill disks."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_CHUNK = 1 << 20
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)


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
        raise OutputError(
            f"{target} holds other files than the registry describes for {offer.key}: delete that model first "
            f"(segwithu models delete {offer.key})."
        )
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
    with _work_folder() as work, one_writer(target):
        _check_space(offer.size)
        files, before = work / "files", 0
        for file in offer.files:
            for there in _written(_chunks(offer, file), files / file.path):
                done = before + there
                detail = f"{file.path}, {done / 1e6:.1f} of {offer.size / 1e6:.1f} MB"
                progress("downloading", done / offer.size, detail)
            _check_file(files / file.path, file, str(offer.place(file)).partition("?")[0])
            before += file.size
        try:
            bundle = check_whole(files)
            if (bundle.name, bundle.about["version"]) != (offer.name, offer.version):
                raise InputError(
                    f"its files hold {bundle.name} {bundle.about['version']}, another model.", "another-model"
                )
        except InputError as error:
            raise InputError(
                f"{offer.key} of {offer.source} is no usable model and was not installed: {error}"
            ) from error
        write_origin(files, offer.source, offer.files)
        move_to_new(files, target)
    return target


def import_model(source: Path, progress: Progress = silent) -> Path:
    """Install the bundle in a folder or zip file in the user's folder of models; returns its folder.

    Raises:
        InputError: no usable bundle; nothing was installed.
        OutputError: the same version is installed already, or the user's folder cannot be written to.
    """
    with _work_folder() as work:
        with _reading(source):
            is_folder = source.is_dir()
        if is_folder:
            folder = _copied(_bundle_folder(source, source), work / "bundle", progress)
        else:
            folder = _bundle_folder(_unpacked(source, work / "zip", progress), source)
        try:
            bundle = check_whole(folder)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(source))) from error
        version = bundle.about["version"]
        target = user_models_folder() / folder_name(bundle.name, version)
        if target.exists():
            raise OutputError(
                f"{bundle.name} {version} is installed already in {target}: delete it first (segwithu models delete "
                f"{bundle.name}@{version})."
            )
        for extra in (path for path in folder.rglob("*") if path.is_file() and is_passed_over(path.name)):
            extra.unlink()
        write_origin(folder, str(source), describe_files(folder))
        move_to_new(folder, target)
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
    named = [model for model in find_models() if _is_named(model, wanted, version)]
    mine = [model for model in named if model.folder.parent == own]
    if len(mine) > 1:
        keys = ", ".join(f"{wanted}@{model.bundle.about['version']}" for model in mine if model.bundle)
        raise UsageError(f"Several versions of {wanted} are installed: name one of {keys}.")
    if not mine and named:
        raise UsageError(f"{name} came with the program and cannot be deleted ({named[0].folder}).")
    if not mine:
        raise UsageError(f"No model '{name}' is installed in {own}: see segwithu models list.")
    if mine[0].folder.is_symlink():
        raise UsageError(f"{mine[0].folder} is a link to a folder elsewhere: remove the link yourself.")
    return mine[0].folder


def _is_named(model: FoundModel, name: str, version: str | None) -> bool:
    """Whether a found model has the name, or for a damaged one its folder."""
    if model.bundle is None:
        return model.folder.name in (name, f"{name}-{version}")
    if version is None and model.folder.name == name:
        return True
    return model.bundle.name == name and version in (None, model.bundle.about["version"])


def _check_needs(offer: Offer) -> None:
    """Refuse a model that this version of the program cannot run.

    Raises:
        InputError: names both versions.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from ..version import __version__

    needs = (offer.entry.get("needs") or {}).get("segwithu", "")
    try:
        fits = SpecifierSet(needs).contains(__version__, prereleases=True)
    except InvalidSpecifier:
        raise InputError(
            f"The registry says that {offer.key} needs segwithu {needs!r}, which names no versions: choose another "
            "version of the model, or tell the people who keep the registry.",
            "invalid-needs",
        ) from None
    if not fits:
        raise InputError(f"{offer.key} needs segwithu {needs}, this is {__version__}: update the program first.")


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """Yield a private folder beside the user's models, which is gone afterwards, as is what killed processes left.

    Raises:
        OutputError: the user's folder of models cannot be written to.
    """
    place = user_models_folder()
    with contextlib.ExitStack() as stack:
        try:
            place.mkdir(parents=True, exist_ok=True)
            sweep_leftovers(place)
            work = stack.enter_context(temporary_folder(place))
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


def _check_space(needed: int) -> None:
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


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Name what cannot be read, so that it is not taken for what cannot be written.

    Raises:
        InputError: the block failed to read.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): check its permissions, or copy it again.",
            "unreadable-source",
        ) from error
    except _ARCHIVE_ERRORS as error:
        raise InputError(f"{source} cannot be unpacked ({error}): get it again from its source.") from error


def _written(chunks: Iterable[bytes], target: Path) -> Iterator[int]:
    """Write a file to a new folder; yields the bytes that are there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            yield file.tell()


def _chunks(offer: Offer, file: ModelFile) -> Iterator[bytes]:
    """Yield a file of a registry, from its folder or server."""
    place = offer.place(file)
    if isinstance(place, str):
        yield from chunks_of(place, file.size, offer.base if isinstance(offer.base, str) else "")
        return
    if (found := regular_file(place).st_size) != file.size:
        raise InputError(
            f"{place} has {found} bytes instead of the {file.size} of its registry: copy it again.", "other-size"
        )
    yield from _file_chunks(place)


def _file_chunks(path: Path) -> Iterator[bytes]:
    with _reading(path), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _check_file(path: Path, wanted: ModelFile, source: str) -> None:
    """Compare a file that was received with its registry.

    Raises:
        InputError: it is another than wanted.
    """
    size, digest = path.stat().st_size, file_sha256(path)
    if size != wanted.size:
        raise InputError(
            f"{source} has {size} bytes instead of the {wanted.size} of its registry: {REMEDY}.", "other-size"
        )
    if digest != wanted.sha256:
        raise InputError(
            f"{source} is not the file that the registry describes (SHA-256 {digest[:12]}... instead of "
            f"{wanted.sha256[:12]}...): {REMEDY}.",
            "other-sha256",
        )


def _copied(source: Path, target: Path, progress: Progress) -> Path:
    """Copy the files of a bundle."""
    paths = bundle_paths(source)
    _check_space(sum(regular_file(source / path).st_size for path in paths))
    for number, path in enumerate(paths):
        progress("copying", 0.9 * number / len(paths), path)
        for _ in _written(_file_chunks(source / path), target / path):
            pass
    return target


def _bundle_folder(folder: Path, source: Path) -> Path:
    """Return the folder itself or the only one in it, whichever holds the bundle.

    Args:
        source: names it in messages.

    Raises:
        InputError: neither does; what it looks like instead.
    """
    with _reading(source):
        if (folder / BUNDLE_FILE).is_file():
            return folder
        if (folder / REGISTRY_FILE).is_file():
            raise InputError(f"{source} is a registry of models: use segwithu models download NAME --from {source}.")
        if (folder / "plans.json").is_file() or (folder / "dataset.json").is_file():
            raise InputError(f"{source} is a result folder of nnU-Net: use segwithu import-nnunet.")
        inner = [path for path in folder.iterdir() if (path / BUNDLE_FILE).is_file()]
    if len(inner) != 1:
        found = f"{len(inner)} bundles: give one of their folders" if inner else f"no {BUNDLE_FILE}: give a bundle"
        raise InputError(f"{source} holds {found}.")
    return inner[0]


def _unpacked(source: Path, target: Path, progress: Progress) -> Path:
    """Unpack the files of an archive below `target`.

    Raises:
        InputError: it is damaged, encrypted or made to do harm.
    """
    regular_file(source, "give the folder or zip file of a model bundle")
    with _reading(source):
        if not zipfile.is_zipfile(source):
            raise InputError(
                f"{source} is no zip file, or it is cut: give the folder or whole zip file of a model bundle."
            )
        archive = zipfile.ZipFile(source)
    target.mkdir()
    with archive:
        members = _usable_members(archive.infolist(), source)
        total, before = sum(member.file_size for member in members), 0
        _check_space(total)
        for member in members:
            for there in _written(_member_chunks(archive, member, source), target / member.filename):
                progress("unpacking", 0.9 * (before + there) / max(total, 1), member.filename)
            before += member.file_size
    return target


def _member_chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: Path) -> Iterator[bytes]:
    """Yield the content of a member; zipfile gives no more bytes than the archive's list says, and checks the CRC."""
    with _reading(source), archive.open(member) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _usable_members(members: Sequence[zipfile.ZipInfo], source: Path) -> list[zipfile.ZipInfo]:
    """Return the files to be unpacked.

    Raises:
        InputError: a name, a link or a size that no bundle has.
    """
    if len(members) > MAXIMUM_MEMBERS:
        raise InputError(f"{source} holds {len(members)} entries, a bundle has a few: give the zip file of one model.")
    usable, seen = [], set()
    for member in members:
        name = member.filename
        parts = name.rstrip("/").split("/")
        shown = f"{source} holds {name[:80]!r}"
        if name.startswith("/") or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
            raise InputError(f"{shown}, which would lie outside of its folder: do not use this file.")
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"{shown}, which is a link or a device: a bundle holds files only.")
        if member.is_dir() or is_passed_over(name):
            continue
        if len(parts) > MAXIMUM_DEPTH + 1 or not all(_PART.fullmatch(p) and not RESERVED.fullmatch(p) for p in parts):
            raise InputError(f"{shown}, no name that a file of a bundle may have: give the zip file of one model.")
        if member.flag_bits & 1:
            raise InputError(f"{source} is encrypted: unpack it yourself and import the folder.")
        if member.file_size > MAXIMUM_RATIO * max(member.compress_size, 1) and member.file_size > RATIO_COUNTS_FROM:
            raise InputError(
                f"{shown}, which unpacks to {member.file_size / 1e6:.0f} MB from next to nothing: refused."
            )
        if name.lower() in seen:
            raise InputError(f"{shown} twice: get it again from its source.")
        seen.add(name.lower())
        usable.append(member)
    if len(usable) > MAXIMUM_FILES or sum(member.file_size for member in usable) > MAXIMUM_UNPACKED:
        raise InputError(f"{source} holds more than a bundle may: give the zip file of one model.")
    return usable
