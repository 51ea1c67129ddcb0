"""The report in a real browser, offline: every picture is drawn, on screen and on paper, and nothing is fetched."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import opened
from exchanged_cases import CASES, copied, edited, judged
from PIL import Image

from SegWithUCore.case.case_file import read_case
from SegWithUCore.cli.__main__ import main
from SegWithUCore.review.log_format import Verdict

pytestmark = pytest.mark.slow

WIDTH = 1000
PLACES = """
<script>
const shown = [...document.querySelectorAll("svg image")];
const copies = shown.map(image => Object.assign(new Image(), {src: image.getAttribute("href"), hidden: true}));
document.body.append(...copies);
addEventListener("load", () => {
  const places = shown.map((image, number) => {
    const box = image.getBoundingClientRect(), copy = copies[number];
    return [copy.naturalWidth, copy.naturalHeight, box.left, box.top, box.width, box.height];
  });
  const root = document.documentElement;
  const found = {places, height: root.scrollHeight, width: root.scrollWidth};
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
});
</script></body>"""
"""Put into a copy of the page that may run scripts: where it shows its pictures."""


@pytest.fixture(scope="module")
def report(segmented_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real case that two reviewers have seen."""
    case = copied(segmented_cases / CASES[0], tmp_path_factory.mktemp("cases"))
    judged(case, "Ana Pereira", {1: Verdict.REJECTED, 2: Verdict.SECOND_READER}, comment="too far medially" * 8)
    judged(case, "Ben", {1: Verdict.ACCEPTED})
    edited(case, "Ana Pereira")
    assert main(["report", str(case)]) == 0
    return case / "report.html"


def pictures_of(page: Path) -> list[np.ndarray]:
    data = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page.read_text(encoding="utf-8"))
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("L"), float) for one in data]


def without_policy(page: Path, target: Path, before_end: str) -> Path:
    """A copy of the page that may run and load everything, with more at its end."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    target.write_text(text.replace("</body>", before_end), encoding="utf-8")
    return target


def likeness(shown: np.ndarray, known: np.ndarray) -> float:
    """Correlation of what is on the screen with a picture; contours and letters lie over it."""
    size = known.shape[::-1]
    small = np.asarray(Image.fromarray(shown.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR), float)
    return float(np.corrcoef(small.ravel(), known.ravel())[0, 1])


def test_report_opens_offline_in_a_browser(report: Path, tmp_path: Path) -> None:
    """Every picture of the page is where it belongs on the screen; nothing is fetched, nothing complained about."""
    pictures = pictures_of(report)
    measured = opened(
        without_policy(report, tmp_path / "measured.html", PLACES),
        tmp_path / "1",
        "--dump-dom",
        f"--window-size={WIDTH},900",
    )
    count = read_case(report.parent)["regions"]["count"]
    found = json.loads(re.findall(r"FOUND(\{.*\})END", measured.out)[0])
    assert found["width"] <= WIDTH
    assert len(found["places"]) == len(pictures) == 3 * (1 + count)  # the overview, and each region
    shot = tmp_path / "page.png"
    size = f"--window-size={WIDTH},{found['height'] + 20}"
    seen = opened(report, tmp_path / "2", f"--screenshot={shot}", size)
    assert seen.fetched == []
    assert seen.complaints == []
    screen = np.asarray(Image.open(shot).convert("L"), float)
    for (across, down, *box), picture in zip(found["places"], pictures, strict=True):
        assert (down, across) == picture.shape == (256, 256)
        left, top, width, height = (round(value) for value in box)
        assert min(width, height) > 200
        assert likeness(screen[top : top + height, left : left + width], picture) > 0.9  # other pictures reach 0.84


def test_a_page_that_fetches_and_complains_is_found_out(report: Path, tmp_path: Path) -> None:
    """The test above cannot be blind: the same page with a picture from elsewhere, and with a script it refuses."""
    fetching = '<img src="http://pictures.example/logo.png"></body>'
    seen = opened(without_policy(report, tmp_path / "fetching.html", fetching), tmp_path / "1", "--dump-dom")
    assert seen.fetched == ["http://pictures.example/logo.png"]
    scripted = tmp_path / "scripted.html"
    scripted.write_text(report.read_text(encoding="utf-8").replace("</body>", "<script>1</script></body>"), "utf-8")
    assert opened(scripted, tmp_path / "2", "--dump-dom").complaints


def test_report_prints_on_a4_with_all_its_pictures(report: Path, tmp_path: Path) -> None:
    printed = tmp_path / "report.pdf"
    assert opened(report, tmp_path / "1", f"--print-to-pdf={printed}", "--no-pdf-header-footer").fetched == []
    content = printed.read_bytes()
    different = {picture.tobytes() for picture in pictures_of(report)}
    assert content.count(b"/Subtype /Image") >= len(different)
    pages = len(re.findall(rb"/Type /Page\b", content))
    assert 4 <= pages <= 8  # three regions a page
    assert set(re.findall(rb"/MediaBox \[([^\]]*)\]", content)) == {b"0 0 594.95996 841.91998"}
