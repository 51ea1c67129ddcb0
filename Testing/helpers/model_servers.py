"""Servers of models on this computer: a good one for a folder, one with every fault seen in the field, a proxy.

All of them note what they were asked, with headers.
"""

import base64
import contextlib
import hashlib
import random
import re
import select
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
OTHER_CONTENT = random.Random(1).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TOKEN = "t0k-en"


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

    def range_start(self) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else None

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
    """Shows `server.folder` with ranges and ETags, `server.slowly_s` seconds for every 64 kB."""

    def do_GET(self) -> None:
        path = self.server.folder / self.noted().lstrip("/")
        if not path.is_file():
            self.answer(404)
            return
        body = path.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        if self.headers.get("If-None-Match") == etag:
            self.answer(304, headers={"ETag": etag})
            return
        start = self.range_start() if self.headers.get("If-Range", etag) == etag else None
        self.send_response(200 if start is None else 206)
        self.send_header("ETag", etag)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        rest = body[start or 0 :]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        with contextlib.suppress(OSError):
            for begin in range(0, len(rest), 1 << 16):
                self.wfile.write(rest[begin : begin + (1 << 16)])
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


Fault = Callable[["FaultyHandler", int, int | None], _Reply]
"""From the handler, the number of times it was asked, and the start of the range asked for."""


def _served(start: int | None, etag: str = '"v1"', content: bytes = CONTENT) -> _Reply:
    headers = {"ETag": etag, "Content-Type": "application/octet-stream"}
    if start is None:
        return _Reply(200, content, headers)
    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return _Reply(206, content[start:], headers)


def _with(reply: _Reply, **changes: Any) -> _Reply:
    for name, value in changes.items():
        setattr(reply, name, value)
    return reply


def _changed_between(handler: "FaultyHandler", number: int, start: int | None) -> _Reply:
    if number == 1:
        return _with(_served(None, '"v0"', OTHER_CONTENT), cut_at=400_000)
    return _served(start if handler.headers.get("If-Range") == '"v1"' else None)


def _wrong_range(_handler: "FaultyHandler", number: int, start: int | None) -> _Reply:
    if number == 1:
        return _with(_served(None), cut_at=400_000)
    reply = _served(start)
    if start is not None:
        reply.headers["Content-Range"] = f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"
    return reply


FAULTS: dict[str, Fault] = {
    "good": lambda _h, _n, start: _served(start),
    "cut": lambda _h, _n, start: _with(_served(start), cut_at=300_000),
    "no-range": lambda _h, n, _start: _with(_served(None), cut_at=400_000 if n < 3 else None),
    "changed": _changed_between,
    "wrong-range": _wrong_range,
    "silent": lambda _h, n, start: _with(_served(start), cut_at=200_000 if n < 3 else None, silent=n < 3),
    "503": lambda _h, n, start: _Reply(503, b"later", {"Retry-After": "1"}) if n < 2 else _served(start),
    "wait-long": lambda _h, _n, _start: _Reply(503, b"later", {"Retry-After": "7200"}),
    "401": lambda h, _n, start: _served(start) if h.headers.get("Authorization") == f"Bearer {TOKEN}" else _Reply(401),
    "404": lambda _h, _n, _start: _Reply(404, b"no"),
    "416": lambda _h, n, start: (
        _Reply(416, b"") if start is not None else _with(_served(None), cut_at=400_000 if n < 2 else None)
    ),
    "login": lambda _h, _n, _start: _Reply(200, b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8"}),
    "redirect": lambda h, _n, _start: _Reply(302, b"", {"Location": f"{h.server.elsewhere}/good"}),
    "downgrade": lambda _h, _n, _start: _Reply(302, b"", {"Location": "http://example.org/file"}),
    "to-no-address": lambda _h, _n, _start: _Reply(302, b"", {"Location": "http://["}),
    "to-no-port": lambda _h, _n, _start: _Reply(302, b"", {"Location": "http://127.0.0.1:99999/f"}),
    "loop": lambda _h, _n, _start: _Reply(302, b"", {"Location": "/loop"}),
    "hash": lambda _h, _n, start: _served(start, content=CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])),
    "length": lambda _h, _n, start: _served(start, content=CONTENT[:-10]),
    "longer": lambda _h, _n, _start: _Reply(body=CONTENT + b"x", pieces=True),
    "slow": lambda _h, _n, _start: _Reply(pieces=True),
    "gzip": lambda _h, _n, start: _with(_served(start), headers={"Content-Encoding": "gzip"}),
    "nothing": lambda _h, _n, start: _with(_served(start), cut_at=0),
}


class FaultyHandler(_Quiet):
    """Answers `/FAULT` as `FAULTS` says."""

    def do_GET(self) -> None:
        kind = self.noted().strip("/")
        number = sum(asked.path.strip("/") == kind for asked in self.server.asked)
        reply = FAULTS[kind](self, number, self.range_start())
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


class ProxyHandler(_Quiet):
    """A proxy for https (CONNECT) and http; with `server.elsewhere` set it asks for that "user:password"."""

    def do_CONNECT(self) -> None:
        self.noted()
        if not self._allowed():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200)
            self.end_headers()
            ends = [self.connection, far]
            while True:
                for end in select.select(ends, [], [], 10)[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        self.close_connection = True
                        return
                    ends[1 - ends.index(end)].sendall(data)

    def _allowed(self) -> bool:
        wanted = self.server.elsewhere
        given = self.headers.get("Proxy-Authorization", "")
        if wanted and given != f"Basic {base64.b64encode(wanted.encode()).decode()}":
            self.answer(407, headers={"Proxy-Authenticate": "Basic"})
            return False
        return True
