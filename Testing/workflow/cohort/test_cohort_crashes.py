"""One file, or one case, that ends processes costs a cohort that case and nothing else."""

import csv
import os
import shutil
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from cohort_kills import OVERVIEW
from segwithu_command import PATIENCE_S, Command, child, finished, real_image, refused, write

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_image import case_image

pytestmark = pytest.mark.slow

ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals, and file names of any bytes")
NAMES = ("a", "b", "c")


def failures(output: Path) -> dict[str, str]:
    """The reason of each case in `failed.csv`."""
    with (output / "failed.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: row["reason"] for row in csv.DictReader(file)}


def test_a_header_that_itk_does_not_survive_is_one_failed_case(
    data_folder: Path, tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    whole = write(sitk.ReadImage(str(real_image(data_folder))), tmp_path / "whole.mha", compressed=False)
    wrong = tmp_path / "abort.mha"
    wrong.write_bytes(whole.read_bytes().replace(b"NDims = 3", b"NDims = 99"))
    outcome = segwithu.segment(wrong, whole, model=tiny, output=tmp_path / "out")
    assert outcome.code == 1
    assert str(wrong) in outcome.messages[0]
    assert "unexpected" not in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["whole"]


@ON_LINUX
def test_names_that_are_no_utf8_are_read_and_written_as_in_urls(
    data_folder: Path, dicom_cases: Path, tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    study, output = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xc4rzte")), tmp_path / "out"
    odd = [study / os.fsdecode(name) for name in (b"M\xfcller.nii.gz", b"Zo\xeb")]
    study.mkdir()
    shutil.copy(real_image(data_folder), odd[0])
    shutil.copytree(dicom_cases / "series" / "axial", odd[1])
    first = min(odd[1].iterdir())
    first.rename(first.with_name(os.fsdecode(b"\xe91")))
    (study / os.fsdecode(b"bad\xff.nrrd")).write_text("no image")
    (study / "plain.nii.gz").symlink_to(real_image(data_folder))
    outcome = segwithu.segment(study, "--each", "--resume", model=tiny, output=output)
    assert "3 done, 0 there, 1 failed" in outcome.out, outcome.err
    shown = {name: str(tmp_path / "%C4rzte" / name) for name in ("bad%FF.nrrd", "M%FCller.nii.gz")}
    assert failures(output) == {"bad%FF": f"{shown['bad%FF.nrrd']} {failures(output)['bad%FF'].split(' ', 1)[1]}"}
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["M%FCller", "Zo%EB", "failed.csv", "plain", *OVERVIEW]
    )
    cases = [read_case(output / name) for name in ("M%FCller", "plain")]
    assert len({case["input"]["channels"][0]["voxels_sha256"] for case in cases}) == 1
    for place in (odd[0], None):
        assert case_image(output / "M%FCller", cases[0], place).GetSize() == (33, 48, 34)
    again = segwithu.segment(study, "--each", "--resume", model=tiny, output=output)
    assert "0 done, 3 there, 1 failed" in again.out
    refused(segwithu.segment(odd[0], model=tiny, output=study / "out"), "wrong-usage", "--output", code=2)


def test_names_that_no_case_folder_can_have_cost_their_own_cases_only(
    data_folder: Path, tiny: Path, segwithu: Command, tmp_path: Path
) -> None:
    study, output = tmp_path / "study", tmp_path / "out"
    study.mkdir()
    for name in ("same.nii.gz", "Same.nrrd", f"{'n' * 230}.nii.gz", "good.nii.gz"):
        shutil.copy(real_image(data_folder), study / name)
    outcome = segwithu.segment(study, "--each", "--resume", model=tiny, output=output)
    assert "1 done, 0 there, 3 failed" in outcome.out, outcome.err
    told = failures(output)
    assert "both be named 'same'" in told["same"]
    assert "both be named 'Same'" in told["Same"]
    assert "is too long" in told["n" * 230]
    assert all(reason.startswith(str(study)) for reason in told.values())


@ON_LINUX
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["words", "json"])
def test_a_terminal_that_knows_ascii_only_shows_names_of_any_bytes(
    options: tuple[str, ...], data_folder: Path, tiny: Path, tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"M\xfcller \xc3\xa9.nii.gz")
    odd.write_text("no image")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    arguments = [str(odd), str(real_image(data_folder)), "--model", str(tiny), "--output", str(tmp_path / "out")]
    process = child("segment", *arguments, *options, env=environment)
    outcome = finished(process, within_s=PATIENCE_S)
    assert outcome.code == 1
    assert (tmp_path / "out" / "hippocampus_319" / "case.json").is_file()
    if options:
        assert [event["text"] for event in outcome.events if event["event"] == "error"]
    else:
        assert "M%FCller" in outcome.messages[0]
    assert "Error" not in outcome.err
