"""What is said while no worker comes, and which calls are refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from SegWithUCore.cluster import connection as module
from SegWithUCore.cluster.connection import Connection, _is_loopback, connect
from SegWithUCore.cluster.request import ClusterError, ClusterRequest
from SegWithUCore.util.errors import InputError, UsageError


class EnoughError(Exception):
    """Ends a wait that goes on for ever."""


def test_a_worker_that_never_comes_is_said_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAY_EVERY_S", 0.01)
    said: list[str] = []
    client: Any = SimpleNamespace(nthreads=dict, scheduler=SimpleNamespace(address="tcp://host:8786"))
    cluster: Any = SimpleNamespace(worker_spec={"0": 1, "1": 2})

    def enough() -> None:
        if len(said) >= 3:
            raise EnoughError

    for request, words in (
        (ClusterRequest(scheduler="tcp://host:8786"), "dask worker tcp://host:8786"),
        (ClusterRequest(2, job_queue="slurm"), "2 jobs are asked for; see 'squeue'"),
    ):
        said.clear()
        found = Connection(client, cluster if request.job_queue else None, request, said.append)
        with pytest.raises(EnoughError):
            found.wait_for_workers(2, enough)
        assert len(said) == 3
        assert all(text.startswith("No worker has come to the scheduler at tcp://host:8786 for ") for text in said)
        assert words in said[0]
    local = Connection(client, cluster, ClusterRequest(2), said.append)
    with pytest.raises(ClusterError, match="Only 0 of 2 workers started"):
        local.wait_for_workers(2, lambda: None)


@pytest.mark.parametrize("asks", ["the address", "the client"])
def test_a_scheduler_that_is_killed_is_named(asks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask closes the client, which then knows no address and refuses every question in words of its own."""

    class LostClient(SimpleNamespace):
        def nthreads(self) -> dict[str, int]:
            raise RuntimeError("Client is closed. Can't send update-graph message.")

    client: Any = LostClient(status="running", scheduler=SimpleNamespace(address="tcp://host:8786"))
    request = ClusterRequest(scheduler="tcp://host:8786")
    found = Connection(client, None, request, print)
    monkeypatch.setattr(module, "_connected", lambda *_: found)
    with pytest.raises(ClusterError) as error, connect(request, tmp_path, print):
        client.status, client.scheduler = "closed", None
        if asks == "the address":
            raise found.gone()
        found.workers()
    assert error.value.code == "scheduler-gone"
    assert "tcp://host:8786" in str(error.value)


def test_an_error_of_the_run_stays_what_it_is_where_the_scheduler_is_lost_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = SimpleNamespace(status="closed", scheduler=SimpleNamespace(address="tcp://host:8786"))
    request = ClusterRequest(scheduler="tcp://host:8786")
    monkeypatch.setattr(module, "_connected", lambda *_: Connection(client, None, request, print))
    with pytest.raises(InputError, match="damaged"), connect(request, tmp_path, print):
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
    with pytest.raises(expected) as raised, connect(ClusterRequest(2), tmp_path, print):
        pytest.fail("it went to work")
    if isinstance(raised.value, ClusterError):
        assert raised.value.code == "workers-not-started"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ClusterRequest(2, "tcp://a:1"), "leave out --workers"),
        (ClusterRequest(None, None, "slurm"), "--cluster needs --workers"),
        (ClusterRequest(2, most=4), "--adapt goes with --cluster"),
        (ClusterRequest(8, job_queue="pbs", most=4), "--adapt 4 is less than --workers 8"),
        (ClusterRequest(scheduler="udp://a:1"), "is no scheduler"),
    ],
)
def test_contradictions_are_refused_in_a_sentence(request_: ClusterRequest, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        request_.check()


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"pip install \"segwithu-slicer\[cluster\]\""):
        ClusterRequest(2).check()


def test_loopback_addresses_need_no_warning() -> None:
    assert all(map(_is_loopback, ("tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:8786")))
    assert not any(map(_is_loopback, ("tcp://10.0.0.1:8786", "tcp://node7:8786", "tcp://[fe80::1]:1")))
