"""DICOM series for fuzz.py whose slices do not belong together, though no two share a position.

The voxels are known; whatever the headers make of two contrasts is wrong. Series of one contrast, with what scanners
let vary from slice to slice, must be read.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from dicom_phantoms import write_series
from fuzz import Ended, Maker, Try, run_command, said_more
from fuzz_dicom import set_raw
from fuzz_headers import NO_TENS
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

SLICES = 10
CLASSES = {"MR": MRImageStorage, "CT": CTImageStorage, "PT": PositronEmissionTomographyImageStorage}
MAGNITUDE = ["ORIGINAL", "PRIMARY", "M", "ND"]
CONTRASTS: Sequence[tuple[str, str, Any, Any]] = (
    ("MR", "EchoTime", "30", "80"), ("MR", "EchoTime", "80", "82"), ("MR", "EchoTime", "4.6", "2.3"),
    ("MR", "InversionTime", "900", "2500"), ("MR", "InversionTime", "900", "930"),
    ("MR", "DiffusionBValue", 0.0, 1000.0), ("MR", "DiffusionBValue", 700.0, 1000.0),
    ("MR", "ImageType", MAGNITUDE, ["ORIGINAL", "PRIMARY", "P", "ND"]),
    ("MR", "ImageType", MAGNITUDE, ["DERIVED", "PRIMARY", "M", "ND"]),
    ("MR", "ImageType", MAGNITUDE, ["ORIGINAL", "PRIMARY", "R"]),
    ("CT", "ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]),
    ("MR", "ComplexImageComponent", "MAGNITUDE", "PHASE"), ("MR", "ContrastBolusAgent", None, "Gadovist"),
    ("CT", "ContrastBolusAgent", "", "Iopamidol"), ("CT", "ConvolutionKernel", "B30f", "B70f"),
    ("CT", "KVP", "80", "140"), ("CT", "KVP", "100", "120"), ("CT", "RescaleType", "HU", "US"),
    ("PT", "Units", "BQML", "CNTS"), ("MR", "Modality", "MR", "CT"), ("CT", "Modality", "CT", "PT"),
    ("MR", "SOPClassUID", MRImageStorage, CTImageStorage), ("MR", "PatientSex", "M", "F"),
    ("CT", "IssuerOfPatientID", "Hospital A", "Hospital B"),
)  # fmt: skip
"""Modality of the series, keyword, and its two values; None: absent."""
VARYING: Sequence[tuple[str, str, Callable[[int], Any]]] = (
    ("MR", "WindowCenter", lambda k: f"{100 + k}"), ("MR", "WindowWidth", lambda k: f"{400 + 7 * k}"),
    ("MR", "AcquisitionTime", lambda k: f"1200{k:02d}.5"), ("CT", "ContentTime", lambda k: f"1200{k:02d}"),
    ("MR", "SliceLocation", lambda k: f"{2 * k}"), ("CT", "XRayTubeCurrent", lambda k: f"{100 + 5 * k}"),
    ("CT", "Exposure", lambda k: f"{50 + k}"), ("MR", "TriggerTime", lambda k: f"{12.5 * k}"),
    ("MR", "EchoTime", lambda k: ("80", "80.0", "80.004", "79.998")[k % 4]),
    ("MR", "EchoTime", lambda k: ("2.46", "2.461")[k % 2]), ("CT", "KVP", lambda k: ("120", "120.0")[k % 2]),
    ("MR", "InversionTime", lambda k: ("900", "900.0", "902")[k % 3]),
    ("MR", "DiffusionBValue", lambda k: 1000.0 + 0.5 * (k % 2)), ("MR", "SAR", lambda k: f"{0.1 * k:.3f}"),
    ("MR", "RepetitionTime", lambda k: ("2000", "2000.01")[k % 2]), ("CT", "ImageType", lambda k: MAGNITUDE[:2]),
    ("MR", "ImageType", lambda k: MAGNITUDE), ("CT", "ConvolutionKernel", lambda k: "B30f"),
    ("CT", "ContrastBolusAgent", lambda k: "Iopamidol"), ("MR", "SmallestImagePixelValue", lambda k: k),
)  # fmt: skip
"""What one contrast may let vary, by slice."""


def volume() -> sitk.Image:
    """Even numbers, which a slope of 2 keeps."""
    array = np.random.default_rng(8).integers(0, 500, (SLICES, 24, 20)).astype(np.int16) * 2
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.25, 2.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    return image


def prepare(data: Path, folder: Path) -> Maker:
    """Read an ordinary series, for the remarks that it gets."""
    folder.mkdir(parents=True)
    write_series(volume(), folder / "series", change=of_modality("MR"))
    control = run_command(["check", str(folder / "series"), "--json"], 120, folder)
    if not accepts_whole(control)([control]):
        raise RuntimeError(f"The ordinary series is not read: {control.out}")

    def make(rng: random.Random, work: Path) -> Try:
        series = work / "series"
        ways = [_mixed] * 8 + [_varied] * 4 + [_rescaled] * 3 + [_mosaic, _missing, _odd_number, _second_acquisition]
        what, more = rng.choice(ways)(rng, series)
        names = [series.name, *(path.name for path in series.iterdir())]
        accepts = accepts_whole(control) if more.pop("accepts_voxels", True) else said_more(control)
        return Try("contrasts", what, [["check", str(series), "--json"]], names, accepts, **more)

    return make


def accepts_whole(control: Ended) -> Callable[[Sequence[Ended]], bool]:
    """Accept the voxels and the grid that were written, or a remark that the ordinary series does not get."""
    image = volume()
    digest = hashlib.sha256(sitk.GetArrayFromImage(image).astype("<f4").tobytes()).hexdigest()

    def accepts(runs: Sequence[Ended]) -> bool:
        if runs[-1].notes - control.notes:
            return True
        found = runs[-1].event("checked")
        grid = found.get("grid") or {"spacing_mm": 0, "origin_lps_mm": 0}
        same = np.allclose(grid["spacing_mm"], image.GetSpacing(), atol=1e-4)
        return bool(same and np.allclose(grid["origin_lps_mm"], image.GetOrigin(), atol=1e-4)
                    and found.get("voxels_sha256") == digest)  # fmt: skip

    return accepts


def of_modality(
    modality: str, change: Callable[[int, Dataset], None] = lambda k, dataset: None
) -> Callable[[int, Dataset], None]:
    def complete(k: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CLASSES[modality]
        dataset.Modality, dataset.FrameOfReferenceUID, dataset.PatientID = modality, "1.2.3.4", "P-1"
        dataset.SliceThickness = "2"
        change(k, dataset)

    return complete


def _put(dataset: Dataset, keyword: str, value: Any) -> None:
    if value is not None:
        setattr(dataset, keyword, value)
    if keyword == "SOPClassUID":
        dataset.file_meta.MediaStorageSOPClassUID = value


def _some(rng: random.Random) -> tuple[str, set[int]]:
    """Which slices are the others."""
    one = rng.randrange(SLICES)
    patterns = {
        "alternate": set(range(0, SLICES, 2)), "third": set(range(0, SLICES, 3)),
        "half": set(range(SLICES // 2, SLICES)), f"slice {one}": {one}, "last": {SLICES - 1},
        "all but one": set(range(SLICES)) - {one},
    }  # fmt: skip
    return rng.choice(list(patterns.items()))


def _mixed(rng: random.Random, series: Path) -> tuple[str, dict[str, Any]]:
    """Two contrasts in one series, of which no acquisition makes one volume."""
    modality, keyword, first, second = rng.choice(CONTRASTS)
    where, others = _some(rng)

    def change(k: int, dataset: Dataset) -> None:
        _put(dataset, keyword, second if k in others else first)

    write_series(volume(), series, change=of_modality(modality, change))
    # The voxels are those that were written, but they are no volume of one contrast: nothing but a word is right.
    return f"{keyword} {first!r} and {second!r} ({where})", {"accepts_voxels": False}


def _varied(rng: random.Random, series: Path) -> tuple[str, dict[str, Any]]:
    """One contrast: it must be read."""
    modality, keyword, value = rng.choice(VARYING)
    slopes = rng.choice([lambda k: (1.0, 0.0), lambda k: (2.0, -1024.0), lambda k: (1.0 + k % 2, -2.0 * k)])
    write_series(
        volume(),
        series,
        scale=slopes,
        change=of_modality(modality, lambda k, dataset: _put(dataset, keyword, value(k))),
    )
    return f"one contrast, {keyword} varies", {"right": True}


def _rescaled(rng: random.Random, series: Path) -> tuple[str, dict[str, Any]]:
    """Slope or intercept are absent, or empty, in some slices."""
    scale = rng.choice([(2.0, -1024.0), (1.0, -1024.0), (2.0, 0.0)])
    keywords = rng.choice([["RescaleSlope"], ["RescaleIntercept"], ["RescaleSlope", "RescaleIntercept"]])
    empty, (where, others) = rng.random() < 0.4, _some(rng)

    def change(k: int, dataset: Dataset) -> None:
        for keyword in keywords if k in others else []:
            if empty:
                setattr(dataset, keyword, None)
            else:
                delattr(dataset, keyword)

    write_series(volume(), series, scale=lambda k: scale, change=of_modality(rng.choice(["MR", "CT"]), change))
    return f"{' and '.join(keywords)} {'empty' if empty else 'absent'} ({where}), elsewhere {scale}", {}


def _mosaic(rng: random.Random, series: Path) -> tuple[str, dict[str, Any]]:
    """Many slices in one picture, as Siemens stores functional and diffusion images."""
    count, private = rng.choice([1, 3, SLICES]), rng.random() < 0.4

    def change(k: int, dataset: Dataset) -> None:
        if private:
            dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
        else:
            dataset.ImageType = rng.choice([[*MAGNITUDE, "MOSAIC"], ["ORIGINAL", "PRIMARY", "M", "MB", "MOSAIC"]])

    write_series(volume(), series, change=of_modality("MR", change), skip=range(count, SLICES))
    return f"mosaic by {'0019,100A' if private else 'ImageType'}, {count} files", {"accepts_voxels": False}


def _missing(rng: random.Random, series: Path) -> tuple[str, dict[str, Any]]:
    skip = rng.choice([[0], [SLICES - 1], [4], [1, 2], [SLICES - 2, SLICES - 1]])
    end = 0 in skip or SLICES - 1 in skip
    write_series(volume(), series, change=of_modality("MR"), skip=skip)
    return f"without the slices {skip}", {
        "unknowable": "no header says how many slices a series has: its first or last ones are missing" if end else ""
    }


def _odd_number(rng: random.Random, series: Path) -> tuple[str, dict[str, Any]]:
    keyword, values = rng.choice([("PixelSpacing", ["?", "1"]), ("ImagePositionPatient", ["?", "0", "0"]),
                                  ("RescaleSlope", ["?"]), ("RescaleIntercept", ["?"])])  # fmt: skip
    text = rng.choice(NO_TENS)
    files = write_series(volume(), series, change=of_modality("MR"))
    for file in files if keyword != "ImagePositionPatient" else files[:1]:
        set_raw(file, keyword, [text if value == "?" else value for value in values])
    return f"{keyword} {text!r}", {"accepts_voxels": False}


def _second_acquisition(rng: random.Random, series: Path) -> tuple[str, dict[str, Any]]:
    """A second contrast, half a slice on."""
    keyword, first, second = rng.choice([("EchoTime", "30", "80"), ("InversionTime", "100", "900"),
                                         ("DiffusionBValue", 0.0, 800.0)])  # fmt: skip
    write_series(volume(), series, change=of_modality("MR", lambda k, dataset: _put(dataset, keyword, first)))
    moved = volume()
    moved.SetOrigin((-10.0, 20.0, 31.0))
    frames = write_series(
        moved, series / "second", change=of_modality("MR", lambda k, dataset: _put(dataset, keyword, second))
    )
    for frame in frames:
        frame.rename(series / f"second_{frame.name}")
    (series / "second").rmdir()
    return f"second acquisition half a slice on, {keyword} {second}", {"accepts_voxels": False}
