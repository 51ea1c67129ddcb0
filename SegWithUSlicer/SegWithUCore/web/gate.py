"""Who may ask: a random token, hosts and origins by which the page is known, and keys that work once."""

import hmac
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import urlsplit

from ..util.errors import UsageError

ONCE_S = 60.0
"""A key that works once is used within this time: a browser opens at once, or not at all."""
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
EVERYWHERE = ("0.0.0.0", "::", "")
"""Hosts of a server that listens at all addresses of the computer."""
_NUMBER_AND_PORT = re.compile(r"(?P<number>\[[0-9a-f:.%]+\]|[0-9.]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def new_token() -> str:
    """Return a text that nobody guesses."""
    return secrets.token_urlsafe(24)


def public_address(text: str) -> str:
    """Check the address at which a proxy shows the page; returns it with a slash at its end.

    Raises:
        UsageError: it is none.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise UsageError(f"--behind-proxy {text}: give the address of the page, such as https://review.example.org/.")
    return text if text.endswith("/") else f"{text}/"


@dataclass
class Gate:
    """What a request must have.

    Attributes:
        address: of the page, with a slash at its end.
        hosts: values of the header Host by which the page may be asked: a name that an attacker's page lets lead to
            this computer is none of them.
        port: that the server listens at.
        token: of the header Authorization.
        monotonic: returns seconds from any point in time.
    """

    address: str
    hosts: frozenset[str]
    port: int
    token: str = field(default_factory=new_token)
    monotonic: Callable[[], float] = time.monotonic
    _once: dict[str, float] = field(default_factory=dict)

    @property
    def link(self) -> str:
        """What a user opens. The token is behind a #, which browsers send to nobody."""
        return f"{self.address}#{self.token}"

    def link_for_once(self) -> str:
        """Return what a browser is started with: other users of this computer see the commands that run on it."""
        key = new_token()
        self._once[key] = self.monotonic() + ONCE_S
        return f"{self.address}#once={key}"

    def enter(self, key: object) -> str | None:
        """Return the token for a key that works once; None if it was used, is too old, or never was one."""
        until = self._once.pop(key, None) if isinstance(key, str) else None
        return self.token if until is not None and self.monotonic() <= until else None

    def refusal(self, headers: "Message[str, str]", own_address: str, data: bool) -> tuple[int, str] | None:
        """Return why nothing may be sent, as status and sentence; None if it may.

        Args:
            own_address: at which the connection has come in.
            data: of cases is asked for, which only the page itself may do; the page may be linked to from anywhere.
        """
        host = (headers.get("Host") or "").lower()
        if host not in self.hosts and not self._is_own_number(host, own_address):
            return 421, "This server does not know itself by that name: open the link that segwithu web printed."
        origin = headers.get("Origin")
        if origin is not None and origin.lower() not in self._origins(own_address):
            return 403, "Another page asked."
        if data and headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return 403, "Another page asked."
        return None

    def knows(self, headers: "Message[str, str]") -> bool:
        """Whether a request has the token."""
        given = headers.get("Authorization") or ""
        return hmac.compare_digest(given.encode(errors="replace"), f"Bearer {self.token}".encode())

    def _is_own_number(self, host: str, own_address: str) -> bool:
        """Whether a Host is the number and port that the connection came in by: no name leads there by a trick."""
        found = _NUMBER_AND_PORT.fullmatch(host)
        usual = 443 if self.address.startswith("https:") else 80  # which browsers leave out
        if found is None or int(found["port"] or usual) != self.port:
            return False
        try:
            return ipaddress.ip_address(found["number"].strip("[]")) == ipaddress.ip_address(own_address)
        except ValueError:
            return False

    def _origins(self, own_address: str) -> set[str]:
        scheme = urlsplit(self.address).scheme
        port = urlsplit(self.address).port
        numeric = f"{own_address}:{port}" if port is not None else own_address
        return {f"{scheme}://{host}" for host in (*self.hosts, numeric)}


def is_local(host: str) -> bool:
    """Whether only this computer can reach a server at a host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def gate_for(host: str, port: int, public: str | None) -> Gate:
    """Make the gate of a server.

    Args:
        host, port: where it listens.
        public: the address at which a proxy shows it.
    """
    everywhere = host in EVERYWHERE
    shown = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
    names = {shown.lower(), *(LOCAL_NAMES if is_local(host) or everywhere else ())}
    address = public_address(public) if public else f"http://{shown}:{port}/"
    hosts = {f"{name}:{port}" for name in names} | {urlsplit(address).netloc.lower()}
    return Gate(address, frozenset(hosts), port)
