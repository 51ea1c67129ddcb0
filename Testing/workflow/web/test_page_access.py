"""The review page for everybody: keyboard, fingers, screen readers; and names that try to run a script."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from exchanged_cases import CASES, changed_case
from page_browser import Visit
from web_client import served

PAYLOADS = (
    "<img src=x onerror=window.ran=1>",
    "<script>window.ran=1</script>",
    '"><svg onload=window.ran=1>',
    "javascript:window.ran=1",
    "</script><iframe srcdoc='<script>parent.ran=1</script>'>",
    "${window.ran=1}{{window.ran=1}}",
)
"""Names as a hostile colleague may give them to cases and structures."""


@pytest.fixture
def window(segmented_cases: Path, tmp_path: Path, chromium: Any) -> Iterator[Visit]:
    """A case whose names are hostile, open in a window without a reviewer's name."""
    folder = Path(shutil.copytree(segmented_cases / CASES[0], tmp_path / "cases" / "case"))

    def rename(case: dict[str, Any]) -> None:
        case["name"] = PAYLOADS[0]
        case["model"]["name"] = PAYLOADS[3]
        for entry, payload in zip(case["structures"], PAYLOADS, strict=False):
            entry["name"] = payload
        case["asked"] = [entry["name"] for entry in case["structures"] if entry["value"]]
        case["maps"]["error_probability"]["title"] = PAYLOADS[4]
        case["ood"]["warnings"] = [{"severity": "warning", "message": PAYLOADS[2], "kind": "noise"}]
        case["created"] = PAYLOADS[5]

    changed_case(folder, rename)
    with served(tmp_path / "cases") as server:
        visit = Visit(chromium, server.gate.link, has_touch=True)
        yield visit
        visit.close()


def _complaints(window: Visit) -> list[str]:
    """What axe finds, of any severity."""
    found = Axe().run(window.page).response["violations"]
    return [f"{each['impact']}: {each['id']} {[node['html'][:100] for node in each['nodes']]}" for each in found]


def test_names_run_no_script_and_screen_readers_find_their_way(window: Visit) -> None:
    page = window.page
    window.wait("worklist")
    page.locator("tbody button").focus()
    assert PAYLOADS[2] in window.text(".about")
    assert _complaints(window) == []
    page.keyboard.press("Enter")
    window.wait("case")
    page.get_by_text("About", exact=True).click()
    assert page.locator("h1").inner_text() == PAYLOADS[0]
    assert PAYLOADS[1] in page.locator(".structures").inner_text()
    assert PAYLOADS[2] in page.locator(".facts-body").inner_text()
    assert _complaints(window) == []
    page.get_by_text("About", exact=True).click()
    window.press("m", "a", "d")
    page.get_by_role("button", name="Reopen").wait_for()
    assert _complaints(window) == []
    assert page.evaluate("window.ran") is None
    assert page.locator("#page img, #page svg, #page script, #page iframe").count() == 0
    assert page.title() == f"{PAYLOADS[0]} – SegWithU review"
    assert window.troubles == []


def _named(window: Visit, view: str) -> str:
    """What a screen reader says of a view."""
    return str(window.page.get_by_role("application", name=f"{view} view").get_attribute("aria-label"))


def test_views_follow_keys_wheel_and_fingers(window: Visit) -> None:
    page = window.page
    window.wait("worklist")
    page.locator("tbody button").click()
    window.wait("case")
    axial = page.get_by_role("application", name="Axial view")
    axial.focus()
    before = _named(window, "Axial")
    first = int(before.split("slice ")[1].split(" ")[0])

    def slice_is(number: int) -> None:
        page.locator(f'canvas[aria-label*="Axial view, slice {number} of"]').wait_for()

    page.keyboard.press("PageUp")
    slice_is(first + 1)
    page.keyboard.press("b")
    slice_is(first)
    axial.hover()
    page.mouse.wheel(0, -120)
    slice_is(first + 1)
    page.mouse.wheel(0, 120)
    slice_is(first)
    page.get_by_label("Axial slice").fill(str(first))
    slice_is(first + 1)
    point = _named(window, "Axial")
    page.keyboard.press("Tab")
    axial.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(100)
    assert _named(window, "Axial") != point
    # Drag with the right button: another image window, the crosshair stays.
    point, grey = _named(window, "Axial"), _picture(axial)
    box = axial.bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down(button="right")
    page.mouse.move(middle[0] + 90, middle[1] + 40)
    page.mouse.up(button="right")
    page.wait_for_timeout(100)
    assert _named(window, "Axial") == point
    brighter = _picture(axial)
    assert brighter != grey
    page.get_by_label("Window", exact=True).select_option("As at first")
    page.wait_for_timeout(100)
    assert _picture(axial) == grey
    # Hold P: the bare image.
    page.keyboard.down("p")
    page.wait_for_timeout(100)
    assert _picture(axial) != grey
    page.keyboard.up("p")
    page.wait_for_timeout(100)
    assert _picture(axial) == grey
    # Two fingers apart: larger. One finger taps: the crosshair goes there.
    page.get_by_role("button", name="Fit").click()
    page.wait_for_timeout(100)
    whole = _picture(axial)
    _pinch(axial, 40, 120)
    page.wait_for_timeout(100)
    assert _picture(axial) != whole
    page.touchscreen.tap(middle[0] + 30, middle[1] + 20)
    page.wait_for_timeout(100)
    assert _named(window, "Axial") != point
    assert window.troubles == []


def _picture(view: Any) -> str:
    return str(view.evaluate("(canvas) => canvas.toDataURL()"))


def _pinch(view: Any, start: int, end: int) -> None:
    """Move two fingers from `start` to `end` pixels apart."""
    view.evaluate(
        """(canvas, [start, end]) => {
          canvas.setPointerCapture = () => {};
          const box = canvas.getBoundingClientRect();
          const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
          const say = (kind, id, offset) => canvas.dispatchEvent(new PointerEvent(kind, {
            pointerId: id, pointerType: "touch", clientX: x + offset, clientY: y, bubbles: true, cancelable: true,
          }));
          say("pointerdown", 11, -start / 2); say("pointerdown", 12, start / 2);
          say("pointermove", 11, -end / 2); say("pointermove", 12, end / 2);
          say("pointerup", 11, -end / 2); say("pointerup", 12, end / 2);
          delete canvas.setPointerCapture;
        }""",
        [start, end],
    )
