"""Whatever is wrong with a call: one clear sentence, the right exit code, and nothing half-written."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_kills import OVERVIEW
from segwithu_command import (
    SAMPLE,
    Command,
    changed_description,
    entries,
    one_sentence,
    real_image,
    tiny_bundle,
    write,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "pair", channels=("T1", "FLAIR"))


@pytest.fixture(scope="module")
def image(data_folder: Path) -> sitk.Image:
    return sitk.ReadImage(str(real_image(data_folder)))


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ([], ("wants T1, FLAIR", "--channel NAME=FILE"), 1),
        (
            ["--channel", "T1={image}", "--channel", "FLAIR={image}"],
            ("has no channel left", "hippocampus_319", "T1, FLAIR"),
            2,
        ),
        (["--channel", "T2={image}"], ("--channel T2=", "T1, FLAIR"), 2),
        (["--channel", "FLAIR"], ("--channel FLAIR", "NAME=FILE"), 2),
        (["--channel", "FLAIR={image}", "--channel", "FLAIR={image}"], ("--channel FLAIR=", "once for each of"), 2),
        (["--channel", "FLAIR=nowhere.nii.gz"], ("nowhere.nii.gz does not exist",), 1),
        (["--channel", f"FLAIR={SAMPLE}"], (SAMPLE.name, "is not on the grid of", "hippocampus_319"), 1),
    ],
    ids=["too few", "too many", "unknown", "no file", "twice", "missing file", "other grid"],
)
def test_wrong_channels_are_named(
    arguments: list[str], words: tuple[str, ...], code: int, segwithu: Command, pair: Path, data_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    case = real_image(data_folder)
    given = [argument.format(image=case) for argument in arguments]
    one_sentence(segwithu.segment(case, *given, model=pair, output=tmp_path / "results"), *words, code=code)
    assert not list((tmp_path / "results").glob("*"))


def test_channels_in_any_order_give_the_same(segwithu: Command, pair: Path, image: sitk.Image, tmp_path: Path) -> None:
    """What fails when channels are mixed up: the network sees one image in place of the other."""
    first = write(image, tmp_path / "first.nii.gz")
    second = write(sitk.Median(image), tmp_path / "second.nii.gz")
    for case, channel, name in ((first, f"FLAIR={second}", "a"), (second, f"T1={first}", "b")):
        call = (case, "--channel", channel, "--name", name)
        assert segwithu.segment(*call, model=pair, output=tmp_path / "results").code == 0
    maps = [sitk.ReadImage(str(tmp_path / "results" / name / "ranking.nii.gz")) for name in "ab"]
    assert np.array_equal(sitk.GetArrayFromImage(maps[0]), sitk.GetArrayFromImage(maps[1]))


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--device", "tpu"], ("'tpu'", "cpu"), 2),
        (["--head", "other"], ("'other'", "paper"), 1),
        (["--name", "a/b"], ("'a/b'", "--name"), 2),
        (["--name", ".."], ("'..'", "--name"), 2),
        (["--name", ""], ("''", "--name"), 2),
        (["--name", "n" * 300], ("nnn", "too long", "--name"), 2),
        (["--name", "a\0b"], ("--name", "NUL character"), 2),
        (["--name", "a\nb"], ("'a\\nb'", "--name"), 2),
        (["--name", "a\\b"], ("--name",), 2),
        (["--name", "Con.1"], ("'Con.1'", "Windows", "--name"), 2),
        (["--roi=1e300,0,0,9,9,9"], ("is not a region of interest",), 2),
        (["--roi=0,0,0,9,1e7,9"], ("is not a region of interest",), 2),
        (["--roi=0,0,0,9,inf,9"], ("'0,0,0,9,inf,9'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=1,2,3"], ("'1,2,3'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=a,b,c,d,e,f"], ("'a,b,c,d,e,f'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0;0;0;9;9;9"], ("'0;0;0;9;9;9'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0,0,0,9,9,0"], ("'0,0,0,9,9,0'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0,0,0,9,9,-9"], ("'0,0,0,9,9,-9'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0,0,nan,9,9,9"], ("'0,0,nan,9,9,9'", "R,A,S,dR,dA,dS"), 2),
        (["--roi="], ("''", "R,A,S,dR,dA,dS"), 2),
        (["--roi=500,0,0,20,20,20"], ("(500, 0, 0)", "is outside the image", "(1, 1, 1) to (33, 48, 34)"), 1),
    ],
    ids=lambda value: " ".join(value)[:24] if isinstance(value, list) else "",
)
def test_wrong_option_is_named(
    arguments: list[str], words: tuple[str, ...], code: int, segwithu: Command, tiny: Path, data_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    outcome = segwithu.segment(real_image(data_folder), *arguments, model=tiny, output=tmp_path / "results")
    one_sentence(outcome, *words, code=code)
    assert not list((tmp_path / "results").glob("*"))


@pytest.mark.parametrize(
    ("output", "words"),
    [("a\0b", "NUL character"), ("a\x1b[31mb", "control character"), ("n" * 300, "or a name in it than 255"),
     ("n/" * 3000, "longer than 4096 bytes")],
    ids=["NUL", "escape", "long name", "long path"],
)  # fmt: skip
def test_output_that_no_folder_can_be_is_named(
    output: str, words: str, segwithu: Command, tiny: Path, data_folder: Path, tmp_path: Path
) -> None:
    place = f"{tmp_path}/{output}"
    sentence = one_sentence(
        segwithu.segment(real_image(data_folder), model=tiny, output=place), "--output", words, code=2
    )  # type: ignore[arg-type]
    assert sentence.isprintable()
    assert entries(tmp_path) == []


@pytest.mark.parametrize("model", ["a\0b", "a\nb", "m" * 300, "m" * 5000, ""])
def test_model_that_no_folder_can_be_is_named(model: str, segwithu: Command, data_folder: Path, tmp_path: Path) -> None:
    outcome = segwithu.segment(real_image(data_folder), model=model, output=tmp_path / "out")  # type: ignore[arg-type]
    sentence = one_sentence(outcome, code=2)
    assert sentence.isprintable()
    assert len(model) < 250 or model not in sentence
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    "option", [("--epochs", "0"), ("--seed", str(2**70)), ("--threads", "-5"), ("--epochs", "1.5"), ("--seed", "-1")]
)
def test_numbers_of_a_training_are_held_within_limits(
    option: tuple[str, str], segwithu: Command, tmp_path: Path
) -> None:
    call = ("train-head", "--run", tmp_path / "run", "--cases", "a:b", "--select", "a:c", *option)
    one_sentence(segwithu(*call), option[0], option[1][:20], code=2)


def test_region_that_begins_with_a_minus_may_follow_a_space(segwithu: Command, tiny: Path, tmp_path: Path) -> None:
    call = (SAMPLE, "--roi", "-28,-22,-14,12,12,12")
    assert segwithu.segment(*call, model=tiny, output=tmp_path).code == 0


def test_unknown_option_is_still_refused(segwithu: Command, tiny: Path, tmp_path: Path) -> None:
    outcome = segwithu.segment(SAMPLE, "--rio", "1,2,3,4,5,6", model=tiny, output=tmp_path / "results")
    assert outcome.code == 2
    assert "--rio" in outcome.err


@pytest.mark.parametrize("names", [("case.nii.gz", "case.nrrd"), ("case.nii.gz", "Case.mha"),
                                   ("case_0000.nii.gz", "case_0000.nrrd")])  # fmt: skip
def test_equal_names_are_refused_before_any_work(
    names: tuple[str, str], segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    paths = [write(image, tmp_path / str(number) / name) for number, name in enumerate(names)]
    one_sentence(segwithu.segment(*paths, model=tiny, output=tmp_path / "results"), "'case'", "--name", code=2)
    assert not list((tmp_path / "results").glob("*"))


def test_name_and_channel_go_with_one_case_only(segwithu: Command, tiny: Path, image: sitk.Image,
                                                tmp_path: Path) -> None:  # fmt: skip
    paths = [write(image, tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    outcome = segwithu.segment(*paths, "--name", "c", model=tiny, output=tmp_path / "results")
    one_sentence(outcome, "--name", "single case", code=2)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_file_in_place_of_the_output_folder_is_refused(below: str, segwithu: Command, tiny: Path, data_folder: Path,
                                                       tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "taken").write_text("mine")
    outcome = segwithu.segment(real_image(data_folder), model=tiny, output=tmp_path / "taken" / below)
    one_sentence(outcome, f"Cannot write {tmp_path / 'taken'}")
    assert (tmp_path / "taken").read_text() == "mine"
    assert entries(tmp_path) == ["taken"]


def test_existing_case_folder_is_refused_untouched(segwithu: Command, tiny: Path, data_folder: Path,
                                                   tmp_path: Path) -> None:  # fmt: skip
    old = tmp_path / "hippocampus_319" / "notes.txt"
    old.parent.mkdir()
    old.write_text("mine")
    outcome = segwithu.segment(real_image(data_folder), model=tiny, output=tmp_path)
    one_sentence(outcome, str(old.parent), "exists already", "--overwrite")
    assert entries(tmp_path) == ["hippocampus_319", "hippocampus_319/notes.txt"]


def test_overwrite_replaces_an_old_case_and_keeps_it_when_the_new_run_fails(
    segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    path, output = write(image, tmp_path / "case.nii.gz"), tmp_path / "results"
    old = output / "case" / "notes.txt"
    old.parent.mkdir(parents=True)
    old.write_text("mine")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    one_sentence(segwithu.segment(path, "--overwrite", model=tiny, output=output), str(path))
    assert entries(output) == ["case", "case/notes.txt"]
    path.write_bytes(whole)
    assert segwithu.segment(path, "--overwrite", model=tiny, output=output).code == 0
    assert "case/case.json" in entries(output)
    assert not old.exists()
    assert [name for name in entries(output) if name.startswith(".")] == []


def test_too_large_a_part_is_refused_unless_told_otherwise(segwithu: Command, data_folder: Path,
                                                           tmp_path: Path) -> None:  # fmt: skip
    model = tiny_bundle(tmp_path / "models" / "small-view")
    _give_ood_reference(model, highest_mm=(20, 20, 20))
    case, output = real_image(data_folder), tmp_path / "results"
    words = (str(case), "33 x 48 x 34 mm", "10-20 x 10-20 x 10-20 mm", "region of interest", "--unlike-training")
    one_sentence(segwithu.segment(case, model=model, output=output), *words)
    assert not list(output.glob("*"))
    insisted = segwithu.segment(case, "--unlike-training", model=model, output=output)
    assert insisted.code == 0
    assert [line for line in insisted.messages if line.startswith("Warning: ") and "33 x 48 x 34 mm" in line]


def _give_ood_reference(model: Path, highest_mm: tuple[int, int, int]) -> None:
    one = {"low": [1, 1, 1], "high": [1, 1, 1]}
    span = {"low": [10, 10, 10], "high": list(highest_mm)}
    changed_description(model, "ood_reference", {"cases": 5, "field_of_view_mm": span, "spacing_mm": one})


def test_a_bad_case_does_not_stop_the_good_one(
    segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad.nii.gz", write(image, tmp_path / "good.nii.gz")
    bad.write_text("no image")
    outcome = segwithu.segment(bad, good, model=tiny, output=tmp_path / "results")
    assert outcome.code == 1
    assert [str(bad) in line for line in outcome.errors] == [True, False]
    assert f"1 of 2 cases failed, see {tmp_path / 'results' / 'failed.csv'}" in outcome.errors[1]
    assert "good" in outcome.out
    assert [name for name in entries(tmp_path / "results") if "/" not in name] == ["failed.csv", "good", *OVERVIEW]


def test_a_case_that_fails_for_an_unknown_reason_does_not_stop_the_others(
    segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SegWithUCore.inference import segment as engine

    whole = engine.segment_images
    calls: list[int] = []

    def failing_once(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("something\nnobody thought of")
        return whole(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "segment_images", failing_once)
    paths = [write(image, tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    outcome = segwithu.segment(*paths, model=tiny, output=tmp_path / "results")
    assert outcome.code == 1
    assert "something nobody thought of" in outcome.errors[0]
    assert len(outcome.errors) == 2
    assert [name for name in entries(tmp_path / "results") if "/" not in name] == ["b", "failed.csv", *OVERVIEW]


def test_debug_shows_the_traceback_and_others_do_not_see_one(segwithu: Command, tiny: Path, tmp_path: Path) -> None:
    outcome = segwithu.segment(tmp_path / "nowhere.nii", "--debug", model=tiny, output=tmp_path)
    assert outcome.err.count("segwithu: ") == 1
    assert "Traceback (most recent call last)" in outcome.err
    assert "InputError" in outcome.err


def test_json_errors_are_json_lines_too(segwithu: Command, tiny: Path, tmp_path: Path) -> None:
    outcome = segwithu.segment(tmp_path / "nowhere.nii", "--json", model=tiny, output=tmp_path / "results")
    assert outcome.code == 1
    assert outcome.err == ""
    assert [event["event"] for event in outcome.events][-1] == "error"
    assert "nowhere.nii does not exist" in str(outcome.events[-1]["text"])
