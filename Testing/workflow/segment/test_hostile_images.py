"""Image files that lie about themselves or reach for other files: one sentence that names them, nothing read."""

import gzip
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import SimpleITK as sitk
from segwithu_command import Command, one_sentence, tiny_bundle, write
from stored_files import metaimage, nrrd, real_volume, stored_bytes

from SegWithUCore.case.segmentation_file import read_segments
from SegWithUCore.export.anonymous import anonymous_copy
from SegWithUCore.io.volume import read_file, read_header
from SegWithUCore.util.errors import InputError

SECRET = b"Dear Dr Miller, Mrs Smith (4711) was seen today. " * 200


@pytest.fixture(scope="module")
def volume(data_folder: Path) -> sitk.Image:
    return real_volume(data_folder)


@pytest.fixture(scope="module")
def voxels(volume: sitk.Image) -> bytes:
    return stored_bytes(volume)


NRRD_REFUSED: dict[str, tuple[list[str], dict[str, str], Callable[[bytes], bytes], str]] = {
    "ascii over binary": ([], {"encoding": "ascii"}, bytes, "'encoding: ascii'"),
    "hex": ([], {"encoding": "hex"}, lambda body: body.hex().encode(), "'encoding: hex'"),
    "claims 10 GB plain": ([], {"sizes": "2000 2000 1250"}, bytes, "[truncated-file]"),
    "claims 10 GB packed": (
        [],
        {"sizes": "2000 2000 1250", "encoding": "gzip"},
        lambda _body: gzip.compress(bytes(1000)),
        "claims 10000000000 bytes of voxels",
    ),
    "sizes beyond all": ([], {"sizes": "999999999999 999999999999 999999999999"}, bytes, "[truncated-file]"),
    "packed more than claimed": ([], {"encoding": "gzip"}, lambda body: gzip.compress(body * 9), "[damaged-file]"),
    "one byte more": ([], {}, lambda body: body + b"1", "[damaged-file]"),
    "one byte less": ([], {}, lambda body: body[:-1], "[truncated-file]"),
    "something behind gzip": ([], {"encoding": "gzip"}, lambda body: gzip.compress(body) + b"x", "[damaged-file]"),
    "16 axes": ([], {"dimension": "16", "sizes": "1 " * 16}, bytes, "'dimension: 16'"),
    "no volume": ([], {"sizes": "19 0 11"}, bytes, "'sizes: 19 0 11'"),
    "half a size": ([], {"sizes": "19 17.5 11"}, bytes, "'sizes: 19 17.5 11'"),
    "block": ([], {"type": "block"}, bytes, "'type: block'"),
    "no byte order": ([], {"endian": ""}, bytes, "no field 'endian'"),
    "twice": (["sizes: 19 17 11"], {}, bytes, "the field 'sizes' twice"),
    "no field": (["patient: Miller"], {}, bytes, "line 7 of its header is 'patient: Miller'"),
    "terminal escapes": (["\x1b[2Jpatient"], {}, bytes, "line 7 of its header is '?[2Jpatient'"),
    "no left and right": (["space: scanner-xyz"], {}, bytes, "'space: scanner-xyz'"),
    "no directions": (["space: LPS", "space directions: none none none"], {}, bytes, "'space directions: none none"),
    "NaN direction": (["space: LPS", "space directions: (nan,0,0) (0,1,0) (0,0,1)"], {}, bytes, "'space directions:"),
    "flat": (["space: LPS", "space directions: (1,0,0) (1,0,0) (0,0,1)"], {}, bytes, "'space directions:"),
    "NaN origin": (
        ["space: LPS", "space directions: (1,0,0) (0,1,0) (0,0,1)", "space origin: (nan,0,0)"],
        {},
        bytes,
        "'space origin: (nan,0,0)'",
    ),
    "negative spacing": (["spacings: -1 1 1"], {}, bytes, "'spacings: -1 1 1'"),
    "place by minima": (["axis mins: 0 0 0"], {}, bytes, "'axis mins: 0 0 0'"),
    "list of files": (["data file: LIST"], {}, bytes, "'data file: LIST'"),
    "numbered files": (["data file: slice%03d.raw 1 11 1"], {}, bytes, "'data file: slice%03d.raw 1 11 1'"),
}
META_REFUSED: dict[str, tuple[list[str], dict[str, str], Callable[[bytes], bytes], str]] = {
    "99 axes": ([], {"NDims": "99"}, bytes, "'NDims: 99'"),
    "claims 10 GB plain": ([], {"DimSize": "2000 2000 1250"}, bytes, "[truncated-file]"),
    "claims 10 GB packed": (
        ["CompressedData = True"],
        {"DimSize": "2000 2000 1250"},
        zlib.compress,
        "claims 10000000000 bytes of voxels",
    ),
    "packed more than claimed": (
        ["CompressedData = True"],
        {},
        lambda body: zlib.compress(body * 9),
        "[damaged-file]",
    ),
    "one byte more": ([], {}, lambda body: body + b"1", "[damaged-file]"),
    "one byte more behind zlib": (
        ["CompressedData = True"],
        {},
        lambda body: zlib.compress(body) + b"1",
        "[damaged-file]",
    ),
    "wrong length": (["CompressedData = True", "CompressedDataSize = 9"], {}, zlib.compress, "CompressedDataSize: 9"),
    "text": (["BinaryData = False"], {}, bytes, "'BinaryData: False'"),
    "negative spacing": (["ElementSpacing = -1 1 1"], {}, bytes, "'ElementSpacing: -1 1 1'"),
    "NaN origin": (["Offset = nan 0 0"], {}, bytes, "'Offset: nan 0 0'"),
    "two origins": (["Offset = 1 2 3", "Position = 4 5 6"], {}, bytes, "Position: 4 5 6"),
    "flat": (["TransformMatrix = 1 0 0 1 0 0 0 0 1"], {}, bytes, "'TransformMatrix: 1 0 0 1 0 0 0 0 1'"),
    "too few directions": (["TransformMatrix = 1 0 0 1"], {}, bytes, "'TransformMatrix: 1 0 0 1'"),
    "intensities to be scaled": (["ElementToIntensityFunctionSlope = 2"], {}, bytes, "FunctionSlope: 2'"),
    "array": ([], {"ElementType": "MET_SHORT_ARRAY"}, bytes, "'ElementType: MET_SHORT_ARRAY'"),
    "no field": (["dear reader"], {}, bytes, "line 5 of its header is 'dear reader'"),
    "no image": ([], {"ObjectType": "Tube"}, bytes, "'ObjectType: Tube'"),
}


@pytest.mark.parametrize("kind", NRRD_REFUSED)
def test_nrrd_that_lies_or_is_not_understood_is_refused(kind: str, voxels: bytes, tmp_path: Path) -> None:
    lines, changed, stored, words = NRRD_REFUSED[kind]
    _refused(nrrd(tmp_path / "image.nrrd", lines, stored(voxels), **changed), words)


@pytest.mark.parametrize("kind", META_REFUSED)
def test_metaimage_that_lies_or_is_not_understood_is_refused(kind: str, voxels: bytes, tmp_path: Path) -> None:
    lines, changed, stored, words = META_REFUSED[kind]
    _refused(metaimage(tmp_path / "image.mha", lines, stored(voxels), **changed), words)


def _refused(path: Path, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_file(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert words in sentence
    assert sentence.endswith((".", "]"))
    assert sentence.isprintable()


def _headers_for(target: str, folder: Path, voxels: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [
        nrrd(folder / "image.nhdr", [f"data file: {target}"], b""),
        nrrd(folder / "image.nrrd", [f"datafile: {target}"], b""),
        metaimage(folder / "image.mhd", [], b"", data_file=target),
    ]


def test_no_header_takes_voxels_from_another_file(voxels: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(voxels)
    for header in _headers_for("secret.raw", tmp_path, voxels):
        for reading in (read_file, read_header):
            with pytest.raises(InputError) as caught:
                reading(header)
            assert caught.value.code == "voxels-in-another-file"
            assert str(header) in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "loop"])
def test_voxels_that_are_no_file_are_named_at_once(kind: str, voxels: bytes, tmp_path: Path) -> None:
    place = tmp_path / "body.raw"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "loop":
        place.symlink_to(place)
    for header in _headers_for("body.raw", tmp_path, voxels):
        thread = ThreadPoolExecutor(1).submit(_error_of, header)
        try:
            assert str(header) in thread.result(timeout=20)
        finally:
            if kind == "pipe" and not thread.done():  # let the thread go that waits for a writer
                os.close(os.open(place, os.O_WRONLY))


def _error_of(path: Path) -> str:
    try:
        read_file(path)
    except InputError as error:
        return str(error)
    return ""


def test_a_refused_file_leaves_no_handle_open(voxels: bytes, tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("counts the handles as Linux lists them")
    (tmp_path / "body.raw").write_bytes(voxels[:-9])
    headers = _headers_for("body.raw", tmp_path, voxels)
    headers += [nrrd(tmp_path / "packed.nrrd", [], gzip.compress(voxels)[:-9], encoding="gzip")]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for header in headers * 10:
        with pytest.raises(InputError, match=r"(truncated|damaged|another)-file"):
            read_file(header)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_format_goes_by_the_name_so_that_no_map_of_a_case_is_a_detached_header(voxels: bytes, tmp_path: Path) -> None:
    (tmp_path / "body.raw").write_bytes(voxels)
    for name in ("error_probability.nii.gz", "segmentation.nii", "image.png", "image"):
        path = nrrd(tmp_path / name, ["data file: body.raw"], b"")
        _refused(path, "cannot be read as an image (the format is unknown)")


def test_returned_review_with_foreign_voxels_is_refused_and_in_no_anonymous_copy(
    segmented_cases: Path, tmp_path: Path
) -> None:
    case = tmp_path / "case"
    case.mkdir()
    source = next(path for path in sorted(segmented_cases.iterdir()) if (path / "case.json").is_file())
    for path in source.iterdir():
        if path.is_file():
            (case / path.name).write_bytes(path.read_bytes())
    grid = read_file(case / "segmentation.nii.gz")
    size = grid.GetSize()
    for letter in (tmp_path / "letter.txt", case / "letter.txt"):  # inside the folder it is no better
        letter.write_bytes(SECRET.ljust(size[0] * size[1] * size[2], b" ")[: size[0] * size[1] * size[2]])
        sizes = " ".join(map(str, size))
        review = nrrd(
            case / "segmentation_reviewed.colleague.seg.nrrd",
            [f"data file: {letter.name if letter.parent == case else letter}"],
            b"",
            type="uchar",
            sizes=sizes,
            endian="",
        )
        with pytest.raises(InputError, match=r"\.seg\.nrrd has 'data file: "):
            read_segments(review, grid)
        target = tmp_path / f"sent{letter.parent == case}"
        anonymous_copy(case, target, "case-1")
        assert (target / "case.json").is_file()
        for path in target.rglob("*"):
            content = path.read_bytes()
            unpacked = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            assert b"4711" not in unpacked


def test_the_command_names_what_killed_it_before(
    volume: sitk.Image, voxels: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Data that ended the process on a signal, or were read as other voxels: exit code 1 and one sentence each."""
    segwithu, model = Command(capfd), tiny_bundle(tmp_path / "tiny")
    flipped = write(volume, tmp_path / "flipped.mha")
    content = bytearray(flipped.read_bytes())
    content[-200] ^= 1
    flipped.write_bytes(content)
    for path, words in (
        (nrrd(tmp_path / "ascii.nrrd", [], voxels, encoding="ascii"), "'encoding: ascii'"),
        (metaimage(tmp_path / "axes.mha", [], voxels, NDims="99"), "'NDims: 99'"),
        (nrrd(tmp_path / "claim.nrrd", [], voxels, sizes="2000 2000 1250"), "10000000000 bytes"),
        (nrrd(tmp_path / "letter.nhdr", ["data file: /etc/passwd"], b""), "header or voxels of two files"),
        (flipped, "damaged"),
    ):
        outcome = segwithu.segment(path, model=model, output=tmp_path / "results")
        one_sentence(outcome, str(path), words)
    assert not (tmp_path / "results").exists()
