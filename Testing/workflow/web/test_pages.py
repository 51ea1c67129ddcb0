"""Cases as single HTML files by mail: what they hold and may do, and the reviews that come back."""

import base64
import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, changed_case, changed_regions, copied, judged
from segwithu_command import Command, one_sentence, refused

from SegWithUCore.case.case_file import read_case
from SegWithUCore.review.log_format import Verdict
from SegWithUCore.review.reviews import read_reviews
from SegWithUCore.web.static_files import joined_script

NAME = CASES[0]
PLANTED = "Jane Doe 4711"


@pytest.fixture
def case(segmented_cases: Path, tmp_path: Path) -> Path:
    """A case of the test's own."""
    return copied(segmented_cases / NAME, tmp_path / "cases")


def embedded(page: Path) -> dict[str, Any]:
    """The data in a page."""
    (text,) = re.findall(r'<script type="application/json" id="segwithu-data">(.*?)</script>', page.read_text("utf-8"))
    return json.loads(text)


def unpacked(data: dict[str, Any], name: str, facts: dict[str, Any]) -> np.ndarray:
    """A volume in a page on its box, (k, j, i)."""
    content = gzip.decompress(base64.b64decode(data["volumes"][name]))
    return np.frombuffer(content, np.dtype(facts["dtype"])).reshape(facts["box"]["size"][::-1])


def saved(data: dict[str, Any], reviewer: str, *events: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What the page saves after these events."""
    opened = {"event": "opened", **data["case"]["identity"]["opened"]}
    lines = [{"when": "2026-11-27T08:00:00Z", "reviewer": reviewer, **event} for event in (opened, *events)]
    facts = {"format": "segwithu-page-review", "format_version": 1, "identity": data["case"]["identity"]}
    return {**facts, "reviewer": reviewer, "lines": lines, **changes}


def verdict(region: int, word: str = "rejected", comment: str | None = None) -> dict[str, Any]:
    return {"event": "verdict", "region": region, "verdict": word, "comment": comment, "seconds": 2.0}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_an_image_leaves_the_house_only_when_that_was_said(case: Path, tmp_path: Path, segwithu: Command) -> None:
    output = tmp_path / "pages"
    outcome = segwithu("export", case, "--output", output, "--page")
    one_sentence(outcome, "a face, or burnt-in text, may be recognisable", "--with-image", "--without-image", code=2)
    assert not output.exists()
    outcome = segwithu("export", case, "--output", output, "--page", "--with-image")
    assert outcome.code == 0, outcome.err
    assert "a face, or burnt-in text, may be recognisable" in outcome.err
    assert sorted(path.name for path in output.iterdir()) == ["case-001.html", "index.html"]
    assert embedded(output / "case-001.html")["case"]["image"] is not None
    outcome = segwithu("export", case, "--output", tmp_path / "bare", "--page", "--without-image")
    assert outcome.code == 0, outcome.err
    bare = embedded(tmp_path / "bare" / "case-001.html")
    assert bare["case"]["image"] is None
    assert set(bare["volumes"]) == {"labels", "masks", "error_probability", "ranking", "calibration"}
    outcome = segwithu("export", case, "--output", tmp_path / "x", "--with-image")
    refused(outcome, "contradicting-options", "--with-image", "--page", code=2)


def test_a_page_holds_the_voxels_of_its_case_and_runs_no_other_script(
    case: Path, tmp_path: Path, segwithu: Command
) -> None:
    assert segwithu("export", case, "--output", tmp_path / "pages", "--page", "--with-image").code == 0
    page = tmp_path / "pages" / "case-001.html"
    text, data = page.read_text("utf-8"), embedded(page)
    image, labels = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(case / f"{n}.nii.gz"))) for n in ("image", "segmentation")
    )
    facts = data["case"]["image"]
    assert np.array_equal(unpacked(data, "image", facts) * facts["scale"] + facts["offset"], image)
    assert (unpacked(data, "labels", data["case"]["labels"]) > 0).sum() == (labels > 0).sum()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    script, style = (re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style"))
    assert script == [joined_script()]
    for kind, (content,) in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert not re.search(r'(src|href)="(?!#)', text)
    index = (tmp_path / "pages" / "index.html").read_text("utf-8")
    assert 'href="case-001.html"' in index and "<script" not in index


def test_of_a_region_of_interest_20_mm_around_it_are_sent(
    segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    case = copied(segmented_cases / NAME, tmp_path / "cases")
    box = {"index_ijk": [24, 4, 5], "size_ijk": [8, 10, 20]}
    changed_case(case, lambda content: content.update(assessed=box))
    assert segwithu("export", case, "--output", tmp_path / "pages", "--page", "--with-image").code == 0
    data = embedded(tmp_path / "pages" / "case-001.html")
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "image.nii.gz")))
    near = image[:45, :34, 4:52]  # the borders of the image are nearer than 20 mm
    assert data["case"]["crop"] == data["case"]["image"]["box"] == {"index": [4, 0, 0], "size": [*near.shape[::-1]]}
    assert np.array_equal(unpacked(data, "image", data["case"]["image"]), near)
    facts = data["case"]["maps"]["error_probability"]
    assert facts["box"] == {"index": box["index_ijk"], "size": box["size_ijk"]}


def test_a_page_tells_no_names_and_a_name_in_it_ends_no_script(case: Path, tmp_path: Path, segwithu: Command) -> None:
    judged(case, "Ana Ben", {1: Verdict.REJECTED})
    hostile = "</script><script>alert(1)</script>"

    def change(content: dict[str, Any]) -> None:
        content.update(name=PLANTED, note=PLANTED, device=PLANTED, created="2026-11-27T08:10:33+00:00")
        content["input"]["channels"][0].update(file=f"/home/{PLANTED}.nii.gz", file_mac="0" * 64)
        content["maps"]["ranking"].update(title=PLANTED)
        content.update(asked=["posterior hippocampus"], asked_as=[PLANTED])
        content["model"]["name"] = hostile

    changed_case(case, change)
    renamed = case.rename(case.with_name(PLANTED))
    outcome = segwithu("export", renamed, "--output", tmp_path / "pages", "--page", "--with-image")
    assert outcome.code == 0, outcome.err
    for page in (tmp_path / "pages").iterdir():
        text = page.read_text("utf-8")
        for told in (PLANTED, "Ana Ben", "2026-11-27", str(tmp_path), "/tmp/"):
            assert told not in text, (page.name, told)
        assert hostile not in text
    shown = embedded(tmp_path / "pages" / "case-001.html")["case"]
    assert shown["asked"] == ["posterior hippocampus"]
    facts = dict(shown["facts"])
    assert facts["Model"].startswith(hostile)
    names = json.loads((tmp_path / "pages-names.json").read_text())
    assert names["cases"] == {"case-001": str(renamed)}


def test_verdicts_from_a_page_come_home_and_nothing_is_lost(case: Path, tmp_path: Path, segwithu: Command) -> None:
    ours = judged(case, "Ana", {1: Verdict.ACCEPTED})
    assert segwithu("export", case, "--output", tmp_path / "pages", "--page", "--without-image").code == 0
    data = embedded(tmp_path / "pages" / "case-001.html")
    first, second = (region["id"] for region in data["case"]["regions"][:2])
    back = tmp_path / "back"
    back.mkdir()
    file = write(back / "one.segwithu.json", saved(data, "Ben Ü", verdict(first, comment="</b>ä")))
    before = ours.read_bytes()
    outcome = segwithu("merge-reviews", file, "--into", case.parent)
    assert outcome.code == 0, outcome.err
    assert "review.Ben Ü.jsonl is new, 2 lines" in outcome.out
    found = {review.reviewer: review.state for review in read_reviews(case, read_case(case)).reviews}
    assert found["Ben Ü"].verdict_of(first) == "rejected"
    assert found["Ben Ü"].comment_of(first) == "</b>ä"
    assert "has nothing new" in segwithu("merge-reviews", back, "--into", case.parent).out
    write(file, saved(data, "Ben Ü", verdict(first, comment="</b>ä"), verdict(second), {"event": "closed"}))
    assert "2 lines more" in segwithu("merge-reviews", back, "--into", case.parent).out
    write(file, saved(data, "Ben Ü", verdict(second, "accepted")))
    assert "is kept as" in segwithu("merge-reviews", back, "--into", case.parent).out
    assert len(list(case.glob("review.Ben Ü.jsonl.from-*"))) == 1
    assert ours.read_bytes() == before
    write(file, saved(data, "Ana", verdict(second)))
    assert "is kept as" in segwithu("merge-reviews", back, "--into", case.parent).out
    assert ours.read_bytes() == before


def damaged(data: dict[str, Any]) -> dict[str, Any]:
    """Files that somebody else may have made, by what is wrong with them."""
    good = saved(data, "Ben", verdict(1))
    line = good["lines"][1]

    def with_line(**changes: Any) -> dict[str, Any]:
        return {**good, "lines": [good["lines"][0], {**line, **changes}]}

    def with_identity(**changes: Any) -> dict[str, Any]:
        return {**good, "identity": {**good["identity"], **changes}}

    return {
        "no JSON": "{",
        "a list": "[]",
        "deep": "[" * 5000,
        "not ours": {"format": "other"},
        "later": {**good, "format_version": 2},
        "no lines": {**good, "lines": None},
        "empty": {**good, "lines": []},
        "not opened": {**good, "lines": [line]},
        "a line that is none": {**good, "lines": [good["lines"][0], 5]},
        "unknown event": with_line(event="delete"),
        "unknown verdict": with_line(verdict="fine"),
        "a number that is none": with_line(seconds="1"),
        "other reviewer": with_line(reviewer="Ana"),
        "no time": with_line(when="yesterday"),
        "no time zone": with_line(when="2026-11-27T08:00:00"),
        "no name": {**good, "reviewer": " "},
        "a long name": {**good, "reviewer": "x" * 300},
        "too many lines": {**good, "lines": [good["lines"][0]] + [line] * 100_001},
        "undoes nothing": {
            **good,
            "lines": [
                good["lines"][0],
                {"when": line["when"], "reviewer": "Ben", "event": "undo", "line": 1, "what": "verdict", "region": 1},
            ],
        },
        "other regions": with_identity(regions_sha256="0" * 64),
        "other image": with_identity(voxels_sha256=["0" * 64]),
        "no hashes": with_identity(voxels_sha256=[5]),
        "a later log": {**good, "lines": [{**good["lines"][0], "format": 99}, line]},
        "places without end": {**good, "lines": [good["lines"][0], *({**line, "region": n} for n in range(2000))]},
    }


def test_a_file_that_somebody_else_made_is_refused_in_one_sentence_and_the_others_are_merged(
    case: Path, tmp_path: Path, segwithu: Command
) -> None:
    assert segwithu("export", case, "--output", tmp_path / "pages", "--page", "--without-image").code == 0
    data = embedded(tmp_path / "pages" / "case-001.html")
    files = {
        name: write(tmp_path / f"{n}.segwithu.json", content) for n, (name, content) in enumerate(damaged(data).items())
    }
    good = write(tmp_path / "good.segwithu.json", saved(data, "Eva/../x", verdict(1)))
    outcome = segwithu("merge-reviews", *files.values(), good, "--into", case)
    assert outcome.code == 1
    for name, file in files.items():
        told = [message for message in outcome.messages if str(file) in message]
        assert len(told) == 1 and len(told[0]) < 500, (name, outcome.messages)
    assert "Traceback" not in outcome.err and "unexpected" not in outcome.err
    assert [path.name for path in case.glob("review.*")] == ["review.Eva_.._x.jsonl"]
    refused(segwithu("merge-reviews", tmp_path / "nowhere", "--into", case), "not-a-case")
    words = "holds no case folder and no file that a page saved (*.segwithu.json)"
    one_sentence(segwithu("merge-reviews", tmp_path / "pages", "--into", case), words)


def test_a_case_without_regions_or_with_a_link_is_left_out_and_named(
    segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    cases = Path(shutil.copytree(segmented_cases, tmp_path / "cases"))
    changed_case(cases / CASES[0], lambda content: content.update(regions=None))
    (cases / CASES[1] / "image.nii.gz").unlink()
    (cases / CASES[1] / "image.nii.gz").symlink_to("/etc/passwd")
    outcome = segwithu("export", cases, "--output", tmp_path / "pages", "--page", "--with-image")
    assert outcome.code == 1
    assert len(list((tmp_path / "pages").glob("case-*.html"))) == 1
    for name in CASES[:2]:
        assert any(name in message for message in outcome.messages), outcome.messages


def test_a_page_opens_offline_and_hostile_names_in_it_are_text(
    case: Path, tmp_path: Path, segwithu: Command, chromium: Any
) -> None:
    payload = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"

    def change(content: dict[str, Any]) -> None:
        content["model"]["name"] = payload
        for structure in content["structures"]:
            structure["name"] = f"{structure['value']}{payload}" if structure["value"] else structure["name"]

    changed_case(case, change)
    text = (case / "regions.csv").read_text(encoding="utf-8")
    for number, name in ((1, "anterior hippocampus"), (2, "posterior hippocampus")):
        text = text.replace(name, f"{number}{payload}")
    changed_regions(case, text)
    outcome = segwithu("export", case, "--output", tmp_path / "pages", "--page", "--with-image")
    assert outcome.code == 0, outcome.err
    context = chromium.new_context(offline=True)
    page, asked, troubles = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    address = (tmp_path / "pages" / "case-001.html").as_uri()
    page.goto(address)
    page.get_by_text(f"1{payload}").first.wait_for()
    page.locator("canvas").first.wait_for()
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [address]
    assert troubles == []
    context.close()
