"""Slices of one series that show several contrasts, modalities or scales are refused wherever they lie."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import SimpleITK as sitk
from dicom_phantoms import Change, as_mr, write_series
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from SegWithUCore.io.dicom_series import read_series
from SegWithUCore.util.errors import InputError


@pytest.fixture(scope="module")
def brain(data_folder: Path) -> sitk.Image:
    """A part of a real T1 crop, 12 slices of 1 mm."""
    image = sitk.ReadImage(str(data_folder / "hippocampus" / "images" / "hippocampus_319.nii.gz"))
    return sitk.Cast(image[:, :, 10:22], sitk.sitkInt16)


Values = Callable[[int], object]


def _with(**values: Values) -> Change:
    """An MR series whose slices have these values, of each slice's number; None takes the attribute out."""
    ordinary = as_mr(ImageType=["ORIGINAL", "PRIMARY", "M", "ND"], EchoTime="4.9", StudyInstanceUID="1.2.3")

    def change(number: int, dataset: Dataset) -> None:
        ordinary(number, dataset)
        with pydicom.config.disable_value_validation():
            for keyword, value in values.items():
                if value(number) is not None:
                    setattr(dataset, keyword, value(number))
                elif keyword in dataset:
                    del dataset[keyword]
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID

    return change


def _written(brain: sitk.Image, folder: Path, change: Change, slope: float = 1.0) -> Path:
    write_series(brain, folder, scale=lambda k: (slope, 0), change=change)
    return folder


def _assert_refused(folder: Path, code: str, *named: str) -> None:
    with pytest.raises(InputError) as caught:
        read_series(folder)
    assert caught.value.code == code
    for word in (str(folder), *named):
        assert word in str(caught.value)


MIXED = {
    "EchoTime": ("4.9", "80"),
    "InversionTime": ("100", "900"),
    "DiffusionBValue": (0.0, 1000.0),
    "KVP": ("80", "140"),
    "ImageType": ("ORIGINAL\\PRIMARY\\M", "ORIGINAL\\PRIMARY\\P"),
    "ComplexImageComponent": ("MAGNITUDE", "PHASE"),
    "ContrastBolusAgent": ("Gadovist", "Dotarem"),
    "ConvolutionKernel": ("B30f", "B70f"),
    "Units": ("BQML", "GML"),
    "RescaleType": ("HU", "US"),
    "SequenceName": ("*tfl3d1", "*tse2d1_17"),
    "ScanningSequence": ("SE", "GR\\IR"),
    "SequenceVariant": ("SK\\SP", "NONE"),
    "MRAcquisitionType": ("2D", "3D"),
    "TemporalPositionIdentifier": ("1", "2"),
}


@pytest.mark.parametrize("keyword", MIXED)
def test_two_contrasts_in_one_series_are_refused_with_their_values(
    keyword: str, brain: sitk.Image, tmp_path: Path
) -> None:
    a, b = MIXED[keyword]
    for name, second in (("alternate", lambda k: k % 2), ("half", lambda k: k > 6), ("one", lambda k: k == 6)):
        change = _with(**{keyword: lambda k, second=second: b if second(k) else a})  # type: ignore[misc]
        folder = _written(brain, tmp_path / name, change)
        _assert_refused(folder, "mixed-series", keyword, str(a), str(b))


def test_original_and_derived_slices_in_one_series_are_refused(brain: sitk.Image, tmp_path: Path) -> None:
    change = _with(ImageType=lambda k: ["DERIVED" if k > 6 else "ORIGINAL", "PRIMARY", "M"])
    _assert_refused(_written(brain, tmp_path / "series", change), "mixed-series", "ORIGINAL", "DERIVED")


@pytest.mark.parametrize("keyword", ["EchoTime", "InversionTime", "KVP", "ContrastBolusAgent", "ConvolutionKernel"])
def test_a_contrast_that_only_some_slices_name_is_another_one(keyword: str, brain: sitk.Image, tmp_path: Path) -> None:
    change = _with(**{keyword: lambda k: None if k > 9 else MIXED[keyword][0]})
    _assert_refused(_written(brain, tmp_path / "series", change), "mixed-series", keyword, "none: 2 slices")


@pytest.mark.parametrize(
    ("keyword", "values", "code"),
    [
        ("Modality", ("MR", "CT"), "mixed-series"),
        ("SOPClassUID", (MRImageStorage, CTImageStorage), "mixed-series"),
    ],
)
def test_two_modalities_in_one_series_are_refused(
    keyword: str, values: tuple[str, str], code: str, brain: sitk.Image, tmp_path: Path
) -> None:
    folder = _written(brain, tmp_path / "series", _with(**{keyword: lambda k: values[k % 2]}))
    _assert_refused(folder, code, keyword, *values)


def test_slices_of_two_studies_days_are_refused_without_the_days(brain: sitk.Image, tmp_path: Path) -> None:
    folder = _written(brain, tmp_path / "series", _with(StudyDate=lambda k: ("20200101", "20240101")[k % 2]))
    _assert_refused(folder, "mixed-series", "StudyDate")
    with pytest.raises(InputError, match=r"^(?!.*20(20|24)0101)"):
        read_series(folder)


WARNED = {
    "RepetitionTime": ("500", "5000"),
    "FlipAngle": ("5", "90"),
    "SliceThickness": ("1", "3"),
    "NumberOfAverages": ("1", "2"),
    "EchoTrainLength": ("1", "16"),
    "PixelBandwidth": ("130", "390"),
    "BodyPartExamined": ("HEAD", "KNEE"),
    "PatientPosition": ("HFS", "FFS"),
    "SeriesNumber": ("4", "5"),
    "SeriesDescription": ("Doe 1", "Doe 2"),
    "ProtocolName": ("Doe 1", "Doe 2"),
    "ScanOptions": ("FS", "PFP"),
    "ManufacturerModelName": ("Skyra", "Prisma"),
    "DeviceSerialNumber": ("66001", "66002"),
    "MagneticFieldStrength": ("1.5", "3"),
}


NUMBERS = ("RepetitionTime", "FlipAngle", "SliceThickness", "NumberOfAverages", "EchoTrainLength", "PixelBandwidth")


@pytest.mark.parametrize("keyword", WARNED)
def test_a_probable_mixture_is_read_with_a_warning_that_names_the_attribute(
    keyword: str, brain: sitk.Image, tmp_path: Path
) -> None:
    """Rarely honest: a gated acquisition has the repetition time of each heart beat. Texts may name a patient."""
    folder = _written(brain, tmp_path / "mixed", _with(**{keyword: lambda k: WARNED[keyword][k % 2]}))
    (note,) = read_series(folder).header.notes
    assert keyword in note and "Doe" not in note
    assert all(value in note for value in WARNED[keyword]) == (keyword in NUMBERS)
    folder = _written(brain, tmp_path / "one", _with(**{keyword: lambda k: WARNED[keyword][0]}))
    assert read_series(folder).header.notes == ()


@pytest.mark.parametrize("sign", ["SpacingBetweenSlices", "AcquisitionNumber", "InstanceNumber"])
def test_a_second_acquisition_half_a_slice_on_is_read_with_a_warning(
    sign: str, brain: sitk.Image, tmp_path: Path
) -> None:
    """Nothing else tells it from thin slices; one such attribute is enough."""
    step = brain.GetSpacing()[2]
    values: dict[str, dict[str, Values]] = {
        "SpacingBetweenSlices": {sign: lambda k: str(2 * step)},
        "AcquisitionNumber": {sign: lambda k: str(1 + k % 2), "SliceThickness": lambda k: str(2 * step)},
        "InstanceNumber": {sign: lambda k: str(1 + k // 2)},
    }
    folder = _written(brain, tmp_path / "series", _with(**values[sign]))
    (note,) = read_series(folder).header.notes
    assert sign in note


ONE_CONTRAST: dict[str, dict[str, Values]] = {
    "rounded echo times": {"EchoTime": lambda k: ["4.9", "4.92", "4.88"][k % 3]},
    "rounded tube voltages": {"KVP": lambda k: ["120", "120.0"][k % 2], "ExposureTime": lambda k: str(500 + k)},
    "acquisitions of a CT": {"AcquisitionNumber": lambda k: str(1 + k // 4)},
    "two interleaved acquisitions": {"AcquisitionNumber": lambda k: str(1 + k % 2), "SliceThickness": lambda k: "1"},
    "acquisitions that overlap": {"AcquisitionNumber": lambda k: "111212222222"[k], "SliceThickness": lambda k: "2"},
    "an acquisition each slice": {"AcquisitionNumber": lambda k: str(k), "SliceThickness": lambda k: "2"},
    "segments in the name of the sequence": {"SequenceName": lambda k: ["*tfi2d1_10", "*tfi2d1_12"][k % 2]},
    "inversion time that was not used": {"InversionTime": lambda k: [None, "0"][k % 2]},
    "filters in some slices": {"ImageType": lambda k: ["ORIGINAL", "PRIMARY", "M", ["ND", "DIS2D"][k % 2]]},
    "components named later": {"ImageType": lambda k: ["ORIGINAL", "PRIMARY", "M_FFE", ["M", "M_FFE"][k % 2]]},
    "usual units left out": {"RescaleType": lambda k: [None, "HU"][k % 2]},
    "kernel of two values": {"ConvolutionKernel": lambda k: ["Br40f", "3"]},
    "agent typed twice": {"ContrastBolusAgent": lambda k: ["Gadovist 1.0", "GADOVIST  1.0"][k % 2]},
    "windows and trigger times": {"TriggerTime": lambda k: str(10 * k), "WindowCenter": lambda k: str(k)},
    "age with and without zero": {"PatientAge": lambda k: ["045Y", "45Y"][k % 2]},
    "spacing between slices": {"SpacingBetweenSlices": lambda _: "1.0004", "SliceThickness": lambda _: "1.4"},
    "repetition times that were reached": {"RepetitionTime": lambda k: ["2000", "2000.01"][k % 2]},
    "gap between slices": {"SpacingBetweenSlices": lambda _: "0.2"},
    "numbers from two consoles": {"AcquisitionNumber": lambda k: str(9 - k // 4), "FlipAngle": lambda _: "0"},
    "no numbers": {"InstanceNumber": lambda _: None},
    "a scale a slice": {"RescaleSlope": lambda k: str(1 + k / 10)},
}


@pytest.mark.parametrize("kind", ONE_CONTRAST)
def test_what_differs_within_one_contrast_is_read_without_a_note(kind: str, brain: sitk.Image, tmp_path: Path) -> None:
    folder = _written(brain, tmp_path / "series", _with(**ONE_CONTRAST[kind]))
    assert read_series(folder).image.GetSize() == brain.GetSize()
    assert read_series(folder).header.notes == ()


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_scale_that_only_some_slices_have_is_refused(
    keyword: str, value: str | None, brain: sitk.Image, tmp_path: Path
) -> None:
    kept = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}[keyword]
    folder = _written(brain, tmp_path / "one", _with(**{keyword: lambda k: value if k == 6 else kept}))
    _assert_refused(folder, "mixed-series", keyword)
    folder = _written(brain, tmp_path / "all", _with(RescaleSlope=lambda k: value, RescaleIntercept=lambda k: value))
    assert (sitk.GetArrayFromImage(read_series(folder).image) == sitk.GetArrayFromImage(brain)).all()


@pytest.mark.parametrize("private", [True, False])
def test_a_siemens_mosaic_is_named_before_all_else(private: bool, brain: sitk.Image, tmp_path: Path) -> None:
    def tiled(number: int, dataset: Dataset) -> None:
        _with(EchoTime=lambda k: str(1 + k % 2))(number, dataset)  # two contrasts, too
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", *([] if private else ["MOSAIC"])]
        if private:
            block = dataset.private_block(0x19, "SIEMENS MR HEADER", create=True)
            block.add_new(0x0A, "US", 36)

    _assert_refused(_written(brain, tmp_path / "series", tiled), "several-frames", "dcm2niix")


def test_a_size_of_two_numbers_is_refused(brain: sitk.Image, tmp_path: Path) -> None:
    folder = _written(brain, tmp_path / "series", _with(Rows=lambda k: [48, 48] if k == 6 else 48))
    _assert_refused(folder, "unusable-slice", "Rows")


DOUBTFUL: dict[str, dict[str, Values]] = {
    "more images were made": {"ImagesInAcquisition": lambda k: "15"},
    "more slices were made": {"NumberOfSlices": lambda k: 15},
    "the first are missing": {"InstanceNumber": lambda k: str(k + 7)},
    "a scale of its own": {"RescaleSlope": lambda k: "2" if k == 6 else "1"},
    "two orders": {"AccessionNumber": lambda k: f"A-{k % 2}"},
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_a_series_that_may_be_incomplete_or_mixed_is_read_with_a_note(
    kind: str, brain: sitk.Image, tmp_path: Path
) -> None:
    folder = _written(brain, tmp_path / "series", _with(**DOUBTFUL[kind]))
    assert read_series(folder).image.GetSize() == brain.GetSize()
    assert len(read_series(folder).header.notes) == 1


@pytest.mark.parametrize("keyword", ["ImagesInAcquisition", "InstanceNumber"])
def test_counts_that_fit_give_no_note(keyword: str, brain: sitk.Image, tmp_path: Path) -> None:
    values: dict[str, Values] = {"ImagesInAcquisition": lambda k: "12", "InstanceNumber": lambda k: str(k + 1)}
    assert read_series(_written(brain, tmp_path / "series", _with(**{keyword: values[keyword]}))).header.notes == ()
