"""A DICOM series is the volume it was made from; whatever is wrong with it is named in one sentence."""

import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_phantoms import SERIES, decimals, described, packed, packed_in_an_unknown_way, write_series
from hippocampi import ct_phantom
from phantoms import rotation
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SegmentationStorage,
)

from SegWithUCore.case.case_image import series_with_voxels, voxel_hash
from SegWithUCore.io.dicom_folder import scan_folder
from SegWithUCore.io.dicom_series import read_series
from SegWithUCore.io.volume import read_image
from SegWithUCore.util.errors import InputError


@pytest.fixture(scope="module")
def ct(data_folder: Path) -> sitk.Image:
    """40 x 30 x 12 voxels of 3 mm, axes towards R, A, S."""
    return ct_phantom(data_folder)[:40, :30, 8:20]


def _like(image: sitk.Image, plane: str) -> sitk.Image:
    """The same voxels with slices that run another way."""
    if plane == "oblique":
        turned = sitk.Image(image)
        turned.SetDirection((rotation([17, -23, 31]) @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
        turned.SetSpacing((0.7, 0.9, 2.31))
        return turned
    order = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (2, 0, 1)}[plane]
    return sitk.PermuteAxes(image, order)


def _assert_same(read: sitk.Image, known: sitk.Image) -> None:
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(known).astype(np.float32))
    assert read.GetSize() == known.GetSize()
    np.testing.assert_allclose(read.GetSpacing(), known.GetSpacing(), rtol=0, atol=1e-6)
    corners = np.array(np.meshgrid(*([0, n - 1] for n in known.GetSize()))).reshape(3, -1).T.tolist()
    for corner in corners:
        expected = known.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose(read.TransformIndexToPhysicalPoint(corner), expected, rtol=0, atol=1e-4)


def _refused(folder: Path, *words: str, series: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_series(folder, series)
    sentence = str(caught.value)
    assert caught.value.code
    for word in (str(folder), *words):
        assert word in sentence, f"'{word}' is missing in: {sentence}"
    return sentence


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", "oblique"])
def test_a_series_is_the_volume_it_was_made_from(plane: str, ct: sitk.Image, tmp_path: Path) -> None:
    """File names and instance numbers are shuffled; the voxel hash is that of the volume in any other file."""
    known = _like(ct, plane)
    folder = tmp_path / "Bauch Übersicht 1"
    write_series(known, folder)
    read = read_series(folder).image
    _assert_same(read, known)
    sitk.WriteImage(known, str(tmp_path / "known.nrrd"))
    assert voxel_hash(read) == voxel_hash(read_image(tmp_path / "known.nrrd"))


def test_slices_stored_from_the_other_end_are_turned_to_the_normal(ct: sitk.Image, tmp_path: Path) -> None:
    """A volume whose slices run against their normal cannot be told from one whose slices run along it."""
    flipped = sitk.Flip(ct, (False, False, True))
    write_series(flipped, tmp_path / "series")
    _assert_same(read_series(tmp_path / "series").image, ct)


@pytest.mark.parametrize("kind", [CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage])
def test_slope_and_intercept_of_each_slice_are_honoured(kind: str, ct: sitk.Image, tmp_path: Path) -> None:
    """The first slice has whole numbers only: read by its type, all fractions of the others would be cut off."""
    scales = [(1.0, 0.0), (0.5, 0.25), (2.5, -1024.0)]
    stored = sitk.GetArrayFromImage(ct).astype(float)
    values = np.stack([values * scales[k % 3][0] + scales[k % 3][1] for k, values in enumerate(stored)])
    known = sitk.GetImageFromArray(values)
    known.CopyInformation(ct)

    def of_kind(_number: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind

    write_series(known, tmp_path / "series", scale=lambda number: scales[number % 3], change=of_kind)
    _assert_same(read_series(tmp_path / "series").image, known)


@pytest.mark.parametrize("scheme", ["RLE", "JPEG2000", "JPEG"])
def test_compressed_series_gives_the_same_voxels(scheme: str, ct: sitk.Image, tmp_path: Path) -> None:
    files = write_series(ct, tmp_path / "series", change=lambda number, dataset: packed(dataset, scheme, tmp_path))
    assert pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID.is_compressed
    _assert_same(read_series(tmp_path / "series").image, ct)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000"), ("1.2.840.10008.1.2.4.102", "MPEG-4")],
)
def test_compression_that_cannot_be_read_is_named(syntax: str, name: str, ct: sitk.Image, tmp_path: Path) -> None:
    def pack(number: int, dataset: Dataset) -> None:
        if number == 5:
            packed_in_an_unknown_way(dataset, syntax)

    files = write_series(ct, tmp_path / "series", change=pack)
    _refused(tmp_path / "series", files[5].name, name, syntax, "compressed-voxels")


def test_files_without_a_preamble_are_read(ct: sitk.Image, tmp_path: Path) -> None:
    for file in write_series(ct, tmp_path / "series"):
        dataset = pydicom.dcmread(file)
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.preamble = None
        pydicom.dcmwrite(file, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    _assert_same(read_series(tmp_path / "series").image, ct)


def test_the_patient_is_not_carried_along(ct: sitk.Image, tmp_path: Path) -> None:
    write_series(ct, tmp_path / "series")
    assert read_series(tmp_path / "series").image.GetMetaDataKeys() == ()


def test_missing_slices_are_named_by_position(ct: sitk.Image, tmp_path: Path) -> None:
    write_series(ct, tmp_path / "series", skip=[4, 7, 8])
    places = [ct.TransformIndexToPhysicalPoint((0, 0, k))[2] for k in (3, 5, 6, 9)]
    words = [f"S = {place:.2f} mm" for place in places[:2]]
    _refused(tmp_path / "series", "slices missing", *words)


def test_slices_copied_twice_are_named(ct: sitk.Image, tmp_path: Path) -> None:
    files = write_series(ct, tmp_path / "series")
    shutil.copy(files[2], tmp_path / "series" / "copy")
    _refused(tmp_path / "series", "more than one slice at 1 place(s)", files[2].name, "copy", "S = ")


def test_echoes_in_one_series_are_told_apart(ct: sitk.Image, tmp_path: Path) -> None:
    for series, echo in (("1.2.4", "4.92"), ("1.2.5", "9.84")):

        def one_of_two(number: int, dataset: Dataset, echo: str = echo) -> None:
            dataset.SeriesInstanceUID, dataset.EchoTime = SERIES, echo

        write_series(ct, tmp_path / "series", series=series, change=one_of_two)
    _refused(tmp_path / "series", "mixed-series", "EchoTime", "4.92: 12 slices", "9.84: 12 slices")


def test_time_points_in_one_series_are_told_apart(ct: sitk.Image, tmp_path: Path) -> None:
    for series, time in (("1.2.4", "10"), ("1.2.5", "510")):

        def one_of_two(number: int, dataset: Dataset, time: str = time) -> None:
            dataset.SeriesInstanceUID, dataset.TriggerTime = SERIES, time

        write_series(ct, tmp_path / "series", series=series, change=one_of_two)
    _refused(tmp_path / "series", "mixed-series", "TriggerTime")


def _moved(dataset: Dataset, by: tuple[float, float, float]) -> None:
    dataset.ImagePositionPatient = decimals(np.add([float(v) for v in dataset.ImagePositionPatient], by).tolist())


def _uneven(number: int, dataset: Dataset) -> None:
    _moved(dataset, (0, 0, 1.2 if number > 6 else 0))


def _tilted(number: int, dataset: Dataset) -> None:
    _moved(dataset, (0, 0.4 * number, 0))


def _one(**entries: object) -> object:
    def change(number: int, dataset: Dataset) -> None:
        if number == 4:
            for name, value in entries.items():
                setattr(dataset, name, value)

    return change


BAD_STACKS = {
    "uneven": (_uneven, ("3.00 to 4.20 mm",)),
    "tilted gantry": (_tilted, ("shifted", "4.40 mm", "gantry")),
    "pixel spacings": (_one(PixelSpacing=["3.1", "3"]), ("mixed-series", "PixelSpacing", "3.1")),
    "orientations": (
        _one(ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"]),
        ("mixed-series", "ImageOrientationPatient"),
    ),
    "sizes": (
        _one(Rows=10, Columns=20, PixelData=bytes(400)),
        ("mixed-series", "Rows"),
    ),
    "no spacing": (_one(PixelSpacing=None), ("PixelSpacing",)),
    "no orientation": (_one(ImageOrientationPatient=None), ("ImageOrientationPatient",)),
    "no position": (_one(ImagePositionPatient=None), ("not-a-slice",)),
    "not at right angles": (
        lambda number, dataset: setattr(dataset, "ImageOrientationPatient", ["1", "0", "0", "0.5", "0.5", "0"]),
        ("right angles",),
    ),
}


@pytest.mark.parametrize("kind", BAD_STACKS)
def test_slices_that_make_no_volume_are_refused_with_figures(kind: str, ct: sitk.Image, tmp_path: Path) -> None:
    change, words = BAD_STACKS[kind]
    write_series(ct, tmp_path / "series", change=change)  # type: ignore[arg-type]
    _refused(tmp_path / "series", *words)


@pytest.fixture
def study(ct: sitk.Image, tmp_path: Path) -> Path:
    """Three series in one folder; the second has other voxels, the third fewer slices."""
    write_series(ct, tmp_path / "study", series=SERIES + ".11")
    write_series(sitk.Median(ct), tmp_path / "study", series=SERIES + ".12")
    write_series(ct[:, :, :5], tmp_path / "study", series=SERIES + ".21")
    return tmp_path / "study"


def test_several_series_are_listed(study: Path) -> None:
    sentence = _refused(study, "holds 3 series", "'Bauch, Schädel', 12 slices, UID ...", "5 slices", "--series")
    assert re.findall(r"UID \.\.\.\S+?(\.\d\d)\b", sentence) == [".11", ".12", ".21"]


def test_one_of_several_series_is_chosen_by_the_end_of_its_uid(study: Path, ct: sitk.Image) -> None:
    _assert_same(read_series(study, ".12").image, sitk.Median(ct))
    _assert_same(read_series(study, SERIES + ".21").image, ct[:, :, :5])


def test_the_series_that_was_segmented_is_found_among_several(study: Path, ct: sitk.Image) -> None:
    write_series(ct, study / "inside", series=SERIES + ".99")
    wanted = voxel_hash(read_series(study, ".21").image)
    volume, files = series_with_voxels(study, wanted)
    assert voxel_hash(volume.image) == wanted
    assert len(files) == 5
    with pytest.raises(InputError, match="no-source-series"):
        series_with_voxels(study, "0" * 64)


@pytest.mark.parametrize(("end", "words"), [("1", ("several-series", ".11", ".21")),
                                            ("9.9", ("3 series", "none with a UID"))])  # fmt: skip
def test_an_end_that_fits_several_series_or_none_is_refused(end: str, words: tuple[str, ...], study: Path) -> None:
    _refused(study, *words, series=end)


def test_what_is_no_slice_is_left_out_and_told(ct: sitk.Image, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write_series(ct, folder)
    for number, sop_class in enumerate((ComprehensiveSRStorage, SegmentationStorage, "1.3.12.2.1107.5.9.1")):
        described(sop_class).save_as(folder / f"other{number}.dcm", enforce_file_format=True)
    described(MediaStorageDirectoryStorage).save_as(folder / "DICOMDIR", enforce_file_format=True)
    screenshot = write_series(ct[:, :, :1], folder, series="1.2.9")[0]
    without_place = pydicom.dcmread(screenshot)
    del without_place.ImagePositionPatient
    without_place.save_as(screenshot)
    (folder / "notes.txt").write_text("seen")
    assert scan_folder(folder).description == (
        "DICOM series, 12 slices; left out: Comprehensive SR 1, Media Storage Directory 1, Segmentation 1, "
        "not DICOM 1, picture 1, private object 1"
    )
    _assert_same(read_series(folder).image, ct)


def test_a_folder_of_reports_alone_is_refused(tmp_path: Path) -> None:
    described(ComprehensiveSRStorage).save_as(tmp_path / "report.dcm", enforce_file_format=True)
    _refused(tmp_path, "no-series", "Comprehensive SR 1")


@pytest.mark.parametrize("share", [0.06, 0.5, 0.99])
def test_a_cut_slice_is_named_and_not_passed_over(share: float, ct: sitk.Image, tmp_path: Path) -> None:
    last = write_series(ct, tmp_path / "series")[-1]
    content = last.read_bytes()
    last.write_bytes(content[: int(len(content) * share)])
    _refused(tmp_path / "series", last.name, "is truncated or damaged")


def test_slices_in_one_file_are_explained(ct: sitk.Image, tmp_path: Path) -> None:
    file = write_series(ct[:, :, :2], tmp_path / "series")[0]
    dataset = pydicom.dcmread(file)
    dataset.NumberOfFrames, dataset.PixelData = 2, dataset.PixelData * 2
    shutil.rmtree(tmp_path / "series")
    file.parent.mkdir()
    dataset.save_as(file)
    _refused(tmp_path / "series", file.name, "several-frames", "multi-frame")


def test_a_single_slice_takes_its_thickness(ct: sitk.Image, tmp_path: Path) -> None:
    write_series(ct[:, :, 3:4], tmp_path / "thick", change=_thick)
    assert read_series(tmp_path / "thick").image.GetSpacing() == pytest.approx((3, 3, 4.5))
    write_series(ct[:, :, 3:4], tmp_path / "unknown")
    _refused(tmp_path / "unknown", "unknown thickness")


def _thick(_number: int, dataset: Dataset) -> None:
    dataset.SliceThickness = "4.5"


def test_a_dicom_file_given_alone_is_explained(ct: sitk.Image, tmp_path: Path) -> None:
    file = write_series(ct, tmp_path / "series")[0]
    described(ComprehensiveSRStorage).save_as(tmp_path / "report.dcm", enforce_file_format=True)
    for path in (file, tmp_path / "report.dcm"):
        with pytest.raises(InputError, match="one-dicom-file"):
            read_image(path)
