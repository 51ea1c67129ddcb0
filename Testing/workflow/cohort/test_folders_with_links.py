"""Links to nothing (git-annex, a share that is not mounted), pipes and deeper folders: nothing is left out unsaid."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from exchanged_cases import CASES
from repository import PACKAGES
from segwithu_command import Command, real_image, refused

from SegWithUCore.case.case_folders import case_folders, deeper_cases
from SegWithUCore.io.inputs import cases_in, find_input
from SegWithUCore.util.errors import InputError, code_of


def annexed(path: Path) -> Path:
    """Make a link as git-annex leaves for a file that was not fetched."""
    path.symlink_to(f"../.git/annex/objects/{path.name}")
    return path


@pytest.fixture
def images(data_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in CASES[:2]:
        shutil.copy(data_folder / "hippocampus" / "images" / f"{name}.nii.gz", folder)
    return folder


@pytest.fixture
def results(segmented_cases: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    shutil.copytree(segmented_cases, folder)
    return folder


def test_an_image_that_was_not_fetched_fails_by_name_and_the_others_go_on(
    images: Path, tmp_path: Path, segwithu: Command
) -> None:
    annexed(images / "missing.nii.gz")
    outcome = segwithu.segment(images, "--each", output=tmp_path / "out")
    refused(outcome, "link-to-nothing", "missing.nii.gz")
    assert len(case_folders([tmp_path / "out"])) == 2
    outcome = segwithu("check", images)
    refused(outcome, "link-to-nothing", "missing.nii.gz")
    assert "3 checked" in outcome.out


def test_every_entry_that_may_be_a_case_is_one_or_told(images: Path) -> None:
    annexed(images / "a.nrrd")
    annexed(images / "patient.7")
    annexed(images / "IM0001.dcm")
    annexed(images / "notes.pdf")
    (images / "loop.mha").symlink_to("loop.mha")
    os.mkfifo(images / "pipe.nii")
    (images / "text.txt").write_text("x")
    for name in (".kept.nii.gz", "._fork.nii.gz", ".DS_Store"):
        (images / name).write_bytes(b"x")
    found = cases_in(images)
    lost = ["a.nrrd", "patient.7", "IM0001.dcm", "loop.mha", "pipe.nii"]
    assert sorted(path.name for path in found.paths) == sorted([*lost, *(f"{name}.nii.gz" for name in CASES[:2])])
    for name, told in ((".kept.nii.gz", True), ("notes.pdf", True), ("_fork", False), ("text.txt", False)):
        assert (name in found.left_out) == told


def test_a_channel_that_was_not_fetched_stays_a_channel(images: Path, segwithu: Command) -> None:
    for number, name in enumerate(CASES[:2]):
        (images / f"{name}.nii.gz").rename(images / f"case_{number:04d}.nii.gz")
    annexed(images / "other_0000.nii.gz")
    (images / "more").mkdir()
    shutil.copy(images / "case_0000.nii.gz", images / "more")
    given = find_input(images)
    assert {case.name: len(case.numbered) for case in given.cases} == {"case": 2, "other": 1}
    assert "(more)" in given.kind
    checked = segwithu("check", images)
    assert (checked.code, checked.error_codes) == (1, ["other-grid", "link-to-nothing"]), checked.err
    assert "other_0000.nii.gz" in checked.err


def test_a_folder_of_links_to_nothing_is_no_empty_folder(tmp_path: Path) -> None:
    for number in range(7):
        annexed(tmp_path / f"slice{number}.dcm")
    with pytest.raises(InputError, match=r"7 of .*slice0\.dcm") as refusal:
        find_input(tmp_path)
    assert refusal.value.code == "entries-not-openable"


@pytest.mark.parametrize("command", ["worklist", "export", "check", "merge-reviews", "report"])
def test_a_case_folder_that_was_not_fetched_fails_by_name(
    command: str, results: Path, tmp_path: Path, segwithu: Command
) -> None:
    annexed(results / "fourth")
    calls: dict[str, list[str | Path]] = {
        "worklist": [results, "--output", tmp_path / "list"],
        "export": [results, "--output", tmp_path / "out"],
        "check": [results],
        "merge-reviews": [results / CASES[0], "--into", results],
        "report": [results / "fourth"],
    }
    outcome = segwithu(command, *calls[command])
    assert outcome.code == 1
    assert set(outcome.error_codes) == {"link-to-nothing"}
    assert "fourth" in outcome.err


@pytest.mark.parametrize("command", ["worklist", "export", "check"])
def test_cases_that_lie_deeper_are_told(command: str, results: Path, tmp_path: Path, segwithu: Command) -> None:
    shutil.copytree(results / CASES[0], results / "site2" / "a")
    shutil.copytree(results / CASES[1], results / "site2" / "year" / "b")
    assert len(case_folders([results])) == 3
    outcome = segwithu(command, results, *([] if command == "check" else ["--output", tmp_path / "out"]))
    assert outcome.code == 0
    assert "site2" in outcome.err and "2 case" in outcome.err
    assert len(deeper_cases([results, results / "site2"])) == 1, "named, and still one is deeper"
    assert deeper_cases([results, results / "site2", results / "site2" / "year"]) == [], "all are named"
    assert deeper_cases([results / CASES[0]]) == []


@pytest.mark.parametrize("kind", ["loop", "pipe"])
def test_what_was_never_a_case_fails_alone(kind: str, results: Path, tmp_path: Path, segwithu: Command) -> None:
    if kind == "loop":
        (results / kind).symlink_to(kind)
    else:
        os.mkfifo(results / kind)
    pages = ("export", results, "--page", "--without-image", "--output", tmp_path / "pages")
    for call in (("worklist", results, "--output", tmp_path / "list"), ("check", results), pages):
        outcome = segwithu(*call)
        assert outcome.code == 1
        assert kind in outcome.err
        assert len(outcome.error_codes) == 1


def test_hidden_folders_of_patients_and_cases_are_said(segwithu: Command, data_folder: Path, tmp_path: Path) -> None:
    image = real_image(data_folder)
    for name in ("shown", ".hidden"):
        (tmp_path / "patients" / name).mkdir(parents=True)
        shutil.copy(image, tmp_path / "patients" / name / f"{name.strip('.')}_0000.nii.gz")
    outcome = segwithu("check", tmp_path / "patients")
    assert ".hidden" in outcome.err
    segwithu.segment(image, output=tmp_path / "results")
    shutil.copytree(tmp_path / "results" / "hippocampus_319", tmp_path / "results" / ".other")
    assert ".other" in segwithu("worklist", tmp_path / "results", "--output", tmp_path / "list").err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_cases_below_a_closed_folder_are_named_with_the_reason(results: Path) -> None:
    """In a process without root's rights, which may read everything."""
    closed = results / CASES[0]
    code = (
        "import os, sys; from pathlib import Path; import SegWithUCore.cli.review\n"
        "from SegWithUCore.case.case_folders import case_folders\n"
        "from SegWithUCore.review.worklist import make_worklist\n"
        "os.setuid(65534) if os.geteuid() == 0 else None\n"
        "print(*(entry.trouble for entry in make_worklist(case_folders([Path(sys.argv[1])])).entries))"
    )
    results.chmod(0)
    try:
        call = [sys.executable, "-c", code, str(closed)]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    finally:
        results.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert str(closed) in done.stdout and code_of(done.stdout) == "unusable-input"
