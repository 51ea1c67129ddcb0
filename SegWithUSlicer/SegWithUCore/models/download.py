"""Download one file: resumed after a cut or a kill, checked by size and SHA-256, whole or absent."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from .connection import TOKENS_VARIABLE, Bearer, checked_address, host_of, new_session, shown_url, tokens_of_environment
from .model_entry import ModelFile
from .partial_file import CHUNK, REFRESH, DownloadError, PartialFile, Received, UnreachableError, check_space, writing

CONNECT_S, SILENCE_S = 10.0, 60.0
"""Longest wait for a connection, and longest silence while a file comes; the whole may take as long as it takes."""
ATTEMPTS = 6
"""In a row that bring not one new byte; whoever gets on, if slowly, never gives up."""
LONGEST_PAUSE_S = 20.0
LONGEST_ASKED_PAUSE_S = 120.0
"""A server that asks to wait longer (Retry-After) is left for another time."""
REDIRECTS = 6
_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class _TryAgainError(Exception):
    """An attempt failed in a way that the next one may not; `pause_s` is how long the server asks to wait."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


@dataclass(frozen=True)
class Fetched:
    """What a server answered: its content, None if it has not changed, and its ETag."""

    content: bytes | None
    etag: str | None


class Downloader:
    """Connections to servers of models.

    Args:
        tokens: by host, with its port where it is not the usual one; None takes those of the environment.
        silence_s: longest silence of a server.
        pause_s: wait after a first attempt that failed; it doubles with every further one.
        note: called with one sentence where something keeps the user waiting.
    """

    def __init__(
        self,
        tokens: Mapping[str, str] | None = None,
        silence_s: float = SILENCE_S,
        pause_s: float = 0.5,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tokens = tokens_of_environment() if tokens is None else tokens
        self._timeouts, self._pause_s, self._note = (CONNECT_S, silence_s), pause_s, note
        self._session = new_session()

    def fetch(self, url: str, etag: str | None, maximum_bytes: int) -> Fetched:
        """Get a small file whole, unless it still has `etag`.

        Raises:
            DownloadError: it cannot be had, is a web page, or has more than `maximum_bytes`.
        """

        def attempt() -> Fetched:
            with self._get(url, {"If-None-Match": etag} if etag else {}) as answer:
                if answer.status_code == 304 and etag:
                    return Fetched(None, etag)
                _check_answer(answer, url)
                content = bytearray()
                for chunk in answer.iter_content(CHUNK):
                    content += chunk
                    if len(content) > maximum_bytes:
                        raise DownloadError(f"{shown_url(url)} has more than {maximum_bytes} bytes, too many for it.")
                return Fetched(bytes(content), answer.headers.get("ETag"))

        return self._patiently(url, attempt, lambda: 0)

    def download(self, url: str, wanted: ModelFile, target: Path, received: Received = lambda _: None) -> None:
        """Download a file to `target`; what an earlier attempt left in `target`.part is gone on with.

        Raises:
            DownloadError: the file cannot be had, or is another than wanted.
            UnreachableError: not now; what had come is kept.
        """
        part = PartialFile(target, wanted)
        with writing(target, wanted.size):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._patiently(url, lambda: self._go_on(url, part, received), part.size)
            part.finish(shown_url(url))

    def _go_on(self, url: str, part: "PartialFile", received: Received) -> None:
        """Get what is missing, in one request."""
        have, validator = part.begun()
        if have == part.wanted.size:
            return
        check_space(part.path.parent, part.wanted.size - have)
        headers = {"Range": f"bytes={have}-", **({"If-Range": validator} if validator else {})} if have else {}
        with self._get(url, headers) as answer:
            if answer.status_code == 416:
                part.discard()
                raise _TryAgainError("it refuses to go on in the middle")
            _check_answer(answer, url, part.wanted.path)
            if answer.status_code == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.discard()
                raise _TryAgainError("it sent another part than was asked for")
            have = have if answer.status_code == 206 else 0
            told = answer.headers.get("Content-Length", "")
            if told.isdecimal() and have + int(told) != part.wanted.size:
                raise DownloadError(
                    f"{shown_url(url)} has {have + int(told)} bytes instead of {part.wanted.size}: {REFRESH}."
                )
            part.receive(answer.iter_content(CHUNK), have, _validator(answer), received)
        if part.size() < part.wanted.size:
            raise _TryAgainError("the file ended too early")

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Ask for `url`, following redirects by our own rules: never to plain http, no token to another host."""
        asked = url
        for _ in range(REDIRECTS):
            parts = checked_address(asked, url)
            token = self._tokens.get(host_of(parts))
            answer = self._session.get(
                asked,
                headers=headers,
                stream=True,
                timeout=self._timeouts,
                allow_redirects=False,
                auth=Bearer(token) if token else None,
            )
            if answer.status_code not in (301, 302, 303, 307, 308):
                return answer
            answer.close()
            location = answer.headers.get("Location", "")
            try:
                asked = urljoin(asked, location)
            except ValueError:
                asked = location  # no address, so it is refused next
        raise DownloadError(f"{shown_url(url)} is redirected again and again: ask whoever keeps that server.")

    def _patiently(self, url: str, attempt: Callable[[], Any], size: Callable[[], int]) -> Any:
        """Attempt until it succeeds or `ATTEMPTS` in a row brought nothing new.

        Args:
            size: counts the bytes that are there.
        """
        idle = 0
        while True:
            before = size()
            try:
                return attempt()
            except _BROKEN as error:
                _check_hopeless(error, url)
                reason, asked = _reason(error), None
            except _TryAgainError as error:
                reason, asked = str(error), error.pause_s
            except requests.RequestException as error:
                raise DownloadError(
                    f"{shown_url(url)} cannot be asked for ({type(error).__name__}): check it."
                ) from error
            idle = 0 if size() > before else idle + 1
            host = urlsplit(url).hostname
            if idle >= ATTEMPTS:
                kept = f"; the {size()} bytes that came are kept" if size() else ""
                raise UnreachableError(f"{host} cannot be reached ({reason}){kept}: try again later.")
            if asked is not None and asked > LONGEST_ASKED_PAUSE_S:
                raise UnreachableError(f"{host} asks to wait for {asked:.0f} s ({reason}): try again later.")
            if idle == 2:
                self._note(f"{host} does not answer as it should ({reason}): trying again.")
            time.sleep(max(asked or 0.0, min(self._pause_s * 2 ** max(idle - 1, 0), LONGEST_PAUSE_S)))


def _check_answer(answer: requests.Response, url: str, path: str = "") -> None:
    """Refuse answers that are not the file.

    Raises:
        DownloadError: for good.
        _TryAgainError: for now.
    """
    status, host = answer.status_code, urlsplit(answer.url).hostname
    if status in (401, 403, 407):
        raise DownloadError(
            f"{host} refuses access to {shown_url(url)} ({status}): set {TOKENS_VARIABLE} to {host}=TOKEN, or ask "
            "whoever keeps that server."
        )
    if status in (429, 500, 502, 503, 504):
        raise _TryAgainError(f"status {status}", _retry_after(answer))
    if status not in (200, 206):
        raise DownloadError(
            f"{shown_url(url)} is not there ({status}): run segwithu models refresh, or ask its keeper."
        )
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError(f"{host} changes files on their way (Content-Encoding): ask whoever keeps that server.")
    if answer.headers.get("Content-Type", "").lower().startswith("text/html") and not path.endswith(".html"):
        raise DownloadError(
            f"{host} answers with a web page instead of {shown_url(url)}, as the login page of a network does: "
            "log in there, or ask your network's administrators to allow that address."
        )


def _validator(answer: requests.Response) -> str | None:
    """Return the server's mark of a file that If-Range takes; a weak ETag does not promise equal bytes."""
    etag = answer.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")


def _retry_after(answer: requests.Response) -> float | None:
    """Read how many seconds a server asks to wait; a date, which few send, is not heeded."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 9 else None


def _check_hopeless(error: Exception, url: str) -> None:
    """Raise at once what another attempt would meet again.

    Raises:
        DownloadError: a certificate that is not trusted, a proxy that refuses.
    """
    host = urlsplit(url).hostname
    if isinstance(error, requests.exceptions.ProxyError):
        found = re.search(r"\b[45]\d\d [A-Za-z ]+", str(error))  # never the whole: it may hold the proxy's password
        reason = found[0].strip() if found else "no connection"
        raise DownloadError(
            f"The proxy for {host} cannot be used ({reason}): check HTTPS_PROXY and HTTP_PROXY, or name hosts "
            "that need none in NO_PROXY."
        ) from error
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in str(error).upper():
        found = re.search(r"certificate verify failed: ([^()]+)", str(error))
        reason = found[1].strip(" :") if found else "it is not valid"
        raise DownloadError(
            f"The certificate of {host} is not trusted ({reason}): set REQUESTS_CA_BUNDLE to your institution's "
            "certificate file, or install the package truststore where this computer trusts it already."
        ) from error


def _reason(error: Exception) -> str:
    """Word a broken connection."""
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return "the connection was cut while it was being encrypted, as firewalls do"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "no answer"
    if isinstance(error, requests.Timeout) or "timed out" in text:
        return "it fell silent"
    if "NameResolution" in text or "getaddrinfo" in text or "resolve" in text.lower():
        return "its name is unknown here; is this computer offline?"
    return "connection refused" if "refused" in text.lower() else "the connection was cut"
