"""A parent that starts a worker and talks to it, for the tests of the worker."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from left_hippocampus import CENTRE_RAS_MM, SIZE_MM
from repository import PACKAGES, ROOT

from SegWithUCore.inference.settings import RunSettings

SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
REGION = [*CENTRE_RAS_MM, *SIZE_MM]
_SETTINGS = {field.name for field in fields(RunSettings)}
BARE_PYTHON = getattr(sys, "_base_executable", sys.executable)
"""With -S it sees nothing but Python's own library."""
PATIENCE_S = 300.0
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")


class Parent:
    """Starts a worker and talks to it, as Slicer does; `bare` without any installed package."""

    def __init__(self, *paths: Path, bare: bool = False, options: tuple[str, ...] = (), **variables: str):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"PYTHONPATH": os.pathsep.join(map(str, [*paths, PACKAGES])), "PYTHONUTF8": "1", **variables}
        self.process = subprocess.Popen(
            [*([BARE_PYTHON, "-S"] if bare else [sys.executable]), "-m", "SegWithUCore.worker", *options],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.stderr: list[str] = []
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._read_stderr)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.decode("utf-8"))
        self.lines.put(None)

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        self.stderr.extend(line.decode("utf-8") for line in self.process.stderr)

    def send(self, request: Mapping[str, Any] | str) -> None:
        assert self.process.stdin is not None
        text = request if isinstance(request, str) else json.dumps(request, ensure_ascii=False)
        self.process.stdin.write(text.encode("utf-8") + b"\n")
        self.process.stdin.flush()

    def event(self) -> dict[str, Any]:
        line = self.lines.get(timeout=PATIENCE_S)
        assert line is not None, f"the worker ended with {self.process.wait()}: {''.join(self.stderr)}"
        return dict(json.loads(line))

    def until(self, is_it: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """All events up to the first for which `is_it` holds."""
        events = [self.event()]
        while not is_it(events[-1]):
            events.append(self.event())
        return events

    def rest(self) -> list[dict[str, Any]]:
        """Events of a worker that has ended which nobody has asked for yet."""
        events = []
        while (line := self.lines.get(timeout=PATIENCE_S)) is not None:
            events.append(dict(json.loads(line)))
        return events

    def ask(self, request: Mapping[str, Any] | str) -> dict[str, Any]:
        self.send(request)
        return self.until(lambda event: event["event"] != "progress")[-1]

    def close(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join()


def request_of(kind: str, **given: Any) -> dict[str, Any]:
    """Make a request; what belongs to the settings of a run goes there."""
    settings = {name: value for name, value in given.items() if name in _SETTINGS}
    others = {name: value for name, value in given.items() if name not in _SETTINGS}
    return {**others, "request": kind, "settings": {**given.get("settings", {}), **settings}}


def segment_request(target: Path, identity: Any = 1, file: Path = SAMPLE, **given: Any) -> dict[str, Any]:
    call = {
        "id": identity,
        "name": target.name,
        "files": [str(file)],
        "target": str(target),
        "model": "hippocampus",
        "device": "cpu",
        "roi": REGION,
        **given,
    }
    return request_of("segment", **call)


def is_computing(event: Mapping[str, Any]) -> bool:
    assert event["event"] == "progress", event
    return bool(event["stage"] == "segmenting")


def state_of(parent: Parent, name: str) -> dict[str, Any]:
    engine = name if name == "openvino" else "torch"
    checked = parent.ask(request_of("check", id=0, engine=engine))
    assert not checked["usable"]
    return next(entry for entry in checked["packages"] if entry["name"] == name)


def module(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text, encoding="utf-8")


def processes_of_group(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name.isdigit() and fields[2] == str(group) and fields[0] != "Z":
            found.append(int(entry.name))
    return found
