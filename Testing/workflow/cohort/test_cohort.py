"""`segwithu segment --resume`: what is there stays, what is missing is made, what differs is named."""

import csv
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk
from cohort_kills import OVERVIEW
from exchanged_cases import changed_case, judged
from segwithu_command import (
    Command,
    changed_description,
    one_sentence,
    refused,
    write,
)

from SegWithUCore.review.log_format import Verdict
from SegWithUCore.review.status import Level
from SegWithUCore.util.run_lock import Part, run_lock

NAMES = ("hippocampus_075", "hippocampus_319", "hippocampus_320")


@pytest.fixture(scope="module")
def images(data_folder: Path) -> list[Path]:
    return [data_folder / "hippocampus" / "images" / f"{name}.nii.gz" for name in NAMES]


@pytest.fixture(scope="module")
def made_once(images: list[Path], tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from SegWithUCore.cli.__main__ import main

    output = tmp_path_factory.mktemp("made")
    assert main(["segment", *map(str, images), "--model", str(tiny), "--output", str(output)]) == 0
    return output


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Path:
    """A cohort that was made in one go."""
    output = tmp_path / "cohort"
    shutil.copytree(made_once, output)
    return output


def stamps(output: Path) -> dict[str, tuple[int, int]]:
    """What changes when a case folder is made anew."""
    facts = {folder.name: (folder / "case.json").stat() for folder in output.iterdir() if folder.is_dir()}
    return {name: (fact.st_ino, fact.st_mtime_ns) for name, fact in facts.items()}


def failures(output: Path) -> dict[str, str]:
    """The reason of each case in `failed.csv`."""
    with (output / "failed.csv").open(encoding="utf-8") as file:
        return {row["case"]: row["reason"] for row in csv.DictReader(file)}


def test_what_is_there_stays_and_what_is_missing_is_made(
    made: Path, images: list[Path], tiny: Path, segwithu: Command
) -> None:
    before = stamps(made)
    shutil.rmtree(made / NAMES[1])
    outcome = segwithu.segment(*images, "--quiet", model=tiny, output=made)
    assert outcome.code == 0, outcome.err
    assert "1 done, 2 there, 0 failed" in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if line.startswith(f"{NAMES[1]}: ")]
    assert line.removeprefix(f"{NAMES[1]}: ") in set(Level)
    after = stamps(made)
    assert {name for name in NAMES if after[name] == before[name]} == {NAMES[0], NAMES[2]}
    assert {path.name for path in made.iterdir()} == {*NAMES, *OVERVIEW}, "no lock, no list of failures"


def test_without_resume_an_existing_case_is_still_refused(
    made: Path, images: list[Path], tiny: Path, segwithu: Command
) -> None:
    outcome = segwithu.segment(images[0], model=tiny, output=made)
    one_sentence(outcome, str(made / NAMES[0]), "exists already")


def test_a_cohort_that_moved_and_changed_its_format_is_still_there(
    made: Path, images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    moved = [write(sitk.ReadImage(str(path)), tmp_path / "moved" / f"{name}.nrrd")
             for path, name in zip(images, NAMES, strict=True)]  # fmt: skip
    before = stamps(made)
    outcome = segwithu.segment(*moved, "--resume", model=tiny, output=made)
    assert outcome.code == 0, outcome.err
    assert "0 done, 3 there, 0 failed" in outcome.out
    assert stamps(made) == before


def _other_voxels(output: Path) -> None:
    changed_case(output / NAMES[0], lambda case: case["input"]["channels"][0].update(voxels_sha256="0" * 64))


def _other_grid(output: Path) -> None:
    changed_case(output / NAMES[0], lambda case: case["input"]["grid"]["origin_lps_mm"].__setitem__(1, 7.0))


def _other_weights(output: Path) -> None:
    changed_case(output / NAMES[0], lambda case: case["model"].update(weights_sha256="0" * 64))


def _other_calibration(output: Path) -> None:
    changed_case(output / NAMES[0], lambda case: case["model"].update(calibration_sha256="0" * 64))


def _other_head(output: Path) -> None:
    changed_case(output / NAMES[0], lambda case: case["model"].update(head="another"))


def _other_model(output: Path) -> None:
    changed_case(output / NAMES[0], lambda case: case["model"].update(name="liver"))


def _other_region(output: Path) -> None:
    box = {"centre_ras_mm": [1.0, 2.0, 3.0], "size_mm": [9.0, 9.0, 9.0]}
    changed_case(output / NAMES[0], lambda case: case.update(roi=box))


def _more_passes(output: Path) -> None:
    """As `--passes 2` of an earlier version wrote it."""
    changed_case(output / NAMES[0], lambda case: case.update(passes=2))


def _lost_map(output: Path) -> None:
    (output / NAMES[0] / "ranking.nii.gz").unlink()


def _emptied_file(output: Path) -> None:
    (output / NAMES[0] / "segmentation.nii.gz").write_bytes(b"")


def _not_a_case(output: Path) -> None:
    (output / NAMES[0] / "case.json").write_text('{"format": "segwithu-case"}')


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "voxels": (_other_voxels, f"{NAMES[0]}.nii.gz"),
    "grid": (_other_grid, f"{NAMES[0]}.nii.gz"),
    "weights": (_other_weights, "weights file"),
    "calibration": (_other_calibration, "calibration"),
    "head": (_other_head, "paper"),
    "model": (_other_model, "liver"),
    "region": (_other_region, "region of interest"),
    "passes": (_more_passes, "number of passes (2 instead of 1)"),
    "lost map": (_lost_map, "ranking.nii.gz"),
    "emptied file": (_emptied_file, "segmentation.nii.gz"),
    "not a case": (_not_a_case, "case folder"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_folder_that_was_made_otherwise_is_named_and_replaced_only_when_told(
    what: str, made: Path, images: list[Path], tiny: Path, segwithu: Command
) -> None:
    change, named = CHANGES[what]
    change(made)
    before = stamps(made)
    outcome = segwithu.segment(*images[:2], "--resume", model=tiny, output=made)
    assert outcome.code == 1
    for word in (str(made / NAMES[0]), named, "--overwrite", "[case-outdated]"):
        assert word in outcome.messages[-2]
    assert "reviews" not in outcome.messages[-2]
    assert "0 done, 1 there, 1 failed" in outcome.out
    assert stamps(made) == before
    assert list(failures(made)) == [NAMES[0]]
    replaced = segwithu.segment(*images[:2], "--resume", "--overwrite", model=tiny, output=made)
    assert replaced.code == 0, replaced.err
    assert "1 done, 1 there, 0 failed" in replaced.out
    changed = {name for name, stamp in stamps(made).items() if stamp != before[name]}
    assert changed == {NAMES[0]}
    assert not (made / "failed.csv").exists()
    assert segwithu.segment(*images, "--resume", model=tiny, output=made).code == 0


def test_options_of_this_run_count_too(made: Path, images: list[Path], tiny: Path, segwithu: Command) -> None:
    region = segwithu.segment(images[0], "--resume", "--roi=17,25,17,20,20,20", model=tiny, output=made)
    assert "region of interest (null instead of [17" in region.messages[0]
    with_image = segwithu.segment(images[0], "--resume", "--include-image", model=tiny, output=made)
    assert "lacks image.nii.gz" in with_image.messages[0]


def test_reviews_that_would_be_lost_are_told(made: Path, images: list[Path], tiny: Path, segwithu: Command) -> None:
    judged(made / NAMES[0], "Ana", {1: Verdict.ACCEPTED})
    _other_head(made)
    outcome = segwithu.segment(images[0], "--resume", model=tiny, output=made)
    assert "with its reviews, by --overwrite" in outcome.messages[0]
    assert (made / NAMES[0] / "review.Ana.jsonl").is_file()


class TestEngines:
    """A cohort goes on with the engine that it was begun with, and no review is lost for an engine's sake."""

    @staticmethod
    def made_with(folder: Path, **engine: object) -> None:
        """Note another engine in a case folder."""
        changed_case(folder, lambda case: case["engine"].update(engine))

    def test_the_folders_engine_is_gone_on_with_or_said_to_be_missing(
        self, made: Path, images: list[Path], tiny: Path, segwithu: Command
    ) -> None:
        self.made_with(made / NAMES[0], name="openvino", version="2026.4.1")
        outcome = segwithu.segment(*images, "--resume", model=tiny, output=made)
        assert outcome.code == 2
        assert "made with openvino" in outcome.messages[0] and "has no compiled graphs" in outcome.messages[0]
        outcome = segwithu.segment(images[0], "--resume", "--engine", "torch", model=tiny, output=made)
        assert "another engine" in outcome.messages[0] and outcome.error_codes == ["case-outdated"]

    @pytest.mark.parametrize("engine", [{"version": "1.0"}, {"precision": "bfloat16"}, {"graphs_sha256": "0" * 64}])
    def test_another_version_precision_or_graph_is_another_result(
        self, made: Path, images: list[Path], tiny: Path, segwithu: Command, engine: dict[str, str]
    ) -> None:
        self.made_with(made / NAMES[0], **engine)
        outcome = segwithu.segment(images[0], "--resume", model=tiny, output=made)
        assert outcome.code == 1
        assert outcome.error_codes == ["case-outdated"]
        assert segwithu.segment(images[0], "--resume", "--overwrite", model=tiny, output=made).code == 0

    def test_a_review_is_not_replaced_because_of_an_engine(
        self, made: Path, images: list[Path], tiny: Path, segwithu: Command
    ) -> None:
        judged(made / NAMES[0], "Ana", {1: Verdict.ACCEPTED})
        self.made_with(made / NAMES[0], version="1.0")
        for options in (["--resume"], ["--resume", "--overwrite"]):
            outcome = segwithu.segment(images[0], *options, model=tiny, output=made)
            assert outcome.code == 1
            assert outcome.error_codes == ["reviewed-case"]
        assert (made / NAMES[0] / "review.Ana.jsonl").is_file()


def test_a_folder_of_cases_is_resumed_with_the_output_inside(
    images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    for path in images[:2]:
        write(sitk.ReadImage(str(path)), study / path.name)
    several = segwithu.segment(study, model=tiny, output=study / "results")
    refused(several, "no-image", str(study), "--each")
    named = segwithu.segment(study, "--each", "--name", "x", model=tiny, output=study / "results")
    one_sentence(named, "--name", code=2)
    (study / "lost").mkdir()
    for expected in ("2 done, 0 there, 1 failed", "0 done, 2 there, 1 failed"):
        outcome = segwithu.segment(study, "--each", "--resume", model=tiny, output=study / "results")
        assert outcome.code == 1
        assert expected in outcome.out
        assert list(failures(study / "results")) == ["lost"]


def test_failures_of_the_last_run_are_listed_with_reasons(
    made: Path, images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    bad, formula = tmp_path / "bad.nii.gz", tmp_path / "=1+2.nii.gz"
    for path in (bad, formula):
        path.write_text("no image")
    outcome = segwithu.segment(bad, tmp_path, formula, *images, "--resume", model=tiny, output=made)
    assert outcome.code == 1
    assert f"3 of 6 cases failed, see {made / 'failed.csv'}." in outcome.messages[-1]
    told = failures(made)
    assert list(told) == [tmp_path.name, "bad", "'=1+2"]
    assert "the format is unknown" in told["bad"]
    write(sitk.ReadImage(str(images[0])), bad)
    assert segwithu.segment(bad, formula, "--resume", model=tiny, output=made).code == 1
    assert list(failures(made)) == ["'=1+2"]
    assert segwithu.segment(bad, "--resume", model=tiny, output=made).code == 0
    assert not (made / "failed.csv").exists()


def test_a_failed_csv_of_somebody_else_is_refused_before_the_work(
    made: Path, images: list[Path], tiny: Path, segwithu: Command
) -> None:
    (made / "failed.csv").write_text("my,own\n1,2\n")
    refused(segwithu.segment(*images, "--resume", model=tiny, output=made), "exists-already", made / "failed.csv")
    assert (made / "failed.csv").read_text() == "my,own\n1,2\n"


def test_a_second_run_ends_at_once_and_names_the_first_and_the_ways_on(
    made: Path, images: list[Path], tiny: Path, segwithu: Command
) -> None:
    before = stamps(made)
    with run_lock(made):
        for options in ((), ("--resume",)):
            outcome = segwithu.segment(*images, *options, model=tiny, output=made)
            one_sentence(outcome, str(made), f"process {os.getpid()} on {socket.gethostname()}", "--part I/N")
    assert stamps(made) == before
    (made / ".run.lock").write_text("process 4711 on elsewhere\n")  # that was killed
    assert segwithu.segment(*images, "--resume", model=tiny, output=made).code == 0
    assert {path.name for path in made.iterdir()} == {*NAMES, *OVERVIEW}


def test_parts_make_all_cases_once_at_the_same_time_as_each_other(
    made: Path, images: list[Path], tiny: Path, segwithu: Command
) -> None:
    for name in NAMES:
        shutil.rmtree(made / name)
    with run_lock(made, Part(2, 2)):
        first = segwithu.segment(*reversed(images), "--resume", "--part", "1/2", model=tiny, output=made)
        assert "2 done, 0 there" in first.out, first.err
        same = segwithu.segment(*images, "--resume", "--part", "2/2", model=tiny, output=made)
        assert same.error_codes == ["folder-in-use"]
    assert sorted(stamps(made)) == [NAMES[0], NAMES[2]]
    second = segwithu.segment(*images, "--resume", "--part", "2/2", model=tiny, output=made)
    assert "1 done, 0 there" in second.out, second.err
    assert {path.name for path in made.iterdir()} == {*NAMES, *OVERVIEW}
    for wrong in ("0/2", "3/2", "1", "x/y", "1/0"):
        one_sentence(segwithu.segment(*images, "--part", wrong, model=tiny, output=made), "--part", "I/N", code=2)


def test_machines_read_where_the_cohort_is(
    made: Path, images: list[Path], tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    for name in NAMES[1:]:
        shutil.rmtree(made / name)
    bad = tmp_path / "bad.nii.gz"
    bad.write_text("no image")
    outcome = segwithu.segment(*images, bad, "--resume", "--json", model=tiny, output=made)
    assert outcome.err == ""
    events = [event for event in outcome.events if event["event"] not in ("progress", "note", "started")]
    kinds = ["engine", "there", "case", "result", "case", "result", "case", "error", "cohort", "error"]
    assert [event["event"] for event in events] == kinds
    begun = [event for event in events if event["event"] == "case"]
    assert [(event["case"], event["number"], event["of"]) for event in begun] == [
        (NAMES[1], 2, 4),
        (NAMES[2], 3, 4),
        ("bad", 4, 4),
    ]
    first, second = (float(str(event["seconds"])) for event in events if event["event"] == "result")
    assert begun[0]["seconds_left"] is None
    assert float(str(begun[1]["seconds_left"])) > first, "two cases are to be made"
    summed = events[-2]
    assert (summed["done"], summed["there"], summed["failed"]) == (2, 1, 1)
    assert 0 < float(str(summed["cases_per_hour"])) < 3600 / min(first, second)
    assert events[-3]["case"] == "bad"


def test_a_changed_bundle_is_another_model(images: list[Path], tiny: Path, tmp_path: Path, segwithu: Command) -> None:
    model = tmp_path / "models" / "tiny"
    shutil.copytree(tiny, model)
    assert segwithu.segment(images[0], model=model, output=tmp_path / "out").code == 0
    changed_description(model, "about/version", "9.9")
    outcome = segwithu.segment(images[0], "--resume", model=model, output=tmp_path / "out")
    assert "another model" in outcome.messages[0] and "9.9" in outcome.messages[0]
