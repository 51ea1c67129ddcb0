"""DICOM results read back by others: dcmqi (DCMTK and ITK, written in C++), and pydicom frame by frame."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset


def by_dcmqi(tool: str, file: Path, folder: Path) -> dict[str, sitk.Image]:
    """What `segimage2itkimage` (an image a segment) or `paramap2itkimage` reads, by file name."""
    dcmqi = pytest.importorskip("dcmqi", reason="no dcmqi for this system")
    folder.mkdir(parents=True)
    program = shutil.which(tool, path=Path(dcmqi.__file__).parent / "bin")
    call = [str(program), "--inputDICOM", str(file), "--outputDirectory", str(folder), "--outputType", "nrrd"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{tool} ended with {done.returncode}: {done.stdout} {done.stderr}"
    return {path.name: sitk.ReadImage(str(path)) for path in sorted(folder.glob("*.nrrd"))}


def inside(read: sitk.Image, known: sitk.Image, most_off_mm: float = 1e-3) -> np.ndarray:
    """The voxels (z, y, x) of `known` at the places of the voxels of `read`, which are on its lattice.

    Every voxel of `read` is looked up by its own position in space; axes may run the other way round.
    """
    size = read.GetSize()
    ijk = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3)
    points = ijk * read.GetSpacing() @ np.reshape(read.GetDirection(), (3, 3)).T + read.GetOrigin()
    index = (points - known.GetOrigin()) @ np.reshape(known.GetDirection(), (3, 3)) / known.GetSpacing()
    whole = np.rint(index).astype(int)
    assert np.abs((index - whole) * known.GetSpacing()).max() <= most_off_mm, "not on the lattice of the case"
    values = sitk.GetArrayFromImage(known)[whole[:, 2], whole[:, 1], whole[:, 0]]
    found: np.ndarray = values.reshape(size).transpose(2, 1, 0)
    return found


def frames(dataset: Dataset) -> np.ndarray:
    """The pixels of each frame, unpacked without pydicom's pixel handlers; (frames, rows, columns)."""
    shape = (int(dataset.NumberOfFrames), dataset.Rows, dataset.Columns)
    if "FloatPixelData" in dataset:
        return np.frombuffer(dataset.FloatPixelData, "<f4").reshape(shape)
    assert dataset.BitsAllocated == 1
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    return bits[: int(np.prod(shape))].reshape(shape)


def slices_by_uid(folder: Path) -> dict[str, Dataset]:
    """The slices of a series by their SOP Instance UID."""
    found = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return {str(dataset.SOPInstanceUID): dataset for dataset in found}
