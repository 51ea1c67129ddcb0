"""*Review in browser*: the list of cases as a page; Slicer and the page hand a review over to each other."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from listed_cases import CASES, Listing
from opened_module import alive
from web_client import WebClient

pytestmark = pytest.mark.slow

A, B, C = CASES


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was opened with."""
    import qt

    opened: list[str] = []

    class Services:
        @staticmethod
        def openUrl(url: Any) -> bool:
            opened.append(str(url.toString()))
            return True

    monkeypatch.setattr(qt, "QDesktopServices", Services)
    return opened


def click(listing: Listing, links: list[str]) -> tuple[WebClient, str | None]:
    """Click the button, and enter as the browser does; the client, and the case that it is sent to."""
    count = len(links)
    listing.ui.browserButton.click()
    listing.host.wait(lambda: len(links) > count, timeout=60)
    parts = urlsplit(links[-1])
    once, _, case = parts.fragment.partition("&case=")
    client = WebClient(f"http://{parts.netloc}/#")
    status, answer = client.post("/api/enter", {"once": once.removeprefix("once=")})
    assert status == 200, answer
    client.token = answer["token"]
    return client, case or None


def test_the_list_is_shown_at_the_selected_case_and_each_click_opens_it_again(
    listing: Listing, links: list[str]
) -> None:
    ui, process = listing.ui, listing.panel.browser.review.process
    ui.reviewerEdit.text = "Ana"
    assert not ui.browserButton.enabled
    listing.list_folder()
    assert ui.browserButton.enabled and not ui.endBrowserButton.visible
    listing.select(B)
    client, case = click(listing, links)
    worklist = client.worklist()
    assert sorted(row["name"] for row in worklist["cases"]) == sorted(CASES)
    assert (worklist["title"], worklist["reviewer_default"]) == ("cases", "Ana")
    assert client.case_id(B) == case
    listing.select(C)
    again, case = click(listing, links)
    assert (again.address, again.token) == (client.address, client.token)
    assert links[0] != links[1] and client.case_id(C) == case
    assert client.token not in "".join(links)
    pid = process.pid
    assert ui.endBrowserButton.visible and alive(pid)
    ui.endBrowserButton.click()
    assert not alive(pid) and not process.is_running and not ui.endBrowserButton.visible
    assert "every verdict is in its case folder" in ui.browserLabel.text


def test_slicer_and_the_page_hand_a_review_over_and_back(listing: Listing, links: list[str]) -> None:
    listing.list_folder()
    listing.click(A)
    listing.reviewing.start("Ana")
    listing.reviewing.judge("rejected")
    client, case = click(listing, links)
    assert case is not None and case == client.case_id(A)
    assert listing.reviewing.session is None
    assert "was closed, so that the browser can go on with it" in listing.ui.browserLabel.text
    review = client.open(case, "Ana")
    assert review.opened["resumed_at"] is not None
    there = [line["verdict"] for line in review.opened["lines"] if line["event"] == "verdict"]
    assert there == ["rejected"]
    undecided = [id_ for id_ in review.ids if id_ != review.opened["lines"][1].get("region")]
    review.judge(undecided[-1], "needs second reader")
    listing.ui.startReviewButton.click()
    assert listing.reviewing.session is None
    assert "is being written by process" in listing.ui.reviewNoteLabel.text
    review.close()
    listing.reviewing.start("Ana")
    assert listing.reviewing.state.verdict_of(undecided[-1]) == "needs second reader"
    status, answer = client.post(f"/api/cases/{case}/open", {"reviewer": "Ana"})
    assert (status, answer["kind"]) == (423, "in_use")
    assert answer["who"].startswith(f"process {os.getpid()} ")
    listing.ui.endReviewButton.click()
    assert client.open(case, "Ana").opened["read_only"] is False
    listing.ui.endBrowserButton.click()
    assert [line["event"] for line in listing.log(A)][-1] == "closed"


def test_a_server_that_dies_is_told_and_the_next_click_starts_another(listing: Listing, links: list[str]) -> None:
    listing.list_folder()
    client, _case = click(listing, links)
    process = listing.panel.browser.review.process
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    listing.host.wait(lambda: not process.is_running, timeout=60)
    assert "SIGKILL" in listing.ui.browserLabel.text
    again, _case = click(listing, links)
    assert again.address != client.address or again.token != client.token
    listing.ui.endBrowserButton.click()


def test_another_list_is_another_page_and_a_list_that_is_gone_says_so(
    listing: Listing, links: list[str], tmp_path: Path
) -> None:
    listing.list_folder()
    first, _case = click(listing, links)
    listing.list_folder(listing.cases / A)
    second, _case = click(listing, links)
    assert [row["name"] for row in second.worklist()["cases"]] == [A]
    assert second.token != first.token
    (listing.cases / A / "case.json").write_text(json.dumps({"format": "other"}))
    (row,) = second.worklist()["cases"]
    assert row["trouble"]
    listing.ui.endBrowserButton.click()
