"""Registries: lists of the models that there are, with the size and SHA-256 of each file, licences and withdrawals.

A registry is a file `models.json` on a server (also at Hugging Face) or in a folder; `SEGWITHU_REGISTRY` names those of
a user. Nothing here connects to anything.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname

from ..util.errors import InputError, UsageError
from ..util.input_files import is_there
from ..util.strict_json import check_schema, read_json_object, schema
from .model_entry import REMEDY, ModelEntry, ModelFile, check_files
from .model_name import version_key

PUBLIC_REGISTRY: str | None = None
"""Address of the project's own registry, such as "https://host/path/models.json". None: there is none yet. This is the
one place to set it."""
REGISTRY_VARIABLE = "SEGWITHU_REGISTRY"
REGISTRY_FILE = "models.json"
FORMAT, FORMAT_VERSION = "segwithu-models", 1
MAXIMUM_BYTES = 16 << 20


@dataclass(frozen=True)
class Registry:
    """A registry that was read.

    Attributes:
        source: its folder or address.
        base: of a registry on a server, the address that the models' folders lie at.
        local: the folder of one in a folder; None for one on a server.
    """

    source: str
    entries: tuple[ModelEntry, ...]
    base: str = ""
    local: Path | None = None

    def place(self, entry: ModelEntry, file: ModelFile) -> Path | str:
        """Return where a file lies: at an address of its own, else beside the registry."""
        if file.url or self.local is None:
            return file.url or f"{self.base}{entry.folder}/{file.path}"
        return self.local / entry.folder / file.path


@dataclass(frozen=True)
class Offer:
    """A version of a model, and the registry that offers it."""

    entry: ModelEntry
    registry: Registry


@dataclass(frozen=True)
class KnownRegistries:
    """What can be read without connecting, and why the rest cannot, a sentence each."""

    registries: tuple[Registry, ...]
    problems: tuple[str, ...] = field(default=())

    def offers(self) -> list[Offer]:
        """List every version once; of two registries the first counts. By name, newest first."""
        found: dict[str, Offer] = {}
        for registry in self.registries:
            for entry in registry.entries:
                found.setdefault(entry.key, Offer(entry, registry))
        newest = sorted(found.values(), key=lambda offer: version_key(offer.entry.version), reverse=True)
        return sorted(newest, key=lambda offer: offer.entry.name)

    def withdrawn(self, name: str, version: str) -> str | None:
        """Return why a version, or what it was made of (1.2.0 of 1.2.0+site), was withdrawn; None if it was not."""
        entries = (entry for registry in self.registries for entry in registry.entries if entry.name == name)
        made_of = (version, version.partition("+")[0])
        return next((entry.withdrawn for entry in entries if entry.version in made_of and entry.withdrawn), None)


def is_address(place: str) -> bool:
    """Whether a place is a server's address rather than a folder."""
    return place.lower().startswith(("http:", "https:"))


def parsed_address(text: str) -> SplitResult:
    """Take an address apart.

    Raises:
        InputError: it is none. What may be secret in it is not repeated: user, password and query.
    """
    try:
        parts = urlsplit(text)
        host, _port = (parts.hostname or "").encode("idna"), parts.port  # both raise for what no network knows
        if parts.scheme in ("http", "https") and not host:
            raise ValueError("no host")
    except ValueError as error:
        shown = re.sub(r"//.*@", "//", text.partition("?")[0])[:100]
        raise InputError(
            f"'{shown}' is no address, by its host or port: correct it in --from or {REGISTRY_VARIABLE}, or tell the "
            "people who keep the server or registry that names it.",
            "invalid-address",
        ) from error
    return parts


def as_folder(place: str) -> Path:
    """Return the folder that a text names; it may be a `file://` address."""
    if place.lower().startswith("file:"):
        return Path(url2pathname(unquote(parsed_address(place).path)))
    return Path(place).expanduser()


def registry_address(place: str) -> str:
    """Return the address of the file `models.json` at an address, which may name the folder or the file itself."""
    parts = parsed_address(place)
    if parts.path.endswith(".json"):
        return place
    return parts._replace(path=f"{parts.path.rstrip('/')}/{REGISTRY_FILE}").geturl()


def configured_places() -> list[str]:
    """Return addresses and folders of the registries to be asked: `SEGWITHU_REGISTRY`, else the project's own."""
    given = [place.strip() for place in os.environ.get(REGISTRY_VARIABLE, "").split(";")]
    places = [place for place in given if place]
    return places or ([PUBLIC_REGISTRY] if PUBLIC_REGISTRY else [])


def known_registries() -> KnownRegistries:
    """Read the configured registries in folders, connecting to nothing; one that cannot be read is a problem."""
    registries, problems = [], []
    for place in configured_places():
        try:
            if is_address(place):
                parsed_address(place)  # so that a wrong one is named before anybody downloads from it
            else:
                registries.append(folder_registry(as_folder(place)))
        except InputError as error:
            problems.append(str(error))
    return KnownRegistries(tuple(registries), tuple(problems))


def folder_registry(folder: Path) -> Registry:
    """Read the registry in a folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / REGISTRY_FILE
    if not is_there(path):
        raise InputError(
            f"{folder} is no registry of models: it has no {REGISTRY_FILE}; give another folder.", "no-registry"
        )
    return parse_registry(read_json_object(path, REMEDY, MAXIMUM_BYTES), str(path), local=folder)


def parse_registry(data: Any, source: str, address: str | None = None, local: Path | None = None) -> Registry:
    """Check the content of a `models.json` and build the registry.

    Args:
        source: names it in messages.
        address: where it was fetched from.
        local: the folder that it lies in.

    Raises:
        InputError: another format or version, a field missing or of the wrong kind, two models of one name and version,
            files that would lie outside of their folder or overwrite each other.
    """
    version = data.get("format_version") if isinstance(data, dict) and data.get("format") == FORMAT else FORMAT_VERSION
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(f"{source} has format version {version}, this program reads {FORMAT_VERSION}: update it.")
    check_schema(data, registry_schema(), source, REMEDY, "the format of registries")
    entries = tuple(ModelEntry.from_json(entry) for entry in data["models"])
    keys: set[str] = set()
    for entry in entries:
        if entry.key.lower() in keys:
            raise InputError(f"{source} lists {entry.key} twice: {REMEDY}.")
        keys.add(entry.key.lower())
        check_files(entry, source)
    base = f"{address.split('?')[0].rpartition('/')[0]}/" if address else ""
    return Registry((local and str(local)) or address or source, entries, base, local)


def registry_schema() -> dict[str, Any]:
    """Return the JSON schema of `models.json`."""
    return schema(Path(__file__).with_name("store_registry.schema.json"))


def find_offer(registries: KnownRegistries, name: str, version: str | None) -> Offer:
    """Find a version of a model; without one the newest that was not withdrawn.

    Raises:
        UsageError: no registry has it; the message lists what there is.
    """
    offers = registries.offers()
    named = [offer for offer in offers if offer.entry.name == name]
    chosen = [offer for offer in named if version is None or offer.entry.version == version]
    if version is None:
        chosen = [o for o in chosen if registries.withdrawn(name, o.entry.version) is None] or chosen
    if chosen:
        return chosen[0]
    if named:
        raise UsageError(f"There is no version {version} of {name}: choose one of {_listed(named, 'version')}.")
    raise UsageError(
        f"No registry at hand has a model '{name}': choose one of {_listed(offers, 'name')}, or name a registry "
        f"that has it with --from or {REGISTRY_VARIABLE}."
    )


def _listed(offers: Sequence[Offer], attribute: str) -> str:
    return ", ".join(dict.fromkeys(getattr(offer.entry, attribute) for offer in offers)) or "none"
