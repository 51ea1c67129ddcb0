"""The user's own models: fetch the registries, download, delete; what there is, is in `store_list`.

A model lies in `NAME-VERSION` in the user's folder of models. It is put together in `.downloads` there and appears by
one renaming. Only `refresh` and `download` connect to anything.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic_files import sweep_leftovers, temporary_prefix
from ..errors import InputError, OutputError, UsageError
from ..paths import resource_path, user_models_folder
from ..process_lock import LockedError, ProcessLock
from ..progress import Progress, silent
from ..strict_json import parse_json
from .bundle import file_sha256
from .bundle_files import bundle_paths, check_whole, read_origin, write_origin
from .in_use import not_in_use
from .model_entry import ModelEntry, ModelFile
from .model_name import folder_name, parse_name
from .partial_file import DownloadError, copy_file
from .registry import FoundModel, find_models
from .store_registry import MAXIMUM_BYTES as MAXIMUM_REGISTRY_BYTES
from .store_registry import (
    KnownRegistries,
    Offer,
    as_folder,
    configured_places,
    fetched_etag,
    fetched_path,
    fetched_registry,
    folder_registry,
    is_address,
    keep_fetched,
    known_registries,
    parse_registry,
    registry_address,
)

if TYPE_CHECKING:
    from .download import Downloader

DOWNLOADS_FOLDER = ".downloads"
"""In the user's folder of models: what is being downloaded, a folder a version, kept until it is whole."""
LOOK_EVERY_S = 0.5
"""While another process downloads the same model."""
REPORT_EVERY_S = 0.2

MakeDownloader = Callable[[], "Downloader"]
"""Made only where something is to be asked of a server, so that `requests` is loaded only then."""


@dataclass(frozen=True)
class Refreshed:
    """What became of a registry that was asked for anew: its address or folder, how many models, whether it changed."""

    place: str
    models: int
    changed: bool


def refresh(connect: MakeDownloader) -> list[Refreshed]:
    """Fetch the registries that are configured; those in folders are read where they lie.

    Raises:
        InputError: none is configured, or one is damaged; registries fetched before stay.
        DownloadError: one cannot be had.
    """
    places = configured_places()
    if not places:
        raise InputError(
            "No registry of models is configured, and this program knows of no public one yet: set SEGWITHU_REGISTRY "
            "to the address or folder of your institution's."
        )
    return [_refreshed(place, connect) for place in places]


def _refreshed(place: str, connect: MakeDownloader) -> Refreshed:
    if not is_address(place):
        return Refreshed(place, len(folder_registry(as_folder(place)).entries), False)
    address = registry_address(place)
    answer = connect().fetch(address, fetched_etag(place), MAXIMUM_REGISTRY_BYTES)
    if answer.content is None:
        fetched_path(place).touch()
        return Refreshed(address, len(fetched_registry(place).entries), False)
    return Refreshed(address, len(keep_fetched(place, answer.content, answer.etag).entries), True)


def registries_for_download(given: str | None, connect: MakeDownloader) -> KnownRegistries:
    """Return the registries to download from: the one given, or those configured; what was never fetched is.

    Raises:
        InputError: the one given is none.
        DownloadError: a server cannot be asked.
    """
    if given is None:
        for place in configured_places():
            if is_address(place) and not fetched_path(place).is_file():
                _refreshed(place, connect)
        return known_registries()
    if not is_address(given):
        return KnownRegistries((folder_registry(as_folder(given)),))
    address = registry_address(given)
    content = connect().fetch(address, None, MAXIMUM_REGISTRY_BYTES).content or b""
    return KnownRegistries((parse_registry(parse_json(content, address), address, address=address),))


def check_needs(entry: ModelEntry) -> None:
    """Refuse a model that this version of the program cannot run.

    Raises:
        InputError: names both versions.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from .. import __version__

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


def download(
    offer: Offer, connect: MakeDownloader, progress: Progress = silent, note: Callable[[str], None] = lambda _: None
) -> Path:
    """Install a version of a model in the user's folder; returns its folder.

    What an earlier attempt left is gone on with. A second process that wants the same waits for the first.

    Args:
        note: called with a sentence where something keeps the user waiting.

    Raises:
        DownloadError: a file cannot be had; what came is kept.
        InputError: the files are no usable bundle.
        OutputError: the user's folder cannot be written to, or holds another model there.
    """
    entry, target = offer.entry, target_of(offer.entry)
    check_needs(entry)
    work = user_models_folder() / DOWNLOADS_FOLDER / target.name
    try:
        work.mkdir(parents=True, exist_ok=True)
        sweep_leftovers(user_models_folder())
        with _only_process(work, entry, note):
            if not is_installed(entry):
                _fetch_files(offer, work / "files", connect, progress)
                _put_in_place(entry, work / "files", target, offer.registry.source)
            shutil.rmtree(work / "files", ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"Cannot write {error.filename or target} ({error.strerror}): set SEGWITHU_MODELS to another folder."
        ) from error
    with contextlib.suppress(OSError):  # another process has just begun to wait there
        work.rmdir()
    return target


@contextlib.contextmanager
def _only_process(work: Path, entry: ModelEntry, note: Callable[[str], None]) -> Iterator[None]:
    lock, waited = None, False
    while lock is None:
        try:
            work.mkdir(parents=True, exist_ok=True)
            lock = ProcessLock.take(work / "lock")
        except LockedError as error:
            if not waited:
                note(f"{error.who} downloads {entry.key} already: waiting for it.")
            waited = True
            time.sleep(LOOK_EVERY_S)
        except FileNotFoundError:
            continue  # the other process has finished, and removed its folder
    try:
        yield
    finally:
        lock.release()


def _fetch_files(offer: Offer, folder: Path, connect: MakeDownloader, progress: Progress) -> None:
    """Get all files of a version into `folder`; those that are whole already stay."""
    entry, before = offer.entry, 0
    for file in entry.files:
        target = folder / file.path
        if not (target.is_file() and target.stat().st_size == file.size and file_sha256(target) == file.sha256):
            _fetch_file(offer, file, target, connect, _Received(progress, file.path, before, entry.size))
        before += file.size
    for extra in set(bundle_paths(folder)) - {file.path for file in entry.files}:
        (folder / extra).unlink()  # of an attempt at another registry's version


class _Received:
    """Reports how much of a model has come, a few times a second."""

    def __init__(self, progress: Progress, path: str, before: int, total: int) -> None:
        self._progress, self._path, self._before, self._total = progress, path, before, total
        self._reported_at = -REPORT_EVERY_S

    def __call__(self, there: int) -> None:
        """Take the bytes of the file that are there."""
        done, now = self._before + there, time.monotonic()
        if now - self._reported_at >= REPORT_EVERY_S or done == self._total:
            detail = f"{self._path}, {done / 1e6:.1f} of {self._total / 1e6:.1f} MB"
            self._progress("downloading", done / self._total, detail)
            self._reported_at = now


def _fetch_file(
    offer: Offer, file: ModelFile, target: Path, connect: MakeDownloader, received: Callable[[int], None]
) -> None:
    """Get one file from the first place that has it.

    Raises:
        DownloadError: no place has it; what the last one said.
    """
    places = offer.registry.places(offer.entry, file)
    if not places:
        raise InputError(
            f"The registry {offer.registry.source} tells no address for {file.path} of {offer.entry.key}: "
            "give a folder or address that has it with --from."
        )
    for number, place in enumerate(places, 1):
        try:
            if isinstance(place, Path):
                copy_file(place, file, target, received)
            else:
                connect().download(place, file, target, received)
        except DownloadError:
            if number == len(places):
                raise
        else:
            return


def _put_in_place(entry: ModelEntry, files: Path, target: Path, source: str) -> None:
    """Check a bundle that was put together in `files`, and let it appear as `target`."""
    try:
        bundle = check_whole(files)
        if (bundle.name, bundle.about["version"]) != (entry.name, entry.version):
            raise InputError(f"its files hold {bundle.name} {bundle.about['version']}, another model.")
    except InputError as error:
        shutil.rmtree(files, ignore_errors=True)
        raise InputError(f"{entry.key} of {source} is no usable model and was not installed: {error}") from error
    write_origin(files, source, entry.files)
    files.rename(target)


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
