"""`segwithu web` as a process of its own, and one that is killed while somebody reviews."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository import HELPERS, PACKAGES
from web_client import WebClient, WebReview, lines_of


@contextmanager
def started(
    *arguments: str | Path, packages: str | None = None
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Start the command on a free port; gives the process and what it said when it was ready.

    Args:
        packages: third-party ones that are there, joined by commas; None for all.
    """
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES), "OMP_NUM_THREADS": "1"}
    light = [str(HELPERS / "command_without_torch.py"), packages or "", "command"]
    start = ["-m", "SegWithUCore.cli"] if packages is None else light
    command = [sys.executable, *start, "web", *map(str, arguments), "--port", "0", "--json"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        lines = (json.loads(line) for line in iter(process.stdout.readline, ""))
        ready = next((event for event in lines if event["event"] == "ready"), None)
        assert ready is not None, process.stderr.read()
        try:
            yield process, ready
        finally:
            process.kill()


@dataclass
class Killed:
    """What a review went through that was killed again and again.

    Attributes:
        kills: how often.
        confirmed: verdicts that were answered as stored.
        unanswered: those that were on the way when the server died.
        found_stored: of these, those that were on disk.
        lost: confirmed verdicts that the log lacks.
        doubled: verdicts that the log has more often than they were given.
    """

    kills: int = 0
    confirmed: int = 0
    unanswered: int = 0
    found_stored: int = 0
    lost: int = 0
    doubled: int = 0


def killed_reviews(folder: Path, kills: int, seed: int) -> Killed:
    """Review the first case of a folder while the server is killed; each verdict has a comment of its own."""
    dice, found = random.Random(seed), Killed()
    last: str | None = None
    waiting: dict[str, Any] | None = None
    said: list[str] = []
    for round_ in range(kills + 1):
        with started(folder) as (process, ready):
            client = WebClient(ready["url"])
            pending = [] if waiting is None else [waiting]
            review = client.open("1", "Ana", last=last, pending=pending)
            if waiting is not None:
                found.unanswered += 1
                found.found_stored += review.opened["pending_stored"]
                assert not review.opened["changed"]
                if not review.opened["pending_stored"]:
                    review.judge(waiting["region"], waiting["verdict"], waiting["comment"])
                said.append(waiting["comment"])
            if round_ == kills:
                review.close()
                break
            assert review.ids  # asked for while the server lives
            timer = threading.Timer(dice.random() * 0.3, process.send_signal, [signal.SIGKILL])
            timer.start()
            last, waiting = _judge_until_killed(review, dice, said)
            timer.join()
            process.wait()
            found.kills += process.returncode == -signal.SIGKILL
    found.confirmed = len(said)
    (log,) = folder.glob("*/review.Ana.jsonl") if not (folder / "case.json").exists() else [folder / "review.Ana.jsonl"]
    stored = [line["comment"] for line in lines_of(log.parent, "Ana") if line["event"] == "verdict"]
    found.lost = len(set(said) - set(stored))
    found.doubled = len(stored) - len(set(stored))
    return found


def _judge_until_killed(review: WebReview, dice: random.Random, said: list[str]) -> tuple[str, dict[str, Any]]:
    """Give verdicts until there is no answer; returns the last line seen and the verdict without an answer."""
    while True:
        event = {
            "event": "verdict",
            "region": dice.choice(review.ids),
            "verdict": dice.choice(["accepted", "rejected", "needs second reader"]),
            "comment": f"verdict {len(said)} {dice.random()}",
            "seconds": 1.0,
        }
        try:
            status, answer = review.say(event)
        except (OSError, http.client.HTTPException):
            return review.last, event
        assert status == 200, answer
        said.append(str(event["comment"]))
        with suppress(KeyError):
            assert answer["stored"]
