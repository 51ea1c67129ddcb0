"""A disk that fills up while a case is written: one sentence, and neither a new case nor a part of one."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from segwithu_command import Command, entries, one_sentence, real_image, write
from small_disks import DISK_KB, leave

from SegWithUCore.inference import case_writer


def _size_kb(folder: Path) -> int:
    """What the files of a folder take on a disk with blocks of 4 kB."""
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.iterdir())


@pytest.mark.slow
def test_full_disk_is_named_and_nothing_half_written_stays(
    segwithu: Command, tiny: Path, data_folder: Path, small_disk: Path, tmp_path: Path
) -> None:
    """The disk fills up in one file after the other; with room for all of them the same run succeeds."""
    case = real_image(data_folder)
    assert segwithu.segment(case, "--include-image", model=tiny, output=tmp_path / "roomy").code == 0
    need = _size_kb(tmp_path / "roomy" / "hippocampus_319")
    assert need < DISK_KB
    for free in (0, 4, 12, need // 4, need // 2, need - 60, need - 28, need - 8):
        leave(small_disk, free)
        outcome = segwithu.segment(case, "--include-image", model=tiny, output=small_disk / "results")
        sentence = one_sentence(outcome, "Cannot write")
        assert "space" in sentence or "disk is full" in sentence, f"{free} kB free: {sentence}"
        assert str(small_disk / "results" / "hippocampus_319") in sentence, f"{free} kB free: {sentence}"
        assert [name for name in entries(small_disk) if name not in ("ballast", "results")] == []
    leave(small_disk, need + 32)
    assert segwithu.segment(case, "--include-image", model=tiny, output=small_disk / "results").code == 0
    for path in (tmp_path / "roomy" / "hippocampus_319").glob("*.nii.gz"):
        stored = sitk.ReadImage(str(small_disk / "results" / "hippocampus_319" / path.name))
        assert sitk.Hash(stored) == sitk.Hash(sitk.ReadImage(str(path)))


def test_volume_that_was_cut_short_is_noticed_although_there_is_room_again(
    segwithu: Command, tiny: Path, data_folder: Path, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The NIfTI library reports no error; another program frees the disk before the next file is written."""
    facts = case_writer.case_facts

    def with_room_again(*arguments: Any) -> dict[str, Any]:
        (small_disk / "ballast").unlink()
        return facts(*arguments)

    assert segwithu.segment(real_image(data_folder), model=tiny, output=tmp_path / "roomy").code == 0
    for later in ("case.json", "structures.csv", "preview.png"):
        (tmp_path / "roomy" / "hippocampus_319" / later).unlink()
    monkeypatch.setattr(case_writer, "case_facts", with_room_again)
    leave(
        small_disk, _size_kb(tmp_path / "roomy" / "hippocampus_319") - 8
    )  # the last volume, that of the regions, gets no end
    outcome = segwithu.segment(real_image(data_folder), model=tiny, output=small_disk / "results")
    one_sentence(outcome, str(small_disk / "results" / "hippocampus_319"), "the disk is full")
    assert entries(small_disk / "results") == []


def test_overwriting_on_a_full_disk_keeps_the_old_case(
    segwithu: Command, tiny: Path, data_folder: Path, small_disk: Path, tmp_path: Path
) -> None:
    case = write(sitk.ReadImage(str(real_image(data_folder))), tmp_path / "case.nii.gz")
    old = small_disk / "results" / "case" / "notes.txt"
    old.parent.mkdir(parents=True)
    old.write_text("mine")
    leave(small_disk, 40)
    one_sentence(segwithu.segment(case, "--overwrite", model=tiny, output=small_disk / "results"), "Cannot write")
    assert entries(small_disk / "results") == ["case", "case/notes.txt"]
    assert old.read_text() == "mine"


def test_disk_mounted_read_only_is_named(segwithu: Command, tiny: Path, data_folder: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outcome = segwithu.segment(real_image(data_folder), model=tiny, output=small_disk / "results")
    one_sentence(outcome, str(small_disk))
    assert entries(small_disk) == []
