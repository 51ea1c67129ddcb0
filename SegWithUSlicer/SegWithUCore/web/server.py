"""The HTTP server behind the review page: the standard library's, for clients that have the token.

A request needs a random token, and a Host and Origin by which the page is known. A key for the browser works once.
"""

import contextlib
import hmac
import http
import ipaddress
import json
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ..util.errors import InputError, SegWithUError, UsageError
from ..util.strict_json import parse_json
from .reviews import RefusalError
from .routes import Routes
from .static_files import PAGE, StaticFile, static_files

# A key that works once is used within this time: a browser opens at once, or not at all.
ONCE_S = 60.0
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
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
# A request with the longest comment has less than half of it.
MOST_BODY_BYTES = 2 << 20
# A mask of a large image, compressed, has some megabytes.
MOST_MASK_BYTES = 64 << 20
PART_BYTES = 1 << 20
# A client that neither sends nor receives a byte for so long is disconnected, and one that shows no token in all.
SILENT_S = 20.0
# Connections at once that have not shown the token: one more ends the oldest, so that strangers use up neither threads
# nor files, and a reviewer, who shows the token at once, comes in. A browser opens six.
MOST_STRANGERS = 64
MOST_FIELDS = 10
JSON_TYPE = "application/json; charset=utf-8"
NO_ICON = StaticFile(b"", JSON_TYPE)
_GONE = (ConnectionError, TimeoutError)
Answer = dict[str, Any] | StaticFile


def new_token() -> str:
    """Return a text that cannot be guessed."""
    return secrets.token_urlsafe(24)


def public_address(text: str) -> str:
    """Check the address at which a proxy shows the page; returns it with a slash at its end.

    Raises:
        UsageError: it is not an address.
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
        hosts: values of the header Host that are answered: a name that an attacker's page points to this computer is
            not among them.
        token: of the header Authorization.
        monotonic: returns seconds from any point in time.
    """

    address: str
    hosts: frozenset[str]
    token: str = field(default_factory=new_token)
    monotonic: Callable[[], float] = time.monotonic
    _once: dict[str, float] = field(default_factory=dict)

    @property
    def link(self) -> str:
        """What a user opens. The token is behind a #, which browsers do not send."""
        return f"{self.address}#{self.token}"

    def link_for_once(self) -> str:
        """Return what a browser is started with: other users of this computer see the commands that run on it."""
        key = new_token()
        self._once[key] = self.monotonic() + ONCE_S
        return f"{self.address}#once={key}"

    def enter(self, key: object) -> str:
        """Return the token for a key that works once.

        Raises:
            RefusalError: it was used, is too old, or never was a key.
        """
        until = self._once.pop(key, None) if isinstance(key, str) else None
        if until is None or self.monotonic() > until:
            raise refused(401, "This link was used already, or is too old: open the link that was printed.")
        return self.token

    def check(self, headers: "Message[str, str]", token: bool, data: bool) -> None:
        """Refuse a request that may not be answered.

        Args:
            token: whether it needs the token.
            data: whether it asks for data of cases, which only the page itself may do; anybody may link to the page.

        Raises:
            RefusalError: with status and message.
        """
        if (headers.get("Host") or "").lower() not in self.hosts:
            raise refused(421, "Unexpected Host header: open the link that segwithu web printed.")
        origin = headers.get("Origin")
        own = {f"{urlsplit(self.address).scheme}://{host}" for host in self.hosts}
        other_site = data and headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if other_site or (origin is not None and origin.lower() not in own):
            raise refused(403, "Cross-origin request refused.")
        given = (headers.get("Authorization") or "").encode(errors="replace")
        if token and not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            raise refused(401, "This link is not valid any more: open the link that segwithu web printed.")


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
    shown = f"[{host}]" if ":" in host else host
    address = public_address(public) if public else f"http://{shown}:{port}/"
    names = {shown.lower(), *(LOCAL_NAMES if is_local(host) else ())}
    return Gate(address, frozenset({f"{name}:{port}" for name in names} | {urlsplit(address).netloc.lower()}))


class PageServer(ThreadingHTTPServer):
    """Serves the page and its cases until it is stopped.

    Args:
        address: host and port; port 0 takes a free one.
        public: the address at which a proxy shows the page; None without one.
        routes: answers what the page asks.
        report: called with a message about an error that is not the page's.

    Raises:
        UsageError: the address cannot be taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = sys.platform != "win32"  # there it would let another program take the same port

    def __init__(
        self, address: tuple[str, int], public: str | None, routes: Routes, report: Callable[[str], None]
    ) -> None:
        self.routes, self.report = routes, report
        self.strangers: dict[socket.socket, float] = {}  # and since when, the oldest first
        self.files = static_files()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, PageHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            taken = f"{address[0]}:{address[1]} cannot be taken ({reason})"
            raise UsageError(f"{taken}: give another --port, or 0 for any free one.", "port-taken") from error
        self.gate = gate_for(address[0], int(self.server_address[1]), public)

    def run(self) -> list[str]:
        """Serve until `stop` or Ctrl-C; returns a message for each review that could not be stored."""
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end
            self.serve_forever(poll_interval=0.2)
        self.server_close()
        return self.routes.reviews.close_all()

    def stop(self) -> None:
        """End `run`, from another thread."""
        threading.Thread(target=self.shutdown, daemon=True).start()

    def service_actions(self) -> None:
        """Release reviews of silent windows, and end connections without the token, between requests."""
        self.routes.reviews.close_silent()
        for connection, since in list(self.strangers.items()):
            if time.monotonic() - since > SILENT_S:
                self._hang_up(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own; it is a stranger's until a request has the token."""
        self.strangers[request] = time.monotonic()
        for connection in list(self.strangers)[:-MOST_STRANGERS]:
            self._hang_up(connection)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.strangers.pop(request, None)
        super().shutdown_request(request)

    def _hang_up(self, connection: socket.socket) -> None:
        """End a connection: its thread reads the end, and closes it."""
        self.strangers.pop(connection, None)
        with contextlib.suppress(OSError):  # it is gone already
            connection.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        """Bind the address without the base class's reverse DNS look-up."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error of a request, unless the client went away."""
        error = sys.exc_info()[1]
        if not isinstance(error, _GONE):
            self.report(f"a request could not be answered: {type(error).__name__}: {error}")


class PageHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "SegWithU", ""
    timeout = SILENT_S
    wbufsize = -1  # head and content of an answer leave together, without which a verdict takes 40 ms longer
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send a file of the page, or data."""
        path, query = self._address()
        data = path.startswith("/api/")

        def answer() -> Answer:
            self.server.gate.check(self.headers, data, data)
            if data:
                self.server.strangers.pop(self.connection, None)
                return self.server.routes.get(path, query)
            return NO_ICON if path == "/favicon.ico" else self.server.files[path[1:] or PAGE]

        self._answer(answer)

    def do_POST(self) -> None:
        """Take what a reviewer enters."""
        path, _query = self._address()

        def answer() -> Answer:
            body = self._body()
            self.server.gate.check(self.headers, path != "/api/enter", True)
            if path == "/api/enter":
                return {"token": self.server.gate.enter(body.get("once"))}
            self.server.strangers.pop(self.connection, None)
            return self.server.routes.post(path, body)

        self._answer(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a malformed request, in the form of all refusals."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        refusal = refused(int(code), message or http.HTTPStatus(code).phrase)
        self._json(refusal.status, refusal.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing about ordinary requests: who viewed what does not belong in a terminal."""

    def _address(self) -> tuple[str, dict[str, str]]:
        """Split the address into path and query; a malformed one is treated as unknown."""
        try:
            parts = urlsplit(self.path)
            return parts.path, dict(parse_qsl(parts.query, max_num_fields=MOST_FIELDS))
        except ValueError:
            return "/api/", {}

    def _body(self) -> dict[str, Any]:
        """Read the JSON of a request.

        Raises:
            RefusalError: there is none, or too much.
        """
        length = self.headers.get("Content-Length") or ""
        is_number = length.isascii() and length.isdigit()
        most = MOST_MASK_BYTES if self.path.endswith("/mask") else MOST_BODY_BYTES
        if not is_number or int(length) > most or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # what was not read would be taken for the next request
            if is_number and int(length) > most:
                raise refused(413, f"The request has {int(length)} bytes, more than {most}.")
            raise refused(411, "The length of the request is missing.")
        content = self.rfile.read(int(length))
        if self.headers.get_content_type() != "application/json":
            raise refused(415, "Content-Type must be application/json.")
        try:
            found = parse_json(content, "The request", "reload the page")
        except InputError as error:
            raise refused(400, str(error)) from error
        if not isinstance(found, dict):
            raise refused(400, "The request is not a JSON object: reload the page.")
        return found

    def _answer(self, ask: Callable[[], Answer]) -> None:
        try:
            answer = ask()
        except _GONE:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of a request: the others continue
            refusal = self._refusal(error)
            self._json(refusal.status, refusal.content)
        else:
            if isinstance(answer, StaticFile):
                self._send(204 if answer is NO_ICON else 200, answer.content, answer.kind)
            else:
                self._json(200, answer)

    def _refusal(self, error: Exception) -> RefusalError:
        """Return the answer to a request that failed."""
        if isinstance(error, RefusalError):
            return error
        if isinstance(error, KeyError):
            return refused(404, "There is nothing at this address.")
        if isinstance(error, UsageError):
            return refused(400, str(error))
        if isinstance(error, SegWithUError):
            return RefusalError(409, {"kind": "damaged", "error": str(error)})
        self.server.report(f"unexpected {type(error).__name__}: {error}")
        return refused(500, f"Unexpected {type(error).__name__}: see where segwithu web was started.")

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content, allow_nan=False).encode(), JSON_TYPE)

    def _send(self, status: int, content: bytes | memoryview, kind: str) -> None:
        self.send_response(status)
        for name, value in {**SECURITY_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        view = memoryview(content)
        for start in range(0, len(view), PART_BYTES):
            self.wfile.write(view[start : start + PART_BYTES])


def refused(status: int, message: str) -> RefusalError:
    """Make the refusal of a request, with the phrase of its status."""
    return RefusalError(status, {"kind": http.HTTPStatus(status).phrase.lower(), "error": message})
