"""Cohorts on the workers of a Dask scheduler: the same results; no death, unfit worker or lost folder goes unseen."""

import csv
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import SimpleITK as sitk
from cohort_kills import OVERVIEW, assert_same_cases, hidden_in
from segwithu_command import Command, Outcome, changed_description, one_sentence
from worker_deaths import deadly_cases

from SegWithUCore.cohort import workers as module

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="kills processes by signals"),
]
NAMES = ("hippocampus_075", "hippocampus_197", "hippocampus_251", "hippocampus_252", "hippocampus_319")
PATIENCE_S = 300.0
"""How long to wait for what must come: no measure, beside other tests a worker takes its time to start."""


@dataclass
class Workers:
    """Two workers with their scheduler, as users start them by hand.

    Attributes:
        address: of the scheduler.
        waiting: holds a file for each case that waits (`worker_deaths`).
    """

    address: str
    waiting: Path
    client: Any

    def pids(self) -> dict[str, int]:
        """Process numbers of the workers that stand, by address."""
        found: dict[str, int] = self.client.run(os.getpid, on_error="ignore")
        return found


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    import dask
    from distributed import Client, LocalCluster

    folder = tmp_path_factory.mktemp("workers")
    settings = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.deploy.lost-worker-timeout": 300.0,
    }
    with pytest.MonkeyPatch.context() as environment, dask.config.set(settings):
        waiting = deadly_cases(folder / "hook", environment)
        environment.setenv("TMPDIR", str(folder))
        with (
            LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                local_directory=str(folder),
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield Workers(cluster.scheduler_address, waiting, client)


@pytest.fixture(scope="module")
def images(data_folder: Path) -> list[Path]:
    return [data_folder / "hippocampus" / "images" / f"{name}.nii.gz" for name in NAMES]


@pytest.fixture(scope="module")
def made(images: list[Path], tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the cohort."""
    from SegWithUCore.cli.__main__ import main

    output = tmp_path_factory.mktemp("made")
    assert main(["segment", *map(str, images), "--model", str(tiny), "--output", str(output)]) == 0
    return output


def failures(output: Path) -> dict[str, str]:
    """The reason of each case in `failed.csv`."""
    with (output / "failed.csv").open(encoding="utf-8") as file:
        return {row["case"]: row["reason"] for row in csv.DictReader(file)}


def copies(images: list[Path], folder: Path, *names: str) -> list[Path]:
    """Images under other names."""
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copy(images[0], folder / f"{name}.nii.gz")) for name in names]


def test_workers_make_what_one_process_makes(
    workers: Workers, images: list[Path], made: Path, tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    options = ["--scheduler", workers.address, "--json"]
    outcome = segwithu.segment(*images, *options, model=tiny, output=output)
    assert outcome.code == 0, outcome.out
    assert outcome.err == ""
    assert_same_cases(output, made, NAMES)
    results = [event for event in outcome.events if event["event"] == "result"]
    assert {Path(str(event["case"])).name for event in results} == set(NAMES)
    assert all(event["worker"] for event in results)
    last = outcome.events[-1]
    assert (last["event"], last["done"], last["failed"]) == ("cohort", 5, 0)
    assert float(str(last["cases_per_hour"])) > 0
    shutil.rmtree(output / NAMES[2])
    again = segwithu.segment(*images, *options[:2], model=tiny, output=output)
    assert "1 done, 4 there" in again.out, again.err
    assert_same_cases(output, made, NAMES)


def test_a_worker_killed_in_its_case_costs_time_alone(
    workers: Workers, images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    output, waits = tmp_path / "out", "waits-1"
    cases = [*copies(images, tmp_path / "in", waits), *images[:3]]
    before = set(workers.pids().values())

    def kill_it() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not (workers.waiting / waits).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        pid = next(pid for pid in before if _waits(pid, output))
        os.kill(pid, signal.SIGKILL)
        (workers.waiting / waits).unlink()

    killer = threading.Thread(target=kill_it)
    killer.start()
    threading.Thread(target=_let_go_later, args=(workers.waiting / waits, killer)).start()
    outcome = segwithu.segment(*cases, "--scheduler", workers.address, model=tiny, output=output)
    killer.join()
    assert outcome.code == 0, outcome.err
    assert "4 done, 0 there, 0 failed" in outcome.out
    assert sorted(path.name for path in output.iterdir()) == sorted([waits, *NAMES[:3], *OVERVIEW])


def _waits(pid: int, output: Path) -> bool:
    """Whether a process made the folder that waits to be renamed."""
    return any(output.glob(f".segwithu-{pid}-*"))


def _let_go_later(waiting: Path, after: threading.Thread) -> None:
    """Let the case that is made again go on when it waits too."""
    after.join()
    deadline = time.monotonic() + PATIENCE_S
    while not waiting.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    waiting.unlink(missing_ok=True)


def test_a_case_that_kills_its_workers_is_a_row_and_takes_no_other_along(
    workers: Workers, images: list[Path], made: Path, tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    cases = [*copies(images, tmp_path / "in", "kills-1"), *images]
    outcome = segwithu.segment(*cases, "--scheduler", workers.address, model=tiny, output=output)
    assert outcome.code == 1
    assert "5 done, 0 there, 1 failed" in outcome.out, outcome.err
    reason = failures(output)["kills-1"]
    assert list(failures(output)) == ["kills-1"]
    assert "2 workers were killed" in reason and "[worker-killed]" in reason
    assert hidden_in(output) == []
    (tmp_path / "in" / "kills-1.nii.gz").rename(tmp_path / "in" / "mild.nii.gz")
    again = segwithu.segment(tmp_path / "in" / "mild.nii.gz", *images, "--scheduler", workers.address, "--resume",
                             model=tiny, output=output)  # fmt: skip
    assert "1 done, 5 there" in again.out, again.err
    shutil.rmtree(output / "mild")
    (output / "failed.csv").unlink(missing_ok=True)
    (output / "index.html").touch()
    assert_same_cases(output, made, NAMES)


def test_a_case_larger_than_a_worker_s_share_of_memory_is_a_failed_case(
    images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sitk.WriteImage(sitk.Image([500] * 3, sitk.sitkUInt8), str(tmp_path / "large.nii.gz"))
    monkeypatch.setattr(module, "available_bytes", lambda: int(1.5e9 / module.SHARED_MEMORY))
    outcome = segwithu.segment(tmp_path / "large.nii.gz", images[0], "--workers", "1", model=tiny,
                               output=tmp_path / "out")  # fmt: skip
    assert outcome.code == 1
    assert "1 done, 0 there, 1 failed" in outcome.out, outcome.err
    assert list(failures(tmp_path / "out")) == ["large"]
    assert "of memory more than" in failures(tmp_path / "out")["large"]


def test_a_share_of_memory_too_small_for_the_model_is_a_refusal(
    images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED_MEMORY", 1e-6)
    outcome = segwithu.segment(images[0], "--workers", "1", model=tiny, output=tmp_path / "out")
    _refused(outcome, "cannot load the model", "of memory more than")
    assert not (tmp_path / "out").exists(), "nothing was begun"


def _refused(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 1
    assert outcome.out == ""
    for word in words:
        assert word in outcome.messages[-1]


def test_unfit_workers_are_refused_before_the_first_case(
    workers: Workers,
    images: list[Path],
    tiny: Path,
    segwithu: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out"

    def refused() -> Outcome:
        return segwithu.segment(images[0], "--scheduler", workers.address, model=tiny, output=output)

    of, ready = module.Setup.of, module.ready_workers
    for changed, code in (
        ({"identity": ("tiny",)}, "different-workers"),
        ({"folder": "/nowhere"}, ""),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module.Setup, "of", lambda *a, changed=changed, **k: replace(of(*a, **k), **changed))
            _refused(refused(), f"[{code}]" if code else "/nowhere")
    with monkeypatch.context() as patch:
        patch.setattr(module, "ready_workers", lambda c, s, r: ready(c, replace(s, lock=(s.lock[0], "another's")), r))
        _refused(refused(), "[folder-not-shared]", str(output))
    assert not output.exists(), "nothing was begun"
    with monkeypatch.context() as patch:  # as where a worker comes later
        patch.setattr(module, "ready_workers", lambda *a: replace(ready(*a), runtime="torch 9.9"))
        outcome = refused()
        assert "[different-workers]" in failures(output)[NAMES[0]], outcome.err
        assert "instead of torch 9.9" in failures(output)[NAMES[0]]


def test_workers_that_would_make_different_results_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SimpleNamespace(
        wait_for_workers=lambda *_, **__: None, run=lambda *_, **__: {"tcp://a": "torch 1", "tcp://b": "torch 2"}
    )
    setup = module.Setup("/m", None, "torch", "cpu", ())
    with pytest.raises(module.ClusterError) as error:
        module.ready_workers(client, setup, None)
    assert error.value.code == "different-workers"


def test_a_case_that_a_worker_wrote_elsewhere_fails(
    workers: Workers, images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEEN_AFTER_S", 0.1)
    monkeypatch.setattr(module, "CASE_FILE", "elsewhere.json")
    outcome = segwithu.segment(images[0], "--scheduler", workers.address, model=tiny, output=tmp_path / "out")
    assert outcome.code == 1
    assert "[folder-not-shared]" in failures(tmp_path / "out")[NAMES[0]]


def test_a_model_changed_at_the_same_place_is_another_model_for_a_warm_worker(
    workers: Workers, images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    model = tmp_path / "models" / "tiny"
    shutil.copytree(tiny, model)
    options = ["--scheduler", workers.address]
    assert segwithu.segment(images[0], *options, model=model, output=tmp_path / "one").code == 0
    changed_description(model, "about/version", "9.9")
    assert segwithu.segment(images[0], *options, model=model, output=tmp_path / "two").code == 0
    case = json.loads((tmp_path / "two" / NAMES[0] / "case.json").read_text(encoding="utf-8"))
    assert case["model"]["version"] == "9.9"


def test_a_scheduler_that_is_not_there_is_named(
    images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 1.0)
    absent = "tcp://127.0.0.1:9"
    outcome = segwithu.segment(images[0], "--scheduler", absent, model=tiny, output=tmp_path / "no")
    assert outcome.code == 1 and absent in outcome.messages[-1] and outcome.error_codes == ["no-workers"]
    for wrong in ("localhost", "http://x", "absent.json"):
        one_sentence(
            segwithu.segment(images[0], "--scheduler", wrong, model=tiny, output=tmp_path / "no"), wrong, code=2
        )


def test_workers_stay_keep_the_memory_that_they_free_and_use_the_cores_they_were_given(
    workers: Workers, images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    before = workers.pids()
    options = ["--scheduler", workers.address, "--threads", "2"]
    assert segwithu.segment(images[0], *options, model=tiny, output=tmp_path / "out").code == 0
    assert workers.pids() == before, "a run ended workers that are not its own"
    found = workers.client.run(lambda: (os.environ.get("MALLOC_TRIM_THRESHOLD_"), os.environ["OMP_NUM_THREADS"]))
    assert set(found.values()) == {(None, "2")}
