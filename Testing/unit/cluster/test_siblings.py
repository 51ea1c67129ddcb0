"""Workers of one computer: cases that fit work side by side, others wait; a seat and a card each."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from SegWithUCore.cluster import siblings as module
from SegWithUCore.cluster.siblings import Siblings
from SegWithUCore.util.processes import process_scope, process_started
from SegWithUCore.util.progress import silent

GB = 1e9


def _reservation(folder: Path, pid: int, needed: float, started: str | None = None) -> Path:
    path = folder / f"room-{pid}-{process_started(pid) if started is None else started}-{int(needed)}"
    path.touch()
    return path


def test_a_case_waits_until_the_others_leave_it_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: int(10 * GB))
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.01)
    siblings, told, entered = Siblings(tmp_path), threading.Event(), threading.Event()
    with siblings.room(4 * GB, silent):
        pass
    other = _reservation(tmp_path, os.getppid(), 7 * GB)

    def work() -> None:
        with siblings.room(4 * GB, lambda stage, *_: told.set() if stage == "waiting for memory" else None):
            entered.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert told.wait(60)
    assert not entered.is_set()
    other.unlink()
    thread.join(60)
    assert entered.is_set()
    assert list(tmp_path.glob("room-*")) == [], "nothing stays reserved"


def test_cases_that_fit_do_not_wait_and_the_dead_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: int(10 * GB))
    siblings = Siblings(tmp_path)

    def never(stage: str, *_: object) -> None:
        pytest.fail(f"{stage} although there is room")

    with siblings.room(1 * GB, silent):
        pass
    _reservation(tmp_path, os.getppid(), 5 * GB)
    with siblings.room(5 * GB, never):
        pass
    for path in tmp_path.glob("room-*"):
        path.unlink()
    _reservation(tmp_path, os.getppid(), 9 * GB, started="1")
    with siblings.room(99 * GB, never):  # alone: its own check says whether it fits at all
        pass


def test_seats_and_cards_of_dead_workers_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seat-0.lock").write_text("")
    owner = {
        "pid": os.getppid(),
        "host": module.os.uname().nodename,
        "scope": process_scope(),
        "started": process_started(os.getppid()),
    }
    (tmp_path / "seat-1.lock").write_text(json.dumps(owner))
    assert Siblings(tmp_path).seat() == 0
    assert Siblings(tmp_path).seat() == 2, "of this process and of a living one they are taken"
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.01)
    card = tmp_path / "device-1.lock"
    card.write_text(json.dumps(owner))
    threading.Timer(0.1, card.unlink).start()
    told: list[str] = []
    begun = time.monotonic()
    with Siblings(tmp_path).turn(1, lambda stage, *_: told.append(stage)):
        assert time.monotonic() - begun > 0.05
        assert card.exists()
    assert set(told) == {"waiting for the graphics card"}
    assert not card.exists()
