"""DICOM series made with pydicom from volumes whose voxels and geometry are known."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, RLELossless, generate_uid

SERIES = "1.2.826.0.1.3680043.8.498.20260001"
Scale = Callable[[int], tuple[float, float]]
Change = Callable[[int, Dataset], None]


def write_series(
    image: sitk.Image,
    folder: Path,
    series: str = SERIES,
    scale: Scale = lambda number: (1.0, -1024.0),
    change: Change = lambda number, dataset: None,
    skip: Sequence[int] = (),
) -> list[Path]:
    """Write each slice of an image of whole numbers under a random name and instance number.

    Args:
        scale: slope and intercept of a slice; the stored numbers are whole.
        change: called with the slice number and its data set before it is written.
        skip: slices that are not written.

    Returns:
        The files in the order of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = image.GetSize()[2]
    numbers = random.Random(series).sample(range(1000), count)
    files = []
    for k in [k for k in range(count) if k not in skip]:
        dataset = _slice(image, k, scale(k))
        dataset.SeriesInstanceUID, dataset.InstanceNumber = series, numbers[k]
        change(k, dataset)
        path = folder / f"IM{numbers[k]:04d}_{series[-2:]}"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _slice(image: sitk.Image, k: int, scale: tuple[float, float]) -> Dataset:
    slope, intercept = scale
    stored = np.rint((sitk.GetArrayFromImage(image)[k].astype(float) - intercept) / slope).astype(np.int16)
    dataset = described(CTImageStorage)
    dataset.SeriesDescription, dataset.Modality, dataset.PatientName = "Bauch, Schädel", "CT", "Doe^Jane"
    direction, (x, y, _) = np.reshape(image.GetDirection(), (3, 3)), image.GetSpacing()
    dataset.ImagePositionPatient = decimals(image.TransformIndexToPhysicalPoint((0, 0, k)))
    dataset.ImageOrientationPatient = decimals([*direction[:, 0], *direction[:, 1]])
    dataset.PixelSpacing = decimals([y, x])
    dataset.RescaleSlope, dataset.RescaleIntercept = decimals(scale)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = stored.tobytes()
    return dataset


def as_mr(**values: object) -> Change:
    """Make each slice one of an MR series that an archive would take, with these header values besides."""
    frame = generate_uid()

    def change(number: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
        dataset.Modality, dataset.FrameOfReferenceUID = "MR", frame
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def described(sop_class: str) -> Dataset:
    """An empty object of a class, Latin-1 and uncompressed."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SpecificCharacterSet, dataset.StudyInstanceUID = "ISO_IR 100", "1.2.3"
    return dataset


def decimals(values: Sequence[float]) -> list[str]:
    """As DICOM's decimal strings, of at most 16 characters."""
    return [f"{float(value):.9g}" for value in values]


def packed(dataset: Dataset, scheme: str, folder: Path) -> None:
    """Compress a data set without loss: "RLE" by pydicom; "JPEG2000" and "JPEG" by ITK, whose code stream is taken."""
    if scheme == "RLE":
        dataset.compress(RLELossless, generate_instance_uid=False)
        return
    pixels = np.frombuffer(dataset.PixelData, np.int16).reshape(1, dataset.Rows, dataset.Columns)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.SetUseCompression(True)
    writer.SetCompressor(scheme)
    writer.Execute(sitk.GetImageFromArray(pixels))
    source = pydicom.dcmread(folder / "packed.dcm")
    dataset.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    dataset.PixelData = source.PixelData
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def packed_in_an_unknown_way(dataset: Dataset, transfer_syntax: str) -> None:
    """Claim a compression that GDCM does not know."""
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(transfer_syntax)
    dataset.PixelData = encapsulate([bytes(64)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def told_everywhere() -> dict[str, str]:
    """A distinctive value for every attribute of patient, study, series, equipment and procedure that takes text.

    By keyword, of DICOM's own dictionary; without those that a reader needs to make a volume.
    """
    found: dict[str, str] = {}
    for tag, (kind, multiplicity, _, retired, keyword) in sorted(DicomDictionary.items()):
        wanted = tag >> 16 in _TELLING_GROUPS and multiplicity.startswith("1") and not retired
        if wanted and kind in _DISTINCTIVE and keyword and keyword not in _NEEDED_BY_READERS:
            found[keyword] = _DISTINCTIVE[kind](len(found))
    return found


_TELLING_GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x2200, 0x4008)
_NEEDED_BY_READERS = {
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "SeriesInstanceUID"),
    *("DataSetType", "LengthToEnd", "RecognitionCode", "PatientOrientation", "SpatialLocationsPreserved"),
}
_DISTINCTIVE: dict[str, Callable[[int], str]] = {
    "LO": lambda n: f"Zqx{n}Lo Ward",
    "SH": lambda n: f"Zqx{n}Sh",
    "ST": lambda n: f"Zqx{n}St street",
    "LT": lambda n: f"Zqx{n}Lt history",
    "UT": lambda n: f"Zqx{n}Ut",
    "UC": lambda n: f"Zqx{n}Uc",
    "PN": lambda n: f"Fam{n}zqx^Giv{n}zqx",
    "CS": lambda n: f"ZQX{n}CS",
    "AE": lambda n: f"ZQX{n}AE",
    "DA": lambda n: f"{1911 + n // 300}{1 + n // 25 % 12:02d}{1 + n % 25:02d}",
    "TM": lambda n: f"{n % 24:02d}{n // 24 % 60:02d}17.7317{n % 97:02d}",
    "DT": lambda n: f"1908{1 + n // 25 % 12:02d}{1 + n % 25:02d}1517{n % 60:02d}.7317",
    "UI": lambda n: f"1.2.826.0.1.3680043.8.498.4711{n:04d}.17",
}
