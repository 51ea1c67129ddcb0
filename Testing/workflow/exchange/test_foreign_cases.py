"""Cases and lists of others: nothing outside of them is opened or passed on, and a broken one stops no other."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, accepted, changed_case, copied, edited, judged
from segwithu_command import Command, entries, one_sentence

from SegWithUCore.case import case_image as case_input
from SegWithUCore.case.case_file import read_case, write_case
from SegWithUCore.case.case_folders import case_contents
from SegWithUCore.case.case_image import OutsideError, case_image, voxel_hash
from SegWithUCore.review.log_format import MAXIMUM_BYTES, MAXIMUM_COMMENT, Verdict, read_log
from SegWithUCore.review.worklist import make_worklist
from SegWithUCore.review.worklist_files import path_outside, read_listed, read_worklist, write_worklist
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import KEY_FILE, is_inside, is_own, path_mac

IMAGE, LABELS = "image.nii.gz", "segmentation.nii.gz"
PLANTED = "Krzywicka"


@pytest.fixture(autouse=True)
def this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, so that "this user" wrote nothing before."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    for name in CASES:
        copied(segmented_cases / name, tmp_path / "cases")
    return tmp_path / "cases"


@pytest.fixture
def case(cases: Path) -> Path:
    return cases / CASES[1]


def led_to(case: Path, place: Path, own: bool) -> None:
    """Take the image out of a case, which then says that it lies at `place`."""
    told = os.path.relpath(place, case)
    (case / IMAGE).rename(place) if not place.exists() else (case / IMAGE).unlink()

    def change(content: dict[str, Any]) -> None:
        channel = content["input"]["channels"][0]
        channel.update(file=told, file_mac=path_mac(told, channel["voxels_sha256"]) if own else "0" * 64)

    changed_case(case, change)


# -- paths that lead out --


def test_a_path_of_this_user_is_followed_and_one_of_others_is_asked_for(
    case: Path, tmp_path: Path, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "images" / "scan.nii.gz"
    image.parent.mkdir()
    led_to(case, image, own=True)
    assert voxel_hash(case_image(case, read_case(case)))
    assert segwithu("export", case, "--output", tmp_path / "sent").code == 0
    led_to_others = copied(case, tmp_path / "others")
    changed_case(led_to_others, lambda content: content["input"]["channels"][0].update(file="../../images/scan.nii.gz"))
    changed_case(led_to_others, lambda content: content["input"]["channels"][0].update(file_mac="0" * 64))
    opened = []
    monkeypatch.setattr(case_input, "read_volume", lambda path: opened.append(path))
    monkeypatch.setattr(case_input, "series_with_voxels", lambda path, _hash: opened.append(path))
    for command in (["export", "--output", tmp_path / "no"], ["export", "--anonymous", "--output", tmp_path / "no"]):
        one_sentence(segwithu(command[0], led_to_others, *command[1:]), str(image), "--images")
    outcome = segwithu("report", led_to_others)
    assert outcome.code == 0
    assert str(image) in (led_to_others / "report.html").read_text(encoding="utf-8")
    assert opened == []


def test_images_are_found_in_folders_that_the_user_names(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    for name in CASES:
        (tmp_path / "images" / name).mkdir(parents=True)
        led_to(cases / name, tmp_path / "images" / name / "scan.nii.gz", own=False)
    outcome = segwithu("export", cases, "--output", tmp_path / "sent", "--images", tmp_path / "images")
    assert outcome.code == 0, outcome.err
    for name in CASES:
        sent = sitk.ReadImage(str(tmp_path / "sent" / name / IMAGE), sitk.sitkFloat32)
        assert voxel_hash(sent) == read_case(cases / name)["input"]["channels"][0]["voxels_sha256"]
    shutil.rmtree(tmp_path / "images" / CASES[1])
    outcome = segwithu("export", cases, "--output", tmp_path / "more", "--images", tmp_path / "images")
    assert outcome.code == 1
    assert CASES[1] in outcome.messages[-1] and "[other-image]" in outcome.messages[-1]
    assert sorted(path.name for path in (tmp_path / "more").glob("hippo*")) == [CASES[0], CASES[2]]


def test_a_project_that_was_moved_as_a_whole_stays_known(case: Path, tmp_path: Path) -> None:
    led_to(case, tmp_path / "cases" / "scan.nii.gz", own=True)
    (tmp_path / "cases").rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / case.name
    case_image(moved, read_case(moved))
    (tmp_path / "elsewhere" / "scan.nii.gz").rename(tmp_path / "real.nii.gz")
    (tmp_path / "elsewhere" / "scan.nii.gz").symlink_to(tmp_path / "real.nii.gz")
    with pytest.raises(OutsideError):  # a link could lead anywhere
        case_image(moved, read_case(moved))


def test_a_key_is_private_and_another_user_has_another(this_user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mac = path_mac("a", "b")
    key = this_user / "SegWithUSlicer" / KEY_FILE
    assert is_own(mac, "a", "b")
    assert not any(is_own(other, "a", "b") for other in (None, 5, "", "ä", mac[:-1] if mac else "", "0" * 64))
    if os.name == "posix":
        assert key.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_DATA_HOME", str(this_user / "other"))
    assert not is_own(mac, "a", "b")
    (this_user / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(this_user / "file"))
    assert path_mac("a", "b") is None
    assert not is_own(mac, "a", "b")


def test_inside_means_inside_after_links(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("")
    (folder / "to a").symlink_to("a")
    (folder / "out").symlink_to(tmp_path)
    inside = {"a": True, "to a": True, "sub/x": True, "out": False, "out/x": False, "../x": False, "/etc/passwd": False}
    assert {name: is_inside(folder, Path(name)) for name in inside} == inside


def test_a_list_of_others_leads_nowhere_outside(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    write_worklist(make_worklist([cases / CASES[0]]), tmp_path / "mine")
    own = tmp_path / "mine" / "worklist.json"
    assert read_listed(own)[0].folder == cases / CASES[0]
    assert segwithu("export", "--list", own, "--output", tmp_path / "sent").code == 0
    content = json.loads(own.read_text(encoding="utf-8"))
    content["cases"] += [{**content["cases"][0], "folder": f"../cases/{CASES[1]}"}, {"folder": "/etc", "image": "/etc"}]
    foreign = tmp_path / "mine" / "foreign.json"
    foreign.write_text(json.dumps(content), encoding="utf-8")
    assert [path_outside(foreign, row) is None for row, _ in read_worklist(foreign)] == [True, False, False]
    with pytest.raises(InputError, match=CASES[1]):
        read_listed(foreign)
    outcome = segwithu("export", "--list", foreign, "--output", tmp_path / "some")
    assert outcome.code == 1
    assert len(outcome.messages) == 2 and all("--own-list" in message for message in outcome.messages)
    assert [path.name for path in (tmp_path / "some").iterdir() if path.is_dir()] == [CASES[0]]
    content["cases"].pop()
    foreign.write_text(json.dumps(content), encoding="utf-8")
    assert segwithu("export", "--list", foreign, "--own-list", "--output", tmp_path / "both").code == 0
    one_sentence(segwithu("export", cases, "--own-list", "--output", tmp_path / "x"), "--list", code=2)


# -- links, pipes and files that are no case's --


def test_an_export_takes_known_files_alone_and_says_what_it_left(case: Path, tmp_path: Path, segwithu: Command) -> None:
    judged(case, "Ana", {1: Verdict.ACCEPTED})
    (case / "notes.txt").write_text("secret")
    (case / "letter").symlink_to("/etc/passwd")
    (case / "sub").mkdir()
    os.mkfifo(case / "review.Pipe.jsonl")
    (case / "review.Link.jsonl").symlink_to("/etc/passwd")
    (case / "segmentation_reviewed.Ana.seg.nrrd").symlink_to("segmentation.seg.nrrd")
    outcome = segwithu("export", case, "--output", tmp_path / "sent", "--json")
    assert outcome.code == 0
    left = outcome.events[-1]["left_out"]
    named = {"letter", "notes.txt", "sub", "review.Link.jsonl", "review.Pipe.jsonl"}
    assert {next(name for name in named if name in sentence) for sentence in left} == named
    assert not named & {Path(name).name for name in entries(tmp_path / "sent")}
    assert (tmp_path / "sent" / case.name / "segmentation_reviewed.Ana.seg.nrrd").is_file()  # the link led to inside
    assert not any(path.is_symlink() for path in (tmp_path / "sent").rglob("*"))


@pytest.mark.parametrize("name", [LABELS, "case.json", "segmentation.seg.nrrd", "regions.csv"])
def test_a_link_in_place_of_a_result_stops_its_case_alone(
    cases: Path, tmp_path: Path, segwithu: Command, name: str
) -> None:
    broken, other = cases / CASES[1], cases / CASES[0]
    shutil.rmtree(cases / CASES[2])
    (broken / name).unlink()
    (broken / name).symlink_to(other / name)
    for number, option in enumerate(([], ["--anonymous"])):
        outcome = segwithu("export", cases, "--output", tmp_path / f"sent{number}", *option)
        assert outcome.code == 1
        assert str(broken / name) in outcome.messages[-1] and "link" in outcome.messages[-1]
        assert len([path for path in (tmp_path / f"sent{number}").iterdir() if path.is_dir()]) == 1
    one_sentence(segwithu("report", broken), str(broken / name), "link")
    with pytest.raises(InputError, match="link"):
        case_contents(broken)


def test_a_case_that_is_a_link_is_not_exported(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "a").symlink_to(cases / CASES[0])
    one_sentence(segwithu("export", tmp_path / "back", "--output", tmp_path / "sent"), str(cases / CASES[0]), "link")


def _deep(case: Path) -> None:
    changed_case(case, lambda content: content.update(flags="DEEP"))
    text = (case / "case.json").read_text(encoding="utf-8")
    (case / "case.json").write_text(text.replace('"DEEP"', "[" * 5000 + "]" * 5000), encoding="utf-8")


def _file(value: object) -> Callable[[Path], None]:
    def change(case: Path) -> None:
        changed_case(case, lambda content: content["input"]["channels"][0].update(file=value))
        (case / IMAGE).unlink()

    return change


def _piped(case: Path) -> None:
    (case / "case.json").unlink()
    os.mkfifo(case / "case.json")


def _dice_rule(content: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = content["model"]["flags"]["rules"]["soft_dice"]
    return rule


@pytest.mark.parametrize("name", ["runner_up.nii.gz", "data_percentile.nii.gz", "segmentation.seg.nrrd"])
def test_what_is_no_volume_is_not_passed_on(case: Path, tmp_path: Path, segwithu: Command, name: str) -> None:
    (case / name).write_text("This is a letter.")
    sentence = one_sentence(segwithu("export", case, "--output", tmp_path / "sent"), str(case / name))
    assert "Nothing was exported" in sentence
    assert not (tmp_path / "sent").exists()


BROKEN: dict[str, Callable[[Path], None]] = {
    "path 5": _file(5),
    "NUL": _file("a\0b"),
    "too long": _file("a" * 5000),
    "no input": lambda case: changed_case(case, lambda content: content.pop("input")),
    "deep": _deep,
    "damaged": lambda case: (case / LABELS).write_bytes((case / LABELS).read_bytes()[:-40]),
    "gone": lambda case: (case / LABELS).unlink(),
    "pipe": _piped,
    "endless": lambda case: ((case / "case.json").unlink(), (case / "case.json").symlink_to("/dev/zero")),
    "huge number": lambda case: changed_case(case, lambda c: c["regions"].update(expected_wrong_mm3=10**400)),
    "half a character": lambda case: (case / "regions.csv").write_bytes(b"\xff"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_case_is_listed_and_the_others_are_there(
    cases: Path, tmp_path: Path, segwithu: Command, kind: str
) -> None:
    home = copied(cases / CASES[0], tmp_path / "home cases")
    back = tmp_path / "back"
    for name in CASES[:2]:
        copied(cases / name, back)
    judged(back / CASES[0], "Ben", {1: Verdict.ACCEPTED})
    BROKEN[kind](back / CASES[1])
    for number, option in enumerate(([], ["--anonymous"])):
        outcome = segwithu("export", back, "--output", tmp_path / f"sent{number}", *option)
        assert outcome.code == 1, kind
        assert [CASES[1] in message for message in outcome.messages] == [True], outcome.messages
        assert "unexpected" not in outcome.err
        assert len([path for path in (tmp_path / f"sent{number}").iterdir() if path.is_dir()]) == 1
    outcome = segwithu("worklist", back, "--output", tmp_path / "list")
    assert "unexpected" not in outcome.err
    assert len(json.loads((tmp_path / "list" / "worklist.json").read_text())["cases"]) == 2
    outcome = segwithu("merge-reviews", back, "--into", home)
    assert "unexpected" not in outcome.err
    assert (home / "review.Ben.jsonl").is_file()


# -- reviews that come back --


def test_a_returned_segmentation_is_read_before_it_is_taken(case: Path, tmp_path: Path, segwithu: Command) -> None:
    back = copied(case, tmp_path / "back")
    judged(back, "Ben", {1: Verdict.CORRECTED})
    version = edited(back, "Ben")
    whole = version.read_bytes()
    version.write_bytes(whole[:-30])
    outcome = segwithu("merge-reviews", back, "--into", case)
    assert outcome.code == 1
    assert str(version) in outcome.messages[-1]
    assert not (case / version.name).exists()
    version.unlink()
    version.symlink_to("/etc/passwd")
    assert "link" in segwithu("merge-reviews", back, "--into", case).messages[-1]
    version.unlink()
    version.write_bytes(whole)
    assert segwithu("merge-reviews", back, "--into", case).code == 0
    assert (case / version.name).read_bytes() == whole


def test_the_chain_of_a_returned_review_carries_no_file_of_ours(case: Path, tmp_path: Path, segwithu: Command) -> None:
    """A header that names our letter as its voxels: not taken by a merge, and not read where it lies in a case."""
    letter = tmp_path / "letter.txt"
    letter.write_bytes(b"4711" * 20_000)
    back = copied(case, tmp_path / "back")
    judged(back, "Ben", {1: Verdict.CORRECTED})
    size = " ".join(map(str, read_case(case)["input"]["grid"]["size_ijk"]))
    header = ["NRRD0005", "type: uchar", "dimension: 3", f"sizes: {size}", "encoding: raw", f"data file: {letter}"]
    version = back / "segmentation_reviewed.Ben.seg.nrrd"
    version.write_text("\n".join(header) + "\n\n")
    outcome = segwithu("merge-reviews", back, "--into", case)
    assert outcome.code == 1
    assert str(version) in outcome.messages[-1]
    assert not (case / version.name).exists()
    for number, option in enumerate(([], ["--anonymous"])):
        segwithu("export", back, "--output", tmp_path / f"sent{number}", *option)
        for path in (tmp_path / f"sent{number}").rglob("*"):
            assert not path.is_file() or b"47114711" not in _unpacked(path), path


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    start = content.find(b"\x1f\x8b")
    return content + (gzip.decompress(content[start:]) if path.suffix in (".gz", ".nrrd") and start >= 0 else b"")


def test_leftovers_inside_a_case_are_swept_by_the_next_command(case: Path, segwithu: Command) -> None:
    for command in (["merge-reviews", case, "--into", case], ["regions", case], ["report", case]):
        left = case / f".segwithu-{2**22 + 1}-x"
        left.mkdir()
        (left / "lock").write_text(f"process {2**22 + 1} on here\n")
        (left / "regions.csv").write_text("half")
        assert segwithu(*command).code == 0
        assert not left.exists(), command


def test_logs_and_comments_are_bounded_and_long_reviews_are_read(case: Path) -> None:
    log = judged(case, "Ana", {1: Verdict.ACCEPTED}, comment="a" * (MAXIMUM_COMMENT + 5))
    comment = read_log(log).events[1].action.comment  # type: ignore[union-attr]
    assert comment == "a" * MAXIMUM_COMMENT + f" [cut after {MAXIMUM_COMMENT} characters]"
    first, *_ = whole = log.read_bytes().splitlines(keepends=True)
    looked = whole[1].replace(b'"verdict"', b'"looked"')
    line = json.dumps({**{k: v for k, v in json.loads(looked).items() if k not in ("verdict", "comment")}}).encode()
    log.write_bytes(first + (line + b"\n") * 20_000)
    assert len(read_log(log).events) == 20_001
    for content in (first + b" " * MAXIMUM_BYTES, first + b'{"a": "' + b"b" * (3 << 20) + b'"}\n'):
        log.write_bytes(content)
        with pytest.raises(InputError, match=r"review\.Ana\.jsonl"):
            read_log(log)
    forged = b"".join(line.replace(b'"region": ', b'"region": 9%d' % n) + b"\n" for n in range(2000))
    log.write_bytes(first + forged)
    (entry,) = make_worklist([case]).entries
    assert entry.reviews == ()
    assert "is about region" in entry.notes[0] and "review." in entry.notes[0]


@pytest.mark.parametrize("odd", [None, 5, [], [[[]]], {}, {"a": 1}, "x", True, 1e308, 10**400, "a" * 9999, "\ud800"])
def test_odd_values_in_a_log_are_refused_in_a_short_sentence(case: Path, odd: object) -> None:
    log = judged(case, "Ana", {1: Verdict.ACCEPTED})
    first, line, *rest = log.read_bytes().splitlines(keepends=True)
    content = json.loads(line)
    for key in content:
        log.write_bytes(first + json.dumps({**content, key: odd}).encode() + b"\n" + b"".join(rest))
        try:
            read_log(log)
        except InputError as error:
            assert str(log) in str(error)
            assert len(str(error)) < 320 + len(str(log))
        (entry,) = make_worklist([case]).entries
        assert entry.trouble == ""


# -- what an anonymous copy passes on --


@pytest.mark.parametrize("window", [[0, "x"], [0], ["x", 0, 1], [None, {}]])
def test_a_window_that_is_none_is_refused_with_the_file(
    window: list[object], cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    changed_case(case, lambda content: content["maps"]["error_probability"].update(window=window))
    sent = tmp_path / "sent"
    for call in (["check"], ["export", "--output", sent], ["export", "--output", sent, "--anonymous"]):
        outcome = segwithu(call[0], cases, *call[1:])
        assert (outcome.code, outcome.error_codes) == (1, ["damaged-case"]), outcome.err
        assert str(case) in outcome.err and "case.json" in outcome.err
        shutil.rmtree(sent, ignore_errors=True)
        (tmp_path / "sent-names.json").unlink(missing_ok=True)


def test_planted_names_do_not_come_through(case: Path, tmp_path: Path, segwithu: Command) -> None:
    judged(case, "Ana", {1: Verdict.ACCEPTED})

    def plant(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{key: plant(inner) for key, inner in value.items()}, "note": PLANTED, PLANTED: 1}
        return [plant(inner) for inner in value] if isinstance(value, list) else value

    rules = [flag["rule"] for flag in read_case(case)["flags"]]
    content = plant(read_case(case))
    content["versions"].update(torch=PLANTED, platform=PLANTED)
    content.update(device=PLANTED, flags=[{"rule": "dice", "structure": PLANTED, "message": PLANTED}])
    content["ood"]["warnings"] = [{"severity": "warning", "kind": "noise", "message": PLANTED, "structure": 1}]
    content["maps"]["ranking"].update(title=PLANTED, unit=PLANTED)
    content["model"]["task"] = content["model"]["version"] = PLANTED
    content["model"]["flags"]["rules"]["soft_dice"]["message"] = PLANTED
    content["regions"]["diffuse_mm3"][PLANTED] = 1.0
    write_case(case, content)
    log = case / "review.Ana.jsonl"
    log.write_text(log.read_text().replace('"head": "', f'"head": "{PLANTED}'))
    outcome = segwithu("export", case, "--output", tmp_path / "sent", "--anonymous")
    assert outcome.code == 0, outcome.err
    for path in (tmp_path / "sent").rglob("*"):
        assert PLANTED.encode() not in path.name.encode() + (path.read_bytes() if path.is_file() else b""), path
    sent = read_case(tmp_path / "sent" / "case-001")
    assert "noise" in sent["ood"]["warnings"][0]["message"]
    assert [flag["rule"] for flag in sent["flags"]] == ["ood", *rules]
    assert sent["maps"]["error_probability"]["histograms"]["counts"]["1"]
    table = case / "regions.csv"
    table.write_text(table.read_text().replace("anterior hippocampus", PLANTED))
    accepted(case, "regions.csv")
    one_sentence(segwithu("export", case, "--output", tmp_path / "more", "--anonymous"), str(table), "regions again")
