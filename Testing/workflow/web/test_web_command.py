"""`segwithu web` as a command: how it starts, who it lets in, how it ends, and what is left when it is killed."""

import json
import signal
import socket
import sys
from pathlib import Path

import pytest
from exchanged_cases import CASES, copied
from segwithu_command import PATIENCE_S, Command, one_sentence, refused
from web_client import WebClient, lines_of, served
from web_process import killed_reviews, started

from SegWithUCore.review.worklist import make_worklist
from SegWithUCore.review.worklist_files import write_worklist

NAME = CASES[0]


@pytest.fixture
def case(segmented_cases: Path, tmp_path: Path) -> Path:
    """A case of the test's own."""
    return copied(segmented_cases / NAME, tmp_path / "cases")


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX knows them")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_and_gives_every_review_back(case: Path, end: signal.Signals) -> None:
    with started(case.parent) as (process, ready):
        client = WebClient(ready["url"])
        assert (ready["event"], ready["cases"]) == ("ready", 1)
        review = client.open("1", "Ana")
        review.judge(review.ids[0])
        process.send_signal(end)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        assert json.loads(out.splitlines()[-1]) == {"event": "result", "closed": True, "not_stored": 0}
        assert "Traceback" not in err
    assert [line["event"] for line in lines_of(case, "Ana")] == ["opened", "verdict", "closed"]
    assert not list(case.glob("*.lock"))


@pytest.mark.skipif(sys.platform == "win32", reason="the browser is a shell script")
def test_a_browser_is_started_with_a_link_that_works_once(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/part && mv {tmp_path}/part {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    with started(case, "--open") as (_process, ready):
        client = WebClient(ready["url"])
        while not (tmp_path / "opened").exists():
            client.worklist()
        link = (tmp_path / "opened").read_text().strip()
        assert client.token not in link
        assert client.post("/api/enter", {"once": link.rpartition("=")[2]})[1] == {"token": client.token}


def test_it_needs_neither_torch_nor_scipy(case: Path) -> None:
    with started(case, packages="numpy,SimpleITK") as (_process, ready):
        client = WebClient(ready["url"])
        assert len(client.bytes("/api/cases/1/volumes/error_probability")) > 10_000
        review = client.open("1", "Ana")
        review.judge(review.ids[0])


@pytest.mark.serial
@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX knows them")
def test_killed_in_mid_review_nothing_is_lost_and_nothing_is_twice(case: Path) -> None:
    found = killed_reviews(case, kills=4, seed=7)
    assert found.kills == 4
    assert found.confirmed > 4
    assert (found.lost, found.doubled) == (0, 0)


REFUSED = {
    "others without a proxy": (["--host", "0.0.0.0"], ["--behind-proxy", "ssh -L"]),
    "a name of others": (["--host", "station.example"], ["--behind-proxy"]),
    "a proxy that is none": (["--behind-proxy", "review"], ["give the address"]),
    "images that are none": (["--images", "nowhere"], ["nowhere"]),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_would_let_everybody_in_is_refused(
    case: Path, segwithu: Command, options: list[str], words: list[str]
) -> None:
    one_sentence(segwithu("web", case, "--port", "0", *options), *words, code=2)


def test_a_taken_port_and_a_place_without_cases_are_named(case: Path, tmp_path: Path, segwithu: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_sentence(segwithu("web", case, "--port", port), f"127.0.0.1:{port} cannot be taken", "--port", code=2)
    refused(segwithu("web", tmp_path / "empty"), "not-a-case")
    (tmp_path / "worklist.csv").write_text("rank")
    one_sentence(segwithu("web", tmp_path / "worklist.csv"), "worklist.json", code=2)


def test_a_worklist_is_shown_by_its_file_and_one_that_leads_elsewhere_is_refused(
    segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    cases = [copied(segmented_cases / name, tmp_path / "there") for name in CASES]
    write_worklist(make_worklist(cases[:2]), tmp_path)
    with served(tmp_path / "worklist.json") as server:
        shown = WebClient(server.gate.link).worklist()["cases"]
    assert sorted(case["name"] for case in shown) == sorted(CASES[:2])
    content = json.loads((tmp_path / "worklist.json").read_text())
    content["cases"][0]["folder"] = "../elsewhere"
    (tmp_path / "worklist.json").write_text(json.dumps(content))
    refused(segwithu("web", tmp_path / "worklist.json"), "leads-outside", tmp_path / "worklist.json")
