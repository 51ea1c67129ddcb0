"""The server behind the page: the standard library's, at one address, for who has the token.

Who may ask: a random token, hosts and origins by which the page is known, and keys that work once.
"""

import contextlib
import hmac
import http
import ipaddress
import json
import re
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
from .routes import Routes, Voxels
from .static_files import PAGE, StaticFile, static_files

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
MOST_BODY_BYTES = 2 << 20
"""Of a request: an act with the longest comment has less than half of it."""
PART_BYTES = 1 << 20
SILENT_S = 20.0
"""A client that neither takes nor gives a byte for so long is gone."""
ASKING_S = 60.0
"""Within which a request has come whole, and after which a connection that asks nothing is closed."""
FIRST_REQUEST_S = 5.0
"""As `ASKING_S`, for a connection that has not shown the token."""
MOST_CONNECTIONS = 64
SWEEP_S = 1.0
MOST_FIELDS = 10
JSON_TYPE, VOXEL_TYPE = "application/json; charset=utf-8", "application/octet-stream"
_GONE = (ConnectionError, TimeoutError)
Answer = dict[str, Any] | Voxels | StaticFile


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
            return 403, "Cross-origin request refused."
        if data and headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return 403, "Cross-origin request refused."
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


class PageServer(ThreadingHTTPServer):
    """Serves the page and its cases until it is told to stop.

    Args:
        address: host and port; port 0 takes a free one.
        public: the address at which a proxy shows the page; None without one.
        routes: answers what the page asks.
        say: called with one sentence about what went wrong without an asking page's fault.

    Raises:
        UsageError: the address cannot be taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32
    allow_reuse_address = sys.platform != "win32"  # there it would let another program take the same port

    def __init__(
        self,
        address: tuple[str, int],
        public: str | None,
        routes: Routes,
        say: Callable[[str], None],
    ) -> None:
        self.routes, self.say = routes, say
        self.files = static_files()
        self._asking: dict[socket.socket, float] = {}
        self._shown: dict[socket.socket, bool] = {}
        self._counting = threading.Lock()
        self._stopped = threading.Event()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, PageHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{address[0]}:{address[1]} cannot be taken ({reason}): give another --port, 0 for any that is free."
            ) from error
        self.gate = gate_for(address[0], int(self.server_address[1]), public)

    def run(self) -> list[str]:
        """Serve until `stop` or Ctrl-C; returns what could not be brought to disk, one sentence each."""
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end
            self.serve_forever(poll_interval=0.2)
        self._stopped.set()
        self.server_close()
        return self.routes.reviews.close_all()

    def stop(self) -> None:
        """End `run`, from another thread."""
        threading.Thread(target=self.shutdown, daemon=True).start()

    def server_bind(self) -> None:
        """Take the address; the base class would ask a name server for the computer's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own.

        Where there are too many, the oldest that has not shown the token is closed: who does not know it shuts nobody
        out.
        """
        with self._counting:
            if len(self._shown) >= MOST_CONNECTIONS:
                stranger = next((one for one, shown in self._shown.items() if not shown), None)
                if stranger is None:
                    self.shutdown_request(request)
                    return
                del self._shown[stranger]
                _hang_up(stranger)
            self._shown[request] = False
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._asking.pop(request, None)
            with self._counting:
                self._shown.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong, unless it is that a client went away."""
        error = sys.exc_info()[1]
        if not isinstance(error, _GONE):
            self.say(f"a request could not be answered: {type(error).__name__}: {error}")

    def asks(self, connection: socket.socket, asks: bool) -> None:
        """Count the time from when a client may ask until it has asked."""
        if asks:
            self._asking[connection] = time.monotonic()
        else:
            self._asking.pop(connection, None)

    def has_shown_token(self, connection: socket.socket) -> None:
        """Note that a client knows the token."""
        with self._counting:
            if connection in self._shown:
                self._shown[connection] = True

    def _sweep(self) -> None:
        """Give back reviews of silent windows, and close connections of clients that do not come to an end."""
        while not self._stopped.wait(SWEEP_S):
            self.routes.reviews.sweep()
            now = time.monotonic()
            for connection, since in list(self._asking.items()):
                if now - since > (ASKING_S if self._shown.get(connection) else FIRST_REQUEST_S):
                    self._asking.pop(connection, None)
                    _hang_up(connection)


class PageHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "SegWithU", ""
    timeout = SILENT_S
    wbufsize = -1  # head and content of an answer leave together, without which a verdict takes 40 ms longer
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Take a request and answer it."""
        self.server.asks(self.connection, True)
        try:
            super().handle_one_request()
        except _GONE:
            self.close_connection = True
        finally:
            self.server.asks(self.connection, False)

    def parse_request(self) -> bool:
        """Read the head of a request."""
        usable = super().parse_request()
        if usable and self.server.gate.knows(self.headers):
            self.server.has_shown_token(self.connection)
        return usable

    def do_GET(self) -> None:
        """Send a file of the page, or what is only looked at."""
        self.server.asks(self.connection, False)
        path, query = self._address()
        data = path.startswith("/api/")

        def answer() -> Answer:
            self._check(data, data)
            if data:
                return self.server.routes.get(path, query)
            return StaticFile(b"", JSON_TYPE) if path == "/favicon.ico" else self.server.files[path[1:] or PAGE]

        self._answer(answer)

    def do_POST(self) -> None:
        """Take what a reviewer says."""
        path, _query = self._address()

        def answer() -> Answer:
            body = self._body()
            self.server.asks(self.connection, False)
            self._check(path != "/api/enter", True)
            if path != "/api/enter":
                return self.server.routes.post(path, body)
            token = self.server.gate.enter(body.get("once"))
            if token is None:
                raise refused(401, "This link was used already, or is too old: open the link that was printed.")
            return {"token": token}

        self._answer(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no request, in the form of all refusals."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        refusal = refused(int(code), message or http.HTTPStatus(code).phrase)
        self._json(refusal.status, refusal.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of ordinary requests: a terminal is no place for who looked at what."""

    def _address(self) -> tuple[str, dict[str, str]]:
        """Take the address apart; one that is none is like one where nothing is."""
        try:
            parts = urlsplit(self.path)
            return parts.path, dict(parse_qsl(parts.query, max_num_fields=MOST_FIELDS))
        except ValueError:
            return "/api/", {}

    def _check(self, token: bool, from_page: bool) -> None:
        """Refuse who may not ask.

        Args:
            token: it is needed.
            from_page: only the page itself may ask.

        Raises:
            RefusalError: it may not.
        """
        gate, own = self.server.gate, str(self.connection.getsockname()[0])
        if refusal := gate.refusal(self.headers, own, from_page):
            raise refused(*refusal)
        if token and not gate.knows(self.headers):
            raise refused(401, "This link is not valid any more: open the link that segwithu web printed.")

    def _body(self) -> dict[str, Any]:
        """Read the JSON of a request.

        Raises:
            RefusalError: there is none, or too much.
        """
        length = self.headers.get("Content-Length") or ""
        if not (length.isascii() and length.isdigit()) or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise refused(411, "The length of the request is missing.")
        if int(length) > MOST_BODY_BYTES:
            self.close_connection = True  # what was not read would be taken for the next request
            raise refused(413, f"The request has {int(length)} bytes, more than {MOST_BODY_BYTES}.")
        content = self.rfile.read(int(length))
        if (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower() != "application/json":
            raise refused(415, "Content-Type must be application/json.")
        try:
            found = parse_json(content, "the request", "reload the page")
        except InputError as error:
            raise refused(400, str(error)) from error
        if not isinstance(found, dict):
            raise refused(400, "The request is no JSON object: reload the page.")
        return found

    def _answer(self, ask: Callable[[], Answer]) -> None:
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001 - the last resort of a request: the others go on
            refusal = self._refusal(error)
            self._json(refusal.status, refusal.content)
        else:
            if isinstance(answer, Voxels):
                self._send(200, answer.data, VOXEL_TYPE)
            elif isinstance(answer, StaticFile):
                self._send(200 if answer.content else 204, answer.content, answer.kind)
            else:
                self._json(200, answer)

    def _refusal(self, error: Exception) -> RefusalError:
        """Return what to answer where something was raised."""
        if isinstance(error, _GONE):
            raise error
        if isinstance(error, RefusalError):
            return error
        if isinstance(error, KeyError):
            return refused(404, "There is nothing at this address.")
        if isinstance(error, UsageError):
            return refused(400, str(error))
        if isinstance(error, SegWithUError):
            return RefusalError(409, {"kind": "damaged", "error": str(error)})
        self.server.say(f"unexpected {type(error).__name__}: {error}")
        return refused(500, f"Unexpected {type(error).__name__}: see where segwithu web was started.")

    def _json(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content, allow_nan=False)
        self._send(status, text.encode(), JSON_TYPE)

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


def _hang_up(connection: socket.socket) -> None:
    """Close a connection from another thread than the one that answers it, which thus ends."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
