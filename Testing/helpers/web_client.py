"""A browser without a screen: asks a `segwithu web` server what its page asks, by the standard library."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from SegWithUCore.web.case_store import CaseStore
from SegWithUCore.web.reviews import OpenReviews
from SegWithUCore.web.routes import Routes
from SegWithUCore.web.server import PageServer


class WebClient:
    """Asks one server; `link` is the one that it printed."""

    def __init__(self, link: str) -> None:
        parts = urlsplit(link)
        assert parts.hostname and parts.port
        self.address, self.token = (parts.hostname, parts.port), parts.fragment
        self.host = f"{parts.hostname}:{parts.port}"
        self._connection = http.client.HTTPConnection(*self.address, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and content; a header given as None is left out."""
        sent = {"Host": self.host, "Authorization": f"Bearer {self.token}"}
        if body is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[dict-item]
        self._connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                self._connection.putheader(name, value)
        self._connection.endheaders(body)
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, dict(answer.getheaders()), content

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON at an address."""
        status, _, content = self.ask("GET", path)
        assert status == 200, (status, content)
        return json.loads(content)

    def bytes(self, path: str) -> bytes:
        """Return the bytes at an address."""
        status, _, content = self.ask("GET", path)
        assert status == 200, (status, content)
        return content

    def post(self, path: str, content: Any) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of what was said."""
        status, _, answer = self.ask("POST", path, json.dumps(content).encode())
        return status, json.loads(answer)

    def case_id(self, name: str) -> str:
        """Return the number of a case."""
        return next(case["id"] for case in self.worklist()["cases"] if case["name"] == name)

    def worklist(self, reviewer: str = "") -> dict[str, Any]:
        """Return the worklist of a reviewer."""
        return self.get(f"/api/worklist?reviewer={quote(reviewer)}")

    def open(self, case: str, reviewer: str, **more: Any) -> "WebReview":
        """Open a review, which must be possible."""
        status, answer = self.post(f"/api/cases/{case}/open", {"reviewer": reviewer, **more})
        assert status == 200, (status, answer)
        return WebReview(self, case, answer)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class WebReview:
    """A case that is open in a window.

    Attributes:
        opened: what the server answered.
        last: the line that the window has seen last.
    """

    def __init__(self, client: WebClient, case: str, opened: dict[str, Any]) -> None:
        self.client, self.case, self.opened = client, case, opened
        self.session, self.last = opened["session"], opened["last"]

    @cached_property
    def ids(self) -> list[int]:
        """Of its regions, by rank."""
        return [region["id"] for region in self.client.get(f"/api/cases/{self.case}")["regions"]]

    def say(self, *events: dict[str, Any], last: str | None = None) -> tuple[int, dict[str, Any]]:
        """Say something and follow the log, as the page does."""
        body = {"session": self.session, "last": last or self.last}
        status, answer = self.client.post(f"/api/cases/{self.case}/events", {**body, "events": list(events)})
        if status == 200:
            self.last = answer["last"]
        return status, answer

    def judge(self, region: int, verdict: str = "accepted", comment: str | None = None) -> dict[str, Any]:
        """Give a verdict, which must be taken."""
        event = {"event": "verdict", "region": region, "verdict": verdict, "comment": comment, "seconds": 1.5}
        status, answer = self.say(event)
        assert status == 200, (status, answer)
        return answer

    def alive(self) -> tuple[int, dict[str, Any]]:
        """Give a sign of life."""
        return self.client.post(f"/api/cases/{self.case}/alive", {"session": self.session})

    def close(self) -> None:
        """Leave the case."""
        status, _ = self.client.post(f"/api/cases/{self.case}/close", {"session": self.session})
        assert status == 200


@contextmanager
def served(place: Path, **options: Any) -> Iterator[PageServer]:
    """Run a server in this process on a free port; `options` go to `OpenReviews`."""
    routes = Routes(CaseStore(place), OpenReviews(**options), "Proposed")
    said: list[str] = []
    server = PageServer(("127.0.0.1", 0), None, routes, said.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
        assert not said, said


def lines_of(folder: Path, reviewer: str) -> list[dict[str, Any]]:
    """Return the lines of a log as they are on disk."""
    path = folder / f"review.{reviewer}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
