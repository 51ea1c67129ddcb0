"""What is said while no worker comes, and which calls are refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from SegWithUCore.cluster import connection as module
from SegWithUCore.cluster.connection import Connection, _is_loopback
from SegWithUCore.cluster.request import ClusterError, ClusterRequest
from SegWithUCore.errors import UsageError


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
