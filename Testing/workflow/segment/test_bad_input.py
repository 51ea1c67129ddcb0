"""Whatever is wrong with an image: one clear sentence, exit code 1, and nothing half-written."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import Command, one_sentence, real_image, write

Maker = Callable[[Path, sitk.Image], Path]
KEEP = (0.001, 0.02, 0.5, 0.9)
"""Shares of a file that are left of it, from inside the header on."""


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
    "a folder": (lambda folder, _image: folder, "holds no DICOM series"),
    "text": (_bytes("text.nii.gz", b"dear reader\n" * 99), "cannot be read as an image (the format is unknown)"),
    "packed text": (_bytes("text.nii.gz", gzip.compress(b"dear reader\n" * 99)), "(the format is unknown)"),
    "no bytes nii.gz": (_bytes("empty.nii.gz", b""), "cannot be read as an image"),
    "no bytes nrrd": (_bytes("empty.nrrd", b""), "cannot be read as an image"),
    "no bytes mha": (_bytes("empty.mha", b""), "cannot be read as an image"),
    "npy": (_npy, "cannot be read as an image (the format is unknown)"),
    "png": (_png, "cannot be read as an image (the format is unknown)"),
    "2D": (_image("slice.nrrd", lambda image: image[:, :, 10]), "'dimension: 2'"),
    "4D": (_image("film.nii.gz", lambda image: sitk.JoinSeries([image, image])), "is 4D (33 x 48 x 34 x 2)"),
    "RGB nii.gz": (_image("rgb.nii.gz", lambda image: sitk.Compose([image] * 3)), "holds 3 values a voxel"),
    "RGB nrrd": (_image("rgb.nrrd", lambda image: sitk.Compose([image] * 3)), "holds 3 values a voxel"),
    "complex": (_image("complex.nii.gz", _complex), "complex"),
    "NaN nii.gz": (_image("nan.nii.gz", _values(_with_holes)), "3 NaN or infinite voxels of 53856"),
    "NaN nii": (_image("nan.nii", _values(_with_holes)), "3 NaN or infinite voxels of 53856"),
    "NaN nrrd": (_image("nan.nrrd", _values(_with_holes)), "3 NaN or infinite voxels of 53856"),
    "NaN mha": (_image("nan.mha", _values(_with_holes)), "3 NaN or infinite voxels of 53856"),
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
    series = write(sitk.JoinSeries([image]), tmp_path / "series.nii.gz")
    assert gzip.decompress(series.read_bytes())[40] == 4, "axes by its header"
    assert segwithu.segment(one, series, model=tiny, output=tmp_path / "results").code == 0
    volumes = [sitk.ReadImage(str(tmp_path / "results" / name / "ranking.nii.gz")) for name in ("volume", "series")]
    assert np.array_equal(sitk.GetArrayFromImage(volumes[0]), sitk.GetArrayFromImage(volumes[1]))


def test_header_whose_voxels_lie_in_another_file_is_named(segwithu: Command, tiny: Path, image: sitk.Image,
                                                  tmp_path: Path) -> None:  # fmt: skip
    for name in ("pair.mhd", "pair.hdr"):
        header = write(image, tmp_path / name, compressed=False)
        one_sentence(segwithu.segment(header, model=tiny, output=tmp_path / "results"), str(header))
    assert not (tmp_path / "results").exists()
