"""Reviews in a browser from beginning to end: a worklist, a single file by mail and back, a server that is killed."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from exchanged_cases import CASES
from page_browser import Visit
from repository import HELPERS, PACKAGES
from segwithu_command import Command, child
from web_client import lines_of, served

from SegWithUCore.case.case_file import read_case, read_description
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.regions.region import Kind, in_order
from SegWithUCore.review.log_format import Verdict
from SegWithUCore.review.reviews import Review, read_reviews
from SegWithUSlicerLib.scene.readout import above_text, share_above

ACCEPT, REJECT, SECOND, UNDO = "Control+Alt+Digit1", "Control+Alt+Digit3", "Control+Alt+Digit4", "Control+Alt+KeyZ"
COMMENT, FINISH, ADD = "Control+Alt+KeyC", "Control+Alt+KeyF", "Control+Alt+KeyP"
WIDEST_CELLS = """box => {
    const [name, volume, dice, wrong] = box.querySelector("tbody tr").children;
    name.querySelector(".name").textContent = "right ventral diencephalon";
    volume.firstChild.textContent = "1450 mm³ (0.0615 %)";
    volume.querySelectorAll("small")[1].textContent = "(1053.7 to 1550.1 mL)";
    dice.textContent = "not informative";
    wrong.textContent = "106.1 mL";
}"""
"""A structure of a whole brain in the first row."""
Opener = Callable[..., Visit]


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    """Three cases of the test's own."""
    return Path(shutil.copytree(segmented_cases, tmp_path / "cases"))


@pytest.fixture
def visit(chromium: Any) -> Iterator[Opener]:
    """Opens windows, and closes them at the end."""
    windows: list[Visit] = []

    def opened(link: str, **options: Any) -> Visit:
        windows.append(Visit(chromium, link, bypass_csp=True, **options))
        return windows[-1]

    yield opened
    for window in windows:
        window.close()


def review_of(folder: Path, reviewer: str) -> Review:
    """What a program that reads the case folder finds of a reviewer."""
    (found,) = (review for review in read_reviews(folder, read_case(folder)).reviews if review.reviewer == reviewer)
    return found


def verdicts_of(folder: Path, reviewer: str) -> dict[int, Verdict]:
    """Verdicts by rank."""
    found = read_reviews(folder, read_case(folder))
    return {
        region.rank: v for region in found.regions if (v := review_of(folder, reviewer).state.verdict_of(region.id))
    }


def show(window: Visit, visible: bool) -> None:
    """Hide the page, as another tab does, or show it again."""
    window.page.evaluate(
        """(visible) => {
          Object.defineProperty(document, "hidden", { value: !visible, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        visible,
    )


def decided(window: Visit) -> int:
    """How many regions have a verdict, as the page counts them."""
    found = re.search(r"finished; (\d+) of \d+ regions", window.text(".progress"))
    assert found
    return int(found[1])


def queue_of(folder: Path) -> list[list[int]]:
    """Ranks of the regions of a case, structure by structure, as the page goes through them."""
    regions = in_order([region for region in read_regions(folder) if region.kind is not Kind.BLIND], "structure")
    return [[region.rank for region in own] for _, own in groupby(regions, lambda region: region.structure)]


def test_a_worklist_of_three_is_reviewed_by_keys_alone(cases: Path, visit: Opener) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.wait("worklist")
        assert page.url == f"http://{server.gate.link.split('/')[2]}/", "the token stays in no address bar"
        page.get_by_label("Your name").fill("Ana")
        page.keyboard.press("Tab")
        page.get_by_text("open for Ana").wait_for()
        names = page.locator("tbody th").all_inner_texts()
        page.get_by_role("button", name="Case", exact=True).click()
        assert page.locator("tbody th").all_inner_texts() == sorted(names) == list(CASES)
        page.get_by_label("Filter").fill(CASES[1][-3:])
        assert page.locator("tbody th").all_inner_texts() == [CASES[1]]
        page.get_by_label("Filter").fill("")

        window.open_case(CASES[0])
        first, second = queue_of(cases / CASES[0])
        window.press("a", REJECT, "s", "u", "c")
        page.keyboard.type("look <b>twice</b>, as a number 12")
        assert f"Undone: region {first[2]}." == window.text(".said"), "keys are silent while text is typed"
        window.press("Enter", "s", "Shift+N", "n")
        assert f"Region {first[2]}: needs second reader. Now region {first[3]}." in window.text(".said")
        page.get_by_label("Keys").uncheck()
        window.press("r", "1")
        page.get_by_label("Keys").check()
        window.press(*[ACCEPT] * len(first[3:]))
        assert "Look through anterior hippocampus, then finish it" in window.text(".said")
        window.press("d")
        assert window.text(".said") == f"anterior hippocampus: accepted. Now region {second[0]}."
        assert page.locator(".item:visible .rank").all_inner_texts() == list(map(str, second)), "finished ones fold"
        window.press(*[ACCEPT] * len(second), FINISH)
        assert "Now the blind sample." in window.text(".said")
        window.press(*[ACCEPT] * page.locator(".item:visible").count(), str(first[0]))
        assert window.text(".said") == f"Region {first[0]}."
        count = len(first + second)
        assert f"2 of 2 structures finished; {count} of {count} regions" in window.text(".progress")
        assert "The review is finished: 1 rejected, 1 for a second reader" in window.text(".progress")

        window.press("Control+Alt+KeyN")
        page.wait_for_selector(f'html[data-state="case"] h1[title="{CASES[1]}"]')
        window.press(REJECT)
        page.get_by_role("button", name="Accept the rest").click()
        assert "without a look?" in page.locator("dialog").inner_text()
        page.keyboard.press("Enter")
        page.get_by_text("not looked at", exact=False).first.wait_for()
        window.press("Control+Alt+KeyN")
        page.wait_for_selector(f'html[data-state="case"] h1[title="{CASES[2]}"]')
        _check_readout(window, cases / CASES[2])
        page.get_by_role("button", name="← Cases").click()
        window.wait("worklist")
        assert "1 open for Ana" in window.text(".summary")
        assert all(request.startswith(server.gate.link.split("#")[0]) for request in window.requests)
        assert window.troubles == []
    given = verdicts_of(cases / CASES[0], "Ana")
    assert [given[n] for n in first[:3]] == [Verdict.ACCEPTED, Verdict.REJECTED, Verdict.SECOND_READER]
    assert set(given.values()) - {Verdict.ACCEPTED} == {Verdict.REJECTED, Verdict.SECOND_READER}
    state = review_of(cases / CASES[0], "Ana").state
    assert state.is_done and state.finished == {"anterior hippocampus", "posterior hippocampus"}
    assert "look <b>twice</b>, as a number 12" in review_of(cases / CASES[0], "Ana").state._comments.values()
    others = list(verdicts_of(cases / CASES[1], "Ana").values())
    assert others.count(Verdict.REJECTED) == 1
    assert others.count(Verdict.NOT_LOOKED_AT) == len(others) - 1 > 0
    assert lines_of(cases / CASES[0], "Ana")[-1]["event"] == "closed"


def test_the_table_of_structures_is_whole_on_all_but_tablets(cases: Path, visit: Opener) -> None:
    """Its last column once ran out of its panel on screens between 1180 and 1305 pixels wide."""
    with served(cases) as server:
        window = visit(server.gate.link)
        window.open_case(CASES[0])
        box = window.page.locator(".table-box")
        cells = [cell.split("\n") for cell in box.locator("td.range").all_inner_texts()]
        assert len(cells) == 3 and all(len(re.findall("mm³", " ".join(cell))) == 3 for cell in cells), "totals, too"
        box.evaluate(WIDEST_CELLS)
        for width in (1024, 1180, 1280, 1304, 1366, 1920):
            window.page.set_viewport_size({"width": width, "height": 800})
            assert box.evaluate("box => box.scrollWidth - box.clientWidth") == 0, width
            assert box.evaluate("box => box.querySelectorAll('td.above').length") == 2


ANTERIOR, POSTERIOR = "anterior hippocampus", "posterior hippocampus"


def shown_ranks(window: Visit) -> list[int]:
    """Numbers of the regions in the list, from the top."""
    return [int(text) for text in window.page.locator(".item:visible .rank").all_inner_texts()]


def selected(window: Visit) -> Any:
    """The row of the region at hand."""
    return window.page.locator('.item[aria-selected="true"]')


def test_list_next_rest_and_done_mean_the_structures_that_are_measured(cases: Path, visit: Opener) -> None:
    folder = cases / CASES[0]
    regions = [region for region in read_regions(folder) if region.kind is not Kind.BLIND]
    asked = [region for region in regions if region.is_about((POSTERIOR,))]
    assert len(asked) < len(regions)
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        assert sorted(shown_ranks(window)) == sorted(region.rank for region in regions)
        page.get_by_label(f"Measure only {POSTERIOR}").click()
        page.get_by_text("Measure 1 of 2 structures: posterior hippocampus").wait_for()
        page.get_by_text("all stored").wait_for()
        assert [line["structures"] for line in lines_of(folder, "Ana") if line["event"] == "asked"] == [[POSTERIOR]]
        assert sorted(shown_ranks(window)) == sorted(region.rank for region in asked)
        page.get_by_label(f"Measure {POSTERIOR}", exact=True).click()
        assert page.get_by_label(f"Measure {POSTERIOR}", exact=True).is_checked(), "a question is about something"
        assert f"0 of 1 structures finished; 0 of {len(asked)} regions" in window.text(".progress")
        window.press("n", ACCEPT, ACCEPT)
        assert {line["region"] for line in lines_of(folder, "Ana") if line["event"] == "verdict"} <= {
            region.id for region in asked
        }
        # What is not measured stays within reach.
        table = page.locator(".structures")
        table.get_by_role("button", name=ANTERIOR, exact=True).click()
        assert selected(window).get_attribute("title") == ANTERIOR
        assert page.get_by_text(f"{ANTERIOR} (not measured)").is_visible()
        page.locator(".regions").focus()
        window.press("n")
        assert POSTERIOR in table.locator("tbody tr").first.inner_text(), "what is measured comes first"
        assert int(selected(window).locator(".rank").inner_text()) in [region.rank for region in asked]
        page.get_by_role("button", name="Accept the rest").click()
        page.keyboard.press("Enter")
        page.get_by_text(f"{len(asked) - 2} not looked at").wait_for()
        window.press("d")
        assert "Now the blind sample." in window.text(".said")
        assert selected(window).get_attribute("title") == POSTERIOR
        assert "blind sample" in selected(window).inner_text()
        blind = page.locator(".item:visible", has_text="blind sample").count()
        window.press(*["r"] * blind)
        assert "The review is finished" in window.text(".progress")
        state = review_of(folder, "Ana").state
        assert state.is_done and state.asked == (POSTERIOR,)
        assert len(state.unseen_ids) == len(asked) - 2
        window.press(*["u"] * (blind + 1))
        assert not page.locator(".item", has_text="blind sample").count(), "not shown before its time"
        page.get_by_role("button", name="Measure as proposed").click()
        page.get_by_text("Measure 2 of 2 structures").wait_for()
        page.get_by_text("all stored").wait_for()
        assert window.troubles == []
    state = review_of(folder, "Ana").state
    assert state.asked == (ANTERIOR, POSTERIOR) and not state.finished


def test_a_place_of_the_reviewers_own_is_added_taken_back_and_judged(cases: Path, visit: Opener) -> None:
    folder = cases / CASES[0]
    regions = {region.rank: region for region in read_regions(folder)}
    number = max(region.id for region in regions.values()) + 1
    with served(cases) as server:
        window = visit(server.gate.link)
        window.read_as("Ana")
        window.open_case(CASES[0])
        page = window.page
        here = regions[int(selected(window).locator(".rank").inner_text())]
        window.press("m")
        added = [line for line in lines_of(folder, "Ana") if line["event"] == "added"]
        assert [line["region"] for line in added] == [number]
        assert added[0]["ras_mm"] == pytest.approx(here.peak_ras_mm, abs=1e-3), "at the crosshair"
        assert number in shown_ranks(window)
        assert selected(window).locator(".rank").inner_text() == str(number)
        window.press("u")
        assert number not in shown_ranks(window)
        window.press(ADD, REJECT)
        heading = page.locator(".heading.current").inner_text()
        assert heading.startswith(here.structure), "the next key D must not finish a structure that nobody has seen"
        assert window.troubles == []
    state = review_of(folder, "Ana").state
    assert state.verdict_of(number) is Verdict.REJECTED
    assert [region.kind for region in state.listed()].count(Kind.ADDED) == 1


def test_time_counts_only_while_somebody_looks(cases: Path, visit: Opener) -> None:
    def seconds() -> float:
        """Time on the region that is left by this key."""
        window.press("n")
        window.page.get_by_text("all stored").wait_for()
        return float([line for line in lines_of(cases / CASES[0], "Ana") if line["event"] == "looked"][-1]["seconds"])

    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        page.clock.install()
        window.open_case(CASES[0])
        window.press("n")
        page.clock.fast_forward(1_060_000)
        assert 59 <= seconds() <= 62, "a tab that was left open"
        for at in range(4):
            page.clock.fast_forward(30_000)
            page.mouse.move(700 + at, 300)
        assert 119 <= seconds() <= 124, "somebody who moves the mouse"
        page.clock.fast_forward(10_000)
        show(window, False)
        page.clock.fast_forward(40_000)
        show(window, True)
        page.clock.fast_forward(5_000)
        assert 14 <= seconds() <= 18, "a page that was hidden"


def test_the_list_is_filtered_and_sorted_and_fits_a_small_screen(cases: Path, visit: Opener) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        first, second = queue_of(cases / CASES[0])
        for width, height in ((1024, 640), (1440, 900)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(200)
            list_ = page.locator(".regions").bounding_box()
            boxes = [item.bounding_box() for item in page.locator(".item").all()]
            inside = [box for box in boxes if box and box["y"] + box["height"] <= list_["y"] + list_["height"] + 1]
            assert len(inside) >= 6, (width, len(inside))
            for button in page.locator(".side button:visible, .topbar button:visible").all():
                box = button.bounding_box()
                is_listed = button.evaluate("button => button.closest('.regions') !== null")
                assert is_listed or (box["x"] + box["width"] <= width and box["y"] + box["height"] <= height), button
            why = page.locator(".why")
            assert why.evaluate("why => why.scrollHeight - why.clientHeight") <= 1, "the text is whole"
        window.press("c")
        page.keyboard.type("odd rim")
        page.keyboard.press("Enter")
        filter_ = page.get_by_label("Filter regions")
        filter_.fill("rim odd")
        assert shown_ranks(window) == first[:1]
        filter_.fill("posterior")
        found = shown_ranks(window)
        assert set(second) <= set(found) < set(first + second)
        page.get_by_role("button", name="✓ Accepted").click()
        assert int(selected(window).locator(".rank").inner_text()) in found, "next is what the filter shows"
        filter_.fill("")
        page.get_by_label("Order of regions").select_option("expected wrong volume")
        assert shown_ranks(window) == sorted(first + second)
        assert window.troubles == []


def test_two_ticked_scans_are_compared_and_what_cannot_be_is_said(cases: Path, visit: Opener) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        window.wait("worklist")
        page, button = window.page, window.page.get_by_role("button", name="Compare scans")
        for name in CASES[:2]:
            assert button.is_disabled()
            page.get_by_label(f"Compare {name}").check()
        button.click()
        page.get_by_role("heading", name=f"Changes since {CASES[0]}").wait_for()
        rows = page.locator(".changes tbody tr")
        volumes = [read_case(cases / name)["structures"][1]["volume_mm3"] for name in CASES[:2]]
        cells = rows.filter(has_text="anterior hippocampus").locator("td").all_inner_texts()
        assert cells[:3] == [CASES[1], *(f"{volume:.0f}" for volume in volumes)]
        assert cells[3] == f"{100 * (volumes[1] / volumes[0] - 1):+.1f} %" and cells[6].startswith("changed")
        assert rows.count() == 3
        page.get_by_label(f"Compare {CASES[1]}").uncheck()
        shutil.copytree(cases / CASES[0], cases / "copy")
        page.get_by_role("button", name="Reload").click()
        page.locator(f"input:not(:checked)[aria-label='Compare {CASES[0]}']").check()
        button.click()
        page.get_by_text("are of one image").wait_for()
        assert page.locator(".changes tbody tr").count() == 0


def test_the_table_shows_figures_that_follow_the_reviewer(cases: Path, visit: Opener) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        window.read_as("Ana")
        window.open_case(CASES[0])
        rows = window.page.locator(".structures tbody tr")
        wrong = [
            window.page.locator(f".structures tbody tr:nth-child({row}) td.number:nth-of-type(3)") for row in (1, 2)
        ]
        before = [each.inner_text() for each in wrong]
        texts = rows.all_inner_texts()
        window.press(FINISH)
        window.page.get_by_text("read by Ana").wait_for()
        assert "expected" not in rows.nth(0).inner_text() and wrong[0].inner_text() == "0 mm³"
        assert wrong[1].inner_text() == before[1] and "expected" in rows.nth(1).inner_text()
        dice, _, above = rows.nth(0).locator("td.number").all_inner_texts()[1:]
        assert dice == above == "", "of the model's work, not of the reader's"
        assert "expected" in rows.nth(2).inner_text(), "half of a total is not read"
        window.press(FINISH)
        rows.nth(2).get_by_text("read by Ana").wait_for()
        window.press(UNDO, UNDO)
        window.page.get_by_text("read by Ana").first.wait_for(state="detached")
        assert rows.all_inner_texts() == texts


def _check_readout(window: Visit, folder: Path) -> None:
    """Move the threshold; what is written must be what Slicer's panel writes."""
    case = read_description(folder)
    slider = window.page.get_by_label("Threshold", exact=True)
    for threshold in (0.25, 0.1, 0.402):
        slider.fill(str(round(threshold / 0.002)))
        assert float(window.text(".threshold-value").removeprefix("from ")) == threshold
        rows = [re.sub(r"\s+", " ", text) for text in window.page.locator("td.above").all_inner_texts()]
        expected = [above_text(row) for row in share_above(case, "error_probability", threshold)]
        assert rows == [re.sub(r" of the .*,", "", text) for text in expected]


def test_a_single_file_opens_offline_and_its_verdicts_come_back(
    cases: Path, visit: Opener, segwithu: Command, tmp_path: Path
) -> None:
    assert segwithu("export", cases / CASES[0], "--page", "--with-image", "--output", tmp_path / "mail").code == 0
    (html,) = (tmp_path / "mail").glob("case*.html")
    window = visit(html.as_uri(), offline=True)
    page = window.page
    window.wait("case")
    page.get_by_label("Your name").fill("Zoë")
    page.keyboard.press("Enter")
    page.wait_for_selector("form.start", state="hidden")
    window.press(ACCEPT, SECOND)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save verdicts").click()
    window.press(REJECT)
    page.get_by_label("Measure only anterior hippocampus").click()
    window.press(ADD, FINISH)
    page.reload()
    assert window.dialogs == ["beforeunload"], "a verdict that is in no file is not given up without a warning"
    page.get_by_text("finished; 3 of").wait_for()  # the browser has kept them, with the name
    with page.expect_download() as later:
        page.get_by_role("button", name="Save verdicts").click()
    assert window.requests == [html.as_uri()] * 2
    assert window.troubles == []
    for number, saved in enumerate((download.value, later.value), 1):
        saved.save_as(tmp_path / str(number) / saved.suggested_filename)
        (file,) = (tmp_path / str(number)).iterdir()
        assert re.fullmatch(r"review-.*-Zoë\.segwithu\.json", file.name)
        assert segwithu("merge-reviews", file, "--into", cases).code == 0
    state = review_of(cases / CASES[0], "Zoë").state
    assert (state.asked, state.finished) == (("anterior hippocampus",), {"anterior hippocampus"})
    assert state.decided(max(region.id for region in read_regions(cases / CASES[0])) + 1) is False
    assert [region.kind for region in state.listed()].count(Kind.ADDED) == 1
    first, *_ = queue_of(cases / CASES[0])
    expected = dict(zip(first, (Verdict.ACCEPTED, Verdict.SECOND_READER, Verdict.REJECTED), strict=False))
    assert verdicts_of(cases / CASES[0], "Zoë") == expected
    assert len(list((cases / CASES[0]).glob("review.*"))) == 1, "the second file goes on where the first one ended"


def test_a_server_that_is_killed_loses_nothing(cases: Path, visit: Opener) -> None:
    server = child("web", cases, "--port", "0", "--reviewer", "Ana", "--json")
    try:
        window = visit(_link(server))
        window.open_case(CASES[0])
        window.press(ACCEPT, ACCEPT, REJECT)
    finally:
        server.kill()
        server.wait()
    before = lines_of(cases / CASES[0], "Ana")
    assert [line["verdict"] for line in before if line["event"] == "verdict"] == ["accepted", "accepted", "rejected"]
    window.page.keyboard.press(SECOND)
    window.page.get_by_text("Not saved yet: the server does not respond.").wait_for()
    server = child("web", cases, "--port", "0", "--reviewer", "Ana", "--json")
    try:
        again = visit(_link(server))
        again.open_case(CASES[0])
        assert decided(again) == 3
        again.press(SECOND)
        assert decided(again) == 4
        again.page.get_by_role("button", name="← Cases").click()
        again.wait("worklist")
    finally:
        server.kill()
        server.wait()
    verdicts = verdicts_of(cases / CASES[0], "Ana")
    assert [verdicts[rank] for rank in queue_of(cases / CASES[0])[0][:4]] == [
        Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.REJECTED, Verdict.SECOND_READER
    ]  # fmt: skip


def _link(server: Any) -> str:
    """The link that a server prints."""
    events = (json.loads(line) for line in iter(server.stdout.readline, ""))
    ready = next((event for event in events if event["event"] == "ready"), None)
    assert ready is not None, server.stderr.read()
    return str(ready["url"])


def test_of_two_windows_the_one_that_is_behind_is_told(cases: Path, visit: Opener) -> None:
    with served(cases) as server:
        first, second = visit(server.gate.link), visit(server.gate.link)
        for window in (first, second):
            window.read_as("Ana")
            window.open_case(CASES[0])
        second.press(ACCEPT)
        first.press(REJECT)
        first.page.get_by_text("Another window went on with this review.").wait_for()
        assert decided(first) == 1
        first.press("n", REJECT)
        assert decided(first) == 2
        second.press(SECOND)
        second.page.get_by_text("Another window went on with this review.").wait_for()
        assert not [trouble for trouble in first.troubles + second.troubles if "409" not in trouble]
    assert list(verdicts_of(cases / CASES[0], "Ana").values()) == [Verdict.ACCEPTED, Verdict.REJECTED]


def test_a_case_that_another_program_reviews_is_read_only_until_that_ends(cases: Path, visit: Opener) -> None:
    call = [sys.executable, str(HELPERS / "web_rival.py"), str(cases / CASES[0]), "Ana"]
    rival = subprocess.Popen(
        call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(PACKAGES)}
    )
    assert rival.stdin and rival.stdout and rival.stdout.readline() == "open\n"
    with served(cases) as server:
        window = visit(server.gate.link)
        window.read_as("Ana")
        window.open_case(CASES[0])
        window.page.get_by_text("Read-only: ").wait_for()
        note = window.text(".messages")
        assert note.startswith("Read-only: ")
        assert "(since " in note
        assert window.page.get_by_role("button", name="✓ Accepted").is_disabled()
        window.press(ACCEPT)
        rival.communicate("judge\n", timeout=20)
        window.page.get_by_role("button", name="Try again").click()
        window.page.get_by_text("Ana: all stored").wait_for()
        assert decided(window) == 1
        window.press(ACCEPT)
        assert decided(window) == 2
    assert sorted(verdicts_of(cases / CASES[0], "Ana").values()) == [Verdict.ACCEPTED, Verdict.REJECTED]


def test_what_is_done_while_the_cases_are_read_again_stays(cases: Path, visit: Opener) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    with served(cases) as server:
        window = visit(server.gate.link)
        window.wait("worklist")
        window.page.route("**/api/worklist*", hold)
        window.page.get_by_label("Your name").fill("Ana")
        window.page.get_by_label("Filter").fill(CASES[2])
        window.page.wait_for_function("() => document.querySelector('.worklist-table').ariaBusy === 'true'")
        while not held:  # the page is busy before its request arrives here
            window.page.wait_for_timeout(10)
        held[0].continue_()
        window.page.get_by_text("open for Ana").wait_for()
        assert window.page.get_by_label("Filter").input_value() == CASES[2], "typed, but not left yet"
        assert window.page.evaluate("document.activeElement.id") == "filter"

        window.page.get_by_label("Your name").fill("Bo")
        window.page.keyboard.press("Tab")
        window.open_case(CASES[2])
        with window.page.expect_response("**/api/worklist*"):
            held[1].continue_()
        real = sum(map(len, queue_of(cases / CASES[2])))
        assert window.page.locator(".regions .item").count() == real
        assert window.page.locator("h1").get_attribute("title") == CASES[2], "a late list does not put the case away"
        assert len(held) == 2
        assert window.troubles == []


def test_a_case_opens_while_a_changed_field_gives_way_to_it(cases: Path, visit: Opener) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        window.wait("worklist")
        window.page.get_by_label("Your name").fill("Ana")
        window.page.evaluate("() => document.querySelector('tbody button').click()")
        window.wait("case")
        assert window.troubles == []


def test_next_case_pressed_twice_and_left_at_once_does_what_was_asked_last(cases: Path, visit: Opener) -> None:
    held: list[Any] = []
    with served(cases) as server:
        window = visit(server.gate.link)
        window.read_as("Ana")
        first, second, _ = window.page.locator("tbody th").all_inner_texts()
        window.open_case(first)
        window.page.route("**/api/cases/*/open", lambda route: held.append(route))
        for _ in range(2):
            window.page.keyboard.press("Control+Alt+KeyN")
        window.page.wait_for_selector(f'html[data-state="loading"] h1[title="{second}"]')
        window.page.wait_for_timeout(200)
        next_case = window.page.get_by_role("button", name="Next open case")
        assert next_case.is_disabled(), "its review is not open yet"
        window.page.keyboard.press("Control+Alt+KeyN")
        window.page.wait_for_timeout(200)
        assert len(held) == 1
        before = window.page.locator(".regions").get_attribute("aria-activedescendant")
        window.page.keyboard.press("n")
        assert window.page.locator(".regions").get_attribute("aria-activedescendant") != before, "other keys work"
        held[0].continue_()
        window.page.wait_for_selector(f'html[data-state="case"] h1[title="{second}"]')
        window.page.unroute("**/api/cases/*/open")
        assert next_case.is_enabled()
        window.page.evaluate(  # the list is asked for while the next case is still on its way
            """() => {
                const press = { key: "n", code: "KeyN", ctrlKey: true, altKey: true, bubbles: true };
                const back = [...document.querySelectorAll("button")].find((each) => /← Cases/.test(each.textContent));
                document.dispatchEvent(new KeyboardEvent("keydown", press));
                back.click();
            }"""
        )
        window.wait("worklist")
        window.page.wait_for_timeout(500)
        assert window.page.locator("h1").first.get_attribute("title") is None, "no case came over the list"
        assert window.troubles == []
    opened = {name: [line["event"] for line in lines_of(cases / name, "Ana")] for name in (first, second)}
    assert all(events.count("opened") == events.count("closed") == 1 for events in opened.values())


def test_a_page_that_is_hidden_for_a_minute_gives_the_review_back_and_takes_it_again(
    cases: Path, visit: Opener
) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        window.read_as("Ana")
        window.page.clock.install()
        window.open_case(CASES[0])
        window.press(ACCEPT)
        show(window, False)
        with window.page.expect_response(re.compile(r".*/close$")):
            window.page.clock.fast_forward(61_000)
        rival = subprocess.run(
            [sys.executable, str(HELPERS / "web_rival.py"), str(cases / CASES[0]), "Ana"],
            input="judge\n", capture_output=True, text=True, env={"PYTHONPATH": str(PACKAGES)}, check=True,
        )  # fmt: skip
        assert rival.stdout == "open\n"
        with window.page.expect_response(re.compile(r".*/open$")):
            show(window, True)
        window.page.get_by_text("The review was continued elsewhere").wait_for()
        assert decided(window) == 2
        window.press(SECOND)
        assert decided(window) == 3
        assert window.troubles == []
    assert len(verdicts_of(cases / CASES[0], "Ana")) == 3


def test_verdicts_that_were_not_stored_before_somebody_else_went_on_become_a_file(
    cases: Path, visit: Opener, segwithu: Command, tmp_path: Path
) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        window.read_as("Ana")
        window.page.clock.install()
        window.open_case(CASES[0])
        window.press(ACCEPT)
        window.context.set_offline(True)
        window.page.keyboard.press(SECOND)
        window.page.get_by_text("Not saved yet").wait_for()
        server.routes.reviews.close_all()  # as after half a minute without a sign of life
        subprocess.run(
            [sys.executable, str(HELPERS / "web_rival.py"), str(cases / CASES[0]), "Ana"],
            input="judge\n", text=True, env={"PYTHONPATH": str(PACKAGES)}, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        before = lines_of(cases / CASES[0], "Ana")
        window.context.set_offline(False)
        window.page.clock.fast_forward(6_000)
        window.page.get_by_text("Your last verdicts were not stored").wait_for()
        with window.page.expect_download() as download:
            window.page.get_by_role("button", name="Save unsent verdicts").click()
        file = tmp_path / "back" / download.value.suggested_filename
        download.value.save_as(file)
        verdicts = [event.get("verdict") for event in lines_of(cases / CASES[0], "Ana")]
        assert "needs second reader" not in verdicts
    assert [
        line for line in json.loads(file.read_text("utf-8"))["lines"] if line.get("verdict") == "needs second reader"
    ]
    assert segwithu("merge-reviews", file, "--into", cases).code == 0
    assert lines_of(cases / CASES[0], "Ana")[: len(before)] == before
    assert len(list((cases / CASES[0]).glob("review.Ana.jsonl.from-*"))) == 1, "what does not fit is kept beside"


def test_a_mask_of_an_editor_is_taken_as_the_edit_of_the_reader(cases: Path, tmp_path: Path, visit: Opener) -> None:
    folder = cases / CASES[0]
    image = sitk.ReadImage(str(folder / "segmentation.nii.gz"))
    labels = sitk.GetArrayFromImage(image)
    labels[:, :, :15][labels[:, :, :15] == 1] = 0
    drawn = sitk.GetImageFromArray(labels)
    drawn.CopyInformation(image)
    sitk.WriteImage(drawn, str(tmp_path / "mask.nii.gz"))
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        row = page.locator("tr", has_text="anterior").first
        before = row.inner_text()
        taking = page.get_by_label("Take a mask as my edit...")
        taking.set_input_files(str(tmp_path / "broken.nii.gz"))
        page.get_by_text("broken.nii.gz", exact=False).and_(
            page.locator("[role=status], [role=alert]")
        ).first.wait_for()
        assert review_of(folder, "Ana").state.edited == frozenset()
        taking.set_input_files(str(tmp_path / "mask.nii.gz"))
        page.get_by_text("is your version now").wait_for()
        assert row.inner_text() != before
        taking.set_input_files(str(tmp_path / "mask.nii.gz"))
        page.get_by_role("dialog").get_by_role("button", name="Replace it").click()
        page.get_by_text("is your version now").wait_for()
    assert "anterior hippocampus" in review_of(folder, "Ana").state.edited
    assert ["409" in each for each in window.troubles] == [True], "the browser tells of the one that was refused"


def test_how_cases_are_viewed_stays_from_case_to_case_where_the_next_one_has_it(cases: Path, visit: Opener) -> None:
    def without_the_map(route: Any) -> None:
        answer = route.fetch()
        content = answer.json()
        del content["maps"]["ranking"]
        route.fulfill(response=answer, json=content)

    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")

        def seen() -> list[Any]:
            boxes = [
                page.get_by_label(name).is_checked() for name in (f"Outline of {ANTERIOR}", f"Outline of {POSTERIOR}")
            ]
            windows, shown = page.get_by_label("Window", exact=True), page.locator("#map")
            return [windows.input_value(), shown.input_value(), *boxes]

        def go_to(name: str) -> None:
            page.get_by_role("button", name="← Cases").click()
            window.open_case(name)

        window.open_case(CASES[0])
        first = ["As at first", "error_probability", True, True]
        assert seen() == first
        page.get_by_label("Window", exact=True).select_option("Bright tissue")
        page.locator("#map").select_option("ranking")
        page.get_by_label(f"Outline of {POSTERIOR}").uncheck()
        chosen = ["Bright tissue", "ranking", True, False]
        assert seen() == chosen
        box = page.locator("canvas.slice").first.bounding_box()
        page.mouse.move(box["x"] + 50, box["y"] + 50)
        page.mouse.down(button="right")
        page.mouse.move(box["x"] + 90, box["y"] + 70)
        page.mouse.up(button="right")
        assert seen() == ["By hand", *chosen[1:]], "which fits no other image"
        page.route("**/api/cases/*", without_the_map)
        go_to(CASES[1])
        assert seen() == ["Bright tissue", "error_probability", True, False]
        page.unroute("**/api/cases/*")
        go_to(CASES[2])
        page.wait_for_timeout(200)
        assert seen() == chosen
        assert page.locator(".threshold-value").inner_text() != ""
        page.locator("#map").select_option("")
        go_to(CASES[1])
        assert seen() == ["Bright tissue", "", True, False]
        page.reload()
        window.open_case(CASES[0])
        assert seen() == first, "within the page"
        assert window.troubles == []


def test_only_the_measured_outlines_are_shown_and_that_at_hand(cases: Path, visit: Opener) -> None:
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        outline = page.get_by_label(f"Outline of {ANTERIOR}")
        reds = """async () => {
            await new Promise((resolve) => setTimeout(resolve, 100));
            const box = document.querySelector(`input[aria-label="Outline of anterior hippocampus"]`);
            const colour = box.style.borderColor.match(/\\d+/g).map(Number);
            return [...document.querySelectorAll("canvas.slice")].reduce((sum, canvas) => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                let count = 0;
                for (let at = 0; at < data.length; at += 4) {
                    count += colour.every((part, channel) => Math.abs(part - data[at + channel]) < 3);
                }
                return sum + count;
            }, 0);
        }"""
        page.locator("#map").select_option("")
        page.get_by_label(f"Measure only {POSTERIOR}").click()
        window.press("w")
        assert page.evaluate(reds) > 20
        page.get_by_label("Only measured outlines").check()
        assert not outline.is_checked() and outline.is_disabled()
        assert page.get_by_label(f"Outline of {POSTERIOR}").is_checked()
        assert page.evaluate(reds) == 0
        page.locator(".structures").get_by_role("button", name=ANTERIOR, exact=True).click()
        assert outline.is_checked(), "somebody looks at it"
        assert page.evaluate(reds) > 20
        window.press("n")
        assert not outline.is_checked()
        page.get_by_label(f"Measure {ANTERIOR}", exact=True).check()
        assert outline.is_checked()
        page.get_by_label(f"Measure only {POSTERIOR}").click()
        page.get_by_role("button", name="← Cases").click()
        window.open_case(CASES[1])
        assert page.get_by_label("Only measured outlines").is_checked()
        assert outline.is_checked(), "it is measured in this case"
        page.get_by_role("button", name="← Cases").click()
        window.open_case(CASES[0])
        page.get_by_text("all stored").wait_for()
        assert not outline.is_checked()
        page.get_by_label("Only measured outlines").uncheck()
        assert outline.is_checked() and outline.is_enabled()
        assert window.troubles == []


def test_a_contour_is_scrolled_and_a_brush_draws_on_the_page(cases: Path, visit: Opener) -> None:
    folder = cases / CASES[0]

    def drawn() -> Any:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "segmentation_reviewed.Ana.seg.nrrd")))

    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        said = page.locator(".contour-text")
        page.keyboard.press("Shift+E")
        page.get_by_role("button", name="Keep the old").wait_for()
        begun = said.inner_text()
        page.mouse.move(600, 200)
        page.mouse.wheel(0, -400)
        page.wait_for_function("before => document.querySelector('.contour-text').textContent !== before", arg=begun)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Scroll structure").wait_for()
        assert not list(folder.glob("segmentation_reviewed*")), "the old one was kept"
        page.keyboard.press("E")
        page.get_by_role("button", name="Take it").wait_for()
        window.press("]", "]", "]", "]", "]", "Enter")
        page.wait_for_function("() => /all stored/.test(document.querySelector('.stored').textContent)")
        scrolled, model = drawn(), sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "segmentation.nii.gz")))
        assert (scrolled != model).any()
        page.get_by_role("button", name="Brush").click()
        page.get_by_label("Only where uncertain").uncheck()
        box = page.locator("canvas.slice").first.bounding_box()
        at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*at)
        page.mouse.down()
        page.mouse.move(at[0] + 60, at[1] + 40, steps=6)
        page.mouse.up()
        page.wait_for_function("() => /all stored/.test(document.querySelector('.stored').textContent)")
        assert (drawn() != scrolled).any()
        window.press("u")
        page.wait_for_function("() => /all stored/.test(document.querySelector('.stored').textContent)")
        assert (drawn() == scrolled).all()
        window.press("u")
        page.wait_for_function("() => /all stored/.test(document.querySelector('.stored').textContent)")
        assert (drawn() == model).all()
    assert window.troubles == []
    gestures = [edit.gesture for edit in review_of(folder, "Ana").state.edits]
    assert gestures == []


def test_a_finished_structure_is_reopened_before_it_is_scrolled_or_brushed(cases: Path, visit: Opener) -> None:
    folder = cases / CASES[0]
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        window.press("d", "d")
        page.get_by_role("button", name="Sign...").click()
        page.get_by_role("dialog").get_by_role("button", name="Sign").click()
        page.get_by_text("Signed at").wait_for()
        assert selected(window).get_attribute("title") == POSTERIOR, "a blind sample, of a finished structure"
        for key in ("Shift+E", "E"):
            window.press(key)
            assert window.text(".said") == f"{POSTERIOR} is finished: reopen it first."
        window.press("b")
        page.get_by_label("Only where uncertain").uncheck()
        page.locator("canvas.slice").first.click()
        assert window.text(".said") == f"{POSTERIOR} is finished: reopen it first."
        assert review_of(folder, "Ana").state.finished == {ANTERIOR, POSTERIOR}
        page.get_by_role("button", name=f"Reopen {ANTERIOR}").click()
        page.get_by_text("Your signature ended.").wait_for()
        assert window.text(".said") == f"{ANTERIOR} is open again."
        assert page.locator(".heading.current").inner_text().startswith(ANTERIOR)
        page.get_by_text("all stored").wait_for()
        window.press("Shift+E")
        page.get_by_role("button", name="Take it").wait_for()
        assert window.text(".contour-text").startswith(f"{ANTERIOR}: ")
        window.press("]", "]", "]", "]", "Enter")
        page.get_by_text("all stored").wait_for()
        assert window.troubles == []
    state = review_of(folder, "Ana").state
    assert state.finished == {POSTERIOR}
    assert state.edited == {ANTERIOR}


def test_a_contour_that_is_prepared_says_so_and_keys_are_its_own_wherever_the_focus_is(
    cases: Path, visit: Opener
) -> None:
    folder = cases / CASES[0]
    held: list[Any] = []
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        page.route("**/scroll", lambda route: held.append(route))
        view = page.locator("canvas.slice").first
        for _ in range(2):
            view.click()
            page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
            where = page.locator(".slice-caption").all_inner_texts()
            page.keyboard.press("Shift+E")
            assert window.text(".contour-text") == f"{ANTERIOR}: preparing the contour …", "at once"
            page.mouse.wheel(0, -400)
            for key in ("[", "]", "]", "Enter"):
                page.keyboard.press(key)
            assert page.get_by_role("button", name="Take it").is_hidden()
            page.keyboard.press("Escape")
            assert page.get_by_role("button", name="Scroll structure").is_visible(), "given up"
            assert page.locator(".slice-caption").all_inner_texts() == where
            while not held:
                page.wait_for_timeout(10)
            held.pop().continue_()
        page.wait_for_timeout(300)
        assert page.get_by_role("button", name="Scroll structure").is_visible(), "not wanted any more"
        page.unroute("**/scroll")

        volume = read_case(folder)["structures"][1]["volume_mm3"]
        for focus in (view, page.get_by_label("Map"), page.locator(".facts summary"), page.get_by_label("Opacity")):
            window.press("Shift+E")
            page.get_by_role("button", name="Take it").wait_for()
            assert window.text(".contour-text") == f"{ANTERIOR}: {volume:.0f} mm³, +0 mm³ (+0.0 %)"
            focus.focus()
            if focus is view:
                focus.click()
            window.press("]", "]", "]")
            assert re.fullmatch(
                rf"{ANTERIOR}: \d+ mm³, \+[1-9]\d* mm³ \(\+\d+\.\d %\)", window.text(".contour-text")
            ), window.text(".contour-text")
            before = len(lines_of(folder, "Ana"))
            window.press("Enter")
            page.get_by_text("all stored").wait_for()
            assert len(lines_of(folder, "Ana")) > before
            assert page.locator(".views.one").count() == 0, "not enlarged"
            page.locator(".regions").focus()
            window.press("u", "Shift+E")
            page.get_by_role("button", name="Take it").wait_for()
            focus.focus()
            window.press("]", "Escape")
            assert page.get_by_role("button", name="Scroll structure").is_visible()
            page.locator(".regions").focus()
        view.focus()
        window.press("Enter")
        assert page.locator(".views.one").count() == 1, "without a contour"
        assert window.troubles == []


def test_what_is_drawn_but_refused_is_told_and_not_shown_as_if_it_were_stored(cases: Path, visit: Opener) -> None:
    folder = cases / CASES[0]
    with served(cases) as server:
        window = visit(server.gate.link)
        page = window.page
        window.read_as("Ana")
        window.open_case(CASES[0])
        image = sitk.ReadImage(str(folder / "segmentation.seg.nrrd"))
        image.SetMetaData("Segment0_Name", "cyst")
        sitk.WriteImage(image, str(folder / "segmentation_reviewed.Ana.seg.nrrd"))
        page.keyboard.press("E")
        page.get_by_role("button", name="Take it").wait_for()
        window.press("]", "]", "]", "]", "]")
        with page.expect_response(lambda answer: answer.url.endswith("/open")):  # the stored one comes again
            page.keyboard.press("Enter")
        page.get_by_text("cyst").first.wait_for()
    assert review_of(folder, "Ana").state.edits == []
