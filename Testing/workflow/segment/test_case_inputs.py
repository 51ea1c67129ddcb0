"""What an argument of `segment` may be: a file, a DICOM series, a folder in nnU-Net naming; and what comes of it."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_kills import OVERVIEW
from dicom_phantoms import SERIES, write_series
from segwithu_command import Command, Outcome, entries, one_sentence, real_image, tiny_bundle, write

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.io.inputs import case_name, cases_in, find_input
from SegWithUCore.io.volume import read_image
from SegWithUCore.util.errors import InputError

VOLUMES = ("segmentation", "calibration", "ranking", "error_probability")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "pair", channels=("FLAIR", "T1c"))


@pytest.fixture(scope="module")
def glioma(data_folder: Path) -> tuple[sitk.Image, sitk.Image]:
    """Two channels of one place, 24 x 28 x 20 voxels, z-scored, one with another contrast than the other."""
    t1c = sitk.Normalize(sitk.Cast(sitk.ReadImage(str(real_image(data_folder))), sitk.sitkFloat32))
    return sitk.Abs(t1c)[4:28, 10:38, 7:27], t1c[4:28, 10:38, 7:27]


def _volumes(folder: Path) -> dict[str, np.ndarray]:
    return {name: sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz"))) for name in VOLUMES}


def _assert_same_volumes(a: Path, b: Path) -> None:
    first, second = _volumes(a), _volumes(b)
    for name in VOLUMES:
        assert np.array_equal(first[name], second[name]), name


def _channels(case_folder: Path) -> list[dict[str, str]]:
    facts = json.loads((case_folder / "case.json").read_text(encoding="utf-8"))
    return list(facts["input"]["channels"])


def _touch(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("liver.nii.gz", "liver"),
        ("liver_0000.nii.gz", "liver"),
        ("LIVER_0000.NRRD", "LIVER"),
        ("LIVER_0001.NRRD", "LIVER_0001"),
        ("la_003_0000.mha", "la_003"),
        ("_0000.nii", "_0000"),
        ("liver_000.nii", "liver_000"),
        ("1.2.840.dcm", "1.2.840.dcm"),
        ("Größe 1.nii.gz", "Größe 1"),
    ],
)
def test_name_of_a_case_is_its_file_name_without_suffix_and_channel_number(name: str, case: str) -> None:
    assert case_name(Path(name)) == case


def test_folder_in_nnunet_naming_is_many_cases(tmp_path: Path) -> None:
    names = ["b_0000.nii.gz", "b_0001.nii.gz", "a_0001.nrrd", "a_0000.nrrd", "dataset.json", ".b_0002.nii.gz"]
    given = find_input(_touch(tmp_path / "imagesTs", names))
    assert given.kind.startswith("2 cases of 2 channels in nnU-Net naming; left out: ")
    assert given.kind.endswith(" (.b_0002.nii.gz)")
    assert [case.name for case in given.cases] == ["a", "b"]
    assert [file.name for _, file in sorted(given.cases[0].numbered.items())] == ["a_0000.nrrd", "a_0001.nrrd"]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["a_0000.mha"], "1 case of 1 channel in nnU-Net naming"),
        (["a_0000.nii", "b_0000.nii", "b_0001.nii"], "2 cases of 1 to 2 channels in nnU-Net naming"),
        (
            ["a_0000.nii", "mask.nii"],
            "1 case of 1 channel in nnU-Net naming; left out: 1 without a channel number or in subfolders (mask.nii)",
        ),
    ],
)
def test_kind_of_a_folder_is_said_in_words(names: list[str], kind: str, tmp_path: Path) -> None:
    assert find_input(_touch(tmp_path / "folder", names)).kind == kind


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([], "no-image"),
        (["notes.txt"], "no-image"),
        (["b.nii.gz", "a.nrrd"], "no-image"),
        (["case.json", "ranking.nii.gz"], "no-image"),
        (["a_0000.nii.gz", "a_0000.nrrd"], "unusable-input"),
    ],
)
def test_folder_that_is_neither_is_explained(names: list[str], code: str, tmp_path: Path) -> None:
    folder = _touch(tmp_path / "folder", names)
    with pytest.raises(InputError) as caught:
        find_input(folder)
    assert str(folder) in str(caught.value) and caught.value.code == code


def test_folder_of_folders_names_those_with_images(tmp_path: Path) -> None:
    _touch(tmp_path / "imagesTr", ["a_0000.nii.gz"])
    _touch(tmp_path / "texts", ["a.txt"])
    with pytest.raises(InputError, match=r"imagesTr"):
        find_input(tmp_path)


def test_folder_of_cases_is_every_image_and_folder_in_it(glioma: tuple[sitk.Image, ...], tmp_path: Path) -> None:
    folder = _touch(tmp_path / "study", ["b.nii.gz", "a.nrrd", "notes.txt", ".hidden.nii", "p.hdr"])
    write_series(_whole(glioma[0]), folder / "series")
    _touch(folder / ".git", ["a.nii"])
    assert [place.name for place in cases_in(folder).paths] == ["a.nrrd", "b.nii.gz", "p.hdr", "series"]
    assert cases_in(folder / "series").paths == [folder / "series"]
    numbered = _touch(tmp_path / "imagesTs", ["a_0000.nii.gz", "a_0001.nii.gz"])
    assert cases_in(numbered).paths == [numbered]
    empty = _touch(tmp_path / "empty", [])
    assert cases_in(empty).paths == [empty], "find_input says what is wrong with it"


def test_folder_with_dicom_and_nnunet_files_is_refused(glioma: tuple[sitk.Image, ...], tmp_path: Path) -> None:
    write_series(_whole(glioma[0]), tmp_path)
    _touch(tmp_path, ["a_0000.nii.gz"])
    with pytest.raises(InputError, match=r"a_0000\.nii\.gz.*mixed-folder"):
        find_input(tmp_path)


def test_dicom_files_named_like_nnunet_channels_are_a_series(glioma: tuple[sitk.Image, ...], tmp_path: Path) -> None:
    for number, file in enumerate(write_series(_whole(glioma[0]), tmp_path / "series")):
        file.rename(file.with_name(f"slice_{number:04d}.img"))
    assert find_input(tmp_path / "series").kind == "DICOM series, 20 slices"


def _whole(image: sitk.Image) -> sitk.Image:
    """Whole numbers, as DICOM stores them."""
    return sitk.Cast(image * 100, sitk.sitkInt16)


def _kinds(outcome: Outcome) -> list[str]:
    return [line for line in outcome.messages if "nnU-Net naming" in line or "DICOM" in line]


def test_two_channels_by_option_and_in_nnunet_naming_give_identical_voxels(
    glioma: tuple[sitk.Image, ...], segwithu: Command, pair: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    flair, t1c = (
        write(image, tmp_path / name) for image, name in zip(glioma, ("flair.nii.gz", "t1c.nrrd"), strict=True)
    )
    assert segwithu.segment(flair, "--channel", f"T1c={t1c}", model=pair, output=output).code == 0
    for name in ("one", "two"):
        write(glioma[0], tmp_path / "imagesTs" / f"{name}_0000.nii.gz")
        write(glioma[1], tmp_path / "imagesTs" / f"{name}_0001.nii.gz")
    outcome = segwithu.segment(tmp_path / "imagesTs", model=pair, output=output)
    assert outcome.code == 0
    assert _kinds(outcome) == [f"{tmp_path / 'imagesTs'}: 2 cases of 2 channels in nnU-Net naming."]
    for name in ("one", "two"):
        _assert_same_volumes(output / "flair", output / name)
    channels = _channels(output / "one")
    assert [channel["name"] for channel in channels] == ["FLAIR", "T1c"]
    assert [channel["file"] for channel in channels] == [f"../../imagesTs/one_000{n}.nii.gz" for n in (0, 1)]
    assert [channel["voxels_sha256"] for channel in channels] == [voxel_hash(read_image(file)) for file in (flair, t1c)]


def test_channels_that_are_exchanged_give_another_result(
    glioma: tuple[sitk.Image, ...], segwithu: Command, pair: Path, tmp_path: Path
) -> None:
    """Else the tests of equality above would prove nothing."""
    for name, order in (("right", (0, 1)), ("wrong", (1, 0))):
        for number, channel in enumerate(order):
            write(glioma[channel], tmp_path / "cases" / f"{name}_{number:04d}.nii.gz")
    assert segwithu.segment(tmp_path / "cases", model=pair, output=tmp_path).code == 0
    results = [_volumes(tmp_path / name)["ranking"] for name in ("right", "wrong")]
    assert not np.allclose(*results, atol=1e-3)


def test_case_with_other_channels_than_the_model_does_not_stop_the_others(
    glioma: tuple[sitk.Image, ...], segwithu: Command, pair: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "cases", tmp_path / "results"
    for name in ("good_0000", "good_0001", "gap_0000", "gap_0002", "few_0000"):
        write(glioma[0], folder / f"{name}.nii.gz")
    outcome = segwithu.segment(folder, model=pair, output=output)
    assert outcome.code == 1
    told = [line for line in outcome.messages if line.startswith("segwithu: ")]
    assert "Case 'few' in" in told[0]
    assert "channel(s) 0000, but the model wants 0000 FLAIR, 0001 T1c" in told[0]
    assert "Case 'gap' in" in told[1]
    assert "channel(s) 0000, 0002, but" in told[1]
    assert told[2].startswith("segwithu: 2 of 3 cases failed")
    assert [name for name in entries(output) if "/" not in name] == ["failed.csv", "good", *OVERVIEW]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image[:, :, 1:],
        lambda image: _with(image, spacing=(1, 1, 1.5)),
        lambda image: _with(image, origin=(3, 4, 0)),
        lambda image: _with(image, direction=(0, -1, 0, 1, 0, 0, 0, 0, 1)),
        lambda image: _with(image, direction=(0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)),
    ],
    ids=["size", "spacing", "origin", "axes", "turned"],
)
def test_channel_on_another_grid_is_refused_with_both_grids(
    change: object, glioma: tuple[sitk.Image, ...], segwithu: Command, pair: Path, tmp_path: Path
) -> None:
    flair = write(_with(glioma[0], origin=(0, 0, 0)), tmp_path / "flair.nrrd")
    t1c = write(change(_with(glioma[1], origin=(0, 0, 0))), tmp_path / "t1c.nrrd")  # type: ignore[operator]
    outcome = segwithu.segment(flair, "--channel", f"T1c={t1c}", model=pair, output=tmp_path / "results")
    one_sentence(outcome, f"{t1c} is not on the grid of {flair} (")
    assert outcome.error_codes == ["other-grid"]
    first, second = outcome.err.partition("(")[2].split(" instead of ")
    assert first != second.partition(")")[0]


def _with(image: sitk.Image, **geometry: Sequence[float]) -> sitk.Image:
    changed = sitk.Image(image)
    for name, values in geometry.items():
        getattr(changed, f"Set{name.capitalize()}")([float(v) for v in values])
    return changed


def test_dicom_series_gives_what_the_same_volume_gives_from_a_file(
    data_folder: Path, segwithu: Command, tiny: Path, tmp_path: Path
) -> None:
    """A crop of 33 sagittal slices, stored as whole numbers."""
    image = sitk.PermuteAxes(sitk.Cast(sitk.ReadImage(str(real_image(data_folder))), sitk.sitkInt16), (1, 2, 0))
    folder, output = tmp_path / "1.2.840 Schläfe", tmp_path / "results"
    write_series(image, folder, scale=lambda number: (1.0, 0.0))
    outcome = segwithu.segment(folder, write(image, tmp_path / "file.nii.gz"), model=tiny, output=output)
    assert outcome.code == 0
    assert _kinds(outcome) == [f"{folder}: DICOM series, 33 slices."]
    _assert_same_volumes(output / folder.name, output / "file")
    (from_dicom,), (from_file,) = _channels(output / folder.name), _channels(output / "file")
    assert from_dicom["file"] == "../../1.2.840 Schläfe"
    assert from_dicom["voxels_sha256"] == from_file["voxels_sha256"]


def test_series_of_one_study_are_channels_by_the_end_of_their_uid(
    glioma: tuple[sitk.Image, ...], segwithu: Command, pair: Path, tmp_path: Path
) -> None:
    study, output = tmp_path / "study", tmp_path / "results"
    whole = [_whole(image) for image in glioma]
    for image, uid in zip(whole, (".11", ".12"), strict=True):
        write_series(image, study, SERIES + uid, scale=lambda number: (1.0, 0.0))
    call = (study, "--series", ".11", "--channel", f"T1c={study}", "--series", "T1c=.12")
    assert segwithu.segment(*call, model=pair, output=output).code == 0
    for number, image in enumerate(whole):
        write(image, tmp_path / "cases" / f"case_{number:04d}.nii.gz")
    assert segwithu.segment(tmp_path / "cases", model=pair, output=output).code == 0
    _assert_same_volumes(output / "study", output / "case")
    unchosen = segwithu.segment(study, "--overwrite", "--channel", f"T1c={study}", model=pair, output=output)
    assert unchosen.code == 1
    assert "holds 2 series" in unchosen.messages[-1]


def test_unusable_folder_does_not_stop_the_others(data_folder: Path, segwithu: Command, tiny: Path,
                                                  tmp_path: Path) -> None:  # fmt: skip
    empty, output = _touch(tmp_path / "empty", []), tmp_path / "results"
    outcome = segwithu.segment(empty, real_image(data_folder), model=tiny, output=output)
    assert outcome.code == 1
    assert f"{empty} holds no DICOM series" in outcome.errors[0]
    assert outcome.errors[1].startswith("segwithu: 1 of 2 cases failed")
    assert [name for name in entries(output) if "/" not in name] == ["failed.csv", "hippocampus_319", *OVERVIEW]


def test_series_with_a_gap_fails_and_the_others_go_on(data_folder: Path, segwithu: Command, tiny: Path,
                                                      tmp_path: Path) -> None:  # fmt: skip
    image = sitk.Cast(sitk.ReadImage(str(real_image(data_folder))), sitk.sitkInt16)
    write_series(image, tmp_path / "gap", skip=[7])
    output = tmp_path / "results"
    outcome = segwithu.segment(tmp_path / "gap", real_image(data_folder), model=tiny, output=output)
    assert outcome.code == 1
    assert [line for line in outcome.messages if "S = 7.00 mm" in line and "no-even-grid" in line]
    assert [name for name in entries(output) if "/" not in name] == ["failed.csv", "hippocampus_319", *OVERVIEW]


def test_equal_names_of_file_and_folder_are_refused(glioma: tuple[sitk.Image, ...], segwithu: Command, tiny: Path,
                                                    tmp_path: Path) -> None:  # fmt: skip
    _touch(tmp_path / "cases", ["glioma_0000.nii.gz"])
    outcome = segwithu.segment(tmp_path / "cases", tmp_path / "Glioma.nrrd", model=tiny, output=tmp_path / "results")
    assert outcome.code == 2
    assert "Two cases would both be named 'glioma'" in outcome.messages[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--channel", "T1c={file}"], "cannot be combined with"),
        (["--series", "1.2"], "cannot be combined with"),
        (["--name", "x"], "cannot be combined with"),
    ],
)
def test_options_of_one_image_do_not_go_with_a_folder_of_cases(
    options: list[str], words: str, segwithu: Command, pair: Path, tmp_path: Path
) -> None:
    folder = _touch(tmp_path / "cases", ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"])
    outcome = segwithu.segment(folder, *options, model=pair, output=tmp_path / "results")
    assert outcome.code == 2
    assert words in outcome.messages[-1]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--series", "1.2"], ("is not a folder of DICOM files", "--series 1.2")),
        (["--series", "T2=1.2"], ("--series T2=1.2", "NAME=UID", "FLAIR, T1c")),
        (["--series", "1.2", "--series", "1.3"], ("--series FLAIR=1.3", "once for each of")),
    ],
)
def test_wrong_series_option_is_named(
    options: list[str], words: tuple[str, ...], data_folder: Path, segwithu: Command, pair: Path, tmp_path: Path
) -> None:
    outcome = segwithu.segment(real_image(data_folder), *options, model=pair, output=tmp_path / "results")
    one_sentence(outcome, *words, code=2)


def test_one_dicom_file_is_refused_by_the_command(glioma: tuple[sitk.Image, ...], segwithu: Command, tiny: Path,
                                                  tmp_path: Path) -> None:  # fmt: skip
    file = write_series(_whole(glioma[0]), tmp_path / "series")[0]
    shutil.copy(file, tmp_path / "slice.dcm")
    outcome = segwithu.segment(tmp_path / "slice.dcm", model=tiny, output=tmp_path / "results")
    one_sentence(outcome, "slice.dcm is one DICOM file", "folder that holds the whole series")
