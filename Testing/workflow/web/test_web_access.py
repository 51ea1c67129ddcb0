"""Who may ask the server behind the page, and what no request or case folder can reach."""

import contextlib
import json
import os
import shutil
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from exchanged_cases import CASES, changed_case
from web_client import WebClient, served

from SegWithUCore.web import server as server_module
from SegWithUCore.web.server import MOST_STRANGERS, PageHandler

NAME = CASES[0]


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    """Three cases of the test's own."""
    return Path(shutil.copytree(segmented_cases, tmp_path / "cases"))


FOREIGN = {
    "no token": ({"Authorization": None}, 401),
    "another token": ({"Authorization": "Bearer x"}, 401),
    "token as user and password": ({"Authorization": "Basic eDp5"}, 401),
    "another name for this computer": ({"Host": "evil.example:80"}, 421),
    "no host": ({"Host": None}, 421),
    "another port": ({"Host": "127.0.0.1:1"}, 421),
    "no port": ({"Host": "127.0.0.1"}, 421),
    "another page": ({"Origin": "https://evil.example"}, 403),
    "a file": ({"Origin": "null"}, 403),
    "another page, as browsers tell": ({"Sec_Fetch_Site": "cross-site"}, 403),
    "another port of this computer": ({"Sec_Fetch_Site": "same-site"}, 403),
}


@pytest.mark.parametrize(("headers", "status"), FOREIGN.values(), ids=FOREIGN)
def test_nobody_else_may_ask(cases, headers, status):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        assert client.ask("GET", "/api/worklist", **headers)[0] == status
        body = json.dumps({"reviewer": "Ana"}).encode()
        assert client.ask("POST", "/api/cases/1/open", body, **headers)[0] == status
        assert not list(cases.glob("*/review.*"))


PATHS = (
    *("/api/cases/0", "/api/cases/999", "/api/cases/-1", "/api/cases/1/..", "/api/cases/../../etc/passwd"),
    *("/api/cases/1/volumes/case.json", "/api/cases/1/volumes/..%2fcase.json", "/api/cases/1/volumes/review"),
    *("/api", "/api/", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/static/main.js"),
    *("//[", "/api/worklist?" + "&".join(f"a{n}=1" for n in range(50)), "http://127.0.0.1/api/cases/0"),
    *("/__init__.py", "/..\\..\\server.py", "/index.html/", "/index.html%00.js", "/cases/1/case.json"),
)


def test_no_path_is_taken_from_a_request(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        for path in PATHS:
            assert client.ask("GET", path)[0] == 404, path


def test_every_answer_forbids_scripts_of_others_frames_and_keeping(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        asked = [
            client.ask("GET", path)[1] for path in ("/", "/nothing", "/api/worklist", "/api/cases/1/volumes/image")
        ]
        asked.append(client.ask("GET", "/api/worklist", Authorization=None)[1])
        asked.append(client.ask("PUT", "/api/worklist")[1])
        for headers in asked:
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "Access-Control-Allow-Origin" not in headers
            assert "Python" not in headers["Server"]


def test_requests_that_are_none_of_the_pages_are_refused_in_one_sentence(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        for body, headers, status in (
            (b"{", {}, 400),
            (b"[]", {}, 400),
            (b'{"reviewer": NaN}', {}, 400),
            (b"[" * 200 + b"]" * 200, {}, 400),
            (b'{"reviewer": ""}', {}, 400),
            (b'{"reviewer": 5}', {}, 400),
            (b'{"reviewer": "Ana", "order": "best"}', {}, 400),
            (json.dumps({"reviewer": "x" * 300}).encode(), {}, 400),
            (b"{}", {"Content_Type": "text/plain"}, 415),
            (b"", {"Content_Length": "3000000"}, 413),
            (b"", {"Content_Length": None}, 411),
            (b"", {"Content_Length": "-5"}, 411),
        ):
            found, _, content = client.ask("POST", "/api/cases/1/open", body, **headers)
            assert found == status, (body[:40], content)
            assert json.loads(content)["error"], content
            client.close()
        assert not list(cases.glob("*/review.*"))
        assert client.ask("PUT", "/api/worklist")[0] == 501


def test_a_link_for_a_browser_works_once_and_not_for_long(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        key = server.gate.link_for_once().rpartition("=")[2]
        assert client.post("/api/enter", {"once": key}) == (200, {"token": client.token})
        assert client.post("/api/enter", {"once": key})[0] == 401
        assert client.post("/api/enter", {"once": client.token})[0] == 401
        late = server.gate.link_for_once().rpartition("=")[2]
        now = server.gate.monotonic()
        server.gate.monotonic = lambda: now + 61
        assert client.post("/api/enter", {"once": late})[0] == 401


def test_nobody_is_asked_for_names_of_computers(cases, monkeypatch):
    def asked(*_arguments):
        raise AssertionError("a name server was asked")

    for name in ("getfqdn", "gethostbyaddr", "gethostbyname", "getnameinfo"):
        monkeypatch.setattr(socket, name, asked)
    with served(cases) as server:
        client = WebClient(server.gate.link)
        client.open(client.case_id(NAME), "Ana").close()


def test_clients_that_ask_for_ever_are_hung_up_on_and_others_are_served(cases, monkeypatch):
    monkeypatch.setattr(PageHandler, "timeout", 1.0)
    with served(cases) as server:
        client = WebClient(server.gate.link)
        slow = [socket.create_connection(client.address) for _ in range(3)]
        slow[0].sendall(b"GET /api/worklist HT")
        slow[1].sendall(f"GET / HTTP/1.1\r\nHost: {client.host}\r\nX: ".encode())
        slow[2].sendall(f"POST /api/enter HTTP/1.1\r\nHost: {client.host}\r\nContent-Length: 50\r\n\r\n{{".encode())
        assert client.worklist()["cases"]
        for connection in slow:
            connection.settimeout(30)
            while connection.recv(1000):  # a refusal may come first, then the end
                pass
            connection.close()
        client.close()
        dead = socket.create_connection(client.address)
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        dead.sendall(f"GET /api/cases/1/volumes/image HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
        dead.close()
        assert client.worklist()["cases"]


def test_silent_strangers_shut_nobody_out(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        held = []
        for _ in range(2):
            held += [socket.create_connection(client.address) for _ in range(64)]
            assert client.worklist()["cases"], "a client that knows the token lost its connection"
            another = WebClient(server.gate.link)
            assert another.worklist()["cases"], "a new client was shut out"
            another.close()
        for connection in held:
            connection.close()
        client.close()


def _ended(connection: socket.socket, drip: bytes = b"") -> bool:
    """Whether the server has ended a connection, on which one more byte is sent."""
    try:
        connection.setblocking(False)
        connection.send(drip)
        return connection.recv(1000) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_more_strangers_than_there_is_room_for_end_the_oldest(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        assert client.worklist()["cases"]
        threads = threading.active_count()
        held = []
        for number in range(3 * MOST_STRANGERS):
            held.append(socket.create_connection(client.address))
            held[-1].sendall(b"G")
            if number % MOST_STRANGERS == 0:
                assert client.worklist()["cases"], "a client that knows the token lost its connection"
        another = WebClient(server.gate.link)
        assert another.worklist()["cases"], "a new client was shut out"
        for connection in held[: 2 * MOST_STRANGERS]:
            connection.settimeout(30)
            with contextlib.suppress(ConnectionError):  # it had not read the byte
                assert connection.recv(1000) == b""
        assert not any(map(_ended, held[-MOST_STRANGERS + 1 :]))
        assert client.worklist()["cases"]
        assert threading.active_count() <= threads + MOST_STRANGERS + 1
        for connection in held:
            connection.close()
        another.close()
        client.close()


def test_a_stranger_that_drips_is_ended_and_a_reviewer_that_waits_is_not(cases, monkeypatch):
    monkeypatch.setattr(server_module, "SILENT_S", 0.5)  # of the handler, a byte resets its own
    with served(cases) as server:
        client = WebClient(server.gate.link)
        assert client.worklist()["cases"]
        connection = socket.create_connection(client.address)
        for _ in range(600):
            if _ended(connection, b"G"):
                break
            time.sleep(0.05)
        else:
            pytest.fail("a connection without the token is still open")
        assert client.worklist()["cases"], "a client that knows the token lost its connection"
        connection.close()
        client.close()


def test_hostile_case_folders_lead_to_no_other_file(cases, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("")
    folder = cases / NAME
    (folder / "image.nii.gz").unlink()
    changed_case(folder, lambda case: case.update(name="<img src=x onerror=alert(1)>"))
    changed_case(folder, lambda case: case["input"]["channels"][0].update(file="/etc/passwd", file_mac="0" * 64))
    (folder / "review.Ana.jsonl").symlink_to(secret)
    cut = cases / CASES[1]
    (cut / "review.Ana.jsonl").write_bytes(b'{"when": "attack')
    (cut / "review.Ana.jsonl.damaged").symlink_to(secret)
    changed_case(cases / CASES[2], lambda case: case["maps"]["ranking"].update(file="../secret.txt"))
    (tmp_path / "mine").mkdir()
    (cases / "linked").symlink_to(shutil.copytree(cut, tmp_path / "mine" / "case"))
    os.mkfifo(cases / CASES[2] / "review.Bob.jsonl")  # reading it would never end
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id("<img src=x onerror=alert(1)>")
        case = client.get(f"/api/cases/{id_}")
        assert case["image"] is None
        assert "/etc/passwd" in case["image_trouble"]  # where it is said to lie; not what is there
        for name in ("<img src=x onerror=alert(1)>", CASES[1]):
            status, answer = client.post(f"/api/cases/{client.case_id(name)}/open", {"reviewer": "Ana"})
            assert status in (409, 423), answer
        assert secret.read_text() == ""
        (linked,) = (case for case in client.worklist()["cases"] if "is a link to" in str(case))
        assert client.ask("GET", f"/api/cases/{linked['id']}")[0] == 409
        status, _, content = client.ask("GET", f"/api/cases/{client.case_id(CASES[2])}")
        assert (status, json.loads(content)["kind"]) == (409, "damaged")
