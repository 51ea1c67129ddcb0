"""The worker as a real child process: what it says, what it survives, and that it leaves nothing behind."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from SegWithUCore.worker import failure
from SegWithUCore.worker_check import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "SegWithUSlicer"
SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
LEFT = json.loads(SAMPLE.with_name("sample.json").read_text(encoding="utf-8"))["regions"][0]
REGION = {"centre_ras_mm": LEFT["centre_ras_mm"], "size_mm": LEFT["size_mm"]}
BARE_PYTHON = getattr(sys, "_base_executable", sys.executable)
PATIENCE_S = 120.0
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")

# Every attempt to reach a network leaves a trace in a file.
NETWORK_ALARM = """
import os, socket
def _refuse(self, address, *rest):
    with open(os.environ["NETWORK_ALARM"], "a") as file:
        file.write(repr(address) + "\\n")
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = _refuse
"""


class Parent:
    """Starts a worker and talks to it, as Slicer does."""

    def __init__(self, *paths: Path, python: str = sys.executable, options: tuple[str, ...] = (), **variables: str):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"PYTHONPATH": os.pathsep.join(map(str, [*paths, CORE])), "PYTHONUTF8": "1", **variables}
        self.process = subprocess.Popen(
            [python, "-m", "SegWithUCore.worker", *options],
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


@pytest.fixture
def start() -> Iterator[Callable[..., Parent]]:
    """Starts workers that are ended with the test."""
    parents: list[Parent] = []

    def begin(*paths: Path, **options: Any) -> Parent:
        parents.append(Parent(*paths, **options))
        return parents[-1]

    yield begin
    for parent in parents:
        parent.end()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parent]:
    """One worker for the tests that compute, with an alarm on the network."""
    folder = tmp_path_factory.mktemp("alarm")
    (folder / "sitecustomize.py").write_text(NETWORK_ALARM, encoding="utf-8")
    parent = Parent(folder, NETWORK_ALARM=str(folder / "attempts.txt"))
    parent.alarm = folder / "attempts.txt"  # type: ignore[attr-defined]
    assert parent.event()["event"] == "started"
    yield parent
    parent.end()


def segment_request(target: Path, identity: Any = 1, file: Path = SAMPLE, **fields: Any) -> dict[str, Any]:
    return {
        "request": "segment",
        "id": identity,
        "name": target.name,
        "files": [str(file)],
        "target": str(target),
        "model": "hippocampus",
        "device": "cpu",
        "head": None,
        "region": REGION,
        **fields,
    }


def is_computing(event: Mapping[str, Any]) -> bool:
    assert event["event"] == "progress", event
    return bool(event["stage"] == "segmenting")


def module(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text, encoding="utf-8")


@ON_LINUX
def test_started_event_comes_before_torch_and_names_the_process(warm: Parent) -> None:
    maps = Path(f"/proc/{warm.process.pid}/maps")
    assert "libtorch" not in maps.read_text(encoding="utf-8")
    checked = warm.ask({"request": "check", "id": "c"})
    assert checked["event"] == "checked"
    assert checked["id"] == "c"
    assert checked["usable"], checked["packages"]
    assert [entry["name"] for entry in checked["packages"]] == [package.name for package in PACKAGES]
    assert checked["devices"][0]["name"] == "cpu"
    assert "libtorch" in maps.read_text(encoding="utf-8")


def test_two_queued_runs_are_done_in_order_and_the_second_is_warm(
    warm: Parent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    for name in ("first", "second"):
        warm.send(segment_request(tmp_path / name, name))
    first = warm.until(lambda event: event["event"] in ("result", "error"))
    middle = time.monotonic()
    second = warm.until(lambda event: event["event"] in ("result", "error"))
    with capsys.disabled():
        print(f" [first run {middle - began:.1f} s, second {time.monotonic() - middle:.1f} s]", end="")
    assert (first[-1]["event"], first[-1]["id"]) == ("result", "first"), first[-1]
    assert (second[-1]["event"], second[-1]["id"]) == ("result", "second"), second[-1]
    assert "loading the model" in [event["stage"] for event in first[:-1]]
    assert "loading the model" not in [event["stage"] for event in second[:-1]]
    assert first[-1]["structures"] == second[-1]["structures"]
    assert {event["id"] for event in second} == {"second"}
    fractions = [event["fraction"] for event in second[:-1]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(event["seconds_left"] for event in second[:-1])
    assert not list(tmp_path.glob(".segwithu-*"))


def test_case_folder_equals_that_of_the_command_line_on_paths_with_spaces_and_accents(
    warm: Parent, tmp_path: Path
) -> None:
    image = tmp_path / "Köpfe 頭部 1" / "bild ä.nii.gz"
    image.parent.mkdir()
    shutil.copy(SAMPLE, image)
    answer = warm.ask(segment_request(tmp_path / "Fälle 例" / "case", file=image, include_image=True))
    assert answer["event"] == "result", answer
    from SegWithUCore.cli.__main__ import main

    roi = ",".join(str(n) for n in [*REGION["centre_ras_mm"], *REGION["size_mm"]])
    output = tmp_path / "Kommando"
    call = ["segment", str(image), "--model", "hippocampus", f"--roi={roi}", "--device", "cpu", "--include-image"]
    assert main([*call, "--name", "case", "--output", str(output)]) == 0
    ours, theirs = Path(answer["case"]), output / "case"
    assert sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir())
    for path in sorted(theirs.glob("*.n*")):
        mine, other = sitk.ReadImage(str(ours / path.name)), sitk.ReadImage(str(path))
        assert mine.GetOrigin() == other.GetOrigin()
        assert np.allclose(sitk.GetArrayFromImage(mine), sitk.GetArrayFromImage(other), atol=1e-5), path.name
    facts = [json.loads((folder / "case.json").read_text(encoding="utf-8")) for folder in (ours, theirs)]
    for entry in facts:
        for changing in ("created", "timings_s", "peak_memory_mb"):
            del entry[changing]
    assert facts[0].keys() == facts[1].keys()
    assert facts[0]["input"] == facts[1]["input"]
    assert [s["voxels"] for s in facts[0]["structures"]] == [s["voxels"] for s in facts[1]["structures"]]
    assert answer["structures"] == facts[0]["structures"]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"files": ["/nowhere/image.nii.gz"]}, "input", "does not exist"),
        ({"files": []}, "usage", "list with a path per channel"),
        ({"files": [str(SAMPLE), str(SAMPLE)]}, "input", "wants 1 channel"),
        ({"model": "no such model"}, "usage", "choose one of"),
        ({"device": "abacus"}, "usage", "not available"),
        ({"region": {"centre_ras_mm": [900, 0, 0], "size_mm": [10, 10, 10]}}, "input", "outside the image"),
        ({"region": {"centre_ras_mm": [0, 0, 0], "size_mm": [10, -1, 10]}}, "usage", "region of interest"),
        ({"region": {"centre_ras_mm": [0, 0, 0]}}, "usage", "size_mm"),
        ({"request": "dance"}, "usage", "different versions"),
        ({"target": str(ROOT / "Resources")}, "output", "exists already"),
    ],
)
def test_bad_request_gives_one_error_and_the_worker_stays(
    warm: Parent, tmp_path: Path, change: dict[str, Any], kind: str, words: str
) -> None:
    answer = warm.ask({**segment_request(tmp_path / "case", "bad"), **change})
    assert (answer["event"], answer["kind"], answer["id"]) == ("error", kind, "bad")
    assert words in answer["text"]
    assert answer["details"] is None
    assert not any(tmp_path.iterdir())
    assert warm.ask({"request": "warm", "id": 2, "model": "hippocampus", "device": "cpu"})["event"] == "warmed"


@pytest.mark.parametrize("line", ["this is no JSON", "[1, 2]", '{"id": 3}', '{"request": 7}'])
def test_line_that_is_no_request_gives_one_error(warm: Parent, line: str) -> None:
    answer = warm.ask(line)
    assert (answer["event"], answer["kind"]) == ("error", "usage")


def test_whole_head_is_refused_in_words_without_command_line_options(warm: Parent, tmp_path: Path) -> None:
    answer = warm.ask(segment_request(tmp_path / "case", region=None))
    assert (answer["kind"], answer["refused"]) == ("input", True)
    assert "--" not in answer["text"]
    found = warm.ask({"request": "fingerprint", "id": 1, "model": "hippocampus", "files": [str(SAMPLE)]})
    assert [entry["severity"] for entry in found["deviations"]] == ["refused"]
    assert found["deviations"][0]["sentence"] == answer["text"]
    small = warm.ask({"request": "fingerprint", "model": "hippocampus", "files": [str(SAMPLE)], "region": REGION})
    assert small["deviations"] == []


def test_cost_is_predicted_from_a_file_or_a_grid(warm: Parent) -> None:
    ask = {"request": "predict_cost", "id": 1, "model": "hippocampus", "device": "cpu"}
    small = warm.ask({**ask, "files": [str(SAMPLE)], "region": REGION})
    assert (small["event"], small["windows"]) == ("predicted", 1)
    assert 0 < small["seconds"] < 60
    assert 100 < small["memory_mb"] < 2000
    grid = {"size_ijk": [197, 233, 189], "spacing_mm": [1, 1, 1]}
    whole = [warm.ask({**ask, "files": [str(SAMPLE)]}), warm.ask({**ask, "grid": grid})]
    assert whole[0] == whole[1]
    assert whole[0]["seconds"] > 50 * small["seconds"]
    assert whole[0]["memory_mb"] > small["memory_mb"]


def test_predicted_working_grid_is_the_one_that_preprocessing_makes() -> None:
    from SegWithUCore.inference.preprocessing import to_working_grid
    from SegWithUCore.models.registry import resolve_model
    from SegWithUCore.worker_jobs import _working_shape

    spec = resolve_model("hippocampus").input
    image = sitk.Image([31, 22, 9], sitk.sitkFloat32)
    image.SetSpacing([0.7, 1.3, 3.1])
    image.SetDirection([0, 0.1, 0.995, -1, 0, 0, 0, -0.995, 0.1])
    assert _working_shape(image, spec) == to_working_grid(image, spec).GetSize()[::-1]


def test_nothing_reached_for_a_network(warm: Parent) -> None:
    assert warm.ask({"request": "check", "id": 1})["usable"]
    assert not warm.alarm.exists()  # type: ignore[attr-defined]


@ON_LINUX
def test_closed_stdin_ends_a_computing_worker_and_leaves_nothing(start: Callable[..., Parent], tmp_path: Path) -> None:
    parent = start()
    assert parent.event()["event"] == "started"
    parent.send(segment_request(tmp_path / "case", region=None, unlike_training=True))
    parent.until(is_computing)
    half_written = tmp_path / f".segwithu-host-{parent.process.pid}-x"
    half_written.mkdir()
    (half_written / "part").write_text("half", encoding="utf-8")
    began = time.monotonic()
    assert parent.close() == 0
    assert time.monotonic() - began < 5
    assert not any(tmp_path.iterdir())
    assert not processes_of_group(parent.process.pid)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_crashed_parent_leaves_no_worker(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'SegWithUCore.worker'], stdin=subprocess.PIPE, start_new_session=True)\n"
        "time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CORE)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = json.loads(parent.stdout.readline())["pid"]
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == b"", "the pipe ends when the worker has ended"
    assert not Path(f"/proc/{pid}").exists() or not processes_of_group(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_ends_it_at_once(start: Callable[..., Parent]) -> None:
    parent = start(python=BARE_PYTHON)
    parent.event()
    parent.process.send_signal(signal.SIGTERM)
    assert parent.process.wait(5) == 128 + signal.SIGTERM


def test_idle_worker_leaves_by_itself_and_says_so(start: Callable[..., Parent]) -> None:
    parent = start(python=BARE_PYTHON, options=("--idle-minutes", "0.005"))
    assert [parent.event()["event"] for _ in range(2)] == ["started", "leaving"]
    assert parent.process.wait(PATIENCE_S) == 0


def test_quit_ends_it_after_what_was_asked_before(start: Callable[..., Parent]) -> None:
    parent = start(python=BARE_PYTHON)
    parent.send({"request": "nonsense", "id": 1})
    parent.send({"request": "quit"})
    assert [parent.event()["event"] for _ in range(2)] == ["started", "error"]
    assert parent.process.wait(PATIENCE_S) == 0


def test_protocol_survives_libraries_that_print(start: Callable[..., Parent], tmp_path: Path) -> None:
    loud = "import os\nprint('from Python')\nos.write(1, b'from C\\n')\nimport sys\nassert sys.stdin.read() == ''\n"
    module(tmp_path, "jsonschema", loud)
    parent = start(tmp_path, python=BARE_PYTHON)
    assert parent.event()["event"] == "started"
    assert state_of(parent, "jsonschema")["state"] == "ok"
    parent.close()
    parent.end()
    assert {"from Python\n", "from C\n"} <= set(parent.stderr)


def test_bare_python_says_what_is_missing_and_what_is_half_installed(
    start: Callable[..., Parent], tmp_path: Path
) -> None:
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    parent = start(tmp_path, python=BARE_PYTHON)
    assert parent.event()["versions"]["torch"] is None
    torch = state_of(parent, "torch")
    assert torch["state"] == "broken"
    assert "half-installed" in torch["problem"]
    assert str(tmp_path / "torch") in torch["problem"]
    assert torch["needs"] == ">=2.8"
    assert state_of(parent, "monai")["state"] == "missing"
    answer = parent.ask({"request": "warm", "id": 1, "model": "hippocampus"})
    assert (answer["event"], answer["kind"]) == ("error", "missing")


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("raise ImportError('libcudnn.so.9: cannot open shared object file')", "broken", "libcudnn.so.9"),
        ("import surely_not_installed", "broken", "surely_not_installed"),
        ("raise OSError('[WinError 126] a DLL')", "broken", "WinError 126"),
        ("__version__ = '2.2.0+cpu'\ndef ones(n):\n    import array\n    return A()\nclass A:\n    def sum(self):\n"
         "        return 3.0\n", "too_old", "2.2.0"),
        ("__version__ = '2.9'\ndef ones(n):\n    raise RuntimeError('no kernel image')\n", "broken", "no kernel image"),
    ],
)  # fmt: skip
def test_unusable_torch_is_named_with_its_reason(
    start: Callable[..., Parent], tmp_path: Path, text: str, state: str, words: str
) -> None:
    module(tmp_path, "torch", text)
    parent = start(tmp_path, python=BARE_PYTHON)
    parent.event()
    torch = state_of(parent, "torch")
    assert torch["state"] == state
    assert words in torch["problem"]


def test_what_runs_out_of_memory_is_called_so() -> None:
    errors = [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ]
    assert [failure(error)["kind"] for error in errors] == ["memory"] * 3
    other = failure(RuntimeError("shapes differ"))
    assert other["kind"] == "unexpected"
    assert other["details"] is not None


def test_versions_are_those_of_the_project_file_and_of_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    table = {f"{package.name}{package.needs}" for package in PACKAGES}
    assert table == set(project) - {"requests>=2.31"}, "requests is for downloads, which the worker never does"
    lines = (ROOT / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    assert wanted <= table
    names = {re.split("[<>=]", line)[0] for line in wanted}
    assert names.isdisjoint({"torch", "numpy", "SimpleITK", "scipy", "requests"})


def state_of(parent: Parent, name: str) -> dict[str, Any]:
    checked = parent.ask({"request": "check", "id": 0})
    assert not checked["usable"]
    return next(entry for entry in checked["packages"] if entry["name"] == name)


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
