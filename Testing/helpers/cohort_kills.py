"""A cohort whose processes are killed at random moments, and what must be true after each kill and at the end."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from SegWithUCore.case.case_file import read_case
from SegWithUCore.util.atomic_files import TEMPORARY_PREFIX

MOMENTS = ("any", "segmenting", "writing")
OVERVIEW = ("index.html", "structures.csv")
"""What a whole run of several cases leaves beside them."""


class Killable(Protocol):
    """A running process of the command."""

    def saw(self, words: str, within_s: float = ...) -> bool:
        """Wait until it has printed `words`; false where it ended without."""

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""

    def send(self, number: int) -> None:
        """Send a signal."""

    def wait(self) -> int:
        """Exit code, or minus the signal that killed it."""


@dataclass(frozen=True)
class Kill:
    """What a kill left: the moment that was aimed at, whole cases, and folders that were being written."""

    moment: str
    whole: int
    temporary: int


def kill_often(
    start: Callable[[], Killable], output: Path, kills: int, chance: random.Random, case_s: float, start_s: float = 0.0
) -> list[Kill]:
    """Start and kill `kills` times; after each kill all that can be seen is whole, and nothing whole was lost.

    Args:
        start: starts a process that resumes the cohort in `output`.
        case_s, start_s: about how long a case and the start of a process take.
    """
    made: dict[str, int] = {}
    done = []
    for number in range(kills):
        moment = MOMENTS[number % len(MOMENTS)]
        process = start()
        _wait_for(moment, process, output, chance, case_s, start_s)
        if not process.ended:
            process.send(signal.SIGKILL)
        code = process.wait()
        assert code == -signal.SIGKILL, f"kill {number}: the cohort was done (exit code {code}), make cases slower"
        now = whole_cases(output)
        assert {name: now.get(name) for name in made} == made, f"kill {number}: a whole case was lost or made again"
        made = now
        done.append(Kill(moment, len(made), len(temporary_in(output))))
    return done


def _wait_for(
    moment: str, process: Killable, output: Path, chance: random.Random, case_s: float, start_s: float
) -> None:
    if moment == "any":
        time.sleep(chance.uniform(0, start_s + case_s))
        return
    assert process.saw("0% reading"), "the process began no case"
    if moment == "segmenting":
        time.sleep(chance.uniform(0, 1.2 * case_s))
        return
    before = set(temporary_in(output))
    while set(temporary_in(output)) <= before and not process.ended:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.05 * case_s))


def whole_cases(output: Path) -> dict[str, int]:
    """All that can be seen in a cohort's folder, by name, with what changes when it is made anew.

    Every entry must be a whole case.
    """
    found = {}
    for folder in output.iterdir() if output.is_dir() else []:
        if not folder.name.startswith("."):
            case = read_case(folder)
            files = [entry["file"] for entry in case["maps"].values()] + [
                "segmentation.nii.gz",
                "segmentation.seg.nrrd",
            ]
            assert all((folder / name).stat().st_size for name in files), f"{folder} is not whole"
            found[folder.name] = (folder / "case.json").stat().st_ino
    return found


def temporary_in(output: Path) -> list[str]:
    """Folders that are being written, or were when their process died."""
    found = output.iterdir() if output.is_dir() else []
    return [path.name for path in found if path.name.startswith(TEMPORARY_PREFIX)]


def hidden_in(output: Path) -> list[str]:
    """Whatever is left besides cases."""
    return sorted(path.name for path in output.iterdir() if path.name.startswith("."))


def assert_same_cases(output: Path, uninterrupted: Path, names: Sequence[str]) -> None:
    """Voxel by voxel and figure by figure what an uninterrupted run makes."""
    assert sorted(path.name for path in output.iterdir()) == sorted([*names, *OVERVIEW])
    for name in names:
        one, other = output / name, uninterrupted / name
        files = sorted(path.name for path in other.iterdir())
        assert sorted(path.name for path in one.iterdir()) == files, name
        for file in files:
            if file.endswith((".nii.gz", ".nrrd")):
                np.testing.assert_array_equal(*(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / file)))
                                                for folder in (one, other)), err_msg=f"{name}/{file}")  # fmt: skip
            elif file != "case.json":
                assert (one / file).read_bytes() == (other / file).read_bytes(), f"{name}/{file}"
        cases = [read_case(folder) for folder in (one, other)]
        for case in cases:
            for changing in ("created", "timings_s", "peak_memory_mb", "content_sha256"):
                case.pop(changing)
            for channel in case["input"]["channels"]:
                for changing in ("file", "file_mac"):  # a path relative to the case folder, and its code
                    channel.pop(changing, None)
        other = {key for key in cases[0] if cases[0][key] != cases[1].get(key)}
        assert cases[0] == cases[1], f"{name}: {other}"


def times_made(logs: Sequence[str]) -> Counter[str]:
    """How often each case was made, by what the processes printed."""
    return Counter(Path(line).name for log in logs for line in log.splitlines() if line.startswith("written to "))
