"""Servers of models on this computer: a good one for a folder, one with every fault seen in the field.

All of them note what they were asked, with headers.
"""

import contextlib
import hashlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONTENT = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Asked:
    """A request that a server got."""

    path: str
    headers: dict[str, str]


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "ModelServer"

    def log_message(self, *_arguments: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def noted(self) -> str:
        path = self.path.split("?")[0]
        self.server.asked.append(Asked(path, dict(self.headers)))
        return path

    def cut_off(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class ModelServer(ThreadingHTTPServer):
    """A server that knows what it was asked."""

    daemon_threads = True

    def __init__(self, handler: type[_Quiet], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), handler)
        self.asked: list[Asked] = []
        self.folder, self.slowly_s, self.elsewhere, self.silent_s = Path(), 0.0, "", 1.0
        self.scheme, self.host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that end in the middle are what is tested


@contextlib.contextmanager
def running(server: ModelServer) -> Iterator[ModelServer]:
    """Let a server answer while the block runs."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FolderHandler(_Quiet):
    """Shows `server.folder`, `server.slowly_s` seconds for every 64 kB."""

    def do_GET(self) -> None:
        path = self.server.folder / self.noted().lstrip("/")
        if not path.is_file():
            self.answer(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            for begin in range(0, len(body), 1 << 16):
                self.wfile.write(body[begin : begin + (1 << 16)])
                time.sleep(self.server.slowly_s)


@dataclass
class _Reply:
    """What the server with faults answers: `cut_at` bytes of the body, then the line is cut."""

    status: int = 200
    body: bytes = CONTENT
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    silent: bool = False
    pieces: bool = False
    """Slowly, without saying how much it is, until the line is closed."""


def _sent(body: bytes = CONTENT, **changes: Any) -> _Reply:
    return _Reply(body=body, headers={"Content-Type": "application/octet-stream"}, **changes)


def _redirect(address: str) -> _Reply:
    return _Reply(302, b"", {"Location": address})


FAULTS: dict[str, Callable[[ModelServer], _Reply]] = {
    "good": lambda _: _sent(),
    "slow": lambda _: _Reply(pieces=True),
    "redirect": lambda server: _redirect(f"{server.elsewhere}/good"),
    "cut": lambda _: _sent(cut_at=300_000),
    "nothing": lambda _: _sent(cut_at=0),
    "silent": lambda _: _sent(cut_at=200_000, silent=True),
    "401": lambda _: _Reply(401),
    "404": lambda _: _Reply(404, b"no"),
    "503": lambda _: _Reply(503, b"later", {"Retry-After": "7200"}),
    "login": lambda _: _Reply(200, b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8"}),
    "downgrade": lambda _: _redirect("http://example.org/file"),
    "to-no-address": lambda _: _redirect("http://["),
    "to-no-port": lambda _: _redirect("http://127.0.0.1:99999/f"),
    "loop": lambda _: _redirect("/loop"),
    "hash": lambda _: _sent(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])),
    "length": lambda _: _sent(CONTENT[:-10]),
    "longer": lambda _: _Reply(body=CONTENT + b"x", pieces=True),
    "gzip": lambda _: _Reply(headers={"Content-Encoding": "gzip"}),
}


class FaultyHandler(_Quiet):
    """Answers `/FAULT` as `FAULTS` says."""

    def do_GET(self) -> None:
        kind = self.noted().strip("/")
        reply = FAULTS[kind](self.server)
        if reply.pieces:
            self._send_slowly(reply.body)
            return
        if reply.cut_at is None:
            self.answer(reply.status, reply.body, reply.headers)
            return
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(reply.body[: reply.cut_at])
            self.wfile.flush()
        if reply.silent:
            time.sleep(self.server.silent_s)
        self.cut_off()

    def _send_slowly(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            for begin in range(0, len(body), 200_000):
                self.wfile.write(body[begin : begin + 200_000])
                time.sleep(0.02)
        self.cut_off()
