"""Which calls for workers are refused, how a lost scheduler is named, and what workers that do not start leave."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from SegWithUCore.cohort import workers as module
from SegWithUCore.cohort.workers import ClusterError, connected, uses_workers
from SegWithUCore.util.errors import InputError, UsageError

SCHEDULER = (None, "tcp://host:8786")


def connect(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A client that needs no scheduler."""
    distributed = pytest.importorskip("distributed")
    found = SimpleNamespace(status="running", close=lambda **_: None)
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: found)
    return found


def test_a_scheduler_that_is_killed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(monkeypatch)
    with pytest.raises(ClusterError) as error, connected(*SCHEDULER):
        client.status = "closed"
        raise RuntimeError("Client is closed. Can't send update-graph message.")
    assert error.value.code == "no-workers"


def test_an_error_of_the_run_stays_what_it_is_where_the_scheduler_is_lost_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = connect(monkeypatch)
    with pytest.raises(InputError, match="damaged"), connected(*SCHEDULER):
        client.status = "closed"
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
    with pytest.raises(expected) as raised, connected(2, None):
        pytest.fail("it went to work")
    if isinstance(raised.value, ClusterError):
        assert raised.value.code == "no-workers"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("given", [(2, "tcp://a:1"), (None, "udp://a:1"), (None, "scheduler.json")])
def test_contradictions_are_refused(given: tuple[int | None, str]) -> None:
    with pytest.raises(UsageError):
        uses_workers(*given)


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        uses_workers(2, None)
    assert error.value.code == "needs-package"
