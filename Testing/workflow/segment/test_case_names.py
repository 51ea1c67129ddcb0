"""Four digits at the end of a file name are a channel in nnU-Net naming only, and part of the case's name elsewhere.

Each call is what a user types; the same function names cases for every command.
"""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import SimpleITK as sitk
from segwithu_command import Command, Outcome, real_image, refused, tiny_bundle, write

from SegWithUCore.io.inputs import channel_of, find_input
from SegWithUCore.util.errors import InputError
from SegWithULab.training.dataset import find_cases

WHOLE_NAMES = ["brain_1003", "patient001_frame01", "scan_2019", "sub-1001"]
BRAINS = [f"brain_{number}" for number in range(1003, 1011)]


@pytest.fixture(scope="module")
def small(data_folder: Path) -> sitk.Image:
    """A corner of a real image: here only names matter."""
    return sitk.ReadImage(str(real_image(data_folder)))[:16, :16, :16]


def _folder(image: sitk.Image, folder: Path, names: Sequence[str]) -> Path:
    first = write(image, folder / f"{names[0]}.nii.gz")
    for name in names[1:]:
        shutil.copy(first, folder / f"{name}.nii.gz")
    return folder


def _made(output: Path) -> list[str]:
    """The case folders, each with the name that its case has inside."""
    folders = sorted(path.parent for path in output.glob("*/case.json"))
    for folder in folders:
        assert json.loads((folder / "case.json").read_text(encoding="utf-8"))["name"] == folder.name
    return [folder.name for folder in folders]


def test_files_with_numbers_at_the_end_keep_their_whole_names(
    small: sitk.Image, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    files = sorted(_folder(small, tmp_path / "scans", WHOLE_NAMES).iterdir())
    assert segwithu.segment(*files, model=tiny, output=tmp_path / "several").code == 0
    assert _made(tmp_path / "several") == WHOLE_NAMES
    assert segwithu.segment(files[0], model=tiny, output=tmp_path / "one").code == 0
    assert _made(tmp_path / "one") == ["brain_1003"]


@pytest.mark.parametrize("way", ["files", "each"])
def test_heads_with_four_digits_are_cases_of_their_own(
    way: str, small: sitk.Image, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    folder = _folder(small, tmp_path / "cohort", BRAINS)
    given = sorted(folder.iterdir()) if way == "files" else [folder, "--each"]
    assert segwithu.segment(*given, model=tiny, output=tmp_path / "results").code == 0
    assert _made(tmp_path / "results") == BRAINS
    with (tmp_path / "results" / "structures.csv").open(encoding="utf-8", newline="") as file:
        assert {row["case"] for row in csv.DictReader(file)} == set(BRAINS)


def test_folder_of_heads_without_each_is_refused_and_checked_as_images(
    small: sitk.Image, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    folder = _folder(small, tmp_path / "cohort", BRAINS)
    refused(segwithu.segment(folder, model=tiny, output=tmp_path / "results"), "no-image", folder, "--each")
    assert segwithu("check", folder, "--json").code == 0
    assert len({event["source"] for event in segwithu("check", folder, "--json").events if "source" in event}) == len(
        BRAINS
    )


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("folder_name", ["imagesTs", "scans"])
def test_nnunet_folder_is_one_case_for_each_name(
    folder_name: str, channels: int, small: sitk.Image, segwithu: Command, tmp_path: Path
) -> None:
    model = tiny_bundle(tmp_path / "model", channels=[f"C{number}" for number in range(channels)])
    names = [f"{name}_{number:04d}" for name in ("brain_1003", "scan") for number in range(channels)]
    folder = _folder(small, tmp_path / folder_name, names)
    for number, given in enumerate(([folder], [folder, "--each"])):
        assert segwithu.segment(*given, model=model, output=tmp_path / str(number)).code == 0
        assert _made(tmp_path / str(number)) == ["brain_1003", "scan"]
    facts = json.loads((tmp_path / "0" / "scan" / "case.json").read_text(encoding="utf-8"))
    assert [Path(each["file"]).name for each in facts["input"]["channels"]] == [
        f"scan_{number:04d}.nii.gz" for number in range(channels)
    ]
    files = segwithu.segment(*sorted(folder.iterdir()), model=model, output=tmp_path / "files")
    if channels == 1:
        assert files.code == 0
        assert _made(tmp_path / "files") == ["brain_1003", "scan"]
    else:
        refused(files, "wrong-usage", "brain_1003_0000.nii.gz", "brain_1003_0001.nii.gz", code=2)
        assert not (tmp_path / "files").exists()


def _failed(outcome: Outcome, output: Path) -> dict[str, str]:
    assert outcome.code == 1
    with (output / "failed.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("each", [[], ["--each"]], ids=["folder", "each"])
def test_no_file_of_an_ambiguous_folder_is_dropped_or_given_anothers_name(
    each: list[str], small: sitk.Image, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    """One head is called as if the others were its channels; one has four digits and no channel 0000."""
    folder, output = _folder(small, tmp_path / "f", ["brain_0000", "brain_1003", "ok_0000", "q_0001"]), tmp_path / "r"
    failed = _failed(segwithu.segment(folder, *each, model=tiny, output=output), output)
    assert list(failed) == ["brain"] and "0000, 1003" in failed["brain"] and "[other-channels]" in failed["brain"]
    assert _made(output) == ["ok", "q_0001"]


def test_case_without_one_of_its_channels_is_refused(small: sitk.Image, segwithu: Command, tmp_path: Path) -> None:
    model, output = tiny_bundle(tmp_path / "model", channels=("FLAIR", "T1c")), tmp_path / "results"
    for name, names in {"scans": ["a_0000", "ok_0000", "ok_0001", "z_0001"], "imagesTr": ["z_0001", "ok_0000"]}.items():
        _folder(small, tmp_path / name, names)
    outcome = segwithu.segment(tmp_path / "scans", model=model, output=output)
    failed = _failed(outcome, output)
    assert sorted(failed) == ["a", "z_0001"]
    assert all("[other-channels]" in reason for reason in failed.values())
    assert _made(output) == ["ok"]
    failed = _failed(segwithu.segment(tmp_path / "imagesTr", model=model, output=output), output)
    assert sorted(failed) == ["ok", "z"] and all("[other-channels]" in reason for reason in failed.values())


@pytest.mark.parametrize(
    ("beside", "channel"),
    [
        ([], None),
        (["scan_0000.nii.gz"], ("scan", 1)),
        (["scan_0000.nrrd"], ("scan", 1)),
        (["scan_0002.nii.gz", "scan.nii.gz", "other_0000.nii.gz", "scan_0000.json"], None),
        (["dataset.json"], ("scan", 1)),
        (["dataset_description.json"], None),
    ],
)
def test_what_lies_next_to_a_file_decides(
    beside: list[str], channel: tuple[str, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*beside, "scan_0001.nii.gz"]:
        (tmp_path / name).touch()
    assert channel_of(tmp_path / "scan_0001.nii.gz") == channel
    monkeypatch.chdir(tmp_path)
    assert channel_of(Path("scan_0001.nii.gz")) == channel, "a relative path is no other file"
    assert [case.name for case in find_input(Path("scan_0001.nii.gz")).cases] == ["scan" if channel else "scan_0001"]


def test_judge_names_the_case_by_the_whole_file(
    data_folder: Path, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    image, mask = tmp_path / "images" / "brain_1003.nii.gz", tmp_path / "masks" / "brain_1003.nii.gz"
    for file, part in ((image, "images"), (mask, "labels")):
        file.parent.mkdir()
        shutil.copy(real_image(data_folder).parents[1] / part / real_image(data_folder).name, file)
    shutil.copy(image, image.with_name("brain_1004.nii.gz"))
    assert segwithu("judge", image, mask, "-m", tiny, "-o", tmp_path / "one").code == 0
    assert _made(tmp_path / "one") == ["brain_1003"]
    rows = [f"images/brain_{number}.nii.gz,masks/brain_1003.nii.gz" for number in (1003, 1004)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["image,mask", *rows]), encoding="utf-8")
    assert segwithu("judge", table, "-m", tiny, "-o", tmp_path / "both").code == 0
    assert _made(tmp_path / "both") == ["brain_1003", "brain_1004"]


@pytest.mark.parametrize("layout", ["plain", "nnunet"])
def test_references_are_matched_by_the_same_names(
    layout: str, data_folder: Path, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    """Measured from the data set's folder, and segmented by a table of it."""
    channel, parts = ("", ("images", "labels")) if layout == "plain" else ("_0000", ("imagesTr", "labelsTr"))
    for part, kind, end in zip(parts, ("images", "labels"), (channel, ""), strict=True):
        (tmp_path / "data" / part).mkdir(parents=True)
        for name, file in zip(
            ("brain_1003", "brain_1004"), sorted((data_folder / "hippocampus" / kind).iterdir()), strict=False
        ):
            shutil.copy(file, tmp_path / "data" / part / f"{name}{end}.nii.gz")
    found = tmp_path / "all.json"
    assert segwithu("evaluate", "-m", tiny, "--cases", tmp_path / "data", "-o", found).code == 0
    assert list(json.loads(found.read_text(encoding="utf-8"))["by_case"]) == ["brain_1003", "brain_1004"]
    table = tmp_path / "data" / "split.csv"
    table.write_text(f"case,role,images\nbrain_1003,test,{parts[0]}\nbrain_1004,train,{parts[0]}\n", encoding="utf-8")
    assert segwithu.segment(f"{table}:test", model=tiny, output=tmp_path / "results").code == 0
    assert _made(tmp_path / "results") == ["brain_1003"]


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["a_0000", "a_0002"], "other-channels"),
        (["a_0001"], "other-channels"),
        (["a", "a_0000"], "unusable-input"),
        (["a_0000", "a_0000.nrrd"], "unusable-input"),
    ],
)
def test_training_refuses_the_channels_that_segment_refuses(names: list[str], code: str, tmp_path: Path) -> None:
    for part, files in (("imagesTr", names), ("labelsTr", ["a"])):
        (tmp_path / part).mkdir()
        for name in files:
            (tmp_path / part / (name if "." in name else f"{name}.nii.gz")).touch()
    with pytest.raises(InputError) as error:
        find_cases(str(tmp_path))
    assert error.value.code == code and str(tmp_path / "imagesTr") in str(error.value)
