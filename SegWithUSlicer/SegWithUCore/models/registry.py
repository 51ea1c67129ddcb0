"""Registries: files `models.json` that list models, with the size and SHA-256 of each file, licences and withdrawals.

A registry lies on a server (also at Hugging Face) or in a folder; `SEGWITHU_REGISTRY` names those of a user. No
third-party packages at file scope, so that Slicer's own process can ask too.

Ask a server for one file: https only, no surprises on the way, one refusal with a code for each kind of failure.

Certificates are always checked. Proxies, certificates of an institution (REQUESTS_CA_BUNDLE) and passwords (~/.netrc)
are those of the library requests.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import url2pathname

from ..util.errors import InputError, UsageError
from ..util.input_files import is_there
from ..util.strict_json import check_schema, parse_json, read_json_object, schema, typed
from ..version import __version__
from .model_name import RESERVED, folder_name, version_key

if TYPE_CHECKING:
    import requests


REGISTRY_VARIABLE = "SEGWITHU_REGISTRY"
"""Environment variable that names registries."""
TIMEOUTS_S = (10.0, 60.0)
"""Longest wait for a connection, and longest silence while a file comes; the whole may take as long as it takes."""
REDIRECTS = 6
TELL = "tell the people who keep that registry"
CHUNK = 1 << 20
_LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}


def chunks_of(url: str, maximum_bytes: int, origin: str = "") -> Iterator[bytes]:
    """Yield the content of a file on a server.

    Args:
        origin: address that named this one, such as that of a registry: it decides whether plain http is allowed.

    Raises:
        InputError: the address is not to be asked, the server cannot be reached or does not send the file, or the file
            has more than `maximum_bytes`.
    """
    import requests

    class Session(requests.Session):
        """Leaves redirects to `_answer`: requests would read the whole body of one first, however long that is."""

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            """Return None: no redirect is followed here."""
            return None

    host, received = _checked_address(url, origin or url).hostname, 0
    try:
        with Session() as session, _answer(session, url, origin or url) as answer:
            _check_answer(answer, url)
            for chunk in answer.iter_content(CHUNK):
                received += len(chunk)
                if received > maximum_bytes:
                    raise InputError(f"{_shown(url)} has more than {maximum_bytes} bytes: {TELL}.", "not-sent")
                yield chunk
    except requests.exceptions.SSLError as error:
        what = f"The certificate of {host} is not trusted here"
        raise InputError(f"{what}: set REQUESTS_CA_BUNDLE.", "server-unreachable") from error
    except requests.RequestException as error:  # its text may hold the password of a proxy
        what = f"{_shown(url)} cannot be downloaded now ({type(error).__name__} after {received} bytes)"
        raise InputError(f"{what}: check network and HTTPS_PROXY, or try later.", "server-unreachable") from error


def _answer(session: "requests.Session", url: str, origin: str) -> "requests.Response":
    """Ask for `url` and follow redirects, none of them to plain http."""
    # requests asks for gzip by itself: lengths would then not be the file's
    headers = {"Accept-Encoding": "identity", "User-Agent": f"segwithu/{__version__}"}
    asked = url
    for _ in range(REDIRECTS):
        _checked_address(asked, origin)
        answer = session.get(asked, headers=headers, stream=True, timeout=TIMEOUTS_S, allow_redirects=False)
        if answer.status_code not in (301, 302, 303, 307, 308):
            return answer
        answer.close()
        location = answer.headers.get("Location", "")
        try:
            asked = urljoin(asked, location)
        except ValueError:
            asked = location  # not an address, so it is refused next
    raise InputError(f"{_shown(url)} is redirected more than {REDIRECTS} times: {TELL}.", "not-sent")


def _check_answer(answer: "requests.Response", url: str) -> None:
    """Refuse answers that are not the file.

    Raises:
        InputError: names server and reason.
    """
    status, encoding = answer.status_code, answer.headers.get("Content-Encoding", "identity")
    is_page = answer.headers.get("Content-Type", "").lower().startswith("text/html") and not url.endswith(".html")
    refused = "fetch the model with a browser and use segwithu models import, or give your password in ~/.netrc"
    faults = (
        (status in (401, 403, 407), "access-refused", f"status {status}: {refused}"),
        (status != 200, "not-sent", f"status {status}: check the address, or try again later"),
        (encoding.lower() != "identity", "not-sent", f"it changes files on their way: {TELL}"),
        (is_page, "access-refused", "it answers with a web page, as the login page of a network does: log in there"),
    )
    for is_faulty, code, why in faults:
        if is_faulty:
            raise InputError(f"{urlsplit(answer.url).hostname} does not send {_shown(url)} ({why}).", code)


def _shown(url: str) -> str:
    """Return an address without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _checked_address(url: str, origin: str) -> SplitResult:
    """Refuse addresses that are not to be asked.

    Args:
        origin: the address that was asked first.

    Raises:
        InputError: no address, plain http (but to this computer, if one began there), or with a password in it.
    """
    parts = parsed_address(url)
    plain = parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS and origin.lower().startswith("http:")
    if (parts.scheme != "https" and not plain) or not parts.hostname:
        raise InputError(f"{_shown(url)} is not encrypted: give an address with https.", "invalid-address")
    if parts.username or parts.password:
        raise InputError(f"{_shown(url)} is given with a password: give it in ~/.netrc.", "invalid-address")
    return parts


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
        raise InputError(f"'{shown}' is not an address: correct it, or {TELL}.", "invalid-address") from error
    return parts


REGISTRY_FILE = "models.json"
MAXIMUM_BYTES = 16 << 20
REMEDY = "ask the owner of that registry"


@dataclass(frozen=True)
class ModelFile:
    """One file of a model; `path` is within the model's folder, with forward slashes."""

    path: str
    size: int
    sha256: str
    url: str = ""


@dataclass(frozen=True)
class Offer:
    """One version of a model in a registry.

    Attributes:
        entry: its entry of `models`, checked.
        source: folder or address of the registry.
        base: where the folders of its models lie: a folder, or an address that ends with a slash.
    """

    entry: Mapping[str, Any]
    source: str
    base: Path | str

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.entry["name"])

    @property
    def version(self) -> str:
        """The model's version."""
        return str(self.entry["version"])

    @property
    def key(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> str:
        """Name of the folder that its files lie in, next to the registry."""
        return self.entry.get("folder") or folder_name(self.name, self.version)

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """Its files."""
        return typed(tuple[ModelFile, ...], self.entry["files"])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def place(self, file: ModelFile) -> Path | str:
        """Return where a file lies: at an address of its own, else next to the registry."""
        if file.url:
            return file.url
        if isinstance(self.base, Path):
            return self.base / self.folder / file.path
        return f"{self.base}{self.folder}/{file.path}"


@dataclass(frozen=True)
class Registries:
    """The content of all registries that could be read.

    Attributes:
        listed: every entry, in the order of the registries.
        problems: why others could not be read, a sentence each.
    """

    listed: tuple[Offer, ...]
    problems: tuple[str, ...] = ()

    def offers(self) -> list[Offer]:
        """List every version once, by name and newest first; of two registries the first counts."""
        found: dict[str, Offer] = {}
        for offer in self.listed:
            found.setdefault(offer.key, offer)
        newest = sorted(found.values(), key=lambda offer: version_key(offer.version), reverse=True)
        return sorted(newest, key=lambda offer: offer.name)

    def withdrawn(self, name: str, version: str) -> str | None:
        """Return why a version, or what it was made of (1.2.0 of 1.2.0+site), was withdrawn; None if it was not."""
        made_of = (version, version.partition("+")[0])
        entries = (offer.entry for offer in self.listed if offer.name == name and offer.version in made_of)
        return next((entry["withdrawn"] for entry in entries if entry.get("withdrawn")), None)

    def find(self, name: str, version: str | None) -> Offer:
        """Find a version of a model; without one the newest that was not withdrawn.

        Raises:
            UsageError: no registry has it; the message lists what there is.
        """
        offers = self.offers()
        named = [offer for offer in offers if offer.name == name]
        chosen = [offer for offer in named if version is None or offer.version == version]
        if version is None:
            chosen = [offer for offer in chosen if self.withdrawn(name, offer.version) is None] or chosen
        if chosen:
            return chosen[0]
        if named:
            known = ", ".join(offer.version for offer in named)
            raise UsageError(f"There is no version {version} of {name}: choose one of {known}.")
        known = ", ".join(dict.fromkeys(offer.name for offer in offers)) or "none"
        raise UsageError(f"No registry has a model '{name}' (known: {known}): see --from.", "unknown-model")


def read_registries(places: Sequence[str] | None = None, connect: bool = False) -> Registries:
    """Read registries; one that cannot be read is a problem.

    Args:
        places: folders and addresses; None for those that are configured.
        connect: whether servers are asked. Without, their addresses are only checked, so that a wrong one is named.
    """
    listed: list[Offer] = []
    problems: list[str] = []
    for place in configured_places() if places is None else places:
        try:
            if not place.lower().startswith(("http:", "https:")):
                is_file = place.lower().startswith("file:")
                folder = Path(url2pathname(unquote(parsed_address(place).path)) if is_file else place).expanduser()
                path = folder / REGISTRY_FILE
                if not is_there(path):
                    raise InputError(f"{folder} is no registry of models: it has no {REGISTRY_FILE}.", "no-registry")
                listed += parse_registry(read_json_object(path, REMEDY, MAXIMUM_BYTES), str(path), folder)
            elif connect:
                address = registry_address(place)
                content = parse_json(b"".join(chunks_of(address, MAXIMUM_BYTES)), address, REMEDY)
                listed += parse_registry(content, address, f"{address.split('?')[0].rpartition('/')[0]}/")
            else:
                parsed_address(place)
        except InputError as error:
            problems.append(str(error))
    return Registries(tuple(listed), tuple(problems))


def configured_places() -> list[str]:
    """Return addresses and folders of the registries to be asked, from `SEGWITHU_REGISTRY`."""
    given = os.environ.get(REGISTRY_VARIABLE, "").split(";")
    return [place.strip() for place in given if place.strip()]


def registry_address(place: str) -> str:
    """Return the address of the file `models.json` at an address, which may name the folder or the file itself.

    Of a repository at Hugging Face it may also be the page: https://huggingface.co/OWNER/NAME.
    """
    parts = parsed_address(place)
    if parts.hostname == "huggingface.co":
        folders = parts.path.strip("/").split("/")
        if len(folders) == (3 if folders[0] in ("datasets", "spaces") else 2):
            folders += ["resolve", "main"]
        path = "/" + "/".join("resolve" if name in ("tree", "blob") else name for name in folders)
        parts = parts._replace(path=path)
    if not parts.path.endswith(".json"):
        parts = parts._replace(path=f"{parts.path.rstrip('/')}/{REGISTRY_FILE}")
    return parts.geturl()


def parse_registry(data: Any, source: str, base: Path | str = "") -> list[Offer]:
    """Check the content of a `models.json`, and list what it offers.

    Args:
        source: names it in messages.
        base: as of `Offer`.

    Raises:
        InputError: another format or version, a field missing or of the wrong kind, two models of one name and version,
            files that would lie outside of their folder or overwrite each other.
    """
    check_schema(data, schema(Path(__file__).with_name("registry.schema.json")), source, REMEDY, "this format")
    offers = [Offer(entry, str(base) if isinstance(base, Path) else source, base) for entry in data["models"]]
    keys: set[str] = set()
    for offer in offers:
        if offer.key.lower() in keys:
            raise InputError(f"{source} lists {offer.key} twice: {REMEDY}.")
        keys.add(offer.key.lower())
        folder_name(offer.name, offer.version)
        check_paths([file.path for file in offer.files], f"{source}: {offer.key}", offer.folder)
    return offers


def check_paths(paths: Sequence[str], source: str, folder: str = "") -> None:
    """Refuse names of a model's files that some computer cannot have, or would take for one file.

    Args:
        source: names the file and the model in messages.
        folder: that they lie in.

    Raises:
        InputError: names the file.
    """
    lower = [path.lower() for path in paths]
    for path in (*lower, folder):
        if any(RESERVED.fullmatch(part) or part.endswith(".") for part in path.split("/")):
            raise InputError(f"{source} has the file '{path}', which Windows cannot have: {REMEDY}.", "unusable-name")
        if lower.count(path) > 1 or any(other.startswith(f"{path}/") for other in lower):
            raise InputError(f"{source} has the file '{path}' twice: {REMEDY}.", "unusable-name")
    for name in ("bundle.json", "weights.safetensors"):
        if name not in paths:
            raise InputError(f"{source} has no {name}: {REMEDY}.", "unusable-name")
