"""Cohorts whose processes are killed: nothing is lost, done twice, or left behind."""

import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from cohort_kills import assert_same_cases, hidden_in, kill_often, times_made
from hippocampi import write_hippocampi
from ready_commands import ReadyCommands, Run
from segwithu_command import tiny_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.serial,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks into /proc"),
]
KILLS, CASES, SEED = 20, 10, 20261125


class Cohort:
    """Ten cases, a quick model, and what an uninterrupted run makes of them."""

    def __init__(self, data_folder: Path, root: Path, commands: ReadyCommands) -> None:
        write_hippocampi(data_folder, root, CASES)
        self.images = sorted((root / "images").iterdir())
        self.names = [path.name.removesuffix(".nii.gz") for path in self.images]
        self.model, self.uninterrupted = tiny_bundle(root / "models" / "tiny"), root / "uninterrupted"
        self._commands = commands
        run = self.start(self.uninterrupted, root / "log", resume=False)
        assert run.saw("(2 of 10")
        begun = time.monotonic()
        assert run.wait() == 0, run.text
        self.case_s = (time.monotonic() - begun) / (CASES - 1)

    def start(self, output: Path, log: Path, resume: bool = True, cases: int = CASES) -> Run:
        """A process that makes, or goes on with, the cohort or its first cases."""
        options = ["--model", self.model, "--output", output, *(["--resume"] if resume else [])]
        return self._commands.start("segment", *self.images[:cases], *options, log=log)


@pytest.fixture(scope="module")
def cohort(data_folder: Path, tmp_path_factory: pytest.TempPathFactory, commands: ReadyCommands) -> Cohort:
    return Cohort(data_folder, tmp_path_factory.mktemp("kills"), commands)


def test_twenty_kills_at_random_moments_lose_nothing(cohort: Cohort, tmp_path: Path) -> None:
    output, chance = tmp_path / "out", random.Random(SEED)
    kills = kill_often(lambda: cohort.start(output, tmp_path / "log"), output, KILLS, chance, cohort.case_s)
    assert len(kills) == KILLS
    assert sum(kill.temporary for kill in kills) >= KILLS / 6, "no kill hit the writing"
    last = cohort.start(output, tmp_path / "log")
    assert last.wait() == 0, last.text
    assert f"{CASES - kills[-1].whole} done, {kills[-1].whole} there" in last.text
    assert_same_cases(output, cohort.uninterrupted, cohort.names)


def test_a_run_that_hangs_keeps_its_folder_and_a_killed_one_loses_it_at_once(cohort: Cohort, tmp_path: Path) -> None:
    output, names = tmp_path / "out", cohort.names[:3]
    killed = cohort.start(output, tmp_path / "log0", cases=len(names))
    assert killed.saw("% segmenting")
    killed.send(signal.SIGSTOP)
    second = cohort.start(output, tmp_path / "log1", cases=len(names))
    assert second.wait() == 1
    assert f"process {killed.pid} on " in second.text and "[folder-in-use]" in second.text
    assert times_made([second.text]) == {}
    killed.send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    third = cohort.start(output, tmp_path / "log2", cases=len(names))
    assert third.wait() == 0, third.text
    assert_same_cases(output, cohort.uninterrupted, names)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_cohort_says_how_to_go_on_and_leaves_whole_cases_only(
    number: int, cohort: Cohort, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run = cohort.start(output, tmp_path / "log")
    assert run.saw(f"{cohort.names[1]} (2 of {CASES}")
    run.send(number)
    assert run.wait() == 130
    assert run.text.endswith(
        f"segwithu: cancelled after 1 of {CASES} cases, partial output was removed; run the same command, "
        "without --overwrite, to continue.\n"
    )
    assert [path.name for path in output.iterdir()] == [cohort.names[0]]
    for name in cohort.names[2:]:
        shutil.copytree(cohort.uninterrupted / name, output / name)
    again = cohort.start(output, tmp_path / "log")
    assert again.wait() == 0
    assert "1 done, 9 there" in again.text
    assert hidden_in(output) == []
