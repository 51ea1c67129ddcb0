"""Ask a server for one file: https only, no surprises on the way, one refusal with a code for each kind of failure.

Certificates are always checked. Proxies, certificates of an institution (REQUESTS_CA_BUNDLE) and passwords (~/.netrc)
are those of the library requests.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from ..util.errors import InputError
from ..version import __version__

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
    for is_there, code, why in faults:
        if is_there:
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
