"""Whatever is wrong with a call or its images: one clear sentence, the right exit code, and nothing half-written."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
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

Maker = Callable[[Path, sitk.Image], Path]
KEEP = (0.001, 0.02, 0.5, 0.9)
"""Shares of a file that are left of it, from inside the header on."""


@pytest.fixture
def segwithu(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "pair", channels=("T1", "FLAIR"))


@pytest.fixture(scope="module")
def image(data_folder: Path) -> sitk.Image:
    return sitk.ReadImage(str(real_image(data_folder)))


def _bytes(name: str, content: bytes) -> Maker:
    def make(folder: Path, _image: sitk.Image) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _image(name: str, change: Callable[[sitk.Image], sitk.Image]) -> Maker:
    def make(folder: Path, image: sitk.Image) -> Path:
        return write(change(image), folder / name)

    return make


def _values(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[sitk.Image], sitk.Image]:
    def changed(image: sitk.Image) -> sitk.Image:
        result = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image).astype(np.float32)))
        result.CopyInformation(image)
        return result

    return changed


def _with_holes(array: np.ndarray) -> np.ndarray:
    array[3, 4, 5], array[0, 0, 0], array[-1, -1, -1] = np.nan, np.inf, -np.inf
    return array


def _complex(image: sitk.Image) -> sitk.Image:
    real = sitk.Cast(image, sitk.sitkFloat32)
    return sitk.RealAndImaginaryToComplex(real, real)


def _npy(folder: Path, image: sitk.Image) -> Path:
    np.save(folder / "array.npy", sitk.GetArrayFromImage(image))
    return folder / "array.npy"


def _png(folder: Path, image: sitk.Image) -> Path:
    return write(image[:, :, 10], folder / "slice.png")


BAD_IMAGES: dict[str, tuple[Maker, str]] = {
    "missing": (lambda folder, _image: folder / "nowhere.nii.gz", "does not exist"),
    "a folder": (lambda folder, _image: folder, "is a folder"),
    "text": (_bytes("text.nii.gz", b"dear reader\n" * 99), "cannot be read as an image (the format is unknown)"),
    "packed text": (_bytes("text.nii.gz", gzip.compress(b"dear reader\n" * 99)), "(the format is unknown)"),
    "no bytes nii.gz": (_bytes("empty.nii.gz", b""), "cannot be read as an image"),
    "no bytes nrrd": (_bytes("empty.nrrd", b""), "cannot be read as an image"),
    "no bytes mha": (_bytes("empty.mha", b""), "cannot be read as an image"),
    "npy": (_npy, "cannot be read as an image (the format is unknown)"),
    "png": (_png, "is 2D (35 x 51)"),
    "4D": (_image("film.nii.gz", lambda image: sitk.JoinSeries([image, image])), "is 4D (35 x 51 x 35 x 2)"),
    "RGB nii.gz": (_image("rgb.nii.gz", lambda image: sitk.Compose([image] * 3)), "holds 3 values a voxel"),
    "RGB nrrd": (_image("rgb.nrrd", lambda image: sitk.Compose([image] * 3)), "holds 3 values a voxel"),
    "complex": (_image("complex.nii.gz", _complex), "complex"),
    "NaN nii.gz": (_image("nan.nii.gz", _values(_with_holes)), "3 NaN or infinite voxels of 62475"),
    "NaN nii": (_image("nan.nii", _values(_with_holes)), "3 NaN or infinite voxels of 62475"),
    "NaN pair": (_image("nan.img", _values(_with_holes)), "3 NaN or infinite voxels of 62475"),
    "NaN nrrd": (_image("nan.nrrd", _values(_with_holes)), "3 NaN or infinite voxels of 62475"),
    "NaN mha": (_image("nan.mha", _values(_with_holes)), "3 NaN or infinite voxels of 62475"),
    "constant": (_image("flat.nii.gz", _values(lambda array: array * 0 + 7)), "every voxel is 7"),
    "zero": (_image("zero.mha", _values(lambda array: array * 0)), "every voxel is 0"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_unusable_image_is_named_in_one_sentence_and_leaves_nothing(
    kind: str, segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    make, words = BAD_IMAGES[kind]
    path = make(tmp_path, image)
    output = tmp_path / "results"
    one_sentence(segwithu.segment(path, model=tiny, output=output), str(path), words)
    assert not output.exists()


def _cut_copies(image: sitk.Image, folder: Path, suffix: str, compressed: bool) -> list[Path]:
    whole = write(image, folder / f"whole{suffix}", compressed).read_bytes()
    lengths = [*(int(len(whole) * share) for share in KEEP), len(whole) - 60]
    return [_cut(whole[:n], folder / f"cut{n}{suffix}") for n in lengths]


def _cut(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compressed", [True, False], ids=["compressed", "plain"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_truncated_file_is_named_in_one_sentence(
    suffix: str, compressed: bool, segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    for path in _cut_copies(image, tmp_path, suffix, compressed):
        one_sentence(segwithu.segment(path, model=tiny, output=output), str(path), "cannot be read as an image")
    assert not output.exists()


def test_damaged_compression_is_named_in_one_sentence(segwithu: Command, tiny: Path, data_folder: Path,
                                                      tmp_path: Path) -> None:  # fmt: skip
    content = bytearray(real_image(data_folder).read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = _cut(bytes(content), tmp_path / "flipped.nii.gz")
    one_sentence(segwithu.segment(path, model=tiny, output=tmp_path / "results"), str(path), "damaged")
    assert not (tmp_path / "results").exists()


def test_4d_file_of_one_volume_gives_what_the_volume_gives(
    segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    one = write(image, tmp_path / "volume.nii.gz")
    series = write(sitk.JoinSeries([image]), tmp_path / "series.nrrd")
    assert sitk.ReadImage(str(series)).GetDimension() == 4
    assert segwithu.segment(one, series, model=tiny, output=tmp_path / "results").code == 0
    volumes = [sitk.ReadImage(str(tmp_path / "results" / name / "ranking.nii.gz")) for name in ("volume", "series")]
    assert np.array_equal(sitk.GetArrayFromImage(volumes[0]), sitk.GetArrayFromImage(volumes[1]))


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ([], ("wants 2 channel(s) (T1, FLAIR)", "--channel NAME=FILE"), 1),
        (["--channel", "T1={image}", "--channel", "FLAIR={image}"], ("No channel is left for", "hippocampus_001", "T1, FLAIR"), 2),
        (["--channel", "T2={image}"], ("--channel T2=", "one of T1, FLAIR"), 2),
        (["--channel", "FLAIR"], ("--channel FLAIR", "NAME=FILE"), 2),
        (["--channel", "FLAIR={image}", "--channel", "FLAIR={image}"], ("--channel FLAIR=", "once a channel"), 2),
        (["--channel", "FLAIR=nowhere.nii.gz"], ("nowhere.nii.gz does not exist",), 1),
        (["--channel", f"FLAIR={SAMPLE}"], (SAMPLE.name, "is not on the grid of", "hippocampus_001"), 1),
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
    assert not (tmp_path / "results").exists()


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
        (["--roi=1,2,3"], ("'1,2,3'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=a,b,c,d,e,f"], ("'a,b,c,d,e,f'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0;0;0;9;9;9"], ("'0;0;0;9;9;9'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0,0,0,9,9,0"], ("'0,0,0,9,9,0'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0,0,0,9,9,-9"], ("'0,0,0,9,9,-9'", "R,A,S,dR,dA,dS"), 2),
        (["--roi=0,0,nan,9,9,9"], ("'0,0,nan,9,9,9'", "R,A,S,dR,dA,dS"), 2),
        (["--roi="], ("''", "R,A,S,dR,dA,dS"), 2),
        (["--roi=500,0,0,20,20,20"], ("(500, 0, 0)", "lies outside the image", "(1, 1, 1) to (35, 51, 35)"), 1),
    ],
    ids=lambda value: " ".join(value)[:24] if isinstance(value, list) else "",
)
def test_wrong_option_is_named(
    arguments: list[str], words: tuple[str, ...], code: int, segwithu: Command, tiny: Path, data_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    outcome = segwithu.segment(real_image(data_folder), *arguments, model=tiny, output=tmp_path / "results")
    one_sentence(outcome, *words, code=code)
    assert not (tmp_path / "results").exists()


def test_region_that_begins_with_a_minus_may_follow_a_space(segwithu: Command, tiny: Path, tmp_path: Path) -> None:
    call = (SAMPLE, "--roi", "-28,-22,-14,12,12,12")
    assert segwithu.segment(*call, model=tiny, output=tmp_path).code == 0


def test_unknown_option_is_still_refused(segwithu: Command, tiny: Path, tmp_path: Path) -> None:
    outcome = segwithu.segment(SAMPLE, "--rio", "1,2,3,4,5,6", model=tiny, output=tmp_path / "results")
    assert outcome.code == 2
    assert "--rio" in outcome.err


@pytest.mark.parametrize("names", [("case.nii.gz", "case.nrrd"), ("case.nii.gz", "Case.mha"),
                                   ("case_0000.nii.gz", "case_0001.nii.gz")])  # fmt: skip
def test_equal_names_are_refused_before_any_work(
    names: tuple[str, str], segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    paths = [write(image, tmp_path / str(number) / name) for number, name in enumerate(names)]
    one_sentence(segwithu.segment(*paths, model=tiny, output=tmp_path / "results"), "'case'", "--name", code=2)
    assert not (tmp_path / "results").exists()


def test_name_and_channel_go_with_one_case_only(segwithu: Command, tiny: Path, image: sitk.Image,
                                                tmp_path: Path) -> None:  # fmt: skip
    paths = [write(image, tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")]
    outcome = segwithu.segment(*paths, "--name", "c", model=tiny, output=tmp_path / "results")
    one_sentence(outcome, "--name", "one by one", code=2)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_file_in_place_of_the_output_folder_is_refused(below: str, segwithu: Command, tiny: Path, data_folder: Path,
                                                       tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "taken").write_text("mine")
    outcome = segwithu.segment(real_image(data_folder), model=tiny, output=tmp_path / "taken" / below)
    one_sentence(outcome, str(tmp_path / "taken"), "is a file", "--output")
    assert (tmp_path / "taken").read_text() == "mine"
    assert entries(tmp_path) == ["taken"]


def test_existing_case_folder_is_refused_untouched(segwithu: Command, tiny: Path, data_folder: Path,
                                                   tmp_path: Path) -> None:  # fmt: skip
    old = tmp_path / "hippocampus_001" / "notes.txt"
    old.parent.mkdir()
    old.write_text("mine")
    outcome = segwithu.segment(real_image(data_folder), model=tiny, output=tmp_path)
    one_sentence(outcome, str(old.parent), "exists already", "--overwrite")
    assert entries(tmp_path) == ["hippocampus_001", "hippocampus_001/notes.txt"]


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
    _give_fingerprint(model, highest_mm=(20, 20, 20))
    case, output = real_image(data_folder), tmp_path / "results"
    words = (str(case), "35 x 51 x 35 mm", "10-20 x 10-20 x 10-20 mm", "region of interest", "--unlike-training")
    one_sentence(segwithu.segment(case, model=model, output=output), *words)
    assert not output.exists()
    insisted = segwithu.segment(case, "--unlike-training", model=model, output=output)
    assert insisted.code == 0
    assert [line for line in insisted.messages if line.startswith("Warning: ") and "35 x 51 x 35 mm" in line]


def test_whole_head_is_refused_by_the_model_in_the_box(segwithu: Command, tmp_path: Path) -> None:
    outcome = segwithu("segment", SAMPLE, "--model", "hippocampus", "--output", tmp_path / "results")
    one_sentence(outcome, str(SAMPLE), "197 x 233 x 189 mm", "region of interest", "--unlike-training")
    assert not (tmp_path / "results").exists()


def _give_fingerprint(model: Path, highest_mm: tuple[int, int, int]) -> None:
    one = {"low": [1, 1, 1], "high": [1, 1, 1]}
    span = {"low": [10, 10, 10], "high": list(highest_mm)}
    changed_description(model, "fingerprint", {"cases": 5, "field_of_view_mm": span, "spacing_mm": one})


def test_a_bad_case_does_not_stop_the_good_one(segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.nii.gz", write(image, tmp_path / "good.nii.gz")
    bad.write_text("no image")
    outcome = segwithu.segment(bad, good, model=tiny, output=tmp_path / "results")
    assert outcome.code == 1
    assert [str(bad) in line for line in outcome.messages] == [True, False]
    assert "1 of 2 cases failed" in outcome.messages[1]
    assert "good" in outcome.out
    assert [name for name in entries(tmp_path / "results") if "/" not in name] == ["good"]


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
    assert "something nobody thought of" in outcome.messages[0]
    assert len(outcome.messages) == 2
    assert [name for name in entries(tmp_path / "results") if "/" not in name] == ["b"]


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


def test_header_whose_voxel_file_is_gone_is_named(segwithu: Command, tiny: Path, image: sitk.Image,
                                                  tmp_path: Path) -> None:  # fmt: skip
    for name, voxels in (("pair.mhd", "pair.raw"), ("pair.hdr", "pair.img")):
        header = write(image, tmp_path / name, compressed=False)
        (tmp_path / voxels).unlink()
        one_sentence(segwithu.segment(header, model=tiny, output=tmp_path / "results"), str(header))
    assert not (tmp_path / "results").exists()
