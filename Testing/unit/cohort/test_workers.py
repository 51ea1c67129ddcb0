"""What is said while no worker comes, which calls are refused, and what is left of workers that do not start."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from SegWithUCore.cohort import workers as module
from SegWithUCore.cohort.on_worker import RunFacts
from SegWithUCore.cohort.workers import ClusterError, Workers, WorkersRequest, _is_loopback, connected
from SegWithUCore.util.errors import InputError, UsageError


class EnoughError(Exception):
    """Ends a wait that goes on for ever."""


def client(status: str = "running", **more: object) -> Any:
    return SimpleNamespace(nthreads=dict, status=status, scheduler=SimpleNamespace(address="tcp://host:8786"), **more)


def test_a_worker_that_never_comes_is_said_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAY_EVERY_S", 0.01)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 3:
            raise EnoughError

    for request, words in (
        (WorkersRequest(scheduler="tcp://host:8786"), "dask worker tcp://host:8786"),
        (WorkersRequest(2, job_queue="slurm"), "see 'squeue'"),
    ):
        said.clear()
        with pytest.raises(EnoughError):
            Workers(client(), object() if request.job_queue else None, request, say).get_ready(RunFacts("1"), dict)
        assert all(words in text for text in said)
    local = Workers(client(), object(), WorkersRequest(2), lambda _: None)
    with pytest.raises(ClusterError) as error:
        local.get_ready(RunFacts("1"), dict)
    assert error.value.code == "workers-not-started"


@pytest.mark.parametrize("asks", ["the address", "the client"])
def test_a_scheduler_that_is_killed_is_named(asks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask closes the client, which then knows no address and refuses every question in words of its own."""
    lost = client()
    found = Workers(lost, None, WorkersRequest(scheduler="tcp://host:8786"), print)
    monkeypatch.setattr(module, "_opened", lambda *_: found)
    with pytest.raises(ClusterError) as error, connected(found.request, tmp_path, print):
        lost.status, lost.scheduler = "closed", None
        if asks == "the address":
            found._look()
        raise RuntimeError("Client is closed. Can't send update-graph message.")
    assert error.value.code == "scheduler-gone"
    assert "tcp://host:8786" in str(error.value)


def test_an_error_of_the_run_stays_what_it_is_where_the_scheduler_is_lost_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = WorkersRequest(scheduler="tcp://host:8786")
    monkeypatch.setattr(module, "_opened", lambda *_: Workers(client("closed"), None, request, print))
    with pytest.raises(InputError, match="damaged"), connected(request, tmp_path, print):
        raise InputError("a.nii.gz is damaged.")


@pytest.mark.parametrize("error", [RuntimeError("Nanny failed to start."), TimeoutError(), KeyboardInterrupt()])
def test_workers_that_die_while_they_start_leave_no_folder(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")

    def fails(**_options: object) -> None:
        assert list(tmp_path.glob("segwithu-cluster-*")), "nothing to clean up"
        raise error

    monkeypatch.setattr(distributed, "LocalCluster", fails)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    expected = ClusterError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected) as raised, connected(WorkersRequest(2), tmp_path, print):
        pytest.fail("it went to work")
    if isinstance(raised.value, ClusterError):
        assert raised.value.code == "workers-not-started"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (WorkersRequest(2, "tcp://a:1"), "leave out --workers"),
        (WorkersRequest(None, None, "slurm"), "--cluster needs --workers"),
        (WorkersRequest(2, most=4), "--adapt goes with --cluster"),
        (WorkersRequest(8, job_queue="pbs", most=4), "--adapt 4 is less than --workers 8"),
        (WorkersRequest(scheduler="udp://a:1"), "is no scheduler"),
    ],
)
def test_contradictions_are_refused_in_a_sentence(request_: WorkersRequest, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        request_.check()


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError) as error:
        WorkersRequest(2).check()
    assert error.value.code == "package-missing"


def test_loopback_addresses_need_no_warning() -> None:
    assert all(map(_is_loopback, ("tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:8786")))
    assert not any(map(_is_loopback, ("tcp://10.0.0.1:8786", "tcp://node7:8786", "tcp://[fe80::1]:1")))
