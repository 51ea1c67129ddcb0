"""Install a model from a folder or zip file that somebody fetched by hand; nothing is asked of any server.

Archives are taken for hostile: names that lead out of the folder, links, and files that unpack to far more than they
are, are refused, and nothing of them stays.
"""

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..util.atomic_files import move_to_new
from ..util.errors import InputError, OutputError
from ..util.input_files import regular_file
from ..util.paths import BUNDLE_FILE, user_models_folder
from ..util.progress import Progress, silent
from .bundle_files import (
    MAXIMUM_DEPTH,
    MAXIMUM_FILES,
    bundle_paths,
    check_whole,
    describe_files,
    is_passed_over,
    write_origin,
)
from .model_name import RESERVED, folder_name
from .store import check_space, work_folder
from .store_registry import REGISTRY_FILE

MAXIMUM_MEMBERS = 1000
"""Of an archive, with folders and what systems add."""
MAXIMUM_UNPACKED = 64 << 30
MAXIMUM_RATIO, RATIO_COUNTS_FROM = 100, 64 << 20
"""Weights hardly shrink; a member beyond that size which claims to have shrunk more is made to fill disks."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_CHUNK = 1 << 20


def import_model(source: Path, progress: Progress = silent) -> Path:
    """Install the bundle in a folder or zip file in the user's folder of models; returns its folder.

    Raises:
        InputError: no usable bundle; nothing was installed.
        OutputError: the same version is installed already, or the user's folder cannot be written to.
    """
    with work_folder() as work:
        if source.is_dir():
            folder = _copied(_bundle_folder(source), work / "bundle", progress)
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


def _copied(source: Path, target: Path, progress: Progress) -> Path:
    """Copy the files of a bundle."""
    paths = bundle_paths(source)
    check_space(sum((source / path).stat().st_size for path in paths))
    for number, path in enumerate(paths):
        progress("copying", 0.9 * number / len(paths), path)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)
    return target


def _bundle_folder(folder: Path, source: Path | None = None) -> Path:
    """Return the folder itself or the only one in it, whichever holds the bundle.

    Args:
        source: names it in messages where that is not the folder.

    Raises:
        InputError: neither does; what it looks like instead.
    """
    source = source or folder
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
    if not zipfile.is_zipfile(source):
        raise InputError(f"{source} is no zip file, or it is cut: give the folder or whole zip file of a model bundle.")
    target.mkdir()
    try:
        with zipfile.ZipFile(source) as archive:
            members = _usable_members(archive.infolist(), source)
            total = sum(member.file_size for member in members)
            check_space(total)
            done = 0
            for member in members:
                path = target / member.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as read, path.open("wb") as write:
                    while chunk := read.read(_CHUNK):
                        done += len(chunk)
                        if done > total:
                            raise InputError(f"{source} unpacks to more than it says: get it again from its source.")
                        write.write(chunk)
                        progress("unpacking", 0.9 * done / max(total, 1), member.filename)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{source} cannot be unpacked ({error}): get it again from its source.") from error
    return target


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
