"""The report of real cases: what it tells, that it loads nothing and runs nothing, and its pictures."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from exchanged_cases import (
    CASES,
    changed_case,
    changed_regions,
    copied,
    edited,
    judged,
    listed_regions,
    rest_accepted,
    review,
)
from PIL import Image
from repository import PACKAGES
from segwithu_command import Command, one_sentence

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.pictures import Grid, scale_mm, tinted
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.regions.region import Kind
from SegWithUCore.report.case_report import SHOWN_REGIONS
from SegWithUCore.report.pictures import REVIEWED_COLOURS, Volumes, pictures_around
from SegWithUCore.report.render import png_bytes
from SegWithUCore.review.log_format import PlaceAdded, VerdictGiven
from SegWithUCore.review.verdicts import GIVEN, Verdict

SCRIPT = "<script>alert('1')</script> & \"tail\""
MOST_BYTES = 4_000_000


class Page(HTMLParser):
    """Tags with their attributes, and all text, of a page in which every tag is closed."""

    VOID = frozenset({"meta", "image", "rect", "path", "stop", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def pictures(self) -> list[np.ndarray]:
        links = [attributes["href"] or "" for tag, attributes in self.tags if tag == "image"]
        data = [base64.b64decode(link.removeprefix("data:image/png;base64,")) for link in links]
        return [np.asarray(Image.open(io.BytesIO(png))) for png in data]


@pytest.fixture
def case(segmented_cases: Path, tmp_path: Path) -> Path:
    return copied(segmented_cases / CASES[0], tmp_path / "cases")


def reported(segwithu: Command, case: Path, *options: str | Path) -> Page:
    outcome = segwithu("report", case, *options)
    assert outcome.code == 0, outcome.err
    return Page(case / "report.html")


def test_the_page_tells_figures_regions_model_and_hashes(case: Path, segwithu: Command) -> None:
    page, content = reported(segwithu, case), read_case(case)
    for entry in content["structures"][1:]:
        assert entry["name"] in page.text
        assert f"{entry['volume_mm3']:.0f}" in page.text
    for region in listed_regions(case)[:SHOWN_REGIONS]:
        assert f"{region.rank}. {region.structure}: {region.kind.value}" in page.text
    model = content["model"]
    for said in (model["weights_sha256"], content["input"]["channels"][0]["voxels_sha256"], "For research"):
        assert said in page.text
    assert content["versions"]
    assert all(f"{package} {version}" in page.text for package, version in content["versions"].items())
    assert f"{model['name']} {model['version']}" in page.text
    assert "Nobody has reviewed this case yet." in page.text


def test_the_page_loads_nothing_and_runs_nothing(case: Path, segwithu: Command) -> None:
    judged(case, "Ana", {1: Verdict.REJECTED}, comment=SCRIPT)
    page = reported(segwithu, case)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "img", "base"}
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")]
    assert links
    assert all(str(link).startswith("data:image/png;base64,") for link in links)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not re.search(r"url\((?!#)|@import|https?:", page.source)


def test_names_and_comments_are_shown_as_they_were_written(case: Path, segwithu: Command) -> None:
    judged(case, "<b>Ana</b>", {1: Verdict.REJECTED}, comment=SCRIPT)
    changed_case(case, lambda content: content.update(name="<i>case</i>"))
    page = reported(segwithu, case)
    assert not {tag for tag, _ in page.tags} & {"script", "i"}
    for said in (SCRIPT, "<b>Ana</b>: rejected", "<i>case</i>"):
        assert said in page.text


def test_verdicts_of_each_reviewer_are_told(case: Path, segwithu: Command) -> None:
    judged(case, "Ana", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED}, comment="too thick")
    judged(case, "Ben", {1: Verdict.ACCEPTED, 2: Verdict.CORRECTED})
    page = reported(segwithu, case)
    assert "Ana: rejected too thick" in page.text
    assert "Regions on which the reviewers disagree (rank): 2." in page.text
    first = re.search(r"(\d+)\. (?:anterior|posterior) hippocampus:", page.text)
    assert first is not None
    assert first[1] == "2"  # rejected, so it comes first


def test_what_nobody_looked_at_is_counted_apart(case: Path, segwithu: Command) -> None:
    rest = rest_accepted(case, "Ana", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED})
    every = read_regions(case)
    blind = [region for region in every if region.kind is Kind.BLIND]
    added = PlaceAdded(max(region.id for region in every) + 1, blind[0].structure, (0.0, 0.0, 0.0))
    review(case, "Ana", added, *(VerdictGiven(place.id, Verdict.REJECTED) for place in blind))
    page = reported(segwithu, case)
    number, wrong = len(rest.regions), f"{rest.expected_wrong_mm3:.0f}"
    words = " ".join(page.text.split())
    given = "".join(str((Verdict.ACCEPTED, Verdict.REJECTED).count(verdict)) for verdict in GIVEN)
    cells = f"Ana0 of 22 of {number + 3}{given}{number} ({wrong} mm³)"  # one cell after the other
    sample = len(blind) // 2  # of both structures as many
    assert f"{cells}{sample} of {sample} wrong1" in words


def test_each_shown_region_has_three_pictures_and_the_overview_too(case: Path, segwithu: Command) -> None:
    page = reported(segwithu, case)
    pictures = page.pictures()
    assert len(pictures) == 3 * (min(SHOWN_REGIONS, len(listed_regions(case))) + 1)
    for picture in pictures:
        assert picture.shape == (256, 256, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    assert (case / "report.html").stat().st_size < MOST_BYTES
    for word in ("axial", "coronal", "sagittal", "10 mm"):
        assert word in page.text


def test_a_reviewer_s_contour_is_drawn_where_it_differs(case: Path, segwithu: Command) -> None:
    judged(case, "Ana", {1: Verdict.CORRECTED})
    before = reported(segwithu, case)
    edited(case, "Ana")
    after = reported(segwithu, case)
    assert "where changed" not in before.text
    assert "Ana, where changed" in after.text
    white = [
        sum((picture == REVIEWED_COLOURS[0]).all(-1).sum() for picture in page.pictures()) for page in (before, after)
    ]
    assert white[1] > white[0] + 50


def test_a_missing_image_leaves_a_page_without_pictures(case: Path, tmp_path: Path, segwithu: Command) -> None:
    (case / "image.nii.gz").rename(tmp_path / "moved.nii.gz")
    changed_case(case, lambda content: content["input"]["channels"][0].update(file="gone.nii.gz"))
    page = reported(segwithu, case)
    assert page.pictures() == []
    assert "There are no pictures" in page.text
    assert len(reported(segwithu, case, "--image", tmp_path / "moved.nii.gz").pictures()) > 3
    one_sentence(segwithu("report", case, "--image", case / "ranking.nii.gz"), "other voxels")


def test_many_regions_do_not_blow_the_page_up(case: Path, segwithu: Command) -> None:
    path = case / "regions.csv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    rows = rows[: len(listed_regions(case))]
    more = [f"{rank},{1000 + rank},{rows[-1].split(',', 2)[2]}" for rank in range(len(rows) + 1, 5001)]
    changed_regions(case, "\n".join([header, *rows, *more]) + "\n")
    page = reported(segwithu, case)
    assert (case / "report.html").stat().st_size < MOST_BYTES
    assert f"{5000 - SHOWN_REGIONS} more regions are in regions.csv." in page.text


def without(packages: str, code: str, *arguments: str | Path) -> None:
    """Run code where these packages cannot be imported."""
    start = (
        f"import sys\nsys.modules.update(dict.fromkeys({packages.split()!r}))\n"
        "from SegWithUCore.cli.__main__ import main\ncase, out = sys.argv[1:]\n"
    )
    call = [sys.executable, "-c", start + code, *map(str, arguments)]
    paths = {"PYTHONPATH": str(PACKAGES)}
    done = subprocess.run(call, capture_output=True, text=True, env=paths, check=False)
    assert done.returncode == 0, done.stderr


def test_report_works_without_torch(case: Path, tmp_path: Path) -> None:
    without(
        "torch monai matplotlib safetensors requests",
        "codes = [main(['report', case]), main(['export', case, '--output', out + '/sent'])]\nsys.exit(any(codes))",
        case,
        tmp_path,
    )
    assert Page(case / "report.html").pictures()[0].shape == (256, 256, 3)
    assert Page(tmp_path / "sent" / case.name / "report.html").pictures()


@pytest.mark.parametrize("missing", ["jinja2", "PIL"])
def test_cases_go_out_and_home_where_no_report_can_be_made(case: Path, tmp_path: Path, missing: str) -> None:
    """As in a Slicer in which the engine was never installed: all is exported but the page, which is said."""
    without(
        f"torch monai matplotlib safetensors requests {missing}",
        "codes = [main(['worklist', case, '--output', out + '/list'])]\n"
        "codes += [main(['export', case, '--output', out + '/sent', '--anonymous'])]\n"
        "codes += [main(['merge-reviews', out + '/sent', '--into', case])]\n"
        "sys.exit(any(codes) or main(['report', case]) != 1)",
        case,
        tmp_path,
    )
    assert (tmp_path / "sent" / "case-001" / "image.nii.gz").is_file()
    assert not (tmp_path / "sent" / "case-001" / "report.html").exists()
    assert not (case / "report.html").exists()


def test_pictures_come_back_from_their_png_files() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))), pixels)


def test_pictures_lie_as_their_letters_say() -> None:
    """A bright block towards the patient's right, anterior and superior, in an array whose axes run the other ways."""
    image = np.zeros((40, 40, 40), np.float32)
    image[5:12, 5:12, 5:12] = 1  # the beginning of axes that run to inferior, posterior and left
    image += np.random.default_rng(0).random(image.shape, np.float32) * 0.01
    volumes = Volumes(image, image > 0.5, None, {}, None, Grid((1.0, 1.0, 1.0), "IPL"), {1: (0, 0, 255)})
    for picture, letters in zip(pictures_around(volumes, (11, 11, 11), 20.0), ("ALPR", "SLIR", "SPIA"), strict=True):
        assert "".join(picture.letters) == letters
        rows, columns = np.nonzero(picture.pixels[..., 0] > 128)
        assert rows.mean() < 128  # anterior or superior is at the top
        assert columns.mean() < 128  # right or anterior is at the left
        drawn = np.nonzero((picture.pixels == (0, 0, 255)).all(-1))[1]
        assert drawn.max() - drawn.min() + 1 == pytest.approx(7 * 256 / picture.edge_mm, abs=1.5)


def test_the_tint_begins_where_it_says_and_grows() -> None:
    grey = np.full((1, 4, 3), 128, np.uint8)
    shown = tinted(grey, np.array([[0.0, 0.05, 0.2, 0.5]]), top=0.5)[0].astype(int)
    assert shown[0].tolist() == shown[1].tolist() == [128, 128, 128]
    redness = shown[:, 0] - shown[:, 2]
    assert redness[3] > redness[2] > 0


@pytest.mark.parametrize(("edge_mm", "bar_mm"), [(36.0, 10.0), (60.0, 20.0), (300.0, 100.0), (5.0, 1.0)])
def test_scale_bars_are_round_and_fit(edge_mm: float, bar_mm: float) -> None:
    assert scale_mm(edge_mm) == bar_mm
