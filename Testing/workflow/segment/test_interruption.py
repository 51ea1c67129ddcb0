"""Ctrl-C, a scheduler's SIGTERM and a killed process: one sentence, and nothing that could be taken for a result."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import ROOT
from segwithu_command import (
    MODEL,
    PATIENCE_S,
    SAMPLE,
    SAMPLE_ROI,
    Command,
    child,
    entries,
    finished,
    one_sentence,
    real_image,
    tiny_bundle,
)

from SegWithUCore.inference import case_writer
from SegWithUCore.util.atomic_files import ABANDONED_AFTER_S, TEMPORARY_PREFIX, atomic_folder, remove_leftovers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX knows them")


def _read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """Read the child's stderr up to the line that holds `words`."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if words in line:
            return read
    pytest.fail(f"the command ended without saying '{words}': {read}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_run_ends_soon_with_one_sentence_and_leaves_nothing(number: int, tmp_path: Path) -> None:
    """A whole head takes minutes: the signal comes while windows are computed."""
    process = child("segment", SAMPLE, "--unlike-training", "--model", MODEL, "--output", tmp_path / "results")
    read = _read_until(process, "% segmenting")
    time.sleep(0.5)
    process.send_signal(number)
    outcome = finished(process, within_s=PATIENCE_S, already_read=read)
    one_sentence(outcome, "cancelled", code=130)
    reached = [int(share) for share in re.findall(r"(\d+)% segmenting", outcome.err)]
    assert max(reached) < 50, "it went on for long"
    assert entries(tmp_path) == []


@pytest.mark.parametrize("stage", ["write_segmentation_nrrd", "case_facts", "os.fsync"])
def test_interrupted_writing_leaves_nothing_and_keeps_the_old_case(
    stage: str, capfd: pytest.CaptureFixture[str], data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_bundle(tmp_path / "models" / "tiny")
    output = tmp_path / "results"
    old = output / "hippocampus_319" / "notes.txt"
    old.parent.mkdir(parents=True)
    old.write_text("mine")

    def interrupted(*_arguments: object, **_options: object) -> None:
        assert [path for path in output.iterdir() if path.name.startswith(TEMPORARY_PREFIX)], "nothing to clean up"
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)  # the signal ends this sleep

    monkeypatch.setattr(f"{case_writer.__name__}.{stage}", interrupted)
    outcome = Command(capfd).segment(real_image(data_folder), "--overwrite", model=model, output=output)
    one_sentence(outcome, "cancelled", code=130)
    assert entries(output) == ["hippocampus_319", "hippocampus_319/notes.txt"]


STUCK = """
import hashlib, importlib, sys
from SegWithUCore.cli.__main__ import main
place, name = sys.argv[1].rsplit(".", 1)
def stuck(*_arguments, **_options):
    print("now 1% segmenting", file=sys.stderr, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
owner = importlib.import_module(place.removesuffix(".TorchEngine"))
setattr(getattr(owner, "TorchEngine", owner), name, stuck)
sys.exit(main(sys.argv[2:]))
"""
"""A run whose `place.name` takes an hour within a library, which Python hears no signal from."""


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("SegWithUCore.inference.engines.torch_engine.TorchEngine.window", signal.SIGINT),
        pytest.param("SegWithUCore.inference.preprocessing.to_working_grid", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("SegWithUCore.inference.case_writer.case_facts", signal.SIGINT, marks=pytest.mark.slow),
    ],
    ids=["in a window", "while resampling", "while writing"],
)
def test_a_run_deep_in_a_library_ends_too_and_leaves_nothing(
    place: str, number: int, data_folder: Path, tmp_path: Path
) -> None:
    model, output = tiny_bundle(tmp_path / "models" / "tiny"), tmp_path / "results"
    output.mkdir()
    call = ["segment", real_image(data_folder), "--model", model, "--engine", "torch", "--output", output]
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, place, *map(str, call)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT / "SegWithUSlicer",
    )
    read = _read_until(process, "now 1% segmenting")
    process.send_signal(number)
    outcome = finished(process, within_s=PATIENCE_S, already_read=read.replace("now 1%", "now:  1%"))
    one_sentence(outcome, "cancelled", code=130)
    assert entries(output) == []


@pytest.mark.slow
def test_killed_run_leaves_only_a_hidden_folder_that_the_next_run_sweeps(
    capfd: pytest.CaptureFixture[str], data_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    process = child("segment", SAMPLE, SAMPLE_ROI, "--model", MODEL, "--output", output)
    deadline = time.monotonic() + PATIENCE_S
    while not list(output.glob(f"{TEMPORARY_PREFIX}*/*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    finished(process, within_s=PATIENCE_S)
    left = [path.name for path in output.iterdir()]
    assert left and all(name.startswith(TEMPORARY_PREFIX) for name in left), f"not hidden: {left}"
    model = tiny_bundle(tmp_path / "models" / "tiny")
    assert Command(capfd).segment(real_image(data_folder), model=model, output=output).code == 0
    assert [path.name for path in output.iterdir()] == ["hippocampus_319"]


def test_temporary_folder_of_a_live_process_is_not_swept(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "case") as work:
        (work / "part").write_text("half")
        sweep = "import sys, pathlib; from SegWithUCore.util.atomic_files import remove_leftovers as sweep; " \
                "print(len(sweep(pathlib.Path(sys.argv[1]))))"  # fmt: skip
        told = subprocess.run([sys.executable, "-c", sweep, tmp_path], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == "0"
        assert (work / "part").exists()
    assert entries(tmp_path) == ["case", "case/part"]


def test_leftover_of_another_host_is_swept_only_after_a_day(tmp_path: Path) -> None:
    assert "elsewhere" not in socket.gethostname()
    fresh, old = (tmp_path / f"{TEMPORARY_PREFIX}elsewhere-1-{name}" for name in ("fresh", "old"))
    for folder in (fresh, old):
        folder.mkdir()
        (folder / "part").write_text("half")
    long_ago = time.time() - ABANDONED_AFTER_S - 60
    os.utime(old, (long_ago, long_ago))
    assert remove_leftovers(tmp_path) == [old]
    assert entries(tmp_path) == [fresh.name, f"{fresh.name}/part"]


def test_ctrl_c_between_both_renamings_keeps_the_folder_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "file").write_text("old", encoding="utf-8")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        rename(self, target)
        if target.name == "old":
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "case", overwrite=True) as work:
        (work / "file").write_text("new", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
    assert (tmp_path / "case" / "file").read_text(encoding="utf-8") == "old"


HOLD = """
import os, pathlib, signal, sys
from SegWithUCore.util.atomic_files import one_writer
from SegWithUCore.util.run_lock import run_lock
with run_lock(pathlib.Path(sys.argv[2])) if sys.argv[1] == "many" else one_writer(pathlib.Path(sys.argv[2])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("of", ["many", "one"])
def test_the_run_after_a_killed_one_names_it_and_leaves_no_lock(
    of: str, segwithu: Command, tiny: Path, data_folder: Path, tmp_path: Path
) -> None:
    image, output = real_image(data_folder), tmp_path / "out"
    target = output if of == "many" else output / "hippocampus_319"
    killed = subprocess.Popen([sys.executable, "-c", HOLD, of, str(target)])
    assert killed.wait(PATIENCE_S) == -signal.SIGKILL
    assert [name for name in entries(output) if "lock" in name], "the killed run held no lock"
    run = (image, *(["--resume"] if of == "many" else []))
    outcome, again = (segwithu.segment(*run, *more, model=tiny, output=output) for more in ((), ("--overwrite",)))
    assert (outcome.code, again.code) == (0, 0)
    assert f"process {killed.pid} on {socket.gethostname()}" in outcome.err
    assert f"process {killed.pid}" not in again.err
    assert not [name for name in entries(output) if "lock" in name]
