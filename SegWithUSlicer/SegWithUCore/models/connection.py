"""Connections to servers of models: which certificates count, who gets a token, which addresses are never asked.

Certificates are always checked. Which ones count: those of REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE if set, else those of
the system where the package truststore is installed, else those that come with requests. Proxies are taken from
HTTPS_PROXY, HTTP_PROXY and NO_PROXY, on Windows and macOS also from the system.
"""

import contextlib
import os
import ssl
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from .. import __version__
from ..errors import InputError
from .partial_file import DownloadError
from .store_registry import parsed_address

TOKENS_VARIABLE = "SEGWITHU_TOKENS"
_LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}


class Bearer(AuthBase):
    """A token as `auth`, not as a header: an entry of the same host in ~/.netrc would replace a header."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def tokens_of_environment() -> dict[str, str]:
    """Read `SEGWITHU_TOKENS`, such as "models.hospital.org=TOKEN; other.org:8443=TOKEN": tokens by host and port.

    Raises:
        InputError: an entry is none; its text is not repeated, for it may be a token.
    """
    tokens = {}
    for number, entry in enumerate(os.environ.get(TOKENS_VARIABLE, "").split(";"), 1):
        host, equals, token = (part.strip() for part in entry.partition("="))
        if not entry.strip():
            continue
        if not (host and equals and token) or "/" in host:
            raise InputError(f"{TOKENS_VARIABLE} has an entry (number {number}) that is not HOST=TOKEN: correct it.")
        tokens[host.lower()] = token
    return tokens


def new_session() -> requests.Session:
    """Open a session that trusts what the system trusts and asks for files as they are."""
    session = _Session()
    # requests asks for gzip by itself: lengths and ranges would then not be the file's
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": f"segwithu-slicer/{__version__}"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, _SystemCertificates(max_retries=0))
    return session


class _Session(requests.Session):
    """Leaves redirects to `Downloader`, also those that lead to no address, which parsing would raise for."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Say that there is none."""
        return None


class _SystemCertificates(HTTPAdapter):
    """Trusts what the system trusts, as browsers do, where truststore is installed and no other file was named."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pool of connections."""
        _trust_system(options)
        super().init_poolmanager(*arguments, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Make the pool of connections through a proxy."""
        _trust_system(options)
        return super().proxy_manager_for(proxy, **options)


def _trust_system(options: dict[str, Any]) -> None:
    if os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        return
    with contextlib.suppress(ImportError):
        import truststore

        options["ssl_context"] = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def shown_url(url: str) -> str:
    """Return an address without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{host_of(parts)}{parts.path}"


def host_of(parts: SplitResult) -> str:
    """Return the host that a token may be for, with its port unless that is the usual one."""
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    return host if parts.port in (None, usual) else f"{host}:{parts.port}"


def checked_address(url: str, begun: str) -> SplitResult:
    """Refuse addresses that are not to be asked.

    Args:
        begun: the address that was asked first.

    Raises:
        DownloadError: no address, plain http (but to this computer, if one began there), or with a password in it.
    """
    try:
        parts = parsed_address(url)
    except InputError as error:
        raise DownloadError(str(error)) from error
    plain = parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS and begun.lower().startswith("http:")
    if (parts.scheme != "https" and not plain) or not parts.hostname:
        raise DownloadError(f"{parts.scheme}://{host_of(parts)} is not encrypted: models come over https only.")
    if parts.username or parts.password:
        raise DownloadError(f"The address at {host_of(parts)} holds a name or password: set {TOKENS_VARIABLE} instead.")
    return parts
