"""Damaged DICOM series for fuzz.py: pixel data, headers that contradict, files that do not belong."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import SimpleITK as sitk
from dicom_phantoms import packed, write_series
from fuzz import Maker, Try
from fuzz_images import CASE, facts_of, same_image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

SLICES = 12


def prepare(data: Path, folder: Path) -> Maker:
    """Write the bases: some slices of a real crop, uncompressed and in two compressions."""
    from fuzz import run_command

    image = sitk.Cast(
        sitk.ReadImage(str(data / "hippocampus" / "images" / f"{CASE}.nii.gz"))[:, :, :SLICES], sitk.sitkInt16
    )
    bases: dict[str, tuple[Path, dict[str, Any]]] = {}
    for scheme in ("native", "RLE", "JPEG2000"):
        place, scratch = folder / scheme, folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)

        def change(number: int, dataset: Dataset, scheme: str = scheme, scratch: Path = scratch) -> None:
            dataset.PatientID, dataset.FrameOfReferenceUID = "P-1", "1.2.3.4"
            if scheme != "native":
                packed(dataset, scheme, scratch)

        write_series(image, place, change=change)
        truth = facts_of(run_command(["check", str(place), "--json"], 120, scratch))
        if truth is None:
            raise RuntimeError(f"The undamaged series {place} is not read.")
        bases[scheme] = (place, truth)

    def make(rng: random.Random, work: Path) -> Try:
        scheme = rng.choice(["native", "native", "native", "RLE"])
        source, truth = bases[scheme]
        target = work / "series"
        shutil.copytree(source, target)
        files = sorted(target.iterdir())
        damage = rng.choice([_pixels, _pixels, _tag, _tag, _tag, _bytes, _strangers])
        what = damage(rng, files, rng.choice([1, 1, len(files) // 2, len(files)]))
        names = [target.name, *(path.name for path in files)]
        return Try("dicom", f"{scheme}: {what}", [["check", str(target), "--json"]], names, same_image(truth))

    return make


def _edit(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = pydicom.dcmread(path, force=True)
    change(dataset)
    syntax = pydicom.uid.UID(dataset.file_meta.TransferSyntaxUID)
    is_packed = syntax.is_transfer_syntax and syntax.is_encapsulated
    if is_packed and not bytes(dataset.PixelData).startswith(b"\xfe\xff\x00\xe0"):  # else pydicom writes nothing
        dataset.PixelData = pydicom.encaps.encapsulate([bytes(dataset.PixelData)])
        dataset["PixelData"].VR = "OB"
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    dataset.save_as(path, enforce_file_format=False)


def set_raw(path: Path, keyword: str, value: str | list[str]) -> None:
    """Write a value as it stands, whatever its type of value allows."""
    text = "\\".join(value) if isinstance(value, list) else value
    dataset = pydicom.dcmread(path, force=True)
    tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(keyword))
    data = text.encode()
    data += b" " * (len(data) % 2)
    kind = pydicom.datadict.dictionary_VR(tag)
    dataset._dict[tag] = RawDataElement(tag, kind, len(data), data, 0, False, True)
    dataset.save_as(path, enforce_file_format=False)


def _pixels(rng: random.Random, files: list[Path], many: int) -> str:
    """Pixel data shorter or longer than the header says."""
    share = rng.choice([0.0, 0.25, 0.5, 0.8, 0.98, 1.02, 2.0])

    def change(dataset: Dataset) -> None:
        data = bytes(dataset.PixelData)
        is_packed = dataset.file_meta.TransferSyntaxUID.is_compressed
        length = max(int(len(data) * share) // 2 * 2, 16 if is_packed else 0)  # pydicom writes no empty packed voxels
        dataset["PixelData"].value = (data * 3)[:length]

    for path in files[:many]:
        _edit(path, change)
    return f"{share:g} of the pixel data in {many} slices"


NUMBERS = ["abc", "nan", "inf", "-inf", "", "1e999", "0", "-1"]
TAGS: dict[str, list[Any]] = {
    "Rows": [0, 1, 49, 60000],
    "Columns": [0, 1, 37, 60000],
    "BitsAllocated": [0, 1, 8, 12, 32, 64],
    "BitsStored": [0, 8, 17],
    "HighBit": [3, 31],
    "PixelRepresentation": [2, 99],
    "SamplesPerPixel": [0, 3],
    "PhotometricInterpretation": ["RGB", "PALETTE COLOR", "YBR_FULL", "NONSENSE", ""],
    "NumberOfFrames": ["0", "2", "nan", "-1"],
    "RescaleSlope": ["abc", "nan", "inf", "-inf", "0", "1e999"],
    "RescaleIntercept": ["abc", "nan", "inf", "-inf", "1e999"],
    "PixelSpacing": [["0", "0"], ["-1", "1"], ["nan", "1"], ["abc", "1"], ["1"], ["1e30", "1e30"], []],
    "ImagePositionPatient": [["nan", "0", "0"], ["abc", "0", "0"], ["1", "2"], ["1e300", "0", "0"], []],
    "ImageOrientationPatient": [["0"] * 6, ["nan"] * 6, ["1", "0", "0", "1", "0", "0"], ["1", "0", "0"], []],
    "PatientID": ["P-2"],
    "StudyInstanceUID": ["1.2.3.99"],
    "FrameOfReferenceUID": ["1.2.3.99"],
}


def _tag(rng: random.Random, files: list[Path], many: int) -> str:
    """A value that cannot be true, or differs between the slices."""
    keyword = rng.choice(sorted(TAGS))
    value = rng.choice(TAGS[keyword])
    if keyword in {"PatientID", "StudyInstanceUID", "FrameOfReferenceUID"}:
        many = min(many, len(files) // 2)

    def change(dataset: Dataset) -> None:
        element = pydicom.dataelem.DataElement(
            keyword, pydicom.datadict.dictionary_VR(keyword), value, validation_mode=pydicom.config.IGNORE
        )
        dataset[keyword] = element

    for path in files[:many]:
        if isinstance(value, int):
            _edit(path, change)
        else:
            set_raw(path, keyword, value)
    return f"{keyword} = {value} in {many} slices"


def _bytes(rng: random.Random, files: list[Path], many: int) -> str:
    """Files that are cut, doubled, or gone."""
    way = rng.choice(["cut", "copy", "gone", "empty", "pipe"])
    # Of a series that lacks its first or last slice nobody can tell.
    inner = sorted(
        files, key=lambda file: float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])
    )[1:-1]
    path = rng.choice(inner)
    content = path.read_bytes()
    if way == "cut":
        length = rng.randrange(1, len(content))
        path.write_bytes(content[:length])
        return f"{path.name} cut after {length} of {len(content)} bytes"
    if way == "copy":
        path.with_name("copy").write_bytes(content)
    elif way == "gone":
        path.unlink()
    elif way == "empty":
        path.write_bytes(b"")
    else:
        os.mkfifo(path.with_name("pipe"))
    return f"{way} of {path.name}"


def _strangers(rng: random.Random, files: list[Path], many: int) -> str:
    """Slices that belong elsewhere."""
    way = rng.choice(["MONOCHROME1", "other series", "transfer syntax"])

    def change(dataset: Dataset) -> None:
        if way == "MONOCHROME1":
            dataset.PhotometricInterpretation = "MONOCHROME1"
        elif way == "other series":
            dataset.SeriesInstanceUID = generate_uid()
        else:
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(
                rng.choice(["x.y", "1.2.840.10008.1.2.4.100", "1.2.3"])
            )

    many = min(many, len(files) // 2)
    for path in files[:many]:
        _edit(path, change)
    return f"{way} in {many} slices"
