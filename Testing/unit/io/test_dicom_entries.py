"""No slice of a series is left out in silence: links to nothing, pipes, hidden files, folders inside."""

import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import SimpleITK as sitk
from dicom_phantoms import SERIES, as_mr, write_series

from SegWithUCore.io import dicom_folder
from SegWithUCore.io.dicom_folder import scan_folder
from SegWithUCore.io.dicom_series import read_series
from SegWithUCore.util.errors import InputError

Act = Callable[[Path, Sequence[Path]], None]


@pytest.fixture
def files(data_folder: Path, tmp_path: Path) -> list[Path]:
    """A part of a real T1 crop as a series of 12 slices."""
    image = sitk.ReadImage(str(data_folder / "hippocampus" / "images" / "hippocampus_319.nii.gz"))[:, :, 10:22]
    return write_series(sitk.Cast(image, sitk.sitkInt16), tmp_path / "s", scale=lambda k: (1, 0), change=as_mr())


def _dangling(folder: Path, last: Sequence[Path]) -> None:
    for file in last:
        file.unlink()
        file.symlink_to(folder / ".git" / "annex" / file.name)


def _to_itself(folder: Path, last: Sequence[Path]) -> None:
    last[0].unlink()
    last[0].symlink_to(last[0].name)


def _pipe(folder: Path, last: Sequence[Path]) -> None:
    last[0].unlink()
    os.mkfifo(last[0])


def _socket(folder: Path, last: Sequence[Path]) -> None:
    last[0].unlink()
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(last[0]))  # its path may have 108 bytes only


@pytest.mark.skipif(os.name == "nt", reason="no such entries")
@pytest.mark.parametrize("act", [_dangling, _to_itself, _pipe, _socket])
def test_a_slice_that_cannot_be_opened_is_refused(act: Act, files: list[Path]) -> None:
    folder = files[0].parent
    act(folder, files[-3:])
    for read in (read_series, scan_folder):
        with pytest.raises(InputError) as caught:
            read(folder)
        assert caught.value.code == "entries-not-openable"
        assert files[-3].name in str(caught.value)


def _moved_to(place: str) -> Act:
    def act(folder: Path, last: Sequence[Path]) -> None:
        (folder / place).mkdir(parents=True)
        for file in last:
            file.rename(folder / place / file.name)

    return act


def _hidden(folder: Path, last: Sequence[Path]) -> None:
    for file in last:
        file.rename(file.with_name(f".{file.name}"))


def _behind_a_link(folder: Path, last: Sequence[Path]) -> None:
    _moved_to("../disc 2")(folder, last)
    (folder / "disc2").symlink_to(folder.parent / "disc 2")


@pytest.mark.parametrize("act", [_moved_to("disc2"), _moved_to("a/b/c"), _hidden, _behind_a_link])
def test_slices_that_lie_elsewhere_are_refused(act: Act, files: list[Path]) -> None:
    folder = files[0].parent
    act(folder, files[-3:])
    with pytest.raises(InputError) as caught:
        read_series(folder)
    assert caught.value.code == "slices-elsewhere"
    assert files[-3].name in str(caught.value)


def _copies(folder: Path, last: Sequence[Path]) -> None:
    shutil.copytree(folder, folder.parent / "copy")
    (folder.parent / "copy").rename(folder / "backup")


def _annexed(place: str) -> Act:
    def act(folder: Path, last: Sequence[Path]) -> None:
        _moved_to(place)(folder, last)
        for file in last:
            file.symlink_to(folder / place / file.name)

    return act


def _of_others(folder: Path, last: Sequence[Path]) -> None:
    (folder / ".DS_Store").write_bytes(bytes(500))
    (folder / f"._{last[0].name}").write_bytes(b"\0\5\x16\7" + bytes(500))
    (folder / "other").mkdir()
    content = last[0].read_bytes().replace(SERIES.encode(), f"{SERIES[:-1]}9".encode())
    (folder / "other" / "IM1").write_bytes(content)
    (folder / "other" / "to the top").symlink_to(folder)


@pytest.mark.parametrize(
    ("act", "left_out"),
    [
        (_copies, {"folder": 1}),
        (_annexed("objects"), {"folder": 1}),
        (_annexed(".git/annex"), {"hidden folder": 1}),
        (_of_others, {"hidden file": 2, "folder": 1}),
    ],
)
def test_what_is_no_further_slice_is_left_out_and_told(act: Act, left_out: object, files: list[Path]) -> None:
    folder = files[0].parent
    act(folder, files[-3:])
    assert scan_folder(folder).left_out == left_out
    assert read_series(folder).image.GetSize()[2] == 12
    assert read_series(folder).header.notes == ()


def test_each_series_of_a_study_is_read_where_it_lies(files: list[Path]) -> None:
    study = files[0].parent
    _moved_to("T1")(study, files[:12])
    shutil.copytree(study / "T1", study / "again")
    for name in ("T1", "again"):
        assert read_series(study / name).image.GetSize()[2] == 12


def test_a_note_says_where_the_search_ended(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files[0].parent
    (folder / "other").mkdir()
    for number in range(4):
        (folder / "other" / f"{number}.txt").write_bytes(bytes(200))
    monkeypatch.setattr(dicom_folder, "MOST_FILES", 4)
    assert read_series(folder).header.notes == ()
    monkeypatch.setattr(dicom_folder, "MOST_FILES", 3)
    assert read_series(folder).image.GetSize()[2] == 12
    assert len(read_series(folder).header.notes) == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_note_counts_links_to_nothing_in_folders_inside(files: list[Path]) -> None:
    folder = files[0].parent
    (folder / "other").mkdir()
    (folder / "other" / "IM1").symlink_to("nothing")
    assert read_series(folder).image.GetSize()[2] == 12
    assert len(read_series(folder).header.notes) == 1
