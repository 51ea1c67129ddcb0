"""Images read in a child process: the same bits, the same words, and no file that ends more than the child."""

import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from reader_deaths import deadly_names
from repository import ROOT
from segwithu_command import PATIENCE_S, child, finished, one_sentence, real_image, tiny_bundle, write

from SegWithUCore import load_model, segment_image
from SegWithUCore.io import nifti, reader_process
from SegWithUCore.io.input_reader import IN_THIS_PROCESS
from SegWithUCore.io.reader_process import ReaderEndedError, ReaderProcess, ReaderStartError
from SegWithUCore.util.errors import InputError

ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX knows them")
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def reader() -> Iterator[ReaderProcess]:
    with ReaderProcess() as process:
        yield process


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended (a zombie whose parent is init's may stay for a while)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_same(one: sitk.Image, other: sitk.Image) -> None:
    for image_property in ("GetPixelID", "GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetMetaDataKeys"):
        assert getattr(one, image_property)() == getattr(other, image_property)(), image_property
    assert all(one.GetMetaData(key) == other.GetMetaData(key) for key in one.GetMetaDataKeys())
    np.testing.assert_array_equal(*(sitk.GetArrayViewFromImage(image).view("u4") for image in (one, other)))


def test_an_image_is_bit_by_bit_what_reading_in_this_process_gives(
    reader: ReaderProcess, data_folder: Path, dicom_cases: Path, tmp_path: Path
) -> None:
    oblique = sitk.Cast(sitk.ReadImage(str(real_image(data_folder))), sitk.sitkFloat64)
    oblique = sitk.ShiftScale(oblique, 0.1, 1 / 3)
    oblique.SetSpacing([0.1, 1 / 3, np.nextafter(2, 3)])
    oblique.SetOrigin([1e-17, -2 / 3, 1e3 + 1 / 7])
    oblique.SetDirection([0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1])
    series = dicom_cases / "series" / "oblique"
    places = [real_image(data_folder), write(oblique, tmp_path / "a.nrrd"), write(oblique, tmp_path / "a.mha"), series]
    noise = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(160, 160, 160)).astype(np.float32))
    places.append(write(noise, tmp_path / "noise.nrrd", False))  # so large that its freed memory is not there any more
    pids = set()
    for place in places:
        assert_same(reader.read(place).image, IN_THIS_PROCESS.read(place).image)
        pids.add(reader.pid)
    assert len(pids) == 1, "one process for all"
    header = reader.header(places[1])
    assert header == replace(IN_THIS_PROCESS.header(places[1]), source=header.source)
    assert_same(reader.read(places[1], None, header).image, reader.read(places[1]).image)
    assert reader.folder_words(series) == IN_THIS_PROCESS.folder_words(series)
    assert [reader.is_dicom(path) for path in (places[0], next(series.iterdir()))] == [False, True]


def test_a_header_is_read_once_a_job(
    tiny: Path, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a region of interest and a form, which ask for both places of the file."""
    read: list[Path] = []
    parsed = nifti._Header.parsed

    def counted(path: Path, *rest: Any) -> nifti._Header:
        read.append(path)
        return parsed(path, *rest)

    monkeypatch.setattr(nifti._Header, "parsed", counted)
    image = real_image(data_folder)
    model = load_model(tiny)
    for form in (None, "sform"):
        segment_image(image, model, roi=(20, 25, 15, 24, 24, 24), unlike_training=True, form=form)
    assert read == [image, image]


def test_refusals_are_passed_on_word_for_word(reader: ReaderProcess, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("no image")
    nothing = sitk.ReadImage(str(real_image(data_folder))) * 0
    for place in (tmp_path / "missing.nrrd", tmp_path, tmp_path / "text.nii.gz", write(nothing, tmp_path / "0.mha")):
        words = []
        for one in (reader, IN_THIS_PROCESS):
            with pytest.raises(InputError) as caught:
                one.read(place)
            words.append((type(caught.value), str(caught.value)))
        assert words[0] == words[1]


@ON_POSIX
def test_a_file_that_ends_the_process_is_named_and_the_next_one_is_read(
    reader: ReaderProcess, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly_names(tmp_path / "hook", monkeypatch)
    for name, cure in (("SIGSEGV", "damaged"), ("SIGABRT", "damaged"), ("SIGKILL", "memory runs out")):
        deadly = tmp_path / f"ends-{name}.nii.gz"
        shutil.copy(real_image(data_folder), deadly)
        with pytest.raises(ReaderEndedError) as caught:
            reader.read(deadly)
        for word in (f"Reading {deadly} ended the reading process ({name}): ", cure):
            assert word in str(caught.value)
        assert not reader.is_dicom(deadly), "its reading, later, tells"
        assert reader.read(real_image(data_folder)).image.GetSize() == (35, 51, 35)


@ON_LINUX
def test_one_that_was_killed_while_it_had_nothing_to_do_is_replaced(reader: ReaderProcess, data_folder: Path) -> None:
    reader.read(real_image(data_folder))
    assert reader.pid is not None
    first = reader.pid
    assert "libtorch" not in Path(f"/proc/{first}/maps").read_text(encoding="utf-8")
    assert Path(f"/proc/{first}/oom_score_adj").read_text() == "1000\n"
    os.kill(first, signal.SIGKILL)
    child = reader._child  # a zombie is waited for only when its last thread is gone, which /proc does not tell
    assert child is not None
    until(lambda: not child.lives)
    reader.read(real_image(data_folder))
    assert reader.pid != first


@ON_LINUX
def test_what_is_not_read_in_time_is_given_up(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly_names(tmp_path / "hook", monkeypatch)
    shutil.copy(real_image(data_folder), tmp_path / "hangs-1.nii.gz")
    with ReaderProcess(limit_s=1.0) as reader:
        reader.start()
        first = reader.pid
        assert first is not None
        with pytest.raises(ReaderEndedError, match=r"hangs-1\.nii\.gz was not read within 0 min: check the disk"):
            reader.read(tmp_path / "hangs-1.nii.gz")
        assert not lives(first)


@ON_LINUX
def test_it_ends_with_its_parent_even_while_it_reads(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = deadly_names(tmp_path / "hook", monkeypatch)
    shutil.copy(real_image(data_folder), tmp_path / "hangs-1.nii.gz")
    code = (
        "import sys; from pathlib import Path; from SegWithUCore.io.reader_process import ReaderProcess; "
        "reader = ReaderProcess(); reader.start(); print(reader.pid, flush=True); reader.read(Path(sys.argv[1]))"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "hangs-1.nii.gz")]
    parent = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    until(hangs.exists)
    assert lives(pid)
    parent.kill()
    parent.communicate()
    until(lambda: not lives(pid))


@pytest.mark.slow
@ON_LINUX
def test_ctrl_c_while_a_file_hangs_ends_both_with_one_sentence(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = deadly_names(tmp_path / "hook", monkeypatch)
    shutil.copy(real_image(data_folder), tmp_path / "hangs-1.nii.gz")
    model = tiny_bundle(tmp_path / "models" / "tiny")
    process = child(
        "segment",
        tmp_path / "hangs-1.nii.gz",
        "--model",
        model,
        "--output",
        tmp_path / "out",
        start_new_session=True,
    )
    until(hangs.exists)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to both
    outcome = finished(process, within_s=PATIENCE_S)
    one_sentence(outcome, "cancelled", code=130)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_nothing_is_imported_from_the_current_folder(
    reader: ReaderProcess, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "SimpleITK", "SegWithUCore", "json"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}.{os.pathsep}")
    image = real_image(data_folder).resolve()
    monkeypatch.chdir(tmp_path)
    assert reader.read(image).image.GetSize() == (35, 51, 35)


def test_a_python_in_which_it_does_not_start_is_told_in_one_sentence(
    reader: ReaderProcess, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "SimpleITK.py").write_text("raise ImportError('half installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ReaderStartError, match=r"does not start \(exit code 1; ImportError: half installed\)"):
        reader.read(real_image(data_folder))


def test_the_voxels_are_let_go_with_the_image(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that waits for the next answer held them: 0.6 GB of 512 x 512 x 600 during the whole run."""
    made: list[weakref.ref[np.ndarray]] = []
    empty = np.empty

    class Followed(np.ndarray):
        """Can be referred to weakly."""

    def followed(*arguments: Any) -> np.ndarray:
        voxels = empty(*arguments).view(Followed)
        made.append(weakref.ref(voxels))
        return voxels

    with ReaderProcess() as reader:
        monkeypatch.setattr(reader_process.np, "empty", followed)
        image = reader.read(real_image(data_folder)).image
        monkeypatch.undo()
        assert image.GetNumberOfPixels() > 1
        del image
        until(lambda: made[0]() is None)
