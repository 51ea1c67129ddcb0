"""Two processes that write one target: one does, and the other is refused, before it works or at the latest at the end.

The first waits inside its work while the second comes and goes, so nothing depends on who is faster.
"""

import json
import signal
import sys
from pathlib import Path

import pytest
from exchanged_cases import CASES
from held_command import held_command
from segwithu_command import Command, entries, real_image, refused

from SegWithUCore.util.atomic_files import TEMPORARY_PREFIX

EXPORTING = "SegWithUCore.export.case_export.make_worklist"
KINDS = {"plain": [], "anonymous": ["--anonymous"], "pages": ["--page", "--without-image"]}
PLACES = {"pages": "SegWithUCore.web.single_file._index"}


def _cases_in(output: Path) -> set[str]:
    """The original names of exported cases, by the file of names where there is one."""
    names = output.with_name(f"{output.name}-names.json")
    if not names.is_file():
        return {path.parent.name for path in output.glob("*/case.json")}
    known = json.loads(names.read_text(encoding="utf-8"))["cases"]
    there = {path.name.removesuffix(".html") for path in output.glob("case-*")}
    assert there == set(known), "the names are another export's"
    return {Path(folder).name for folder in known.values()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_export_is_refused_before_it_works(
    kind: str, segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    one, other = (["export", segmented_cases / name, "--output", tmp_path / "sent", *KINDS[kind]] for name in CASES[:2])
    with held_command(PLACES.get(kind, EXPORTING), *one) as first:
        refused(segwithu(*other), "folder-in-use", tmp_path / "sent")
        assert first.go_on().code == 0
    assert _cases_in(tmp_path / "sent") == {CASES[0]}
    refused(segwithu(*other), "exists-already", tmp_path / "sent")
    assert not [name for name in entries(tmp_path) if TEMPORARY_PREFIX in name]


@pytest.mark.parametrize("kind", KINDS)
def test_what_another_process_made_meanwhile_stays_with_its_names(
    kind: str, segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    """On a file system without locks, and for what other programs make."""
    one, other = (["export", segmented_cases / name, "--output", tmp_path / "sent", *KINDS[kind]] for name in CASES[:2])
    with held_command(PLACES.get(kind, EXPORTING), *one) as first:
        next(tmp_path.glob(f"{TEMPORARY_PREFIX}lock-*")).unlink()
        assert segwithu(*other).code == 0
        refused(first.go_on(), "exists-already", tmp_path / "sent")
    assert _cases_in(tmp_path / "sent") == {CASES[1]}
    assert not [name for name in entries(tmp_path) if TEMPORARY_PREFIX in name]


def test_a_folder_made_meanwhile_takes_no_names_of_another_export(segmented_cases: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    call = ["export", segmented_cases / CASES[0], "--output", sent, "--anonymous"]
    with held_command(EXPORTING, *call) as first:
        sent.mkdir()
        refused(first.go_on(), "exists-already", sent)
    assert entries(tmp_path) == ["sent"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX knows them")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_lock_of_a_process_that_was_ended_holds_nobody_up(
    number: int, segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    call = ["export", segmented_cases / CASES[0], "--output", tmp_path / "sent"]
    with held_command(EXPORTING, *call) as first:
        first.end(number)
    assert number == signal.SIGKILL or entries(tmp_path) == []
    assert segwithu(*call).code == 0
    assert not [name for name in entries(tmp_path) if TEMPORARY_PREFIX in name]


def test_a_single_case_has_one_writer_too(data_folder: Path, tiny: Path, tmp_path: Path, segwithu: Command) -> None:
    call = ["segment", real_image(data_folder), "--model", tiny, "--output", tmp_path / "out"]
    with held_command("SegWithUCore.cohort.one_case.settle_all", *call) as first:
        refused(segwithu(*call), "folder-in-use", tmp_path / "out" / "hippocampus_319")
        assert first.go_on().code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["hippocampus_319"]


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("SegWithULab.training.dataset.find_cases", ["calibrate", "--model", "hippocampus", "--cases", "none.csv"]),
        ("SegWithULab.training.plan.make_plan", ["plan", "none.csv"]),
        ("SegWithULab.pipeline.TrainingJob", ["train", "none.csv", "--hours", "1"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_model_has_one_writer_from_the_first_moment_on(
    place: str, call: list[str], tmp_path: Path, segwithu: Command
) -> None:
    call = [*call, "--output", str(tmp_path / "model")]
    with held_command(place, *call):
        refused(segwithu(*call), "folder-in-use", tmp_path / "model")
